"""The calls of a client, written once as coroutines over `IO`: with the service, and without it."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from greso_client import _answers as answers
from greso_client._access import KeyRefusedError, tell
from greso_client._checked import (
    checked_flag,
    checked_groups,
    checked_items,
    checked_prompts,
    checked_seconds,
    checked_step,
)
from greso_client._contact import Contact
from greso_client._counts import Counts
from greso_client._errors import ForbiddenError, NotFoundError, RefusedError, UnavailableError, invalid
from greso_client._fallback import Fallback
from greso_client._harvest import Harvest
from greso_client._io import IO
from greso_client._options import Options
from greso_client._past import Past
from greso_client._requests import Request, RunRequests
from greso_client._types import (
    Drawn,
    Group,
    PoolPrompt,
    PoolSize,
    Reported,
    Seconds,
    Selection,
)
from greso_client._views import PromptState, RunState, StepRow

# The service folds the run's history anew to rewind or fork it: 2 s for a million groups on two cores.
REFOLD_SECONDS = 120.0


class Core:
    """One run at one service. Safe between threads when its `IO` is; holds no lock while it waits."""

    def __init__(self, io: IO, run: str, options: Options, chance: random.Random | None = None) -> None:
        self._requests = RunRequests(run)
        self._io = io
        self._strict = options.strict
        self.counts = Counts()
        chance = chance or random.Random()  # noqa: S311 - jitter and shuffling, no secrets
        self._contact = Contact(io, options, chance, self.counts, self._requests.path)
        self._fence = self._contact.fence
        self.fallback = Fallback(run, chance)
        # A rewind that may have taken effect without an answer.
        self._unanswered: Request | None = None
        self._deleting = False  # a DELETE went out and was not answered
        # What `collect` leaves for its next call: candidates that the service did not look at, a step broken off, and
        # what is over.
        self.leftover: deque[str] = deque()
        self.broken_off: Harvest[Any] | None = None
        self.past = Past()

    @property
    def generation(self) -> int | None:
        """See `Client.generation`."""
        return self._fence.generation

    def now(self) -> float:
        """Seconds of a monotonic clock."""
        return self._io.now()

    # Setting up and looking

    async def create_run(self, spec: Mapping[str, Any]) -> RunState:
        """See `Client.create_run`."""
        request, asked_at, deadline = self._requests.create(spec), self._io.wall(), self._contact.deadline()
        try:
            state, status = await self._contact.ask(request, self._contact.read_state)
        except UnavailableError as error:
            self._contact.without_service(error)
            self._contact.defer(request, asked_at, creates=True)
            self._deleting = False
            self.fallback.learn_spec(spec, known=False)
            return self.fallback.state()
        if status == 201 or state.generation != self._fence.generation:
            self._forget_steps()
        if status == 201:
            await self._contact.retire(request, asked_at, deadline)
        elif self.past.known:
            spooled = await self._contact.newest_spooled(state.generation, deadline)
            if self.past.is_of_another(state, spooled):
                self.past = Past()  # somebody deleted it and made it anew
        self._fence.take_over(state.generation)
        self._deleting = False
        await self._learn_state(state, deadline)
        return state

    async def add_prompts(
        self, prompts: Iterable[str | PoolPrompt] | None = None, from_run: str | None = None
    ) -> PoolSize:
        """See `Client.add_prompts`."""
        if prompts is None and from_run is None:
            raise invalid("/prompts", "name prompts, or a run to take them from")
        checked = None if prompts is None else checked_items(prompts)
        if from_run is None:
            parts, patience = self._requests.pool(checked or []), 0.0
        else:
            parts, patience = self._requests.pool_from(from_run, checked), REFOLD_SECONDS
        ids = [item if isinstance(item, str) else item.prompt for item in checked or []]
        if not self._strict:
            self.fallback.learn_prompts(ids)
        added, pool, priors, degraded = 0, 0, 0, False
        for part in parts:
            request = self._fence.stamp(part)
            try:
                size, _ = await self._contact.ask(request, answers.pool_size, patience=patience)
                added, pool, priors = added + size.added, size.pool, priors + size.priors
            except UnavailableError as error:
                self._contact.without_service(error)
                self._contact.defer(request, self._io.wall())
                degraded = True
        return self.fallback.pool(len(ids)) if degraded else PoolSize(added, pool, priors=priors)

    async def update_run(self, changes: Mapping[str, Any]) -> RunState:
        """See `Client.update_run`."""
        request, deadline = self._fence.stamp(self._requests.update(changes)), self._contact.deadline()
        state, _ = await self._contact.ask(request, self._contact.read_state, gated=False)
        await self._learn_state(state, deadline)
        return state

    async def state(self, *, gated: bool = False) -> RunState:
        """See `Client.state`."""
        request, deadline = self._requests.state(), self._contact.deadline()
        state, _ = await self._contact.ask(request, self._contact.read_state, gated=gated)
        await self._learn_state(state, deadline)
        return state

    async def learn_run(self) -> None:
        """Ask for the run's spec unless it is known; while the service is away the defaults have to do."""
        if self.fallback.spec_known:
            return
        try:
            await self.state(gated=True)
        except UnavailableError as error:
            if self._strict:
                tell(error)

    async def was_over(self, step: int) -> bool:
        """Whether a step that begins now was complete before, as far as this client can know.

        Of the one step in question, the newest of a run that was found, the service is asked, once.
        """
        if self.past.is_in_doubt(step):
            # It is for a warning, so nothing may fail over it.
            rows = await self._contact.look(self._requests.steps(step - 1, 1), answers.step_rows)
            if rows is not None:
                self.past.complete = any(row.step == step and row.complete for row in rows)
        return self.past.covers(step)

    async def steps(self, after: int | None, limit: int | None, domain: str | None = None) -> list[StepRow]:
        """See `Client.steps`."""
        rows, _ = await self._contact.ask(self._requests.steps(after, limit, domain), answers.step_rows, gated=False)
        return rows

    async def prompt(self, prompt: str) -> PromptState:
        """See `Client.prompt`."""
        state, _ = await self._contact.ask(self._requests.prompt(prompt), answers.prompt_state, gated=False)
        return state

    async def delete_run(self) -> None:
        """See `Client.delete_run`."""
        request = self._fence.stamp(self._requests.delete())
        try:
            await self._contact.ask(request, answers.nothing, gated=False)
        except UnavailableError as error:
            self._deleting = self._deleting or error.sent
            raise
        except NotFoundError as error:
            if not (error.repeated or self._deleting):
                raise
        except RefusedError as error:
            # The run is there. Only a refused key says nothing of what an earlier attempt may have done.
            self._deleting = isinstance(error, ForbiddenError) and (self._deleting or error.repeated)
            raise
        self._deleting = False
        self._forget_steps()

    # Time travel

    async def rewind(self, step: int) -> RunState:
        """See `Client.rewind`."""
        request = self._fence.stamp(self._requests.rewind(checked_step(step)))
        lost = self._unanswered
        if lost is not None and (lost.body, lost.generation) == (request.body, request.generation):
            # Under its own key it takes effect once. A new one would be refused: the run has the next generation.
            request = lost
        await self._contact.deliver_all()
        self._unanswered = request
        try:
            state, _ = await self._contact.ask(request, self._contact.read_state, gated=False, patience=REFOLD_SECONDS)
        except RefusedError as error:
            # A refused key says nothing of what an earlier attempt may have done.
            if not (error.repeated and isinstance(error, ForbiddenError)):
                self._unanswered = None
            raise
        self._unanswered = None
        self._fence.take_over(state.generation)
        self.fallback.rewound(state, step)
        self._forget_steps()
        self.past.found(state, complete=True)
        return state

    async def fork(self, run: str, step: int | None = None) -> RunState:
        """See `Client.fork`."""
        request = self._fence.stamp(self._requests.fork(run, None if step is None else checked_step(step)))
        await self._contact.deliver_all()
        state, _ = await self._contact.ask(request, answers.state_of(run), gated=False, patience=REFOLD_SECONDS)
        return state

    def _forget_steps(self) -> None:
        """The steps under way are no more."""
        self.leftover.clear()
        self.broken_off = None
        self.past = Past()

    # What answers teach

    async def _learn_state(self, state: RunState, deadline: float) -> None:
        self._fence.learn(state.generation)
        self.fallback.learn_state(state)
        if not self.past.known:
            self.past.found(state, await self._contact.newest_spooled(state.generation, deadline))

    def _learn(self, answer: Selection | Drawn | Reported) -> None:
        self.fallback.learn(answer)
        # A stale answer may be from before a rewind.
        if not (isinstance(answer, Selection) and answer.stale):
            self._fence.learn(answer.generation)

    # Each step

    async def select(
        self, step: int, prompts: Sequence[str], limit: int | None = None, at_least: int = 0, explain: bool = False
    ) -> Selection:
        """See `Client.select`."""
        checked = checked_prompts(prompts)
        request = self._fence.stamp(self._requests.select(checked_step(step), checked, limit, at_least, explain))
        try:
            selection, _ = await self._contact.ask(request, answers.selection_of(len(checked), limit))
        except UnavailableError as error:
            self._contact.without_service(error)
            return self.fallback.select(len(checked), limit, explain)
        self._learn(selection)
        return selection

    async def draw(self, step: int, count: int | None = None) -> Drawn:
        """See `Client.draw`."""
        request = self._fence.stamp(self._requests.draw(checked_step(step), count))
        try:
            drawn, _ = await self._contact.ask(request, answers.drawn_of(count))
        except UnavailableError as error:
            self._contact.without_service(error)
            local = self.fallback.draw(count)
            if local is None:
                if isinstance(error, KeyRefusedError):
                    raise error.without("a draw goes on without it only with prompts that this client added") from error
                raise UnavailableError(f"{error}; without it a draw needs prompts that this client added") from error
            return local
        self._learn(drawn)
        return drawn

    async def report(
        self, step: int, groups: Iterable[Group], final: bool = False, seconds: Seconds | None = None
    ) -> Reported:
        """See `Client.report`."""
        step, checked, final = checked_step(step), checked_groups(groups), checked_flag(final, "/final")
        request = self._fence.stamp(self._requests.report(step, checked, final, checked_seconds(seconds)))
        deadline = self._contact.deadline()
        try:
            reported, _ = await self._contact.ask(request, answers.reported_of(step, len(checked)), reports_first=True)
        except UnavailableError as error:
            if not self._strict:
                await self._contact.keep(request, deadline)
            self._contact.without_service(error)
            return self.fallback.report(step, checked, final)
        self._learn(reported)
        return reported

    # The end

    async def flush(self, within: float | None = None) -> bool:
        """See `Client.flush`."""
        return await self._contact.flush(within)

    async def finish(self) -> None:
        """Deliver what can be delivered within one budget, then refuse further calls."""
        await self._contact.finish(self._requests.state())
