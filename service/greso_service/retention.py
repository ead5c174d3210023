"""Retention: events of steps that a run can't go back to any more live on in a snapshot only.

Nothing is trimmed but by the script that puts the snapshot, the *base*, in the place of the very events that it was
folded from. So every replica, however late, goes on from there as from the beginning: it folds the base, then what is
behind it. That holds for the rewinds behind it too if the base is a place in what counts now, since every one of them
has kept that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from greso_service import bases, replay
from greso_service.core.events import Reported, Rewound, Selected, Span, completion
from greso_service.core.fold import fold, rewound
from greso_service.core.mark import START, Mark
from greso_service.core.state import RunState
from greso_service.history import codec, snapshot
from greso_service.history.base import Base, History, RunKey
from greso_service.replay import HistoryGone, Way

PIECE: Final = 20_000
"""Events trimmed at once, or a few more: Redis does nothing else meanwhile, for about a microsecond each. What a rewind
has left out is trimmed whole, however much it is: in the middle of it is no place to go on from.
"""


@dataclass(frozen=True, slots=True)
class Cutting:
    """What to keep of the `spans`, which go up to `end`: all from the first event of `step` or a later one on."""

    step: int
    spans: tuple[Span, ...]
    end: Mark


def due(state: RunState, mark: Mark, keep: int) -> Cutting | None:
    """What to keep of a run folded up to `mark`, so that it can go back to its last `keep` steps; None for all."""
    progress, rows = state.progress, state.steps.rows["step"]
    complete = rows[rows < progress.step + progress.complete]
    return Cutting(int(complete[-keep]), bases.spans(state, mark), mark) if complete.size > keep else None


async def trim(history: History, key: RunKey, cutting: Cutting) -> bool:
    """Trim what need not be kept, a piece of it; whether anything was, and more may be left. Raises `Unavailable`.

    Does nothing if the run was rewound or trimmed meanwhile: a later one finds what is to be done then.
    """
    begun = await bases.begun(history, key)
    before = START if begun is None else begun.mark
    if begun is not None and begun.oldest >= cutting.step:
        return False
    try:
        walk = await _walked(history, key, Way(begun, cutting.spans), cutting)
    except HistoryGone:
        return False
    if walk.cut is None or walk.cut.mark.number <= max(before.number, 1):
        return False
    base = Base(walk.cut.mark, await asyncio.to_thread(walk.cut.frozen.encode))
    return await history.trim(key, base, before=before, end=cutting.end)


@dataclass(frozen=True, slots=True)
class _Cut:
    """A place up to which events may be trimmed, with the state there."""

    mark: Mark
    frozen: snapshot.Frozen


class _Walk:
    """Folds spans event by event, looking for the furthest place to cut at."""

    def __init__(self, state: RunState | None, mark: Mark, step: int) -> None:
        self.state, self.mark = state, mark
        self.cut: _Cut | None = None
        self.ended = False  # the first event that must be kept was met, or the piece is large enough
        self._step = step
        self._most = mark.number + PIECE
        self._passed = False  # what doesn't count was passed in this span
        self._written_ms = 0

    def fold(self, span: Span, payloads: Sequence[bytes]) -> None:
        """Fold events of a span up to the first that must be kept."""
        for payload in payloads:
            event = codec.decode(payload).event
            if isinstance(event, Selected | Reported) and event.step >= self._step and span.counts(event):
                self.end()
                return
            if span.counts(event):
                self.state = replay.folded(self.state, event)
            elif not self._passed:
                # Whoever reads on from here to the rewind has it in the state: here, and no further, it is as they do.
                self._note()
                self._passed = True
            self.mark = self.mark.then(payload)
            self._written_ms = codec.written_ms(payload)
            if self.mark.number >= self._most and not self._passed:
                self.end()
                return

    def leave(self, span: Span) -> None:
        """At the end of a span that is not the last."""
        assert self.state is not None  # noqa: S101 - there is an event in what was rewound to
        assert span.step is not None  # noqa: S101
        if span.step >= self._step:
            self.end()
        else:
            fold(self.state, completion(span.step))

    def enter(self, past: tuple[Span, ...], after: Mark, payload: bytes) -> None:
        """Where a rewind, the event at `after`, has made `past` what counts."""
        assert self.state is not None  # noqa: S101
        event = codec.decode(payload).event
        if not isinstance(event, Rewound):
            raise HistoryGone
        self.mark, self._passed, self._written_ms = after, False, codec.written_ms(payload)
        rewound(self.state, Rewound(event.step, event.generation, past), after)

    def end(self) -> None:
        """Nothing further may be trimmed now."""
        if not self.ended and not self._passed:
            self._note()
        self.ended = True

    def _note(self) -> None:
        if self.state is not None:
            self.cut = _Cut(self.mark, snapshot.Frozen(self.state, self._written_ms))


async def _walked(history: History, key: RunKey, way: Way, cutting: Cutting) -> _Walk:
    walk = _Walk(way.state, way.mark, cutting.step)
    for place, (span, after) in enumerate(way.spans(), way.place):
        if place > way.place:
            walk.enter(cutting.spans[:place], after, await _at(history, key, after))
        async for page in replay.pages(history, key, Span(after, span.until, None)):
            await asyncio.to_thread(walk.fold, span, page)
            if walk.ended:
                return walk
        if place < len(cutting.spans) - 1:
            await asyncio.to_thread(walk.leave, span)
        if walk.ended:
            return walk
    await asyncio.to_thread(walk.end)
    return walk


async def _at(history: History, key: RunKey, mark: Mark) -> bytes:
    """The payload of an event. Raises `HistoryGone`."""
    before = await history.mark_at(key, mark.number - 1)
    found = await history.read(key, before, 1) if before is not None else None
    if not found:
        raise HistoryGone
    return found[0]
