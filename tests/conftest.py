"""What all tests share: hypothesis profiles and a running service."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from .servers import Service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# No deadline: a busy two-core machine stalls any example now and then. `thorough` is for a nightly run.
settings.register_profile("greso", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", settings.get_profile("greso"), max_examples=2000)
settings.load_profile("greso")

_NUMBERS = itertools.count(1)


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
