"""Random trainers against the service: whatever they do, every answer is the model's.

Kills, restarts and replicas are for the journeys of test_oracle_journeys.py, which do all that these do and more.
A failure names the seed; `pytest "tests/e2e/test_oracle_traces.py::test_random_traces[7]"` drives the same trace again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .oracle.trace import Trace

if TYPE_CHECKING:
    from .oracle.service import Service

FAST_SEEDS = range(6)
SLOW_SEEDS = range(1000, 1040)


@pytest.mark.parametrize("seed", FAST_SEEDS)
def test_random_traces(served: Service, name: str, seed: int) -> None:
    trace = Trace(served, seed, name)
    trace.play(50)
    trace.look()


@pytest.mark.slow
@pytest.mark.parametrize("seed", SLOW_SEEDS)
def test_many_random_traces(served: Service, name: str, seed: int) -> None:
    trace = Trace(served, seed, name)
    trace.play(150)
    trace.look()


@pytest.mark.slow
def test_one_long_trace(served: Service, name: str) -> None:
    trace = Trace(served, 2000, name)
    for _ in range(5):
        trace.play(300)
        trace.look()
