"""What all tests share: hypothesis profiles and a running service."""

from __future__ import annotations

import itertools
import signal
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from greso_service.history.embedded import EmbeddedRedis
from greso_service.history.memory import MemoryHistory

from .servers import RedisServer, Service
from .stores import RedisStore, Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# No deadline: a busy two-core machine stalls any example now and then. `thorough` is for a nightly run.
settings.register_profile("greso", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", settings.get_profile("greso"), max_examples=2000)
settings.load_profile("greso")

# A shell starts what it runs in the background with Ctrl-C ignored, and children inherit that; some tests send one.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_NUMBERS = itertools.count(1)

REDIS7 = pytest.param("redis7", marks=pytest.mark.slow)  # what holds in the bundled server mostly holds in it too


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Starts take seconds: tests that have a service of their own are slow ones.

    But for those of one file, so that the fast run has seen a service start, be killed and start again.
    """
    for item in items:
        if "start_service" in getattr(item, "fixturenames", ()) and item.path.name != "test_serve.py":
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One `greso serve` with an embedded Redis for the session; every test takes runs of its own."""
    running = Service(tmp_path_factory.mktemp("service"))
    try:
        yield running.start()
    finally:
        running.close()


@pytest.fixture
def start_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Service]]:
    """Starts services with the given options that the test may freeze and kill."""
    started: list[Service] = []

    def start(*options: str) -> Service:
        started.append(Service(tmp_path_factory.mktemp("private"), *options))
        return started[-1].start()

    yield start
    for each in started:
        each.close()


@pytest.fixture
def run_name() -> str:
    """A run's name that no other test uses."""
    return f"run-{next(_NUMBERS)}"


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


@pytest.fixture(params=["valkey", REDIS7])
def redis_store(request: pytest.FixtureRequest) -> Iterator[RedisStore]:
    """An empty store in each kind of server."""
    store = RedisStore(*request.getfixturevalue(request.param))
    store.redis.flushall()
    yield store
    store.redis.close()


@pytest.fixture(params=["memory", "valkey", REDIS7])
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
