"""MemoryHistory: a History in this process, for tests and for replaying exported histories. Nothing survives it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from greso_service.core.mark import START, Mark
from greso_service.history.base import Appended, Base, Extent, Listed, Moved, Once, RunKey, Seen, Usage


@dataclass(slots=True)
class _Log:
    """`marks`: the base's or `START`, then that of each payload."""

    marks: list[Mark] = field(default_factory=lambda: [START])
    payloads: list[bytes] = field(default_factory=list)
    base: Base | None = None
    rewound: Mark = START
    once: dict[str, tuple[Seen, float]] = field(default_factory=dict)
    snapshot: tuple[Mark, bytes] | None = None
    active_ms: int = 0

    def read(self, after: Mark, limit: int) -> list[bytes] | None:
        """See `History.read`."""
        place = self.place(after)
        return None if place is None else self.payloads[place : place + limit]

    def place(self, mark: Mark) -> int | None:
        """Where the mark stands in `marks`."""
        place = mark.number - self.marks[0].number
        return place if 0 <= place < len(self.marks) and self.marks[place] == mark else None


class MemoryHistory:
    """Keeps histories in dictionaries. `clock` gives seconds; idempotency keys expire by it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._logs: dict[RunKey, _Log] = {}

    async def append(
        self,
        key: RunKey,
        after: Mark,
        payloads: Sequence[bytes],
        *,
        at_ms: int,
        once: Once | None = None,
        base: Mark | None = None,
    ) -> Appended | Moved | Seen:
        """See `History.append`."""
        log = self._logs.get(key, _Log())
        if once is not None and (seen := await self.recall(key, once.key)):
            return seen
        marks = [after]
        for payload in payloads:
            marks.append(marks[-1].then(payload))
        if log.marks[-1] == marks[-1]:
            return Appended(marks[-1])
        if log.marks[-1] != after or (base is not None and log.marks[0] != base):
            return Moved()
        if base is not None:
            log.rewound = marks[-1]
        log.marks += marks[1:]
        log.payloads += payloads
        log.active_ms = at_ms
        if once is not None:
            log.once[once.key] = (Seen(once.digest, once.answer), self._clock() + once.ttl)
        self._logs[key] = log
        return Appended(marks[-1])

    async def read(self, key: RunKey, after: Mark, limit: int) -> list[bytes] | None:
        """See `History.read`."""
        return self._logs.get(key, _Log()).read(after, limit)

    async def extent(self, key: RunKey) -> Extent | None:
        """See `History.extent`."""
        log = self._logs.get(key)
        return None if log is None else Extent(log.marks[0], log.marks[-1])

    async def mark_at(self, key: RunKey, number: int) -> Mark | None:
        """See `History.mark_at`."""
        marks = self._logs.get(key, _Log()).marks
        place = number - marks[0].number
        return marks[place] if 0 <= place < len(marks) and number else None

    async def base(self, key: RunKey) -> Base | None:
        """See `History.base`."""
        return self._logs.get(key, _Log()).base

    async def trim(self, key: RunKey, base: Base, *, before: Mark, end: Mark) -> bool:
        """See `History.trim`."""
        log = self._logs.get(key, _Log())
        place = log.place(base.mark)
        if place is None or log.marks[0] != before or log.place(end) is None or log.rewound.number > end.number:
            return False
        log.marks, log.payloads, log.base = log.marks[place:], log.payloads[place:], base
        if log.snapshot is not None and log.snapshot[0].number < base.mark.number:
            log.snapshot = None
        return True

    async def begin(
        self,
        key: RunKey,
        payloads: AsyncIterator[Sequence[bytes]],
        *,
        at_ms: int,
        once: Once | None = None,
        base: Base | None = None,
    ) -> Appended | Moved | Seen:
        """See `History.begin`."""
        draft = self.draft(key, base)
        async for some in payloads:
            await draft.extend(some)
        return await draft.finish(at_ms=at_ms, once=once)

    def draft(self, key: RunKey, base: Base | None = None) -> MemoryDraft:
        """See `History.draft`."""
        return MemoryDraft(self, key, base)

    async def finish(self, key: RunKey, drafted: _Log, *, at_ms: int, once: Once | None) -> Appended | Moved | Seen:
        """Make a draft the history of its run."""
        if once is not None and (seen := await self.recall(key, once.key)):
            return seen
        if key in self._logs:
            there = self._logs[key].marks
            return Appended(there[-1]) if there[-1] == drafted.marks[-1] else Moved()
        log = _Log(list(drafted.marks), list(drafted.payloads), drafted.base, active_ms=at_ms)
        if once is not None:
            log.once[once.key] = (Seen(once.digest, once.answer), self._clock() + once.ttl)
        self._logs[key] = log
        return Appended(log.marks[-1])

    async def recall(self, key: RunKey, name: str) -> Seen | None:
        """See `History.recall`."""
        seen, expires = self._logs.get(key, _Log()).once.get(name, (None, 0.0))
        return seen if self._clock() < expires else None

    async def remember(self, key: RunKey, once: Once) -> None:
        """See `History.remember`."""
        if (log := self._logs.get(key)) and not await self.recall(key, once.key):
            log.once[once.key] = (Seen(once.digest, once.answer), self._clock() + once.ttl)

    async def confirm(self, key: RunKey) -> None:
        """See `History.confirm`."""

    async def save(self, key: RunKey, mark: Mark, snapshot: bytes) -> None:
        """See `History.save`."""
        if log := self._logs.get(key):
            log.snapshot = (mark, snapshot)

    async def load(self, key: RunKey) -> tuple[Mark, bytes] | None:
        """See `History.load`."""
        log = self._logs.get(key)
        return log.snapshot if log else None

    async def drop(self, key: RunKey, at: Mark | None = None) -> bool:
        """See `History.drop`."""
        if at is not None and self._logs.get(key, _Log()).marks[-1] != at:
            return False
        return self._logs.pop(key, None) is not None

    async def runs(self, tenant: str) -> list[Listed]:
        """See `History.runs`."""
        mine = [Listed(key.run, log.active_ms) for key, log in self._logs.items() if key.tenant == tenant]
        return sorted(mine, key=lambda listed: (-listed.active_ms, listed.run))

    def where(self, key: RunKey) -> str:
        """See `History.where`."""
        return f"{key.tenant}/{key.run}"

    async def ping(self) -> None:
        """See `History.ping`."""

    async def usage(self) -> Usage | None:
        """See `History.usage`."""
        return None

    async def close(self) -> None:
        """See `History.close`."""


class MemoryDraft:
    """See `Draft`."""

    def __init__(self, history: MemoryHistory, key: RunKey, base: Base | None = None) -> None:
        self._history, self._key = history, key
        self._log = _Log() if base is None else _Log([base.mark], base=base)

    async def extend(self, payloads: Sequence[bytes]) -> None:
        """See `Draft.extend`."""
        for payload in payloads:
            self._log.marks.append(self._log.marks[-1].then(payload))
            self._log.payloads.append(payload)

    async def read(self, after: Mark, limit: int) -> list[bytes] | None:
        """See `Draft.read`."""
        return self._log.read(after, limit)

    async def finish(self, *, at_ms: int, once: Once | None = None) -> Appended | Moved | Seen:
        """See `Draft.finish`."""
        return await self._history.finish(self._key, self._log, at_ms=at_ms, once=once)

    async def abandon(self) -> None:
        """See `Draft.abandon`."""
        self._log = _Log()
