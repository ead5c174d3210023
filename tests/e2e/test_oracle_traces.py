"""Random trainers against the service: whatever they do, every answer is the model's.

A failure names the seed; `pytest "tests/e2e/test_oracle_traces.py::test_random_traces[7]"` drives the same trace again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .oracle.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Callable

    from .oracle.service import Service

FAST_SEEDS = range(16)
SLOW_SEEDS = range(1000, 1120)


@pytest.mark.parametrize("seed", FAST_SEEDS)
def test_random_traces(served: Service, name: str, seed: int) -> None:
    trace = Trace(served, seed, name)
    trace.play(60)
    trace.look()


@pytest.mark.slow
@pytest.mark.parametrize("seed", SLOW_SEEDS)
def test_many_random_traces(served: Service, name: str, seed: int) -> None:
    trace = Trace(served, seed, name)
    trace.play(150)
    trace.look()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2000, 2003))
def test_one_long_trace(served: Service, name: str, seed: int) -> None:
    trace = Trace(served, seed, name)
    for _ in range(5):
        trace.play(400)
        trace.look()


@pytest.mark.slow
def test_traces_go_on_after_the_service_was_killed_and_restarted(private: Callable[..., Service]) -> None:
    # Snapshots that shorten the start lie between the events, so that both are needed.
    service = private("--snapshot-every", "7")
    traces = [Trace(service, seed, f"trace-{seed}") for seed in range(100, 104)]
    for end in (service.kill, service.stop):
        for trace in traces:
            trace.play(25)
        end()
        service.start()
        for trace in traces:
            # Answers to keys given before the end are still the first ones.
            trace.replay()
            trace.look()


@pytest.mark.slow
@pytest.mark.parametrize("every", ["1", "7", "256"])
def test_traces_survive_many_kills(private: Callable[..., Service], every: str) -> None:
    service = private("--snapshot-every", every)
    traces = [Trace(service, seed, f"trace-{seed}") for seed in range(200, 210)]
    for _ in range(8):
        for trace in traces:
            trace.play(20)
        service.kill()
        service.start()
        for trace in traces:
            trace.replay()
            trace.look()
