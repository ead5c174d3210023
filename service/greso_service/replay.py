"""Replaying a history: which of its events still count after rewinds, and the state that they make."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from greso_service import bases
from greso_service.bases import Begun
from greso_service.core.events import Created, Event, Reported, Rewound, Span, completion
from greso_service.core.fold import fold, rewound
from greso_service.core.mark import START, Mark
from greso_service.core.state import RunState
from greso_service.errors import Conflict, Unavailable, Unreadable
from greso_service.history import codec, snapshot
from greso_service.history.base import Base, Readable, RunKey
from greso_service.history.codec import CodecError

PAGE = 256
"""Events read at a time."""

_CANT_FOLLOW = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What decoding or folding an event that can't be raises."""


class HistoryGone(Exception):
    """The history lacks events that it held before: the run was deleted, or the store lost its newest writes."""


@dataclass(slots=True)
class Folded:
    """A state, None before the first event, and the mark up to which the history is folded into it."""

    state: RunState | None = None
    mark: Mark = START

    def forget(self) -> None:
        """Begin again."""
        self.state, self.mark = None, START


async def catch_up(history: Readable, key: RunKey, folded: Folded) -> AsyncIterator[list[bytes]]:
    """Fold what the history holds behind `folded`, page by page; each page is yielded when it is folded.

    Raises `HistoryGone` and `Unreadable`. While the store is away `folded` stays as it is; what can't be folded leaves
    it forgotten.
    """
    while payloads := await _read(history, key, folded.mark, PAGE):
        state, mark = folded.state, folded.mark
        folded.state = None  # until the page is folded: if it breaks off, a part of it may be in the state
        try:
            state, mark, rewind = await asyncio.to_thread(_fold_payloads, state, mark, payloads)
            folded.state, folded.mark = state, mark
            if rewind is not None:
                event, mark = rewind
                state = await refold(history, key, event.kept)
                rewound(state, event, mark)
                folded.state, folded.mark = state, mark
        except (HistoryGone, Unavailable):  # of what the rewind keeps
            raise
        except BaseException as error:
            folded.forget()
            if isinstance(error, CodecError):
                raise unreadable(history, key, str(error)) from error
            raise
        yield payloads


def unreadable(history: Readable, key: RunKey, detail: str) -> Unreadable:
    """The error for a run whose history is there and makes no state."""
    return Unreadable(
        f"the history of run {key.run} ({history.where(key)}) can't be read: {detail}. If a newer greso wrote it,"
        " upgrade this one; else restore a backup, or delete the run and import an export of it"
    )


def _fold_payloads(
    state: RunState | None, mark: Mark, payloads: Sequence[bytes]
) -> tuple[RunState | None, Mark, tuple[Rewound, Mark] | None]:
    """Fold the payloads up to a rewind: the state, the mark up to it, the rewind with its own mark."""
    for payload in payloads:
        try:
            event, then = codec.decode(payload).event, mark.then(payload)
            if isinstance(event, Rewound):
                return state, mark, (event, then)
            state, mark = folded(state, event), then
        except _CANT_FOLLOW as error:
            raise CodecError(f"event {mark.number + 1}: {error}") from error
    return state, mark, None


def folded(state: RunState | None, event: Event) -> RunState:
    """The state, None before the first event, moved on by one. Raises `CodecError` if that can't be."""
    try:
        if state is not None:
            fold(state, event)
            return state
        if isinstance(event, Created):
            return RunState(event)
    except _CANT_FOLLOW as error:
        raise CodecError(f"{type(event).__name__}: {error}") from error
    raise CodecError(f"a history must begin with its creation, not with {type(event).__name__}")


class Way:
    """Where the folding of some spans begins: at `place` among them, behind `mark`, with `state`.

    That is the beginning, or in a trimmed history its base. Raises `HistoryGone` if the spans are not those of a state
    that the base led to.
    """

    def __init__(self, begun: Begun | None, kept: Sequence[Span]) -> None:
        place = 0 if begun is None else begun.stands_in(kept)
        if place is None:
            raise HistoryGone
        self.place, self.state, self.mark = place, None if begun is None else begun.state, kept[place].after
        if begun is not None:
            self.mark = begun.mark
        self._kept = kept

    def spans(self) -> Iterator[tuple[Span, Mark]]:
        """The spans that are left, each with the mark behind which it is to be read."""
        for span in self._kept[self.place :]:
            yield span, self.mark if span is self._kept[self.place] else span.after


async def refold(history: Readable, key: RunKey, kept: Sequence[Span]) -> RunState:
    """The state that the spans make. Raises `HistoryGone`."""
    way = Way(await bases.begun(history, key), kept)
    state = way.state
    for span, after in way.spans():
        async for events in _events(history, key, span, after):
            state = await asyncio.to_thread(_fold_events, state, [event for _, event in events])
        if state is not None and span.step is not None:
            fold(state, completion(span.step))
    if state is None:
        raise CodecError(f"a rewind of run {key.run} kept nothing of its history")
    return state


def _fold_events(state: RunState | None, events: Sequence[Event]) -> RunState | None:
    for event in events:
        state = folded(state, event)
    return state


async def back_to(
    history: Readable, key: RunKey, past: Sequence[Span], step: int, begun: Begun | None
) -> tuple[tuple[Span, ...], RunState]:
    """What of the spans `past` counts when `step` is the last one, and the state that it makes, by way of `begun`.

    That is what came up to the event with which the step completed; if that was the first report of a later step, up to
    the event before it. Raises `Conflict` if the step is not complete, or further back than the history goes, and
    `HistoryGone`.
    """
    way = Way(begun, past)
    if begun is not None and step < begun.oldest:
        raise bases.too_far(key, f"step {step}", begun.floor)
    state, kept = way.state, list(past[: way.place])
    for span, after in way.spans():
        last = Span(span.after, span.until, step if span.step is None else min(step, span.step))
        until = after
        async for events in _events(history, key, last, after):
            state, until, found = await asyncio.to_thread(_fold_until, state, until, events, step)
            if found and state is not None:
                fold(state, completion(step))
                return (*kept, Span(last.after, until, last.step)), state
        if state is not None and span.step is not None:
            fold(state, completion(min(span.step, step)))
            if span.step >= step:
                return (*kept, last), state
        kept.append(span)
    newest = "no step has" if state is None else _newest_complete(state)
    detail = f"step {step} of run {key.run} has not completed ({newest})"
    if state is not None and step == state.progress.step:  # the one at work: of another it would be a trap
        detail += "; a report of it with final: true and no results completes it"
    raise Conflict(detail)


def _fold_until(
    state: RunState | None, until: Mark, events: Sequence[tuple[Mark, Event]], step: int
) -> tuple[RunState | None, Mark, bool]:
    """Fold events until `step` completes: the state, the mark of the last event folded, whether it has completed."""
    for mark, event in events:
        if isinstance(event, Reported) and event.step > step:
            return state, until, True
        state, until = folded(state, event), mark
        if state.progress.is_complete(step):
            return state, until, True
    return state, until, False


def _newest_complete(state: RunState) -> str:
    progress = state.progress
    newest = progress.step if progress.complete else progress.step - 1
    return "no step has" if newest < 0 else f"step {newest} is the newest that has"


def base_of(begun: Begun, end: bytes) -> Base:
    """The base of a history of its own that begins as another one does; `end`: the payload that it ends with."""
    state = begun.state
    state.generation, state.past, state.since = 0, (), START
    # Numbers stay as they are. But what is folded here is not what the other mark names: it had rewinds, maybe.
    mark = Mark(begun.mark.number, begun.mark.then(end).chain)
    return Base(mark, snapshot.Frozen(state, begun.written_ms).encode())


async def payloads(
    history: Readable,
    key: RunKey,
    way: Way,
    written: Callable[[Event], bytes],
    end: bytes,
) -> AsyncIterator[list[bytes]]:
    """The events of the spans on a way as a history of its own, without rewinds, and `end` behind them.

    Raises `HistoryGone`.
    """
    for span, after in way.spans():
        async for page in pages(history, key, replace(span, after=after)):
            yield await asyncio.to_thread(_counting, page, span)
        if span.step is not None:
            yield [written(completion(span.step))]
    yield [end]


def history(history: Readable, key: RunKey, until: Mark) -> AsyncIterator[list[bytes]]:
    """All events up to `until`, those that do not count any more included. Raises `HistoryGone`."""
    return pages(history, key, Span(START, until, None))


def _counting(page: Sequence[bytes], span: Span) -> list[bytes]:
    return [payload for payload in page if span.counts(codec.decode(payload).event)]


async def _events(history: Readable, key: RunKey, span: Span, after: Mark) -> AsyncIterator[list[tuple[Mark, Event]]]:
    """The events of a span behind `after` that count, each with its mark."""
    mark = after
    async for page in pages(history, key, replace(span, after=after)):
        events, mark = await asyncio.to_thread(_decoded, page, mark)
        yield [(at, event) for at, event in events if span.counts(event)]


def _decoded(page: Sequence[bytes], mark: Mark) -> tuple[list[tuple[Mark, Event]], Mark]:
    events = []
    for payload in page:
        mark = mark.then(payload)
        events.append((mark, codec.decode(payload).event))
    return events, mark


async def pages(history: Readable, key: RunKey, span: Span) -> AsyncIterator[list[bytes]]:
    """The payloads of a span, those that do not count any more included. Raises `HistoryGone`."""
    mark = span.after
    while left := span.until.number - mark.number:
        page = await _read(history, key, mark, min(PAGE, left))
        if not page:
            raise HistoryGone
        for payload in page:
            mark = mark.then(payload)
        yield page
    if mark != span.until:
        raise HistoryGone


async def _read(history: Readable, key: RunKey, after: Mark, limit: int) -> list[bytes]:
    payloads = await history.read(key, after, limit)
    if payloads is None:
        raise HistoryGone
    return payloads
