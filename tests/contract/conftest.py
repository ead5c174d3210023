"""The stores that the contract is run over."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
import redis

from greso_service.history.base import History
from greso_service.history.connect import connect
from greso_service.history.embedded import EmbeddedRedis
from greso_service.history.memory import MemoryHistory
from greso_service.history.redis import RedisHistory

from ..servers import RedisServer

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
        self.redis = redis.Redis.from_url(url)

    def keys(self) -> set[bytes]:
        """Every key of the database."""
        return set(self.redis.scan_iter())


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """The embedded server: its URL and process."""
    with EmbeddedRedis(tmp_path_factory.mktemp("valkey")) as server:
        assert server.process is not None
        yield server.url, server.process.pid


@pytest.fixture(scope="session")
def redis7(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """A redis-server from PATH: its URL and process."""
    server = RedisServer(tmp_path_factory.mktemp("redis7"), "--appendfsync", "everysec")
    try:
        server.start()
        yield server.url, server.pid
    finally:
        server.close()


@pytest.fixture(params=["valkey", "redis7"])
def redis_store(request: pytest.FixtureRequest) -> Iterator[RedisStore]:
    """An empty store in each kind of server."""
    store = RedisStore(*request.getfixturevalue(request.param))
    store.redis.flushall()
    yield store
    store.redis.close()


@pytest.fixture(params=["memory", "valkey", "redis7"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """An empty store of each kind."""
    if request.param == "memory":
        kept = MemoryHistory()
        yield Store(lambda: kept)
        return
    found = RedisStore(*request.getfixturevalue(request.param))
    found.redis.flushall()
    yield found
    found.redis.close()
