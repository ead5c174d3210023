"""MemoryHistory: a History in this process, for tests and for replaying exported histories. Nothing survives it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from greso_service.core.mark import START, Mark
from greso_service.history.base import Appended, Listed, Moved, Once, RunKey, Seen, Usage


@dataclass(slots=True)
class _Log:
    marks: list[Mark] = field(default_factory=lambda: [START])
    payloads: list[bytes] = field(default_factory=list)
    once: dict[str, tuple[Seen, float]] = field(default_factory=dict)
    snapshot: tuple[Mark, bytes] | None = None
    active_ms: int = 0

    def read(self, after: Mark, limit: int) -> list[bytes] | None:
        """See `History.read`."""
        if after.number >= len(self.marks) or self.marks[after.number] != after:
            return None
        return self.payloads[after.number : after.number + limit]


class MemoryHistory:
    """Keeps histories in dictionaries. `clock` gives seconds; idempotency keys expire by it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._logs: dict[RunKey, _Log] = {}

    async def append(
        self, key: RunKey, after: Mark, payloads: Sequence[bytes], *, at_ms: int, once: Once | None = None
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
        if log.marks[-1] != after:
            return Moved()
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

    async def begin(
        self, key: RunKey, payloads: AsyncIterator[Sequence[bytes]], *, at_ms: int, once: Once | None = None
    ) -> Appended | Moved | Seen:
        """See `History.begin`."""
        whole = [payload async for some in payloads for payload in some]
        return await self.append(key, START, whole, at_ms=at_ms, once=once)

    def draft(self, key: RunKey) -> MemoryDraft:
        """See `History.draft`."""
        return MemoryDraft(self, key)

    async def recall(self, key: RunKey, name: str) -> Seen | None:
        """See `History.recall`."""
        seen, expires = self._logs.get(key, _Log()).once.get(name, (None, 0.0))
        return seen if self._clock() < expires else None

    async def remember(self, key: RunKey, once: Once) -> None:
        """See `History.remember`."""
        if (log := self._logs.get(key)) and not await self.recall(key, once.key):
            log.once[once.key] = (Seen(once.digest, once.answer), self._clock() + once.ttl)

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

    def __init__(self, history: MemoryHistory, key: RunKey) -> None:
        self._history, self._key = history, key
        self._log = _Log()

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
        return await self._history.append(self._key, START, self._log.payloads, at_ms=at_ms, once=once)

    async def abandon(self) -> None:
        """See `Draft.abandon`."""
        self._log = _Log()
