"""How many requests are taken on at once, by how they get on; and places that tenants share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.exceptions import HTTPException

from greso_service.api.places import Place, Places
from greso_service.api.room import AHEAD, BEHIND, FEW, Room

MOST = 256


class World:
    """A room that is always full of requests, and a clock."""

    def __init__(self, most: int = MOST) -> None:
        self.now = 0.0
        self.room = Room(most, lambda: self.now)

    def work(self, seconds: float, spell: float, behind: float) -> None:
        """Answer one request after another, each in `spell`; what is ready waits `behind` for its turn."""

        async def story() -> None:
            until = self.now + seconds
            while self.now < until:
                while not self.room.full:
                    self.room.enter()
                self.now += spell
                self.room.leave()
                self.now += behind
                await asyncio.sleep(0)
                self.now -= behind  # others were answered meanwhile

        asyncio.run(story())


@pytest.mark.parametrize("spell", [0.004, 0.006, 0.01])
def test_a_process_that_is_behind_takes_on_what_it_can_answer_in_time(spell: float) -> None:
    world = World()
    world.work(20, spell, 2 * BEHIND)
    assert world.room.places == pytest.approx(AHEAD / spell, rel=0.1)


def test_short_requests_and_long_ones_have_their_bounds() -> None:
    short, long = World(), World()
    short.work(5, 0.0001, 2 * BEHIND)
    long.work(60, 1.0, 2 * BEHIND)
    assert (short.room.places, long.room.places) == (MOST, FEW)


def test_an_operator_who_allows_fewer_gets_fewer() -> None:
    world = World(3)
    world.work(60, 1.0, 2 * BEHIND)
    assert world.room.places == 3


def test_requests_that_wait_for_others_than_the_process_are_all_taken_on() -> None:
    world = World()
    world.work(60, 1.0, 0.0)
    assert world.room.places == MOST


def test_a_short_burst_turns_nobody_away() -> None:
    world = World()
    for _ in range(5):
        world.work(0.28, 0.03, 2 * BEHIND)
        world.work(0.6, 0.03, 0.0)
    assert world.room.places == MOST


def test_all_places_are_there_again_after_an_overload() -> None:
    world = World()
    world.work(60, 1.0, 2 * BEHIND)
    world.work(10, 0.001, 0.0)
    assert world.room.places == MOST


# Places


def taken(places: Places, tenant: str) -> Place | None:
    try:
        return places.enter(tenant)
    except HTTPException:
        return None


def test_one_tenant_may_have_all_places_until_another_comes() -> None:
    places = Places(4, "max_streams", "streams", yielding=True)
    of_a = [places.enter("a") for _ in range(4)]
    assert taken(places, "a") is None
    assert [taken(places, "b") is not None for _ in range(3)] == [True, True, False]
    assert [place.wanted for place in of_a] == [False, False, True, True], "the newest go"
    places.leave(of_a[3])  # it has been given away already
    assert len(places) == 4


def test_places_that_yield_to_nobody() -> None:
    places = Places(2, "max_imports", "imports")
    first = places.enter("a")
    places.enter("a")
    assert taken(places, "b") is None
    places.leave(first)
    assert taken(places, "b") is not None


@given(st.integers(0, 6), st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=60))
def test_no_tenant_is_turned_away_while_another_has_two_more(most: int, moves: list[tuple[str, bool]]) -> None:
    places, held = Places(most, "max_streams", "streams", yielding=True), list[Place]()
    count: Callable[[str], int] = lambda tenant: sum(place.tenant == tenant for place in held)  # noqa: E731
    for tenant, enters in moves:
        if not enters and held:
            places.leave(held.pop(0))
            continue
        place = taken(places, tenant)
        if place is None:
            assert len(held) == most
            assert all(count(other) <= count(tenant) + 1 for other in "abc")
        else:
            held = [each for each in held if not each.wanted] + [place]
        assert len(places) == len(held) <= most
