"""How many requests are taken on at once, by how they get on; and places that tenants share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Self

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.exceptions import HTTPException

from greso_service.api import places as places_module
from greso_service.api.places import Place, Places
from greso_service.api.room import AHEAD, BEHIND, FEW, Room

MOST = 256


class World:
    """A room, and a clock, which is that of its loop, too."""

    def __init__(self, most: int = MOST) -> None:
        self.now = 0.0
        self.room = Room(most, lambda: self.now)
        self._runner = asyncio.Runner(loop_factory=lambda: _Loop(self))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.close()

    def work(self, seconds: float, spell: float, behind: float, requests: int | None = None) -> None:
        """Answer one request after another, each in `spell`; what is ready waits `behind` for its turn.

        The room is always full of requests, or as full as `requests` make it.
        """

        async def story() -> None:
            until, most = self.now + seconds, requests or MOST
            while self.now < until:
                while not self.room.full and self.room.taken < most:
                    self.room.enter()
                self.now += spell
                self.room.leave()
                self.now += behind
                await asyncio.sleep(0)
                self.now -= behind  # others were answered meanwhile

        self._runner.run(story())

    def idle(self, seconds: float) -> None:
        """Let time go by, with nothing to do but what its timers say."""

        async def story() -> None:
            until = self.now + seconds
            while self.now < until:
                self.now += 0.001
                await asyncio.sleep(0)

        self._runner.run(story())

    def empty(self) -> None:
        """Answer all."""

        async def story() -> None:
            while self.room.taken:
                self.room.leave()

        self._runner.run(story())


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self, world: World) -> None:
        self._world = world
        super().__init__()

    def time(self) -> float:
        return self._world.now


Worlds = Callable[..., World]


@pytest.fixture
def worlds() -> Iterator[Worlds]:
    with ExitStack() as all_of_them:
        yield lambda *most: all_of_them.enter_context(World(*most))


@pytest.mark.parametrize("spell", [0.004, 0.006, 0.01])
def test_a_process_that_is_behind_takes_on_what_it_can_answer_in_time(worlds: Worlds, spell: float) -> None:
    world = worlds()
    world.work(20, spell, 2 * BEHIND)
    assert world.room.places == pytest.approx(AHEAD / spell, rel=0.1)


def test_short_requests_and_long_ones_have_their_bounds(worlds: Worlds) -> None:
    short, long = worlds(), worlds()
    short.work(5, 0.0001, 2 * BEHIND)
    long.work(60, 1.0, 2 * BEHIND)
    assert (short.room.places, long.room.places) == (MOST, FEW)


def test_an_operator_who_allows_fewer_gets_fewer(worlds: Worlds) -> None:
    world = worlds(3)
    world.work(60, 1.0, 2 * BEHIND)
    assert world.room.places == 3


def test_requests_that_wait_for_others_than_the_process_are_all_taken_on(worlds: Worlds) -> None:
    world = worlds()
    world.work(60, 1.0, 0.0)
    assert world.room.places == MOST


def test_a_short_burst_turns_nobody_away(worlds: Worlds) -> None:
    world = worlds()
    for _ in range(5):
        world.work(0.28, 0.03, 2 * BEHIND)
        world.work(0.6, 0.03, 0.0)
    assert world.room.places == MOST


def test_all_places_are_there_again_after_an_overload(worlds: Worlds) -> None:
    world = worlds()
    world.work(60, 1.0, 2 * BEHIND)
    world.work(10, 0.001, 0.0)
    assert world.room.places == MOST


def test_all_places_are_there_again_when_an_overload_ends_and_nobody_comes(worlds: Worlds) -> None:
    world = worlds()
    world.work(60, 1.0, 2 * BEHIND)
    world.empty()
    assert world.room.places == FEW
    world.idle(10)
    assert world.room.places == MOST


def test_all_places_are_there_again_beside_a_request_that_takes_long(worlds: Worlds) -> None:
    world = worlds()
    world.work(60, 1.0, 2 * BEHIND)
    world.empty()
    world.work(0.001, 0.001, 0.0, requests=2)
    assert world.room.taken == 1
    world.idle(10)
    assert world.room.places == MOST


def test_time_in_which_nothing_is_to_do_is_not_taken_for_work(worlds: Worlds) -> None:
    """One long export stays; now and then some requests come together, and wait a little for each other."""
    world = worlds()
    for _ in range(20):
        world.work(0.04, 0.005, 2 * BEHIND, requests=2)
        world.idle(0.5)
    assert world.room.taken == 1
    assert world.room.places > 1.4 * FEW


# Places


async def refused_soon(places: Places, tenant: str) -> bool:
    try:
        places.leave(await places.enter_soon(tenant))
    except HTTPException:
        return True
    return False


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


def test_a_place_that_is_left_goes_to_the_tenant_who_has_fewest() -> None:
    async def story() -> None:
        places = Places(3, "max_imports", "imports")
        held = [places.enter("a"), places.enter("a"), places.enter("b")]
        waiting = {tenant: asyncio.create_task(places.enter_soon(tenant)) for tenant in "abc"}
        await asyncio.sleep(0)
        places.leave(held[2])
        assert (await waiting["b"]).tenant == "b", "none of b and c has any; b waits for longer"
        places.leave(held[0])
        assert (await waiting["c"]).tenant == "c"
        places.leave(held[1])
        assert (await waiting["a"]).tenant == "a"
        assert len(places) == 3

    asyncio.run(asyncio.wait_for(story(), 30))


def test_a_place_that_comes_as_its_waiter_goes_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places_module, "PATIENCE", 30.0)

    async def story() -> None:
        places = Places(1, "max_imports", "imports")
        held = places.enter("a")
        gone, stays = (asyncio.create_task(places.enter_soon(tenant)) for tenant in "bc")
        await asyncio.sleep(0)
        places.leave(held)
        gone.cancel()
        assert (await stays).tenant == "c"
        assert gone.cancelled()
        assert len(places) == 1

    asyncio.run(asyncio.wait_for(story(), 30))


def test_who_waits_for_a_place_in_vain_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places_module, "PATIENCE", 0.01)

    async def story() -> None:
        places = Places(1, "max_imports", "imports")
        held = places.enter("a")
        assert await refused_soon(places, "b")
        places.leave(held)
        assert not await refused_soon(places, "b")

    asyncio.run(asyncio.wait_for(story(), 30))
