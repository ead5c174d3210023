"""Snapshots in Redis: hashes of parts, written as drafts that disappear unless something puts them in their place."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, NamedTuple

from greso_service.core.mark import Mark
from greso_service.history.base import Base, RunKey
from greso_service.history.redis_unreadable import unreadable
from greso_service.history.redis_wire import Evaluate, Script, key_of

DRAFT_GRACE: Final = 300  # seconds until the parts of a snapshot or a history that was never finished disappear
_PART_BYTES: Final = 8 * 2**20  # per command: each stays well inside a command's time-out
_TRIES: Final = 10

_PART = Script("part.lua")


class Written(NamedTuple):
    """The key of a draft, and how many parts it has."""

    name: str
    parts: int


class Parts:
    """Writes and reads snapshots. `reached`: what every exchange with Redis goes on in."""

    def __init__(
        self, redis: Any, reached: Callable[..., AbstractAsyncContextManager[None]], evaluate: Evaluate
    ) -> None:
        self._redis = redis
        self._reached = reached
        self._evaluate = evaluate

    async def write(self, key: RunKey, kind: str, base: Base) -> Written:
        """A draft of a snapshot of this kind (`snap`, `base`)."""
        name = key_of(key, f"{kind}:{secrets.token_hex(8)}")
        starts = range(0, max(len(base.snapshot), 1), _PART_BYTES)
        for part, start in enumerate(starts):
            content = base.snapshot[start : start + _PART_BYTES]
            async with self._reached(name):
                await self._evaluate(_PART, [name], [f"{base.mark}:{part}", content, DRAFT_GRACE])
        return Written(name, len(starts))

    async def forget(self, written: Written) -> None:
        """Remove a draft: one after another, left to expire, would fill the memory."""
        await self._redis.unlink(written.name)

    async def read(self, key: RunKey, kind: str) -> Base | None:
        """The run's snapshot of this kind; whole, although another may take its place meanwhile."""
        mark = await self._mark(key, kind)
        for _ in range(_TRIES):
            if mark is None:
                return None
            parts = list[bytes]()
            while (part := await self._part(key, kind, f"{mark}:{len(parts)}")) is not None:
                parts.append(part)
            read, mark = mark, await self._mark(key, kind)
            if mark == read:
                return Base(mark, b"".join(parts))
        return None

    async def _mark(self, key: RunKey, kind: str) -> Mark | None:
        text = await self._part(key, kind, "mark")
        if text is None:
            return None
        try:
            return Mark.parse(text)
        except ValueError:
            raise unreadable(key_of(key, kind), f"its mark is {text[:50]!r}") from None

    async def _part(self, key: RunKey, kind: str, field: str) -> bytes | None:
        name = key_of(key, kind)
        async with self._reached(name):
            part: bytes | None = await self._redis.hget(name, field)
        return part
