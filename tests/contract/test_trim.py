"""The contract of a History whose oldest events are trimmed, over every store there is."""

from __future__ import annotations

import asyncio
import os

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from greso_service.core.mark import START, Mark
from greso_service.errors import Unavailable
from greso_service.history.base import Appended, Base, Extent, History, Moved

from ..stores import RedisStore, Store  # noqa: TID252
from .test_history import KEY, begun, mark_of, once, over, told
from .test_history_redis import tapped

EVENTS = [b"a", b"b", b"c", b"d", b"e"]
END = mark_of(*EVENTS)
BASE = Base(mark_of(b"a", b"b", b"c"), b"what a, b and c make")


async def trimmed(history: History) -> None:
    await begun(history, *EVENTS)
    assert await history.trim(KEY, BASE, before=START, end=END)


async def is_whole(history: History) -> None:
    assert await history.extent(KEY) == Extent(START, END)
    assert await history.base(KEY) is None
    assert await history.read(KEY, START, 10) == EVENTS


def test_a_history_goes_from_its_start_to_its_end(store: Store) -> None:
    async def story(history: History) -> None:
        assert await history.extent(KEY) is None
        assert await history.mark_at(KEY, 1) is None
        assert await history.base(KEY) is None
        await begun(history, *EVENTS)
        await is_whole(history)
        marks = [await history.mark_at(KEY, number) for number in range(7)]
        assert marks == [None, *(mark_of(*EVENTS[:number]) for number in range(1, 6)), None]

    over(store, story)


def test_a_trimmed_history_begins_behind_its_base(store: Store) -> None:
    async def story(history: History) -> None:
        await trimmed(history)
        assert await history.extent(KEY) == Extent(BASE.mark, END)
        assert await history.base(KEY) == BASE
        assert await history.read(KEY, BASE.mark, 10) == [b"d", b"e"]
        assert await history.read(KEY, mark_of(*EVENTS[:4]), 10) == [b"e"]
        assert await history.read(KEY, END, 10) == []
        for gone in (START, mark_of(b"a"), mark_of(b"a", b"b")):
            assert await history.read(KEY, gone, 10) is None
        assert [await history.mark_at(KEY, number) for number in (1, 2, 3, 4)] == [
            None,
            None,
            BASE.mark,
            mark_of(*EVENTS[:4]),
        ]
        assert await history.append(KEY, END, [b"f"], at_ms=2) == Appended(END.then(b"f"))
        assert await history.append(KEY, START, [b"new"], at_ms=2) == Moved()
        further = Base(END, b"what a to e make")
        assert await history.trim(KEY, further, before=BASE.mark, end=END)
        assert await history.extent(KEY) == Extent(END, END.then(b"f"))
        assert await history.base(KEY) == further
        assert await history.read(KEY, END, 10) == [b"f"]

    over(store, story)


@pytest.mark.parametrize(
    ("mark", "before", "end"),
    [
        (BASE.mark, mark_of(b"a"), END),
        (mark_of(b"x", b"y"), START, END),
        (END.then(b"more"), START, END),
        (BASE.mark, START, mark_of(*EVENTS[:4], b"x")),
        (BASE.mark, START, END.then(b"more")),
    ],
    ids=["another base", "not there", "behind the end", "another history", "not there yet"],
)
def test_what_does_not_fit_trims_nothing(store: Store, mark: Mark, before: Mark, end: Mark) -> None:
    async def story(history: History) -> None:
        await begun(history, *EVENTS)
        assert not await history.trim(KEY, Base(mark, b"snapshot"), before=before, end=end)
        await is_whole(history)
        await history.drop(KEY)
        assert not await history.trim(KEY, BASE, before=START, end=END)
        assert await history.extent(KEY) is None
        if isinstance(store, RedisStore):
            assert store.keys() == set()

    over(store, story)


def test_a_rewind_and_a_trim_do_not_cross(store: Store) -> None:
    async def story(history: History) -> None:
        await begun(history, *EVENTS)
        assert await history.append(KEY, END, [b"rewound"], at_ms=2, base=BASE.mark) == Moved()
        assert await history.append(KEY, END, [b"rewound"], at_ms=2, base=START) == Appended(END.then(b"rewound"))
        assert not await history.trim(KEY, BASE, before=START, end=END), "what was to be kept may have changed"
        assert await history.trim(KEY, BASE, before=START, end=END.then(b"rewound"))
        after = END.then(b"rewound")
        assert await history.append(KEY, after, [b"again"], at_ms=3, base=START) == Moved()
        assert await history.read(KEY, after, 10) == []
        for _ in range(2):  # the reply to the first was lost
            done = await history.append(KEY, after, [b"again"], at_ms=3, base=BASE.mark)
            assert done == Appended(after.then(b"again"))

    over(store, story)


def test_snapshots_from_before_the_base_go_with_the_events(store: Store) -> None:
    async def story(history: History) -> None:
        await begun(history, *EVENTS)
        await history.save(KEY, mark_of(b"a"), b"older")
        assert await history.trim(KEY, BASE, before=START, end=END)
        assert await history.load(KEY) is None
        await history.save(KEY, mark_of(*EVENTS[:4]), b"newer")
        assert await history.trim(KEY, Base(mark_of(*EVENTS[:4]), b"next"), before=BASE.mark, end=END)
        assert await history.load(KEY) == (mark_of(*EVENTS[:4]), b"newer")

    over(store, story)


def test_of_many_that_trim_one_does(store: Store) -> None:
    async def story(history: History) -> None:
        await begun(history, *EVENTS)
        bases = [Base(mark_of(*EVENTS[:number]), b"%d" % number) for number in (2, 3, 4) * 3]
        done = await asyncio.gather(*(history.trim(KEY, base, before=START, end=END) for base in bases))
        [winner] = [base for base, was in zip(bases, done, strict=True) if was]
        assert await history.base(KEY) == winner
        assert await history.read(KEY, winner.mark, 10) == EVENTS[winner.mark.number :]

    over(store, story)


def test_a_run_begins_behind_a_base(store: Store) -> None:
    async def story(history: History) -> None:
        base = Base(Mark(7, 123), os.urandom(20_000_000))
        end = base.mark.then(b"x").then(b"y")
        assert await history.begin(KEY, told([b"x"], [b"y"]), at_ms=3, once=once(), base=base) == Appended(end)
        assert await history.extent(KEY) == Extent(base.mark, end)
        assert await history.base(KEY) == base
        assert await history.read(KEY, base.mark, 10) == [b"x", b"y"]
        assert await history.read(KEY, START, 10) is None
        assert await history.begin(KEY, told([b"other"]), at_ms=3, base=base) == Moved()
        assert await history.base(KEY) == base
        assert await history.drop(KEY)
        assert await history.base(KEY) is None
        await begun(history, *EVENTS)
        await is_whole(history)
        if isinstance(store, RedisStore):
            await history.drop(KEY)
            assert store.keys() == set()

    over(store, story)


def test_killed_at_any_command_of_a_trim_the_history_is_whole_or_trimmed(redis_store: RedisStore) -> None:
    async def story(history: History) -> None:
        large = Base(BASE.mark, os.urandom(9 * 2**20))
        trims = 0
        for at in range(6):
            await begun(history, *EVENTS)

            async def away(number: int, at: int = at) -> None:
                if number >= at:
                    raise RedisConnectionError("the service was killed here")

            async with tapped(redis_store, away) as dying:
                try:
                    trims += await dying.trim(KEY, large, before=START, end=END)
                except Unavailable:
                    await is_whole(history)
                    for draft in redis_store.keys() - {b"greso:{default}:runs"}:
                        if b":base" in draft:
                            assert 0 < redis_store.redis.ttl(draft) <= 300
                else:
                    assert await history.base(KEY) == large
                    assert redis_store.redis.ttl("greso:{default/run}:base") == -1
            await history.drop(KEY)
        assert trims

    over(redis_store, story)


def test_a_base_of_which_a_part_was_lost_trims_nothing(redis_store: RedisStore) -> None:
    async def story(history: History) -> None:
        await begun(history, *EVENTS)
        lost_at: list[int] = []

        async def lost(number: int) -> None:
            drafts = [key for key in redis_store.keys() if b":base:" in key]  # noqa: SIM118 - no dict
            if drafts and not lost_at:
                lost_at.append(number)
                redis_store.redis.hdel(drafts[0], f"{BASE.mark}:0")

        async with tapped(redis_store, lost) as unlucky:
            assert not await unlucky.trim(KEY, BASE, before=START, end=END)
        assert lost_at
        await is_whole(history)

    over(redis_store, story)


def test_a_base_that_an_older_service_left_behind_is_not_that_of_the_new_run(redis_store: RedisStore) -> None:
    async def story(history: History) -> None:
        await trimmed(history)
        left = redis_store.redis.dump("greso:{default/run}:base")
        await history.drop(KEY)
        redis_store.redis.restore("greso:{default/run}:base", 0, left)
        await begun(history, *EVENTS)
        await is_whole(history)

    over(redis_store, story)
