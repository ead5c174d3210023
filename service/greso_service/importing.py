"""The use case that makes a run of an export."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

from greso_service import answers, replay
from greso_service.answers import Answer
from greso_service.core import soundness
from greso_service.core.events import Rewound
from greso_service.core.fold import fold, rewound
from greso_service.core.mark import START, Mark
from greso_service.core.state import RunState
from greso_service.errors import Conflict, Fault, GresoError, InvalidInput, NotFound, busy
from greso_service.given import Given, fence, replayed
from greso_service.history import codec
from greso_service.history.base import Appended, Base, Draft, History, Moved, RunKey, Seen
from greso_service.history.exported import Checker, ExportError, Lines
from greso_service.live import LiveRuns
from greso_service.replay import PAGE, HistoryGone

_LONG: Final = 2**18  # bytes of lines that are read in a thread
_PAGE_BYTES: Final = 2**22  # of events written at a time
_LATE: Final = 60.0  # seconds after which a slow sender's draft is written to all the same, or it would disappear
_MOST_REFOLDED: Final = 10_000_000
"""Events that the rewinds of an import may keep, all added up: each folds what it keeps anew, for a few bytes."""

_AGAIN: Final = "again"  # before the key of an import that found its run there; no request's key can be that
_MOST_REWARDS: Final = 2**24
"""Of one report: more than a request of the default size can bring. A few bytes can say that there are billions."""

_FAST_CLOCK: Final = 86_400.0
"""Seconds by which the clock that an event was written by may be ahead of this one."""

# What reading or folding a wrong event may raise.
_OFF = (ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError, TypeError, ValueError)


class Importing:
    """Makes runs in a History that `live` holds."""

    def __init__(self, history: History, live: LiveRuns) -> None:
        self._history = history
        self._live = live

    async def take(self, key: RunKey, pieces: AsyncIterator[bytes], given: Callable[[], Given]) -> tuple[Answer, bool]:
        """Make the run of an export that comes in pieces; whether it was made comes with the answer.

        It may be there already, with the very same history. `given` is asked when all pieces have come.
        Raises `InvalidInput` with the line, `Conflict`, and what `pieces` raises; then there is no run.
        """
        if await self._history.extent(key) is not None:
            return await self._again(key, pieces, given)
        draft = self._history.draft(key)
        try:
            return await self._made(key, draft, pieces, given), True
        except BaseException:
            with suppress(GresoError):  # it disappears by itself, only later
                await draft.abandon()
            raise

    async def _made(
        self, key: RunKey, draft: Draft, pieces: AsyncIterator[bytes], given: Callable[[], Given]
    ) -> Answer:
        state = await _drafted(draft, key, _payloads(pieces, Checker()))
        asked = given()
        fence(key, state, asked)
        answer = answers.run(key.run, state)
        once = self._live.named(asked.once, answer.body)
        match await draft.finish(at_ms=self._live.now_ms(), once=once):
            case Appended():
                return answer
            case Seen() as seen:
                return replayed(asked.once, seen)
            case Moved():
                raise _exists(key.run)

    async def _again(
        self, key: RunKey, pieces: AsyncIterator[bytes], given: Callable[[], Given]
    ) -> tuple[Answer, bool]:
        """The answer where the run is there: it can only be the same one."""
        checker = Checker()
        async for _ in _payloads(pieces, checker):
            pass
        asked = given()
        marker = replace(asked.once, key=f"{_AGAIN} {asked.once.key}") if asked.once else None
        if answer := await self._live.recalled(key, asked.once):
            return answer, await self._live.recalled(key, marker) is None
        async with self._live.held(key) as live:
            try:
                state = await self._live.current(key, live)
            except NotFound:  # deleted meanwhile
                raise busy(key.run) from None
            if live.mark != checker.mark:
                raise _exists(key.run)
            fence(key, state, asked)
            answer = answers.run(key.run, state)
        # The marker first: who finds the key finds it, too, and says 200 again.
        for once in (marker, asked.once):
            if (kept := self._live.named(once, answer.body)) is not None:
                await self._history.remember(key, kept)
        return answer, False


async def _payloads(pieces: AsyncIterator[bytes], checker: Checker) -> AsyncIterator[list[bytes]]:
    """The payloads of an export, page by page; an empty page now and then if they come slowly. Raises `InvalidInput`.

    That the export is whole is known when the last page has come.
    """
    lines, page, size, given = Lines(), list[bytes](), 0, time.monotonic()

    def taken(some: Sequence[bytes]) -> list[bytes]:
        return [payload for line in some if (payload := checker.take(line)) is not None]

    try:
        async for piece in pieces:
            some = lines.take(piece)
            work = sum(map(len, some))
            page += taken(some) if work < _LONG else await asyncio.to_thread(taken, some)
            size += work
            if len(page) >= PAGE or size >= _PAGE_BYTES or time.monotonic() > given + _LATE:
                yield page
                page, size, given = [], 0, time.monotonic()
        page += taken(lines.end())
        checker.finish()
    except ExportError as error:
        raise _fault(error.line, str(error)) from None
    if checker.mark == START:
        raise _off(START, "is the end, and no event was before it")
    yield page


async def _drafted(draft: Draft, key: RunKey, pages: AsyncIterator[list[bytes]]) -> RunState:
    """Write the pages to the draft and fold them. Raises `InvalidInput` for the first event that can't be folded."""
    state: RunState | None = None
    mark, drafted = START, _Drafted(draft)
    async for page in pages:
        await drafted.extend(page)
        left: Sequence[bytes] = page
        while left:
            now, mark, left = await asyncio.to_thread(_folded, state, mark, left)
            if left:
                now = await _rewound(drafted, key, now, mark, left[0])
                mark, left = mark.then(left[0]), left[1:]
            state = now
    assert state is not None  # noqa: S101 - there was an event
    return state


def _folded(state: RunState | None, mark: Mark, payloads: Sequence[bytes]) -> tuple[RunState, Mark, Sequence[bytes]]:
    """Fold up to a rewind: the state, the mark up to it, and what is left, the rewind first."""
    for place, payload in enumerate(payloads):
        try:
            recorded = codec.decode(payload, most_rewards=_MOST_REWARDS)
            if recorded.at_ms > 1000 * (time.time() + _FAST_CLOCK):
                raise ValueError("it was written in the future")
            event = recorded.event
            if state is None:
                state = soundness.begun(event)
            elif isinstance(event, Rewound):
                return state, mark, payloads[place:]
            else:
                soundness.check(state, event)
                fold(state, event)
        except _OFF as error:
            raise _off(mark, f"has an event that can't be: {error}") from None
        mark = mark.then(payload)
    assert state is not None  # noqa: S101 - a page has an event
    return state, mark, ()


async def _rewound(drafted: _Drafted, key: RunKey, state: RunState, mark: Mark, payload: bytes) -> RunState:
    """The state behind a rewind, the event after `mark`."""
    try:
        event = codec.decode(payload, most_rewards=_MOST_REWARDS).event
        assert isinstance(event, Rewound)  # noqa: S101 - it was decoded before
        soundness.check_rewound(state, mark, event)
        drafted.refolded += sum(span.until.number - span.after.number for span in event.kept)
        if drafted.refolded > _MOST_REFOLDED:
            raise ValueError(
                f"the rewinds up to it keep more than {_MOST_REFOLDED:,} events, all added up; export a fork of the"
                " run, which has no rewinds"
            )
        state = await replay.refold(drafted, key, event.kept)
    except HistoryGone:
        raise _off(mark, "has a rewind to events that are not there") from None
    except _OFF as error:
        raise _off(mark, f"has an event that can't be: {error}") from None
    rewound(state, event, mark.then(payload))
    return state


class _Drafted:
    """A draft as the history that it is to become; it stays while it is read. `refolded`: events, all added up."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._extended = time.monotonic()
        self.refolded = 0

    async def extend(self, payloads: Sequence[bytes]) -> None:
        await self._draft.extend(payloads)
        self._extended = time.monotonic()

    async def read(self, _key: RunKey, after: Mark, limit: int) -> list[bytes] | None:
        if time.monotonic() > self._extended + _LATE:
            await self.extend([])
        return await self._draft.read(after, limit)

    async def base(self, _key: RunKey) -> Base | None:
        return None

    def where(self, key: RunKey) -> str:
        return f"the import of {key.run}"


def _off(mark: Mark, detail: str) -> InvalidInput:
    """What is wrong with the event after `mark`; the first event stands in line 2."""
    line = mark.number + 2
    return _fault(line, f"line {line} {detail}")


def _fault(line: int, detail: str) -> InvalidInput:
    error = InvalidInput(Fault(f"/{line - 1}", detail))
    error.args = (detail,)  # says the line, in the numbers that people use
    return error


def _exists(run: str) -> Conflict:
    return Conflict(f"run {run} exists with another history; import into another name, or delete it first")
