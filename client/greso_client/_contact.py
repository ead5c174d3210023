"""A client's contact with its service: one logical call within its budget, and what is owed to the service before it.

Owed are, in this order: the requests that set up the run, asked for while the service was away, and the reports in the
spool.
"""

from __future__ import annotations

import contextlib
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from greso_client import _answers as answers
from greso_client._access import KeyRefusedError, tell
from greso_client._breaker import Breaker, Permit
from greso_client._counts import Counts
from greso_client._delivery import Delivery
from greso_client._errors import ClosedError, FencedError, ForbiddenError, RefusedError, UnavailableError
from greso_client._exchange import Exchange
from greso_client._fence import Fence
from greso_client._fields import Json
from greso_client._io import IO
from greso_client._options import Options
from greso_client._requests import Request

log = logging.getLogger("greso_client")

R = TypeVar("R")

# Share of the budget for a look that nothing depends on.
LOOK_SHARE = 0.25


class BacklogError(UnavailableError):
    """The service is there, but older reports have to go first and used up their share of the time."""


@dataclass(frozen=True, slots=True)
class _Deferred:
    """A request that sets up the run, asked for (at wall-clock second `at`) while the service was away."""

    request: Request
    at: float
    creates: bool


class Contact:
    """Budgets, the breaker, the spool and the fencing token of a client. Holds no lock while it waits."""

    def __init__(self, io: IO, options: Options, chance: random.Random, counts: Counts, run_path: str) -> None:
        self._io = io
        self._run_path = run_path
        self._strict = options.strict
        self._budget = options.budget
        self._counts = counts
        self._breaker = Breaker(options.url, _goes_on(options))
        # Half the budget per attempt: one attempt that hangs leaves time for a second.
        self._exchange = Exchange(io, self._breaker, chance, options.budget / 2, counts, expected=self._is_expected)
        # Beside the training's own calls: its answers and failures are no news of the service.
        self._aside = Exchange(io, Breaker(options.url, ""), chance, options.budget / 2, counts)
        self._delivery = Delivery(io, self._exchange, options.spool, counts, run_path)
        self.fence = Fence()
        self.read_state = answers.state_of(run_path.rpartition("/")[2])
        self._deferred: list[_Deferred] = []
        self._closed = False

    async def ask(
        self,
        request: Request,
        reader: Callable[[Json], R],
        *,
        gated: bool = True,
        reports_first: bool = False,
        patience: float = 0.0,
    ) -> tuple[R, int]:
        """One logical call within the budget: what is owed to the service first, then the request.

        `gated`: not even tried while the breaker is open. `patience`: seconds that the answer may take, budget or not.
        """
        self._check_open()
        self._counts.add(calls=1)
        start = self._io.now()
        permit = Permit.TRY if self._strict or not gated else self._breaker.permit(start)
        if permit is Permit.DENY:
            raise UnavailableError("the service was away a moment ago and is not asked again yet", transient=False)
        once = permit is Permit.PROBE
        deadline = start + self._budget
        try:
            if await self._send_deferred(deadline, once) and request.generation is not None:
                request = self.fence.stamp(request)  # of the run that has just been created, or taken over
            if reports_first:
                await self._deliver_first(deadline, start + self._budget / 2, once)
            reader = answers.of_generation(reader, request.generation)
            return await self._exchange(request, reader, deadline, once=once, patience=patience)
        except BacklogError:
            raise
        except UnavailableError as error:
            if not gated:
                tell(error)
            # A look at something obscure that fails must not cost the training loop its service.
            if not self._strict:
                self._breaker.failed(self._io.now(), error)
            raise

    async def look(self, request: Request, reader: Callable[[Json], R]) -> R | None:
        """What nothing depends on: asked once, for a short share of the budget, and not at all during an outage.

        None when it is not to be had; that is nobody's trouble. Spooled reports go first: they belong to what is seen.
        """
        if self._closed or self._breaker.is_open:
            return None
        deadline = self._io.now() + self._budget * LOOK_SHARE
        with contextlib.suppress(RefusedError, UnavailableError):
            if not await self._delivery.deliver(deadline, deadline, once=True):
                return None
            value, _ = await self._aside(request, reader, deadline, once=True)
            return value
        return None

    def _is_expected(self, request: Request) -> bool:
        """Whether a request of the training loop is about this client's run, and that was there before."""
        loop = request.path in {f"{self._run_path}/{call}" for call in ("select", "draw", "report")}
        return loop and not self._strict and self.fence.generation is not None

    def deadline(self) -> float:
        """When a call that begins now has used up its budget."""
        return self._io.now() + self._budget

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("this client was closed; make a new one")

    async def _deliver_first(self, deadline: float, stop: float, once: bool) -> None:
        if not await self._delivery.deliver(deadline, stop, once=once):
            raise BacklogError("older reports are still on their way", transient=False)

    async def _send_deferred(self, deadline: float, once: bool) -> bool:
        """Set up the run as it was asked for while the service was away; whether a generation was taken over."""
        taken = False
        for deferred in list(self._deferred):
            try:
                if deferred.creates:
                    state, status = await self._exchange(deferred.request, self.read_state, deadline, once=once)
                    self.fence.take_over(state.generation)
                    taken = True
                    if status == 201:
                        await self.retire(deferred.request, deferred.at, deadline)
                else:
                    await self._exchange(deferred.request, answers.pool_size, deadline, once=once)
            except ForbiddenError:
                raise
            except FencedError:
                self._done(deferred)
                raise
            except RefusedError as error:
                # Raising now would stop a training that has gone on without this for a while.
                log.error("greso: refused after the service came back, the run goes on as it is: %s", error)
            self._done(deferred)
        return taken

    def _done(self, deferred: _Deferred) -> None:
        with contextlib.suppress(ValueError):  # another thread was faster; these requests have no second effect
            self._deferred.remove(deferred)

    # While the service is away

    def without_service(self, error: UnavailableError) -> None:
        """Go on without the service, or don't."""
        if self._strict:
            tell(error)
        self._exchange.access.went_on()
        self._counts.add(degraded=1)
        self._breaker.degraded(self._io.now())

    def defer(self, request: Request, at: float, *, creates: bool = False) -> None:
        """Send a request that sets up the run (`creates` it) with the next call that reaches the service."""
        self._deferred.append(_Deferred(request, at, creates))

    async def keep(self, request: Request, deadline: float) -> None:
        """Spool a report."""
        await self._delivery.keep(request, deadline, ahead=any(deferred.creates for deferred in self._deferred))

    async def newest_spooled(self, generation: int, deadline: float) -> int | None:
        """The newest step of the run's reports in the spool; None without any."""
        return await self._delivery.newest_step(generation, deadline)

    async def retire(self, created: Request, at: float, deadline: float) -> None:
        """Put aside what was spooled before `at` for an earlier run of the name that was just created."""
        await self._delivery.retire(created.path, at, deadline)

    # Bringing everything to the service

    async def deliver_all(self) -> None:
        """Deliver the whole spool, however long it takes, as long as each budget brings some of it to the service.

        Raises `UnavailableError` when it doesn't, `ForbiddenError` when the key is refused.
        """
        self._check_open()
        try:
            await self._deliver_all()
        except KeyRefusedError as error:
            tell(error)

    async def _deliver_all(self) -> None:
        await self._send_deferred(self._io.now() + self._budget, once=False)
        done = False
        while not done:
            before, start = self._settled(), self._io.now()
            # None is begun in the second half, so that each has at least that much time.
            done = await self._delivery.deliver(start + self._budget, start + self._budget / 2)
            if not done and self._settled() == before:
                raise BacklogError(
                    "spooled reports have to go first, and another client is delivering them or the service is too "
                    "slow for them; call again in a moment", transient=False,
                )  # fmt: skip

    def _settled(self) -> int:
        counters = self._counts.snapshot()
        return counters.delivered + counters.refused

    async def flush(self, within: float | None = None) -> bool:
        """See `Client.flush`."""
        start = self._io.now()
        deadline = start + (self._budget if within is None else within)
        try:
            await self._send_deferred(deadline, once=False)
            return await self._delivery.deliver(deadline, deadline) and self._delivery.is_empty()
        except UnavailableError as error:
            if self._strict:
                tell(error)
            self._breaker.failed(self._io.now(), error)
            return False

    async def finish(self, farewell: Request) -> None:
        """Deliver what can be delivered within one budget, then refuse further calls.

        `farewell`: a look at the run, which tells the service the last news of this client, if there are any.
        """
        if self._closed:
            return
        deadline = self._io.now() + self._budget
        try:
            done = await self.flush()
            await self._tell_the_rest(farewell, deadline)
        except (RefusedError, UnavailableError) as error:
            log.warning("greso: could not deliver the last reports: %s", error)
            done = False
        finally:
            self._closed = True
        if self._deferred:
            log.warning("greso: the service was away to the end: create_run and add_prompts were not sent")
        if not done and not self._delivery.is_empty():
            log.warning("greso: reports remain in the spool; the next client of this run delivers them")

    async def _tell_the_rest(self, farewell: Request, deadline: float) -> None:
        # While the service is away there is nobody to tell.
        if self._counts.any_news() and self._breaker.permit(self._io.now()) is Permit.TRY:
            with contextlib.suppress(RefusedError, UnavailableError):  # figures for a dashboard: not worth a word
                await self._exchange(farewell, self.read_state, deadline, once=True)


def _goes_on(options: Options) -> str:
    where = "are not kept (the spool is off)" if options.spool is None else f"are kept in {options.spool.path}"
    return f"Training goes on: every prompt is rolled out, reports {where}; strict=True would raise instead."
