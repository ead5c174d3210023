"""The calls of a client, written once as coroutines over `IO`: with the service, and without it."""

from __future__ import annotations

import contextlib
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from greso_client import _answers as answers
from greso_client._answers import Json
from greso_client._breaker import Breaker, Permit
from greso_client._counts import Counts
from greso_client._delivery import Delivery
from greso_client._errors import ClosedError, ForbiddenError, ProtocolError, RefusedError, UnavailableError
from greso_client._exchange import Exchange
from greso_client._fallback import Fallback
from greso_client._io import IO
from greso_client._options import Options
from greso_client._requests import Request, RunRequests, checked_groups, checked_prompts, checked_step
from greso_client._types import Drawn, Group, PoolSize, PromptState, Reported, RunState, Selection, StepRow

log = logging.getLogger("greso_client")

R = TypeVar("R")


class _BacklogError(UnavailableError):
    """The service is there, but older reports have to go first and used up their share of the time."""


@dataclass(frozen=True, slots=True)
class _Deferred:
    """A request that sets up the run, asked for (at wall-clock second `at`) while the service was away."""

    request: Request
    at: float
    creates: bool


class Core:
    """One run at one service. Safe between threads when its `IO` is; holds no lock while it waits."""

    def __init__(self, io: IO, run: str, options: Options, chance: random.Random | None = None) -> None:
        self._requests = RunRequests(run)
        self._run = run
        self._io = io
        self._strict = options.strict
        self._budget = options.budget
        self._spool = options.spool
        self.counts = Counts()
        chance = chance or random.Random()  # noqa: S311 - jitter and shuffling, no secrets
        self._breaker = Breaker(options.url, _advice(options))
        # Half the budget per attempt: one attempt that hangs leaves time for a second.
        self._exchange = Exchange(io, self._breaker, chance, options.budget / 2, self.counts)
        self._delivery = Delivery(io, self._exchange, options.spool, self.counts)
        self.fallback = Fallback(run, chance)
        self._deferred: list[_Deferred] = []
        # Candidates that `collect` offered and the service did not look at.
        self.leftover: deque[str] = deque()
        self._closed = False

    def now(self) -> float:
        """Seconds of a monotonic clock."""
        return self._io.now()

    # Asking the service

    async def _ask(
        self,
        request: Request,
        reader: Callable[[Json], R],
        *,
        gated: bool = True,
        reports_first: bool = False,
    ) -> tuple[R, int]:
        """One logical call within the budget: what is owed to the service first, then the request.

        `gated`: not even tried while the breaker is open.
        """
        if self._closed:
            raise ClosedError("this client was closed; make a new one")
        self.counts.add(calls=1)
        start = self._io.now()
        permit = Permit.TRY if self._strict or not gated else self._breaker.permit(start)
        if permit is Permit.DENY:
            raise UnavailableError("the service was away a moment ago and is not asked again yet", transient=False)
        once = permit is Permit.PROBE
        deadline = start + self._budget
        try:
            await self._send_deferred(deadline, once)
            if reports_first:
                await self._deliver_first(deadline, start + self._budget / 2, once)
            return await self._exchange(request, reader, deadline, once=once)
        except _BacklogError:
            raise
        except UnavailableError as error:
            # A look at something obscure that fails must not cost the training loop its service.
            if gated and not self._strict:
                self._breaker.failed(self._io.now(), error)
            raise

    async def _deliver_first(self, deadline: float, stop: float, once: bool) -> None:
        if not await self._delivery.deliver(deadline, stop, once=once):
            raise _BacklogError("older reports are still on their way", transient=False)

    async def _send_deferred(self, deadline: float, once: bool) -> None:
        """Set up the run as it was asked for while the service was away."""
        for deferred in list(self._deferred):
            try:
                _, status = await self._exchange(deferred.request, answers.nothing, deadline, once=once)
                if deferred.creates and status == 201:
                    await self._delivery.retire(deferred.request.path, deferred.at)
            except ForbiddenError:
                raise
            except RefusedError as error:
                # Raising now would stop a training that has gone on without this for a while.
                log.error("greso: refused after the service came back, the run goes on as it is: %s", error)
            with contextlib.suppress(ValueError):  # another thread was faster; these requests have no second effect
                self._deferred.remove(deferred)

    def _without_service(self, error: UnavailableError) -> None:
        """Go on without the service, or don't."""
        if self._strict:
            raise error
        self.counts.add(degraded=1)
        self._breaker.degraded(self._io.now())

    # Setting up and looking

    async def create_run(self, spec: Mapping[str, Any]) -> RunState:
        """See `Client.create_run`."""
        request, asked_at = self._requests.create(spec), time.time()
        try:
            state, status = await self._ask(request, answers.run_state)
        except UnavailableError as error:
            self._without_service(error)
            self._deferred.append(_Deferred(request, asked_at, creates=True))
            self.fallback.learn_spec(spec, known=False)
            return self.fallback.state()
        if status == 201:
            await self._delivery.retire(request.path, asked_at)
        self.fallback.learn_state(state)
        return state

    async def add_prompts(self, prompts: Iterable[str]) -> PoolSize:
        """See `Client.add_prompts`."""
        checked = checked_prompts(prompts)
        if not self._strict:
            self.fallback.learn_prompts(checked)
        added, pool, degraded = 0, 0, False
        for request in self._requests.pool(checked):
            try:
                size, _ = await self._ask(request, answers.pool_size)
                added, pool = added + size.added, size.pool
            except UnavailableError as error:
                self._without_service(error)
                self._deferred.append(_Deferred(request, time.time(), creates=False))
                degraded = True
        return self.fallback.pool(len(checked)) if degraded else PoolSize(added, pool)

    async def update_run(self, changes: Mapping[str, Any]) -> RunState:
        """See `Client.update_run`."""
        state, _ = await self._ask(self._requests.update(changes), answers.run_state, gated=False)
        self.fallback.learn_state(state)
        return state

    async def state(self, *, gated: bool = False) -> RunState:
        """See `Client.state`."""
        state, _ = await self._ask(self._requests.state(), answers.run_state, gated=gated)
        self.fallback.learn_state(state)
        return state

    async def learn_run(self) -> None:
        """Ask for the run's spec unless it is known; while the service is away the defaults have to do."""
        if self.fallback.spec_known:
            return
        try:
            await self.state(gated=True)
        except UnavailableError:
            if self._strict:
                raise

    async def steps(self, after: int | None, limit: int | None) -> list[StepRow]:
        """See `Client.steps`."""
        rows, _ = await self._ask(self._requests.steps(after, limit), answers.step_rows, gated=False)
        return rows

    async def prompt(self, prompt: str) -> PromptState:
        """See `Client.prompt`."""
        state, _ = await self._ask(self._requests.prompt(prompt), answers.prompt_state, gated=False)
        return state

    async def delete_run(self) -> None:
        """See `Client.delete_run`."""
        await self._ask(self._requests.delete(), answers.nothing, gated=False)

    # Each step

    async def select(
        self, step: int, prompts: Sequence[str], limit: int | None = None, at_least: int = 0, explain: bool = False
    ) -> Selection:
        """See `Client.select`."""
        checked = checked_prompts(prompts)
        request = self._requests.select(checked_step(step), checked, limit, at_least, explain)
        try:
            selection, _ = await self._ask(request, lambda body: _in_range(answers.selection(body), len(checked)))
        except UnavailableError as error:
            self._without_service(error)
            return self.fallback.select(len(checked), limit, explain)
        self.fallback.learn(selection)
        return selection

    async def draw(self, step: int, count: int | None = None) -> Drawn:
        """See `Client.draw`."""
        request = self._requests.draw(checked_step(step), count)
        try:
            drawn, _ = await self._ask(request, answers.drawn)
        except UnavailableError as error:
            self._without_service(error)
            local = self.fallback.draw(count)
            if local is None:
                raise UnavailableError(f"{error}; without it a draw needs prompts that this client added") from error
            return local
        self.fallback.learn(drawn)
        return drawn

    async def report(self, step: int, groups: Iterable[Group], final: bool = False) -> Reported:
        """See `Client.report`."""
        step, checked = checked_step(step), checked_groups(groups)
        request = self._requests.report(step, checked, final)
        try:
            reported, _ = await self._ask(
                request, lambda body: _in_range(answers.reported(body), len(checked)), reports_first=True
            )
        except UnavailableError as error:
            self._without_service(error)
            await self._delivery.keep(request, ahead=any(deferred.creates for deferred in self._deferred))
            return self.fallback.report(step, checked, final)
        self.fallback.learn(reported)
        return reported

    # The end

    async def flush(self, within: float | None = None) -> bool:
        """See `Client.flush`."""
        start = self._io.now()
        deadline = start + (self._budget if within is None else within)
        try:
            await self._send_deferred(deadline, once=False)
            return await self._delivery.deliver(deadline, deadline)
        except UnavailableError as error:
            if self._strict:
                raise
            self._breaker.failed(self._io.now(), error)
            return False

    async def finish(self) -> None:
        """Deliver what can be delivered within one budget, then refuse further calls."""
        if self._closed:
            return
        try:
            done = await self.flush()
        except (RefusedError, UnavailableError) as error:
            log.warning("greso: could not deliver the last reports: %s", error)
            done = False
        finally:
            self._closed = True
        if self._deferred:
            log.warning("greso: the service was away to the end: create_run and add_prompts were not sent")
        if not done and self._spool is not None and not self._spool.is_empty():
            log.warning("greso: reports remain in the spool; the next client of this run delivers them")


def _advice(options: Options) -> str:
    where = "are not kept (the spool is off)" if options.spool is None else f"are kept in {options.spool.path}"
    return (
        f"Training goes on: every prompt is rolled out, reports {where}. Check that `greso serve` runs and that the "
        "URL is right; strict=True would raise instead."
    )


def _in_range(answer: R, size: int) -> R:
    """Refuse an answer whose indices don't fit the request."""
    indices = answer.selected if isinstance(answer, Selection) else getattr(answer, "effective", [])
    if indices and (min(indices) < 0 or max(indices) >= size):
        raise ProtocolError(f"the answer names indices outside the {size} items of the request")
    return answer
