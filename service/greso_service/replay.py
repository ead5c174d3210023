"""Replaying a history: which of its events still count after rewinds, and the state that they make."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from greso_service.core.events import Created, Event, Reported, Rewound, Span, completion
from greso_service.core.fold import fold, rewound
from greso_service.core.mark import START, Mark
from greso_service.core.state import RunState
from greso_service.errors import Conflict, Unavailable, Unreadable
from greso_service.history import codec
from greso_service.history.base import Readable, RunKey
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
            state, mark = _folded(state, event), then
        except _CANT_FOLLOW as error:
            raise CodecError(f"event {mark.number + 1}: {error}") from error
    return state, mark, None


def _folded(state: RunState | None, event: Event) -> RunState:
    if state is not None:
        fold(state, event)
        return state
    if not isinstance(event, Created):
        raise CodecError(f"a history must begin with its creation, not with {type(event).__name__}")
    return RunState(event)


def spans(state: RunState, mark: Mark) -> tuple[Span, ...]:
    """What a state that is folded up to `mark` is made of."""
    return (*state.past, Span(state.since, mark, None))


async def refold(history: Readable, key: RunKey, kept: Sequence[Span]) -> RunState:
    """The state that the spans make. Raises `HistoryGone`."""
    state = None
    for span in kept:
        async for events in _events(history, key, span):
            state = await asyncio.to_thread(_fold_events, state, [event for _, event in events])
        if state is not None and span.step is not None:
            fold(state, completion(span.step))
    if state is None:
        raise CodecError(f"a rewind of run {key.run} kept nothing of its history")
    return state


def _fold_events(state: RunState | None, events: Sequence[Event]) -> RunState | None:
    for event in events:
        state = _folded(state, event)
    return state


async def back_to(history: Readable, key: RunKey, past: Sequence[Span], step: int) -> tuple[tuple[Span, ...], RunState]:
    """What of the spans `past` counts when `step` is the last one, and the state that it makes.

    That is what came up to the event with which the step completed; if that was the first report of a later step, up to
    the event before it. Raises `Conflict` if the step is not complete, and `HistoryGone`.
    """
    kept: list[Span] = []
    state: RunState | None = None
    for span in past:
        last = Span(span.after, span.until, step if span.step is None else min(step, span.step))
        until = span.after
        async for events in _events(history, key, last):
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
        state, until = _folded(state, event), mark
        if state.progress.is_complete(step):
            return state, until, True
    return state, until, False


def _newest_complete(state: RunState) -> str:
    progress = state.progress
    newest = progress.step if progress.complete else progress.step - 1
    return "no step has" if newest < 0 else f"step {newest} is the newest that has"


async def payloads(
    history: Readable, key: RunKey, kept: Sequence[Span], written: Callable[[Event], bytes], end: Event
) -> AsyncIterator[list[bytes]]:
    """The events of the spans as a history of its own, without rewinds, and `end` behind them. Raises `HistoryGone`."""
    for span in kept:
        async for page in _pages(history, key, span):
            yield await asyncio.to_thread(_counting, page, span)
        if span.step is not None:
            yield [written(completion(span.step))]
    yield [written(end)]


def history(history: Readable, key: RunKey, until: Mark) -> AsyncIterator[list[bytes]]:
    """All events up to `until`, those that do not count any more included. Raises `HistoryGone`."""
    return _pages(history, key, Span(START, until, None))


def _counting(page: Sequence[bytes], span: Span) -> list[bytes]:
    return [payload for payload in page if span.counts(codec.decode(payload).event)]


async def _events(history: Readable, key: RunKey, span: Span) -> AsyncIterator[list[tuple[Mark, Event]]]:
    """The events of a span that count, each with its mark."""
    mark = span.after
    async for page in _pages(history, key, span):
        events, mark = await asyncio.to_thread(_decoded, page, mark)
        yield [(at, event) for at, event in events if span.counts(event)]


def _decoded(page: Sequence[bytes], mark: Mark) -> tuple[list[tuple[Mark, Event]], Mark]:
    events = []
    for payload in page:
        mark = mark.then(payload)
        events.append((mark, codec.decode(payload).event))
    return events, mark


async def _pages(history: Readable, key: RunKey, span: Span) -> AsyncIterator[list[bytes]]:
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
