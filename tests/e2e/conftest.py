"""The real service in a process of its own, for tests that know it only by its contract."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from .oracle.service import Service, beside

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NUMBERS = itertools.count(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Starts take seconds: tests that kill, restart or double the service are slow ones."""
    for item in items:
        if {"private", "replicas"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One running service for the session; every test takes runs of its own."""
    service = Service(tmp_path_factory.mktemp("served"))
    try:
        yield service.start()
    finally:
        service.close()


@pytest.fixture(scope="module")
def replicas(served: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Service]]:
    """A service with its embedded Redis, and another one on that same Redis."""
    second = beside(served, tmp_path_factory.mktemp("second"))
    yield [served, second]
    second.close()


@pytest.fixture
def private(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Service]]:
    """Starts services with the given options that a test may stop and kill."""
    services: list[Service] = []

    def start(*options: str) -> Service:
        services.append(Service(tmp_path_factory.mktemp("private"), *options))
        return services[-1].start()

    yield start
    for service in reversed(services):
        service.close()


@pytest.fixture
def name() -> str:
    """A run's name that no other test uses."""
    return f"run-{next(NUMBERS)}"
