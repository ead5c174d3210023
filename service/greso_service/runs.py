"""The use cases of runs: no HTTP, no Redis; a History goes in, answers come out.

Every write goes the same way (`Runs._commit`): decide on the folded state, append the resulting events if the history
still ends where that state does, fold them, answer. If the history has moved, catch up and decide again. Whatever is
killed, retried or doubled in between, an event is in the history once and its answer was made from what preceded it.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from greso_service import answers, plans, replay
from greso_service.answers import Answer
from greso_service.core.events import Created, Event, Forked, Patched, Rewound
from greso_service.core.mark import START, Mark
from greso_service.core.spec import RunSpec, SpecError
from greso_service.core.state import RunState, Totals
from greso_service.errors import (
    Conflict,
    Fault,
    GresoError,
    InvalidInput,
    KeyReused,
    NotFound,
    StaleGeneration,
    Unavailable,
)
from greso_service.history import codec, snapshot
from greso_service.history.base import Appended, History, Listed, Moved, Once, RunKey, Seen
from greso_service.history.codec import CodecError, Recorded
from greso_service.plans import Plan
from greso_service.replay import Folded, HistoryGone

log = logging.getLogger(__name__)

T = TypeVar("T")

_TRIES = (
    50  # decisions, and fresh starts, against a history that moves: each lost race means that another one got through
)
_LARGE = 65_536  # bytes of an event
_LONG = 20_000  # prompts from which a decision leaves the event loop, so that other runs' answers don't wait for it


@dataclass(frozen=True, slots=True)
class Idempotency:
    """A request's idempotency key and the digest (32 bytes) of what it asks."""

    key: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class Given:
    """What a write came with beside its content. `generation`: of the run as the writer knows it."""

    once: Idempotency | None = None
    generation: int | None = None


BARE = Given()


@dataclass(slots=True)
class _Live(Folded):
    """A run as this replica has folded it: `state` and then `unfolded` up to `mark`; `state` is None until loaded."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    unfolded: Sequence[Event] = ()
    unsaved: int = 0
    saving: asyncio.Task[None] | None = None


class Runs:
    """All runs of a History. One instance serves one process; several processes may share the History.

    The states of the `max_live_runs` runs used last are kept folded in memory. `observe` is told what each write
    through this instance added to a run's totals (for metrics).
    """

    def __init__(
        self,
        history: History,
        *,
        idempotency_ttl: int,
        snapshot_every: int,
        max_live_runs: int = 100,
        observe: Callable[[RunKey, Totals], None] = lambda _key, _added: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._history = history
        self._ttl = idempotency_ttl
        self._snapshot_every = snapshot_every
        self._observe = observe
        self._clock = clock
        self._most_live = max_live_runs
        self._live: OrderedDict[RunKey, _Live] = OrderedDict()  # the most recently used last

    async def create(self, key: RunKey, fields: dict[str, Any], given: Given = BARE) -> tuple[Answer, bool]:
        """Create a run, or find it there with an equal spec; whether it was created comes with the answer.

        Equal is the spec that the run was created with, too: a trainer that starts again sends it, whatever was
        changed in the live run since.
        """
        spec = _valid(lambda: RunSpec.of(fields))
        async with self._held(key) as live:
            created = Created(spec.to_dict())
            try:
                state = await self._current(key, live)
            except NotFound:
                result = await self._history.append(key, START, [self._payload(created)], at_ms=self._now_ms())
                state = await self._current(key, live)
                if isinstance(result, Appended):
                    return answers.run(key.run, state), True
            _fence(key, state, given)
            if spec != state.created and (differences := spec.differences(state.spec)):
                raise Conflict(f"run {key.run} exists with another spec; asked for {'; '.join(differences)}")
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
        return await self._look(key, lambda state: answers.run(key.run, state))

    async def delete(self, key: RunKey, given: Given = BARE) -> None:
        """Remove a run and all its keys."""
        async with self._held(key) as live:
            if given.generation is not None:
                _fence(key, await self._current(key, live), given)
            if live.saving is not None:
                await asyncio.wait([live.saving])
            existed = await self._history.drop(key)
            live.state = None
        if not existed:
            raise _no_run(key)

    async def listed(self, tenant: str) -> list[Listed]:
        """The tenant's runs, newest activity first."""
        return await self._history.runs(tenant)

    async def add_prompts(
        self, key: RunKey, prompts: Sequence[str], pointer: str = "/prompts", given: Given = BARE
    ) -> Answer:
        """Add prompts to the pool; known ones are ignored. `pointer`: where the prompts stand in the request."""
        return await self._commit(key, lambda state: plans.pool(state, prompts, pointer), given, size=len(prompts))

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
            live = self._live.get(key)
            if live is None:
                raise
            self._settle(key, live)
            # A generation not heard of is no fault: the rewind may be what this replica has missed.
            if live.state is None or (given.generation or 0) > live.state.generation:
                raise
            _fence(key, live.state, given)
            return Answer(plan(live.state, stale=True).answer)

    async def draw(self, key: RunKey, step: int, count: int | None, given: Given = BARE) -> Answer:
        """Walk the pool for prompts to roll out."""
        return await self._commit(key, lambda state: plans.draw(state, step, count), given, size=count or 0)

    async def report(
        self,
        key: RunKey,
        step: int,
        prompts: Sequence[str],
        rewards: Sequence[Sequence[float]],
        *,
        final: bool,
        given: Given = BARE,
    ) -> Answer:
        """Fold in what rollouts earned."""
        return await self._commit(
            key, lambda state: plans.report(state, step, prompts, rewards, final=final), given, size=len(prompts)
        )

    async def rewind(self, key: RunKey, step: int, given: Given = BARE) -> Answer:
        """Go back to the state as it was when `step` completed, in a new generation."""
        async with self._held(key) as live:
            planned: Plan | None = None
            generation = -1
            for _ in range(_TRIES):
                state = await self._current(key, live)
                try:
                    _fence(key, state, given)
                    # What others write meanwhile is forgotten, too: only another rewind changes what this one keeps.
                    if planned is None or generation != state.generation:
                        planned, generation = await self._rewound(key, live, state, step), state.generation
                except HistoryGone:
                    continue
                except Conflict:
                    if answer := await self._recalled(key, given.once):
                        return answer
                    raise
                if answer := await self._append(key, live, planned, given.once, 0):
                    return answer
        raise _busy(key)

    async def fork(self, key: RunKey, run: str, step: int | None, given: Given = BARE) -> Answer:
        """Begin a new run as this one was when `step` completed, or as it is now."""
        if answer := await self._recalled(key, given.once):
            return answer
        new = RunKey(key.tenant, run)
        for _ in range(_TRIES):
            async with self._held(key) as live:
                state = await self._current(key, live)
                _fence(key, state, given)
                past = replay.spans(state, live.mark)
            try:
                kept = past if step is None else await replay.kept_until(self._history, key, past, step)
                answer = answers.run(run, await replay.refold(self._history, key, kept))
                written = replay.payloads(self._history, key, kept, self._payload, Forked(key.run, step))
                once = self._named(given.once, answer.body)
                # The key is this run's. The new one keeps it too, under a name that no request can have: if this
                # process ends before the key is remembered here, a retry finds it there.
                there = replace(once, key=f"fork {once.key}") if once else None
                result = await self._history.begin(new, written, at_ms=self._now_ms(), once=there)
            except HistoryGone:
                continue
            if isinstance(result, Moved):
                raise Conflict(f"run {run} exists; fork into another name, or delete it first")
            if once is not None:
                await self._history.remember(key, once)
            return _replayed(given.once, result) if isinstance(result, Seen) else answer
        raise _busy(key)

    async def steps(self, key: RunKey, after: int, limit: int) -> Answer:
        """What happened in each step."""
        return await self._look(key, lambda state: answers.steps(state, after, limit))

    async def prompts(self, key: RunKey, query: answers.PromptQuery) -> Answer:
        """Prompts of the run, filtered and sorted."""
        return await self._look(key, lambda state: answers.prompts(state, query))

    async def prompt(self, key: RunKey, prompt: str) -> Answer:
        """One prompt and its recent groups."""

        def look(state: RunState) -> Answer:
            found = answers.prompt(state, prompt)
            if found is None:
                raise NotFound(f"run {key.run} has no prompt {prompt!r}")
            return found

        return await self._look(key, look)

    async def close(self) -> None:
        """Wait for snapshots under way."""
        saving = [live.saving for live in self._live.values() if live.saving is not None]
        if saving:
            await asyncio.wait(saving)

    @asynccontextmanager
    async def _held(self, key: RunKey) -> AsyncIterator[_Live]:
        """The run as this replica knows it, for one caller at a time; forgotten again if it turns out not to exist."""
        live = self._live.setdefault(key, _Live())
        self._live.move_to_end(key)
        async with live.lock:
            self._settle(key, live)
            try:
                yield live
            finally:
                if live.state is None and self._live.get(key) is live:
                    del self._live[key]
        self._forget_idle()

    def _forget_idle(self) -> None:
        """Drop the states that were not used longest; each is folded again from its history when it is asked for."""
        for key, live in list(self._live.items())[: max(len(self._live) - self._most_live, 0)]:
            if not live.lock.locked() and (live.saving is None or live.saving.done()):
                del self._live[key]

    async def _look(self, key: RunKey, look: Callable[[RunState], T]) -> T:
        async with self._held(key) as live:
            state = await self._current(key, live)
            return await _placed(state.table.size, lambda: look(state))

    async def _commit(self, key: RunKey, plan: Callable[[RunState], Plan], given: Given, *, size: int = 0) -> Answer:
        async with self._held(key) as live:
            state = live.state or await self._current(key, live)
            for _ in range(_TRIES):
                try:
                    _fence(key, state, given)
                    planned = await _placed(size, partial(plan, state))
                except GresoError:
                    # It may look wrong only because this replica is behind: judge again on the newest state.
                    behind = live.mark
                    state = await self._current(key, live)
                    if live.mark != behind:
                        continue
                    if answer := await self._recalled(key, given.once):
                        return answer
                    raise
                if answer := await self._append(key, live, planned, given.once, size):
                    return answer
                state = await self._current(key, live)
        raise _busy(key)

    async def _append(
        self, key: RunKey, live: _Live, planned: Plan, once: Idempotency | None, size: int
    ) -> Answer | None:
        """Append and fold a plan; its answer, or None when the history has moved on without it."""
        named = self._named(once, planned.answer)
        payloads = [self._payload(event) for event in planned.events]
        result = await self._history.append(key, live.mark, payloads, at_ms=self._now_ms(), once=named)
        match result:
            case Appended(mark):
                live.mark, live.unfolded = mark, planned.events
                if planned.state is not None:
                    planned.state.since = mark
                    live.state, live.unfolded, live.unsaved = planned.state, (), self._snapshot_every
                live.unsaved += sum(map(_weight, payloads))
                if size < _LONG and live.unsaved < self._snapshot_every:
                    # The answer is known: it goes out first.
                    asyncio.get_running_loop().call_soon(self._settle, key, live)
                else:
                    await _placed(size, partial(self._settle, key, live))
                    await self._save_if_due(key, live)
                return Answer(planned.answer)
            case Seen():
                return _replayed(once, result)
            case Moved():
                # Its own first event among the newer ones: the reply to a first try of this very append was lost, and
                # others have written since.
                return Answer(planned.answer) if await self._catch_up(key, live, payloads[0]) else None

    def _settle(self, key: RunKey, live: _Live) -> None:
        """Fold what was appended and not folded yet. Nobody may look at `live.state` before."""
        events, live.unfolded = live.unfolded, ()
        if not events or live.state is None:
            return
        state, live.state = live.state, None  # if folding fails the run is loaded anew
        before = replace(state.totals)
        _fold_events(state, events)
        self._observe(key, state.totals.since(before))
        live.state = state

    async def _current(self, key: RunKey, live: _Live) -> RunState:
        """The run's state, caught up with the history. Raises `NotFound` if there is no such run."""
        if live.state is None:
            await self._load(key, live)
        await self._catch_up(key, live)
        if live.state is None:
            raise _no_run(key)
        return live.state

    async def _load(self, key: RunKey, live: _Live) -> None:
        live.state, live.mark, live.unsaved = None, START, 0
        saved = await self._history.load(key)
        if saved is None:
            return
        mark, content = saved
        try:
            live.state = await asyncio.to_thread(snapshot.decode, content)
            live.mark = mark
        except CodecError as error:
            log.warning("run %s/%s: snapshot not used, folding the whole history: %s", *key, error)

    async def _catch_up(self, key: RunKey, live: _Live, own: bytes = b"") -> bool:
        """Fold what the history holds behind the live state; whether the payload `own` was among it."""
        for _ in range(_TRIES):
            met = False
            try:
                async for payloads in replay.catch_up(self._history, key, live):
                    met = met or own in payloads
                    live.unsaved += sum(map(_weight, payloads))
            except HistoryGone:
                live.forget()
            except BaseException:
                live.forget()  # it may be folded in part: begin again
                raise
            else:
                return met
        raise CodecError(f"the history of run {key.run} contradicts itself: its events are not in its log")

    async def _rewound(self, key: RunKey, live: _Live, state: RunState, step: int) -> Plan:
        kept = await replay.kept_until(self._history, key, replay.spans(state, live.mark), step)
        event = Rewound(step, state.generation + 1, kept)
        then = await replay.refold(self._history, key, kept)
        then.rewound(event, live.mark)  # its own mark is known when it is appended
        return Plan([event], answers.run(key.run, then).body, then)

    async def _recalled(self, key: RunKey, once: Idempotency | None) -> Answer | None:
        """The first answer to an idempotency key: it is given again, whatever has become of the run since."""
        seen = await self._history.recall(key, once.key) if once else None
        return None if seen is None else _replayed(once, seen)

    def _named(self, once: Idempotency | None, answer: bytes) -> Once | None:
        return Once(once.key, once.digest, answer, self._ttl) if once else None

    async def _save_if_due(self, key: RunKey, live: _Live) -> None:
        if live.unsaved < self._snapshot_every or (live.saving is not None and not live.saving.done()):
            return
        if live.state is None:
            return
        live.unsaved = 0
        frozen = await _placed(live.state.table.size, partial(snapshot.Frozen, live.state))
        live.saving = asyncio.create_task(self._save(key, live.mark, frozen))

    async def _save(self, key: RunKey, mark: Mark, frozen: snapshot.Frozen) -> None:
        try:
            await self._history.save(key, mark, await asyncio.to_thread(frozen.encode))
        except Unavailable as error:
            log.warning("run %s/%s: snapshot not kept (the history is whole): %s", *key, error)
        except Exception:
            log.exception("run %s/%s: snapshot not made; starts will take longer (the history is whole)", *key)

    def _payload(self, event: Event) -> bytes:
        return codec.encode(Recorded(event, self._now_ms(), secrets.randbits(64)))

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


def _fold_events(state: RunState, events: Sequence[Event]) -> None:
    for event in events:
        state.fold(event)


def _weight(payload: bytes) -> int:
    """How many events one counts for when a snapshot is due: a large one takes as long to fold as many small ones."""
    return 1 + len(payload) // _LARGE


async def _placed(size: int, work: Callable[[], T]) -> T:
    """Do short work at once and long work in a thread."""
    return work() if size < _LONG else await asyncio.to_thread(work)


def _valid(make: Callable[[], T]) -> T:
    try:
        return make()
    except SpecError as error:
        raise InvalidInput(*(Fault(f"/{name}" if name else "", detail) for name, detail in error.faults)) from None


def _fence(key: RunKey, state: RunState, given: Given) -> None:
    """Refuse a write that knows another generation of the run."""
    if given.generation is None or given.generation == state.generation:
        return
    numbers = f"run {key.run} is at generation {state.generation}, the request says {given.generation}"
    if given.generation < state.generation:
        raise StaleGeneration(f"{numbers}: it was rewound since; only the trainer that rewound it may go on")
    raise Conflict(f"{numbers}: this run was made anew, or its store has lost the rewind; rewind it again")


def _replayed(once: Idempotency | None, seen: Seen) -> Answer:
    if once is not None and seen.digest != once.digest:
        raise KeyReused(f"Idempotency-Key {once.key} was used before with another request")
    return Answer(seen.answer, replayed=True)


def _busy(key: RunKey) -> Unavailable:
    return Unavailable(f"run {key.run} is written to by too many at once; try again")


def _no_run(key: RunKey) -> NotFound:
    return NotFound(f"there is no run {key.run}; create it with PUT /v1/runs/{key.run}")
