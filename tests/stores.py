"""Histories in every kind of store, for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import redis

from greso_service.core.mark import Mark
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
from greso_service.history.connect import connect
from greso_service.history.redis import RedisHistory
from greso_service.runs import Runs

from .folding import content

DEADLINE = 2.0


class Store:
    """A place that histories are kept in: opened as often as a test likes, each time by another client."""

    def __init__(self, open_one: Callable[[], History]) -> None:
        self._open_one = open_one

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[History]:
        """A History over the store, for the running event loop."""
        history = self._open_one()
        try:
            yield history
        finally:
            await history.close()


class RedisStore(Store):
    """A store in a real server, which a test may look into, freeze and starve."""

    def __init__(self, url: str, pid: int) -> None:
        super().__init__(lambda: RedisHistory(connect(url, 0.5), deadline=DEADLINE))
        self.redis_url = url
        self.pid = pid
        self.redis: Any = redis.Redis.from_url(url)  # its stubs give every reply the type of async ones too

    def keys(self) -> set[bytes]:
        """Every key of the database."""
        return set(self.redis.scan_iter())

    def dump(self) -> dict[bytes, bytes]:
        """Everything in the database."""
        return {key: self.redis.dump(key) for key in self.keys()}

    def restore(self, dumped: dict[bytes, bytes]) -> None:
        """The database as it was dumped."""
        self.redis.flushall()
        for key, value in dumped.items():
            self.redis.restore(key, 0, value)


class PassingHistory:
    """Passes every call on to another History; tests override the one that is to go wrong."""

    def __init__(self, inner: History) -> None:
        self.inner = inner

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
        """See `History`."""
        return await self.inner.append(key, after, payloads, at_ms=at_ms, once=once, base=base)

    async def read(self, key: RunKey, after: Mark, limit: int) -> list[bytes] | None:
        """See `History`."""
        return await self.inner.read(key, after, limit)

    async def extent(self, key: RunKey) -> Extent | None:
        """See `History`."""
        return await self.inner.extent(key)

    async def mark_at(self, key: RunKey, number: int) -> Mark | None:
        """See `History`."""
        return await self.inner.mark_at(key, number)

    async def base(self, key: RunKey) -> Base | None:
        """See `History`."""
        return await self.inner.base(key)

    async def trim(self, key: RunKey, base: Base, *, before: Mark, end: Mark) -> bool:
        """See `History`."""
        return await self.inner.trim(key, base, before=before, end=end)

    async def begin(
        self,
        key: RunKey,
        payloads: AsyncIterator[Sequence[bytes]],
        *,
        at_ms: int,
        once: Once | None = None,
        base: Base | None = None,
    ) -> Appended | Moved | Seen:
        """See `History`."""
        return await self.inner.begin(key, payloads, at_ms=at_ms, once=once, base=base)

    def draft(self, key: RunKey, base: Base | None = None) -> Draft:
        """See `History`."""
        return self.inner.draft(key, base)

    async def recall(self, key: RunKey, name: str) -> Seen | None:
        """See `History`."""
        return await self.inner.recall(key, name)

    async def remember(self, key: RunKey, once: Once) -> None:
        """See `History`."""
        await self.inner.remember(key, once)

    async def confirm(self, key: RunKey) -> None:
        """See `History`."""
        await self.inner.confirm(key)

    async def save(self, key: RunKey, mark: Mark, snapshot: bytes) -> None:
        """See `History`."""
        await self.inner.save(key, mark, snapshot)

    async def load(self, key: RunKey) -> tuple[Mark, bytes] | None:
        """See `History`."""
        return await self.inner.load(key)

    async def drop(self, key: RunKey, at: Mark | None = None) -> bool:
        """See `History`."""
        return await self.inner.drop(key, at)

    async def runs(self, tenant: str) -> list[Listed]:
        """See `History`."""
        return await self.inner.runs(tenant)

    def where(self, key: RunKey) -> str:
        """See `History`."""
        return self.inner.where(key)

    async def ping(self) -> None:
        """See `History`."""
        await self.inner.ping()

    async def usage(self) -> Usage | None:
        """See `History`."""
        return await self.inner.usage()

    async def close(self) -> None:
        """See `History`."""
        await self.inner.close()


async def state_of(runs: Runs, key: RunKey) -> dict[str, Any]:
    """The content of the state that a replica answers from, when it has caught up."""
    await runs.show(key)
    state = runs._live.known(key)
    assert state is not None
    return content(state)
