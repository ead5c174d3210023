"""Random fault schedules against real processes: what was acknowledged is there once, and all replicas agree.

`python -m tests.faults` runs as many as one likes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from .campaign import Tally, campaign, failure
from .nursery import Nursery

SCHEDULES, AT_A_TIME = 300, 50
WORLDS = 4  # an outage is mostly waiting


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    started = Nursery()
    try:
        yield started
    finally:
        started.close()


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, SCHEDULES, AT_A_TIME))
def test_random_fault_schedules(nursery: Nursery, first: int) -> None:
    """It names the seeds that went wrong, and the command that repeats each."""
    tally = Tally()
    seeds = range(first, first + AT_A_TIME)
    asyncio.run(campaign(seeds, worlds=WORLDS, nursery=nursery, done=tally.add))
    assert not tally.failed, "\n".join(map(failure, tally.failed))
    assert tally.total["schedules"] == AT_A_TIME
    assert tally.total["acknowledged"] > 5 * AT_A_TIME
    assert tally.total["retries"] > AT_A_TIME / 4, "the faults met no traffic"
