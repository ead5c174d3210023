"""The runs that this replica holds folded in memory: loaded, caught up, written to, saved now and then, forgotten.

Whatever is killed, retried or doubled, an event is in the history once: an append names the mark that it follows, and
one that finds the history moved on has done nothing.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

from greso_service import bases, replay, saving
from greso_service.answers import Answer
from greso_service.bases import Floor
from greso_service.core.events import Event
from greso_service.core.figures import Figures
from greso_service.core.fold import fold
from greso_service.core.mark import START
from greso_service.core.state import RunState
from greso_service.core.totals import Totals
from greso_service.errors import Unavailable, Unreadable, no_run
from greso_service.fairness import Room
from greso_service.given import Idempotency, replayed
from greso_service.history import codec, snapshot
from greso_service.history.base import Appended, History, Moved, Once, RunKey, Seen
from greso_service.history.codec import CodecError, Recorded
from greso_service.observed import ACTIVE, Observer, Standing
from greso_service.placing import LONG, placed
from greso_service.plans import Plan
from greso_service.replay import Folded, HistoryGone
from greso_service.saving import Saver
from greso_service.telemetry.logs import SELDOM

log = logging.getLogger(__name__)

TRIES = 50
"""Decisions, and fresh starts, against a history that moves: each lost race means that another one got through."""

_CANT_TELL = (
    "this replica was so far behind that it can't tell whether a first try of this write was done, whose answer the"
    " store may have lost; with an Idempotency-Key it could"
)


@dataclass(slots=True)
class Live(Folded):
    """A run as this replica has folded it: `state` and then `unfolded` up to `mark`; `state` is None until loaded.

    `users`: callers that have it or wait for it. `floor`: how far back it could go when that was looked at last.
    """

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0
    unfolded: Sequence[Event] = ()
    unsaved: int = 0
    covered: int = 0
    saved: int = 0
    loaded: bool = False
    saving: asyncio.Task[None] | None = None
    lost_snapshots: int = 0
    figures: Figures | None = None
    written_ms: int = 0
    lag: int = 0
    floor: Floor | None = None
    bytes: int = 0


class LiveRuns:
    """The states of the runs used last, those that there is `room` for. The parameters are those of `Runs`."""

    def __init__(
        self,
        history: History,
        *,
        idempotency_ttl: int,
        snapshot_every: int,
        keep_steps: int | None,
        room: Room,
        observe: Observer,
        clock: Callable[[], float],
    ) -> None:
        self._history = history
        self._ttl = idempotency_ttl
        self._saver = Saver(history, every=snapshot_every, keep_steps=keep_steps)
        self._observe = observe
        self._clock = clock
        self._room = room
        self._runs: OrderedDict[RunKey, Live] = OrderedDict()  # the most recently used last
        self._nonces = random.Random()  # noqa: S311  # seeded here; they need to differ, not to be secret
        self.size = 0  # bytes of all of them, about

    def __len__(self) -> int:
        return len(self._runs)

    def full(self, tenant: str) -> bool:
        """Whether another run of the tenant would push one of its own out."""
        return self._room.is_full(self._sizes(), tenant)

    def _sizes(self) -> dict[RunKey, int]:
        return {key: live.bytes for key, live in self._runs.items()}

    def holds(self, key: RunKey) -> bool:
        """Whether the run is in memory, and not still being read for the first time."""
        return key in self._runs and self._runs[key].loaded

    def known(self, key: RunKey) -> RunState | None:
        """The run's state as far as this replica knows it."""
        live = self._runs.get(key)
        if live is None:
            return None
        self.settle(key, live)
        return live.state

    def standing(self) -> Iterator[Standing]:
        """The active runs, without waiting for those that are being folded: of these, as they stood before."""
        since = self.now_ms() - int(ACTIVE * 1000)
        for key, live in self._runs.items():
            if not live.lock.locked():
                try:
                    self.settle(key, live)
                    live.figures = None if live.state is None else Figures.of(live.state)
                except (ArithmeticError, LookupError, ValueError):  # of one run, and others have metrics, too
                    log.exception("run %s has no figures", key.run, extra=_named(key))
                    live.figures = None
            if live.figures is not None and live.written_ms >= since:
                events = live.mark.number
                unsaved = max(events - live.saved, 0)
                yield Standing(key, live.figures, events, live.lag, unsaved, live.written_ms / 1000)

    async def refresh(self) -> None:
        """Catch the active runs up with what others have written; one that can't be read is left as it is.

        Raises `Unavailable` when all others were looked at: of a cluster one shard may be away.
        """
        since, away = self.now_ms() - int(ACTIVE * 1000), list[Unavailable]()
        for key, live in list(self._runs.items()):
            gone = self._runs.get(key) is not live  # meanwhile
            if gone or live.state is None or live.written_ms < since or live.lock.locked():
                continue
            async with _one_at_a_time(live):
                try:
                    await self._refresh(key, live)
                except Unreadable as error:
                    log.error("run %s is not followed: %s", key.run, error, extra=_named(key))
                except Unavailable as error:
                    away.append(error)
        if away:
            raise away[0]

    async def _refresh(self, key: RunKey, live: Live) -> None:
        self.settle(key, live)
        before = live.mark.number
        try:
            await self._catch_up(key, live)
            live.lag = max(live.mark.number - before, 0)
        finally:
            self._weigh(key, live)

    async def close(self) -> None:
        """Wait for snapshots under way, and a little for trims."""
        saving = [live.saving for live in self._runs.values() if live.saving is not None]
        if saving:
            await asyncio.wait(saving)
        await self._saver.close()

    async def quiet(self, key: RunKey, live: Live) -> None:
        """Wait until nothing is saved of the run any more, and trim no further."""
        if live.saving is not None:
            await asyncio.wait([live.saving])
        self._saver.stop(key)

    @asynccontextmanager
    async def held(self, key: RunKey, *, use: bool = True) -> AsyncIterator[Live]:
        """The run as this replica knows it, for one caller at a time; forgotten again if it turns out not to exist.

        Without `use` it counts no more as used than before, and leaves again if it was not here and has no room.
        """
        new = key not in self._runs
        live = self._runs.setdefault(key, Live())
        if use or new:
            self._runs.move_to_end(key, last=use)
        try:
            async with _one_at_a_time(live):
                self.settle(key, live)
                try:
                    yield live
                finally:
                    self._weigh(key, live)
        finally:
            if not live.users and self._runs.get(key) is live:
                looked_at = new and not use
                if live.state is None or (looked_at and not self._room.has(len(self._runs), self.size)):
                    self._forget(key)
            self._forget_idle()

    def _weigh(self, key: RunKey, live: Live) -> None:
        """Note what a run takes now."""
        if self._runs.get(key) is live:
            size = 0 if live.state is None else live.state.nbytes
            self.size += size - live.bytes
            live.bytes = size

    def _settle_and_weigh(self, key: RunKey, live: Live) -> None:
        if live.unfolded and live.state is not None:  # else somebody was faster, and may be at work on it
            self.settle(key, live)
            self._weigh(key, live)

    def _forget_idle(self) -> None:
        """Drop states; each is folded again from its history when it is asked for."""
        if self._room.has(len(self._runs), self.size):
            return
        for key in self._room.leaving(self._sizes()):
            live = self._runs[key]
            if not live.users and (live.saving is None or live.saving.done()):
                self._forget(key)

    def _forget(self, key: RunKey) -> None:
        self.size -= self._runs.pop(key).bytes

    async def append(
        self, key: RunKey, live: Live, planned: Plan, once: Idempotency | None, size: int
    ) -> Answer | None:
        """Append and fold a plan; its answer, or None when the history has moved on without it."""
        named = self.named(once, planned.answer)
        payloads = [self.payload(event) for event in planned.events]
        result = await self._history.append(
            key, live.mark, payloads, at_ms=self.now_ms(), once=named, base=planned.base
        )
        match result:
            case Appended(mark):
                live.mark, live.unfolded = mark, planned.events
                live.written_ms = codec.written_ms(payloads[-1])
                if planned.state is not None:
                    self._observe(key, planned.events, Totals(), planned.state.spec)
                    planned.state.since = mark
                    live.state, live.unfolded, live.unsaved = planned.state, (), self._saver.every
                live.unsaved += len(payloads)
                if size < LONG and not self._saver.is_due(live):
                    # The answer is known: it goes out first.
                    asyncio.get_running_loop().call_soon(self._settle_and_weigh, key, live)
                else:
                    await placed(size, partial(self.settle, key, live))
                    self._saver.save_if_due(key, live)
                return Answer(planned.answer)
            case Seen():
                return replayed(once, result)
            case Moved():
                # Its own first event among the newer ones: the reply to a first try of this very append was lost, and
                # others have written since. A key would have been found.
                own = b"" if named else payloads[0]
                return Answer(planned.answer) if await self._catch_up(key, live, own) else None

    def settle(self, key: RunKey, live: Live) -> None:
        """Fold what was appended and not folded yet. Nobody may look at `live.state` before."""
        events, live.unfolded = live.unfolded, ()
        if not events or live.state is None:
            return
        state, live.state = live.state, None  # if folding fails the run is loaded anew
        before = state.totals.copy()
        _fold_events(state, events)
        live.state = state
        self._observe(key, events, state.totals.since(before), state.spec)

    async def current(self, key: RunKey, live: Live) -> RunState:
        """The run's state, caught up with the history. Raises `NotFound` if there is no such run."""
        if live.state is None:
            await self._load(key, live)
        await self._catch_up(key, live)
        if live.state is None:
            raise no_run(key.run)
        live.loaded = True
        return live.state

    async def _load(self, key: RunKey, live: Live, *, snapshots: bool = True) -> None:
        live.state, live.mark, live.unsaved, live.covered, live.saved = None, START, 0, 0, 0
        try:
            saved = await self._history.load(key) if snapshots else None
            if saved is None:
                return
            mark, content = saved
            state, live.written_ms = await asyncio.to_thread(snapshot.read, content)
            live.state, live.mark, live.saved, live.covered = state, mark, mark.number, saving.folded(state)
        except (CodecError, Unreadable) as error:
            log.warning("snapshot not used, folding the whole history: %s", error, extra=_named(key))

    async def _catch_up(self, key: RunKey, live: Live, own: bytes = b"") -> bool:
        """Fold what the history holds behind the live state; whether the payload `own`, if any, was among it.

        Raises `Unavailable` if that can't be told because the place where it would be was trimmed.
        """
        known, untold, gone = live.mark.number, False, START
        for turn in range(TRIES):
            met = False
            try:
                async for payloads in replay.catch_up(self._history, key, live):
                    met = met or own in payloads
                    live.written_ms = codec.written_ms(payloads[-1])
                    live.unsaved += len(payloads)
            except HistoryGone:  # a failover takes the newest events only, so the snapshot may be of what is left
                if turn > 1 and live.mark == gone:  # again at one place: nobody has made it anew meanwhile
                    break
                gone = live.mark
                await self._load(key, live, snapshots=turn == 0)
                if live.state is None and (begun := await bases.begun(self._history, key)) is not None:
                    live.state, live.mark, live.saved = begun.state, begun.mark, begun.mark.number
                    live.written_ms, live.covered = begun.written_ms, saving.folded(begun.state)
                untold = bool(own) and live.mark.number > known
            else:
                if untold:
                    raise Unavailable(_CANT_TELL)
                return met
        raise replay.unreadable(self._history, key, "it contradicts itself: its events are not in its log")

    async def recalled(self, key: RunKey, once: Idempotency | None) -> Answer | None:
        """The first answer to an idempotency key: it is given again, whatever has become of the run since."""
        seen = await self._history.recall(key, once.key) if once else None
        return None if seen is None else replayed(once, seen)

    def payload(self, event: Event) -> bytes:
        """The event as it is written now."""
        return codec.encode(Recorded(event, self.now_ms(), self._nonces.getrandbits(64)))

    def now_ms(self) -> int:
        """Milliseconds since 1970."""
        return int(self._clock() * 1000)

    def named(self, once: Idempotency | None, answer: bytes) -> Once | None:
        """The key as the history keeps it."""
        return Once(once.key, once.digest, answer, self._ttl) if once else None


@asynccontextmanager
async def _one_at_a_time(live: Live) -> AsyncIterator[None]:
    live.users += 1
    try:
        async with live.lock:
            yield
    finally:
        live.users -= 1


def _fold_events(state: RunState, events: Sequence[Event]) -> None:
    for event in events:
        fold(state, event)


def _named(key: RunKey) -> dict[str, object]:
    # Of all runs at once, when the store is in trouble: said of one.
    return {"tenant": key.tenant, "run": key.run, **SELDOM}
