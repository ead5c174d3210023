"""MeteredHistory: a History whose every operation is counted and timed."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from greso_service.core.mark import Mark
from greso_service.errors import Unavailable, Unwritable
from greso_service.history.base import (
    Appended,
    Base,
    Draft,
    Extent,
    History,
    Listed,
    Moved,
    Once,
    RunKey,
    Seen,
    Usage,
)
from greso_service.telemetry.metrics import Metrics

T = TypeVar("T")

OPERATIONS = (
    "append", "read", "extent", "mark_at", "base", "trim", "begin", "draft", "recall", "remember", "confirm", "save",
    "load", "drop", "runs", "ping", "usage",
)  # fmt: skip

_WRITES = frozenset({"append", "begin", "draft", "remember", "confirm"})
"""Those without which a request can't be answered."""

LATELY = 30.0
"""Seconds that a refused write is told of; when others come meanwhile, the last of them counts."""


class MeteredHistory:
    """Passes everything on to `history`."""

    def __init__(self, history: History, metrics: Metrics, clock: Callable[[], float] = time.monotonic) -> None:
        self._history = history
        self._metrics = metrics
        self._clock = clock
        self._refused: tuple[float, str] | None = None
        for operation in OPERATIONS:
            metrics.expect_operation(operation)

    def refused_writes(self) -> str:
        """Why the last write was refused, if the store answered so lately; else empty."""
        refused = self._refused
        return refused[1] if refused is not None and self._clock() - refused[0] <= LATELY else ""

    async def _timed(self, operation: str, work: Awaitable[T]) -> T:
        began, result = time.perf_counter(), "ok"
        try:
            answer = await work
        except Unavailable as error:
            result = "unavailable"
            if isinstance(error, Unwritable) and operation in _WRITES:
                self._refused = self._clock(), str(error)
            raise
        except Exception:
            result = "error"
            raise
        finally:
            self._metrics.operated(operation, result, time.perf_counter() - began)
        if isinstance(answer, Appended):  # other answers need no room
            self._refused = None
        return answer

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
        written = self._history.append(key, after, payloads, at_ms=at_ms, once=once, base=base)
        return await self._timed("append", written)

    async def read(self, key: RunKey, after: Mark, limit: int) -> list[bytes] | None:
        """See `History.read`."""
        return await self._timed("read", self._history.read(key, after, limit))

    async def extent(self, key: RunKey) -> Extent | None:
        """See `History.extent`."""
        return await self._timed("extent", self._history.extent(key))

    async def mark_at(self, key: RunKey, number: int) -> Mark | None:
        """See `History.mark_at`."""
        return await self._timed("mark_at", self._history.mark_at(key, number))

    async def base(self, key: RunKey) -> Base | None:
        """See `History.base`."""
        return await self._timed("base", self._history.base(key))

    async def trim(self, key: RunKey, base: Base, *, before: Mark, end: Mark) -> bool:
        """See `History.trim`."""
        return await self._timed("trim", self._history.trim(key, base, before=before, end=end))

    async def begin(
        self,
        key: RunKey,
        payloads: AsyncIterator[Sequence[bytes]],
        *,
        at_ms: int,
        once: Once | None = None,
        base: Base | None = None,
    ) -> Appended | Moved | Seen:
        """See `History.begin`; its time is also that of making the payloads."""
        return await self._timed("begin", self._history.begin(key, payloads, at_ms=at_ms, once=once, base=base))

    def draft(self, key: RunKey, base: Base | None = None) -> MeteredDraft:
        """See `History.draft`; what is done with it counts as `draft`."""
        return MeteredDraft(self._history.draft(key, base), partial(self._timed, "draft"))

    async def recall(self, key: RunKey, name: str) -> Seen | None:
        """See `History.recall`."""
        return await self._timed("recall", self._history.recall(key, name))

    async def remember(self, key: RunKey, once: Once) -> None:
        """See `History.remember`."""
        await self._timed("remember", self._history.remember(key, once))

    async def confirm(self, key: RunKey) -> None:
        """See `History.confirm`."""
        await self._timed("confirm", self._history.confirm(key))

    async def save(self, key: RunKey, mark: Mark, snapshot: bytes) -> None:
        """See `History.save`."""
        await self._timed("save", self._history.save(key, mark, snapshot))

    async def load(self, key: RunKey) -> tuple[Mark, bytes] | None:
        """See `History.load`."""
        return await self._timed("load", self._history.load(key))

    async def drop(self, key: RunKey, at: Mark | None = None) -> bool:
        """See `History.drop`."""
        return await self._timed("drop", self._history.drop(key, at))

    async def runs(self, tenant: str) -> list[Listed]:
        """See `History.runs`."""
        return await self._timed("runs", self._history.runs(tenant))

    def where(self, key: RunKey) -> str:
        """See `History.where`."""
        return self._history.where(key)

    async def ping(self) -> None:
        """See `History.ping`."""
        await self._timed("ping", self._history.ping())

    async def usage(self) -> Usage | None:
        """See `History.usage`."""
        return await self._timed("usage", self._history.usage())

    async def close(self) -> None:
        """See `History.close`."""
        await self._history.close()


class MeteredDraft:
    """Passes everything on to `draft`."""

    def __init__(self, draft: Draft, timed: Callable[[Awaitable[Any]], Awaitable[Any]]) -> None:
        self._draft = draft
        self._timed = timed

    async def extend(self, payloads: Sequence[bytes]) -> None:
        """See `Draft.extend`."""
        await self._timed(self._draft.extend(payloads))

    async def read(self, after: Mark, limit: int) -> list[bytes] | None:
        """See `Draft.read`."""
        payloads: list[bytes] | None = await self._timed(self._draft.read(after, limit))
        return payloads

    async def finish(self, *, at_ms: int, once: Once | None = None) -> Appended | Moved | Seen:
        """See `Draft.finish`."""
        result: Appended | Moved | Seen = await self._timed(self._draft.finish(at_ms=at_ms, once=once))
        return result

    async def abandon(self) -> None:
        """See `Draft.abandon`."""
        await self._timed(self._draft.abandon())
