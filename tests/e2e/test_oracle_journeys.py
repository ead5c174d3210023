"""Random trainers that rewind, fork and are fenced off: whatever they do, every answer is the model's.

A failure names the seed; `pytest "tests/e2e/test_oracle_journeys.py::test_random_journeys[7]"` drives the same journey.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .oracle.journey import Journey

if TYPE_CHECKING:
    from collections.abc import Callable

    from .oracle.service import Service

FAST_SEEDS = range(6)
SLOW_SEEDS = range(3000, 3015)


def travel(service: Service, seed: int, name: str, actions: int) -> Journey:
    journey = Journey(service, seed, name)
    journey.play(actions)
    journey.look()
    journey.twin()
    return journey


@pytest.mark.parametrize("seed", FAST_SEEDS)
def test_random_journeys(served: Service, name: str, seed: int) -> None:
    travel(served, seed, name, 24)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SLOW_SEEDS)
def test_many_random_journeys(served: Service, name: str, seed: int) -> None:
    travel(served, seed, name, 150)


@pytest.mark.slow
def test_one_long_journey(served: Service, name: str) -> None:
    journey = travel(served, 4000, name, 800)
    # A journey that did none of this would pass for nothing.
    assert min(journey.rewinds, journey.forks, journey.fenced_off) >= 10


@pytest.mark.slow
def test_journeys_go_on_after_the_service_was_killed_and_restarted(private: Callable[..., Service]) -> None:
    # Snapshots lie between the events, so that both are needed after a start.
    service = private("--snapshot-every", "7")
    journeys = [Journey(service, seed, f"journey-{seed}") for seed in range(500, 504)]
    for end in (service.kill, service.stop):
        for journey in journeys:
            journey.play(25)
        end()
        service.start()
        for journey in journeys:
            journey.replay()
            journey.look()
    for journey in journeys:
        journey.twin()
    assert sum(journey.rewinds for journey in journeys) >= 5
    assert sum(journey.twins for journey in journeys) >= 1


@pytest.mark.slow
@pytest.mark.parametrize("every", ["1", "7", "256"])
def test_journeys_survive_many_kills(private: Callable[..., Service], every: str) -> None:
    service = private("--snapshot-every", every)
    journeys = [Journey(service, seed, f"journey-{seed}") for seed in range(600, 604)]
    for _ in range(6):
        for journey in journeys:
            journey.play(20)
        service.kill()
        service.start()
        for journey in journeys:
            journey.replay()
            journey.look()
            journey.twin()
