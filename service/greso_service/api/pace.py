"""How fast a request must come and its answer be taken: who is slower gives up the place that he takes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from greso_service.begun import Begun

T = TypeVar("T")

SENDER: Final = 10.0
"""Seconds that who sends a body may be late, all waits together, by what should have come at `RATE`."""

READER: Final = 30.0
"""The same of who takes an answer, which may be piped into something that stops now and then."""

RATE: Final = 32_768
"""Bytes a second that are asked of everybody: a slow home connection does several times as much."""


class Pace:
    """Of one direction of one request: how late the other end is, by `patience` seconds at most.

    Being early gives nothing for later.
    """

    __slots__ = ("_began", "_due", "_late", "_patience", "_waiting", "displaced")

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._late = self._began = self._due = 0.0
        self._waiting: asyncio.Timeout | None = None
        self.displaced = False

    async def of(self, step: Callable[[], Awaitable[T]], size: int = 0) -> T:
        """Wait for the other end, which has `size` bytes to take. Raises `TimeoutError` when it is too late."""
        loop = asyncio.get_running_loop()
        self._began, self._due = loop.time(), size / RATE
        try:
            begun = Begun(step())
            if begun.done:
                return begun.value
            async with asyncio.timeout_at(self._began + self._patience + self._due - self._late) as self._waiting:
                return await begun
        finally:
            self._waiting = None
            self._late = max(0.0, self._late + loop.time() - self._began - self._due)

    def came(self, size: int) -> None:
        """So many bytes have come."""
        self._late = max(0.0, self._late - size / RATE)

    def late(self, now: float) -> float:
        """Seconds, by the loop's time; 0 if nothing is waited for."""
        return self._late + max(0.0, now - self._began - self._due) if self._waiting else 0.0

    def displace(self) -> None:
        """End the wait: the place is needed. `displaced` stays false if the wait is ending anyway."""
        if self._waiting:
            try:
                self._waiting.reschedule(asyncio.get_running_loop().time())
            except RuntimeError:  # its own time has just run out
                return
            self.displaced = True
