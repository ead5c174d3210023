"""The use cases that go back in a run's history: rewind and fork."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from greso_service import answers, bases, replay
from greso_service.answers import Answer
from greso_service.bases import Begun
from greso_service.core.events import Forked, Rewound
from greso_service.core.fold import rewound
from greso_service.core.mark import START, Mark
from greso_service.core.state import RunState
from greso_service.errors import Conflict, busy
from greso_service.given import Given, Idempotency, fence, replayed
from greso_service.history.base import Appended, History, Moved, RunKey, Seen
from greso_service.live import TRIES, Live, LiveRuns
from greso_service.plans import Plan
from greso_service.replay import HistoryGone


class TimeTravel:
    """Rewinds and forks the runs of a History that `live` holds."""

    def __init__(self, history: History, live: LiveRuns) -> None:
        self._history = history
        self._live = live

    async def rewind(self, key: RunKey, step: int, given: Given) -> Answer:
        """Go back to the state as it was when `step` completed, in a new generation."""
        async with self._live.held(key) as live:
            planned: Plan | None = None
            origin: RunState | None = None
            for _ in range(TRIES):
                state = await self._live.current(key, live)
                try:
                    fence(key, state, given)
                    # What others write meanwhile is forgotten, too. Another rewind, or another history in the place of
                    # this one, changes what is kept; both make another state, not this one folded further. And what was
                    # trimmed meanwhile can't be gone back to.
                    if planned is None or state is not origin or planned.base != await self._base(key):
                        planned, origin = await self._rewound(key, live, state, step), state
                except HistoryGone:
                    continue
                except Conflict:
                    if answer := await self._live.recalled(key, given.once):
                        return answer
                    raise
                if answer := await self._live.append(key, live, planned, given.once, 0):
                    return answer
        raise busy(key.run)

    async def fork(self, key: RunKey, run: str, step: int | None, given: Given) -> Answer:
        """Begin a new run as this one was when `step` completed, or as it is now."""
        if answer := await self._live.recalled(key, given.once):
            return answer
        new = RunKey(key.tenant, run)
        # The key is this run's. The new one keeps it too, under a name that no request can have: if this process ends
        # before the key is remembered here, a retry finds it there.
        there = replace(given.once, key=f"fork {given.once.key}") if given.once else None
        if (answer := await self._live.recalled(new, there)) is None:
            if await self._history.extent(new) is not None:
                raise _exists(run)
            answer = await self._forked(key, new, step, given, there)
        if given.once is not None and (once := self._live.named(given.once, answer.body)):
            await self._history.remember(key, once)
        return answer

    async def _forked(
        self, key: RunKey, new: RunKey, step: int | None, given: Given, there: Idempotency | None
    ) -> Answer:
        for _ in range(TRIES):
            async with self._live.held(key) as live:
                state = await self._live.current(key, live)
                fence(key, state, given)
                kept = bases.spans(state, live.mark)
                answer = answers.run(new.run, state, generation=0)
            end, base = self._live.payload(Forked(key.run, step)), None
            try:
                if step is not None:
                    begun = await self._begun(key, live, step)
                    kept, then = await replay.back_to(self._history, key, kept, step, begun)
                    answer = answers.run(new.run, then)
                begun = await bases.begun(self._history, key)
                way = replay.Way(begun, kept)
                if begun is not None:
                    base = await asyncio.to_thread(replay.base_of, begun, end)
                events = replay.payloads(self._history, key, way, self._live.payload, end)
                once = self._live.named(there, answer.body)
                result = await self._history.begin(new, events, at_ms=self._live.now_ms(), once=once, base=base)
            except HistoryGone:
                continue
            match result:
                case Appended():
                    return answer
                case Seen():
                    return replayed(there, result)
                case Moved():
                    raise _exists(new.run)
        raise busy(key.run)

    async def _rewound(self, key: RunKey, live: Live, state: RunState, step: int) -> Plan:
        begun = await self._begun(key, live, step)
        kept, then = await replay.back_to(self._history, key, bases.spans(state, live.mark), step, begun)
        event = Rewound(step, state.generation + 1, kept)
        rewound(then, event, live.mark)  # its own mark is known when it is appended
        return Plan([event], answers.run(key.run, then).body, then, START if begun is None else begun.mark)

    async def _begun(self, key: RunKey, live: Live, step: int) -> Begun | None:
        """What the history begins with. Raises `Conflict`, without reading it again, if it is known to hold `step`."""
        if live.floor is not None and step < live.floor.oldest and live.floor.mark == await self._base(key):
            raise bases.too_far(key, f"step {step}", live.floor)
        begun = await bases.begun(self._history, key)
        live.floor = None if begun is None else begun.floor
        return begun

    async def _base(self, key: RunKey) -> Mark:
        extent = await self._history.extent(key)
        return START if extent is None else extent.base


def _exists(run: str) -> Conflict:
    return Conflict(f"run {run} exists; fork into another name, or delete it first")
