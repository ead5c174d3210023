"""Which runs leave the memory when there are too many, and whose."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greso_service.fairness import Room
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
    assert Room(most).leaving(dict.fromkeys(keys(held), 0)) == keys(gone)


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
    assert Room(3).is_full(dict.fromkeys(keys(held), 0), tenant) is full


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9)), unique=True), st.integers(0, 12))
def test_no_tenant_ends_with_two_fewer_than_another_that_lost_one(held: list[tuple[str, int]], most: int) -> None:
    present = [RunKey(tenant, str(run)) for tenant, run in held]
    gone = Room(most).leaving(dict.fromkeys(present, 0))
    left = [key for key in present if key not in gone]
    assert len(left) == min(len(present), most)
    count = {tenant: sum(key.tenant == tenant for key in left) for tenant in "abc"}
    for tenant in {key.tenant for key in gone}:
        assert count[tenant] >= max(count.values()) - 1


@pytest.mark.parametrize(
    ("sizes", "room", "gone"),
    [
        ("a1=4 a2=4", Room(9, 8), ""),
        ("a1=4 a2=4", Room(9, 7), "a1"),
        ("a1=4 a2=4 a3=1", Room(9, 1), "a1 a2"),
        ("a1=1 a2=40", Room(9, 8), "a1"),  # the last one stays
        ("a1=1 b1=40", Room(9, 8), "b1"),  # of the tenant that holds most, also when it is the one used last
        ("a1=4 b1=1 b2=2 c1=4 c2=1", Room(9, 8), "c1"),
        ("a1=4 b1=4", Room(9, 4), "a1"),  # as much each: the oldest
        ("a1=40", Room(9, 8), ""),
        ("b1=2 a1=9 a2=1", Room(9, 8), "a1"),  # of two that were used longer ago the larger tenant's
        ("b1=2 a1=3 a2=3", Room(9, 2), "a1 a2"),
        ("a1=9 b1=1 b2=1", Room(2, 8), "b1 a1"),  # in number one has too many, in bytes the other
        ("", Room(0, 1), ""),
    ],
)
def test_there_is_room_for_so_many_bytes(sizes: str, room: Room, gone: str) -> None:
    held = {keys(name)[0]: int(size) for name, size in (word.split("=") for word in sizes.split())}
    assert room.leaving(held) == keys(gone)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9), st.integers(0, 9)), unique_by=lambda one: one[:2]))
def test_what_is_left_has_room_unless_it_is_one(held: list[tuple[str, int, int]]) -> None:
    present, room = {RunKey(tenant, str(run)): size for tenant, run, size in held}, Room(100, 12)
    gone = room.leaving(present)
    left = {key: size for key, size in present.items() if key not in gone}
    assert sum(left.values()) <= 12 or len(left) == 1
    assert not gone or sum(left.values()) + present[gone[-1]] > 12, "no more than needed"
    holds = {tenant: sum(size for key, size in left.items() if key.tenant == tenant) for tenant in "abc"}
    last_lost = {key.tenant: present[key] for key in gone}
    for tenant, lost in last_lost.items():
        assert holds[tenant] + lost >= max(holds.values()), "whoever gives way held most"


def test_who_leaves_is_found_without_looking_at_all_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = 0

    class Counted(str):
        __slots__ = ()

        def __hash__(self) -> int:
            nonlocal looked
            looked += 1
            return super().__hash__()

        def __eq__(self, other: object) -> bool:
            nonlocal looked
            looked += 1
            return super().__eq__(other)

    held = {RunKey(Counted(f"t{number % 50}"), str(number)): 1 for number in range(1_000)}
    looked = 0
    assert len(Room(500, 250).leaving(held)) == 750
    assert looked < 50_000  # for each of them it would be a million


@pytest.mark.parametrize(("sizes", "full"), [((3, 4), False), ((4, 4), True)])
def test_a_look_reads_no_run_when_the_bytes_are_taken(sizes: tuple[int, int], full: bool) -> None:
    assert Room(9, 8).is_full(dict(zip(keys("a1 a2"), sizes, strict=True)), "b") is full


def test_a_tenant_with_a_large_run_in_use_pushes_out_no_others() -> None:
    async def story() -> None:
        history = MemoryHistory()
        small, large = RunKey("small", "r"), RunKey("large", "r")
        alone = Runs(history, idempotency_ttl=86_400, snapshot_every=256)
        await alone.create(small, {})
        await alone.create(large, {})
        await alone.add_prompts(large, [f"p{number}" for number in range(10_000)])
        await alone.show(large)
        runs = Runs(history, idempotency_ttl=86_400, snapshot_every=256, max_live_bytes=alone.size - 1)
        await runs.show(small)
        for _ in range(3):
            await runs.show(large)
            assert list(runs._live._runs) == [small]
        await alone.close()
        await runs.close()

    asyncio.run(story())


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
