"""Which runs leave the memory when there are too many, and whose."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greso_service import fairness
from greso_service.history.base import RunKey
from greso_service.history.memory import MemoryHistory
from greso_service.runs import Runs


def keys(text: str) -> list[RunKey]:
    """`a1 b1`: run 1 of tenant a, run 1 of tenant b; the least recently used first."""
    return [RunKey(word[0], word[1:]) for word in text.split()]


@pytest.mark.parametrize(
    ("held", "most", "gone"),
    [
        ("a1 a2 a3", 3, ""),
        ("a1 a2 a3", 2, "a1"),
        ("a1 a2 a3", 1, "a1 a2"),
        ("b1 a1 a2 a3", 3, "a1"),  # though b1 was not used longest
        ("b1 a1 a2 a3", 2, "a1 a2"),
        ("b1 a1 a2 b2", 3, "b1"),  # as many each: the oldest
        ("a1 a2 b1", 0, "a1 a2 b1"),
        ("c1 b1 a1", 2, "c1"),
    ],
)
def test_the_tenant_that_holds_most_gives_way(held: str, most: int, gone: str) -> None:
    assert fairness.leaving(keys(held), most) == keys(gone)


@pytest.mark.parametrize(
    ("held", "tenant", "full"),
    [
        ("a1 a2", "a", False),
        ("a1 a2 a3", "a", True),
        ("a1 a2 a3", "b", False),  # one of a's would leave
        ("a1 a2 b1", "b", True),
        ("a1 a2 b1", "a", True),
        ("a1 a2 b1", "c", False),
    ],
)
def test_a_look_reads_a_run_only_if_none_of_its_own_tenant_leaves(held: str, tenant: str, full: bool) -> None:
    assert fairness.is_full(keys(held), tenant, 3) is full


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9)), unique=True), st.integers(0, 12))
def test_no_tenant_ends_with_two_fewer_than_another_that_lost_one(held: list[tuple[str, int]], most: int) -> None:
    present = [RunKey(tenant, str(run)) for tenant, run in held]
    gone = fairness.leaving(present, most)
    left = [key for key in present if key not in gone]
    assert len(left) == min(len(present), most)
    count = {tenant: sum(key.tenant == tenant for key in left) for tenant in "abc"}
    for tenant in {key.tenant for key in gone}:
        assert count[tenant] >= max(count.values()) - 1


def test_a_tenant_with_many_runs_does_not_push_out_anothers_one() -> None:
    async def story() -> None:
        runs = Runs(MemoryHistory(), idempotency_ttl=86_400, snapshot_every=256, max_live_runs=3)
        one = RunKey("small", "r")
        await runs.create(one, {})
        for number in range(10):
            await runs.create(RunKey("large", str(number)), {})
        assert len(runs) == 3
        held = await runs.at_hand([one, *(RunKey("large", str(number)) for number in range(10))], 0.0)
        assert held.ready == [one, RunKey("large", "8"), RunKey("large", "9")]
        await runs.close()

    asyncio.run(story())
