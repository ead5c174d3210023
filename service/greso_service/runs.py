"""The use cases of runs: no HTTP, no Redis; a History goes in, answers come out.

Every write goes the same way (`Runs._commit`): decide on the folded state, append the resulting events if the history
still ends where that state does, fold them, answer. If the history has moved, catch up and decide again. Whatever is
killed, retried or doubled in between, an event is in the history once and its answer was made from what preceded it.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

from greso_service import answers, plans, priors
from greso_service.answers import Answer
from greso_service.cold import AtHand, Cold
from greso_service.core import ranked_draw
from greso_service.core.events import Created, Patched, Seconds
from greso_service.core.mark import START, Mark
from greso_service.core.spec import RunSpec, SpecError
from greso_service.core.state import RunState
from greso_service.errors import (
    Conflict,
    Fault,
    GresoError,
    InvalidInput,
    NotFound,
    Unavailable,
    busy,
    no_run,
)
from greso_service.exporting import Exporting
from greso_service.fairness import Room
from greso_service.following import Following, Page, Place
from greso_service.given import BARE, Given, fence
from greso_service.history.base import Appended, History, Listed, RunKey
from greso_service.importing import Importing
from greso_service.joining import Named
from greso_service.live import TRIES, LiveRuns
from greso_service.observed import Observer, Standing, nobody
from greso_service.placing import placed
from greso_service.plans import Plan
from greso_service.priors import Carried, Rates
from greso_service.time_travel import TimeTravel

T = TypeVar("T")


class Runs:
    """All runs of a History. One instance serves one process; several processes may share the History.

    The states of the `max_live_runs` runs used last are kept folded in memory, as far as they take no more than
    `max_live_bytes` in all (None: whatever they take). A run can be rewound to the last
    `keep_steps` steps (None: to all); older events are trimmed now and then. `observe` is told of each write through
    this instance (for metrics).
    """

    def __init__(
        self,
        history: History,
        *,
        idempotency_ttl: int,
        snapshot_every: int,
        keep_steps: int | None = None,
        max_live_runs: int = 100,
        max_live_bytes: int | None = None,
        observe: Observer = nobody,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._history = history
        self._live = LiveRuns(
            history,
            idempotency_ttl=idempotency_ttl,
            snapshot_every=snapshot_every,
            keep_steps=keep_steps,
            room=Room(max_live_runs, max_live_bytes),
            observe=observe,
            clock=clock,
        )
        self._travel = TimeTravel(history, self._live)
        self._exporting = Exporting(history, self._live)
        self._importing = Importing(history, self._live)
        self._following = Following(history)
        self._cold = Cold(self._live)

    async def create(self, key: RunKey, fields: dict[str, Any], given: Given = BARE) -> tuple[Answer, bool]:
        """Create a run, or find it there with an equal spec; whether it was created comes with the answer.

        Equal is the spec that the run was created with, too: a trainer that starts again sends it, whatever was
        changed in the live run since.
        """
        spec = _valid(lambda: RunSpec.of(fields))
        async with self._live.held(key) as live:
            created = Created(spec.to_dict())
            try:
                state = await self._live.current(key, live)
            except NotFound:
                if given.generation:
                    wanted = f"the request says generation {given.generation}"
                    raise Conflict(f"there is no run {key.run}, and {wanted}") from None
                result = await self._history.append(
                    key, START, [self._live.payload(created)], at_ms=self._live.now_ms()
                )
                state = await self._live.current(key, live)
                if isinstance(result, Appended):
                    return answers.run(key.run, state), True
            fence(key, state, given)
            if spec != state.created and (differences := spec.differences(state.spec)):
                raise Conflict(f"run {key.run} exists with another spec; asked for {'; '.join(differences)}")
            await self._history.confirm(key)  # whoever made it may have been told that no replica has it
            return answers.run(key.run, state), False

    async def change(self, key: RunKey, changes: dict[str, Any], given: Given = BARE) -> Answer:
        """Change tunables of a live run."""

        def plan(state: RunState) -> Plan:
            _valid(lambda: state.spec.changed(changes))
            return Plan([Patched(changes)])

        await self._commit(key, plan, given)
        return await self.show(key)

    async def show(self, key: RunKey) -> Answer:
        """Spec and state of a run."""
        return await self.look(key, lambda state: answers.run(key.run, state))

    async def delete(self, key: RunKey, given: Given = BARE) -> None:
        """Remove a run and all its keys."""
        async with self._live.held(key) as live:
            await self._live.quiet(key, live)
            for _ in range(TRIES):
                if given.generation is not None:
                    fence(key, await self._live.current(key, live), given)
                if await self._history.drop(key, None if given.generation is None else live.mark):
                    live.forget()
                    return
                if given.generation is None:
                    live.forget()
                    raise no_run(key.run)
        raise busy(key.run)

    async def listed(self, tenant: str) -> list[Listed]:
        """The tenant's runs, newest activity first."""
        return await self._history.runs(tenant)

    async def add_prompts(
        self,
        key: RunKey,
        prompts: Sequence[str],
        pointer: str = "/prompts",
        given: Given = BARE,
        *,
        rates: Rates | None = None,
        carried: Carried | None = None,
        domains: Named | None = None,
    ) -> Answer:
        """Add prompts to the pool, with what is known of them beforehand; known ones are ignored.

        `pointer`: where the prompts stand in the request.
        """
        return await self._commit(
            key,
            lambda state: plans.pool(state, prompts, pointer, rates=rates, carried=carried, domains=domains),
            given,
            size=len(prompts),
        )

    async def import_prompts(
        self,
        key: RunKey,
        source: RunKey,
        prompts: Sequence[str] | None,
        given: Given = BARE,
        *,
        rates: Rates | None = None,
        domains: Named | None = None,
        most: int,
    ) -> Answer:
        """Add prompts to the pool with what another run knows of them; None: all of that run, `most` at most."""
        if source == key:
            raise InvalidInput(Fault("/from_run", "is this run itself"))
        try:
            carried = await self.look(
                source, lambda state: priors.carried(state, prompts, "/prompts", most), size=len(prompts or ())
            )
        except (NotFound, InvalidInput) as error:
            # It may be gone, or too large, only since the first try of this very request.
            if answer := await self._live.recalled(key, given.once):
                return answer
            if isinstance(error, InvalidInput):
                raise
            raise InvalidInput(Fault("/from_run", f"there is no run {source.run}"), status=404) from None
        return await self.add_prompts(key, carried.prompts, given=given, rates=rates, carried=carried, domains=domains)

    async def select(
        self,
        key: RunKey,
        step: int,
        prompts: Sequence[str],
        *,
        limit: int | None = None,
        at_least: int = 0,
        explain: bool = False,
        given: Given = BARE,
    ) -> Answer:
        """Decide which candidates to roll out; from the last state known, marked stale, while the store is away."""

        def plan(state: RunState, *, stale: bool = False) -> Plan:
            return plans.select(state, step, prompts, limit=limit, at_least=at_least, explain=explain, stale=stale)

        try:
            return await self._commit(key, plan, given, size=len(prompts))
        except Unavailable:
            state = self._live.known(key)
            # A generation not heard of is no fault: the rewind may be what this replica has missed.
            if state is None or (given.generation or 0) > state.generation:
                raise
            fence(key, state, given)
            return Answer(plan(state, stale=True).answer)

    async def draw(self, key: RunKey, step: int, count: int | None, given: Given = BARE) -> Answer:
        """Walk the pool for prompts to roll out."""
        return await self._commit(
            key,
            lambda state: plans.draw(state, step, count, key.run),
            given,
            size=count or 0,
            more=ranked_draw.looked_at,
        )

    async def report(
        self,
        key: RunKey,
        step: int,
        prompts: Sequence[str],
        rewards: Sequence[Sequence[float]],
        *,
        final: bool,
        seconds: Seconds | None = None,
        given: Given = BARE,
    ) -> Answer:
        """Fold in what rollouts earned, and what the trainer spent on it."""

        def plan(state: RunState) -> Plan:
            return plans.report(state, step, prompts, rewards, final=final, seconds=seconds)

        return await self._commit(key, plan, given, size=len(prompts))

    async def rewind(self, key: RunKey, step: int, given: Given = BARE) -> Answer:
        """Go back to the state as it was when `step` completed, in a new generation."""
        return await self._travel.rewind(key, step, given)

    async def fork(self, key: RunKey, run: str, step: int | None, given: Given = BARE) -> Answer:
        """Begin a new run as this one was when `step` completed, or as it is now."""
        return await self._travel.fork(key, run, step, given)

    async def export(self, key: RunKey) -> AsyncIterator[bytes]:
        """The run's whole history as a file, piece by piece; see `Exporting.export`."""
        return await self._exporting.export(key)

    async def import_history(
        self, key: RunKey, pieces: AsyncIterator[bytes], given: Callable[[], Given] = lambda: BARE
    ) -> tuple[Answer, bool]:
        """Make a run of an export; see `Importing.take`."""
        return await self._importing.take(key, pieces, given)

    async def events(self, key: RunKey, after: Place, *, on: bool) -> tuple[Mark, AsyncIterator[Page]]:
        """The run's events behind a place and, if it is to go `on`, those that are written; see `Following`.

        The place's mark comes with them.
        """
        mark = await self._following.mark(key, after)
        return mark, self._following.pages(key, mark, on=on)

    async def steps(self, key: RunKey, after: int, limit: int, domain: str | None = None) -> Answer:
        """What happened in each step, of the run or of one of its domains."""
        return await self.look(key, lambda state: answers.steps(state, after, limit, domain))

    async def prompts(self, key: RunKey, query: answers.PromptQuery) -> Answer:
        """Prompts of the run, filtered and sorted."""
        return await self.look(key, lambda state: answers.prompts(state, query))

    async def prompt(self, key: RunKey, prompt: str) -> Answer:
        """One prompt and its recent groups."""

        def look(state: RunState) -> Answer:
            found = answers.prompt(state, prompt)
            if found is None:
                raise NotFound(f"run {key.run} has no prompt {prompt!r}")
            return found

        return await self.look(key, look)

    def __len__(self) -> int:
        """Runs kept ready in memory."""
        return len(self._live)

    @property
    def size(self) -> int:
        """Bytes that they take, about."""
        return self._live.size

    def standing(self) -> Iterator[Standing]:
        """The active runs as this replica holds them, for metrics."""
        return self._live.standing()

    async def refresh(self) -> None:
        """Catch the active runs up with what other replicas have written. Raises `Unavailable`."""
        await self._live.refresh()

    async def at_hand(self, keys: Sequence[RunKey], within: float) -> AtHand:
        """Sort runs by whether they are in memory; see `Cold`."""
        return await self._cold.sorted(keys, within)

    async def close(self) -> None:
        """Wait for snapshots under way."""
        await self._cold.close()
        await self._live.close()

    async def look(self, key: RunKey, look: Callable[[RunState], T], *, use: bool = True, size: int = 0) -> T:
        """What `look` makes of the run's newest state; it may run in a thread and must change nothing.

        Without `use`, the run is not kept in memory any longer for it. `size`: prompts that it is about, if many.
        """
        async with self._live.held(key, use=use) as live:
            state = await self._live.current(key, live)
            return await placed(max(size, state.table.size), lambda: look(state))

    async def _commit(
        self,
        key: RunKey,
        plan: Callable[[RunState], Plan],
        given: Given,
        *,
        size: int = 0,
        more: Callable[[RunState], int] = lambda _: 0,
    ) -> Answer:
        """Plan and append. `size`, and `more` of the state: prompts that planning looks at, and how many."""
        async with self._live.held(key) as live:
            state = live.state or await self._live.current(key, live)
            for _ in range(TRIES):
                try:
                    fence(key, state, given)
                    planned = await placed(max(size, more(state)), partial(plan, state))
                except GresoError:
                    # It may look wrong only because this replica is behind: judge again on the newest state.
                    behind = live.mark
                    state = await self._live.current(key, live)
                    if live.mark != behind:
                        continue
                    if answer := await self._live.recalled(key, given.once):
                        return answer
                    raise
                if answer := await self._live.append(key, live, planned, given.once, size):
                    return answer
                state = await self._live.current(key, live)
        raise busy(key.run)


def _valid(make: Callable[[], T]) -> T:
    try:
        return make()
    except SpecError as error:
        raise InvalidInput(*(Fault(f"/{name}" if name else "", detail) for name, detail in error.faults)) from None
