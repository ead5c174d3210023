"""The contract of a History, over every store there is."""

from __future__ import annotations

import asyncio
import os
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from greso_service.core.mark import START, Mark
from greso_service.history.base import Appended, History, Listed, Moved, Once, RunKey, Seen

from ..stores import Store  # noqa: TID252

KEY = RunKey("default", "run")
NEIGHBOUR = RunKey("team-a", "run")  # of another tenant
OTHER = RunKey("default", "other")
DIGEST, OTHER_DIGEST = bytes(range(32)), bytes(reversed(range(32)))


def over(store: Store, story: Callable[[History], Awaitable[None]]) -> None:
    async def told() -> None:
        async with store.opened() as history:
            await story(history)

    asyncio.run(told())


def mark_of(*payloads: bytes) -> Mark:
    return Mark(len(payloads), zlib.crc32(b"".join(payloads)))


def once(key: str = "k", *, digest: bytes = DIGEST, answer: bytes = b"answer", ttl: int = 60) -> Once:
    return Once(key, digest, answer, ttl)


async def begun(history: History, *payloads: bytes, key: RunKey = KEY, at_ms: int = 1) -> Mark:
    result = await history.append(key, START, payloads, at_ms=at_ms)
    assert isinstance(result, Appended)
    return result.mark


async def whole(history: History) -> list[bytes]:
    """A run's history, read as far as it goes: a read may give fewer events than it was asked for, but never none."""
    payloads: list[bytes] = []
    mark = START
    while page := await history.read(KEY, mark, 1000):
        payloads += page
        for payload in page:
            mark = mark.then(payload)
    return payloads


def test_a_mark_counts_events_and_chains_their_checksums() -> None:
    assert START.then(b"a").then(b"bc") == mark_of(b"a", b"bc") == Mark(2, zlib.crc32(b"abc"))


def test_a_mark_is_read_back_from_its_text() -> None:
    assert Mark.parse(str(mark_of(b"a", b"b")).encode()) == mark_of(b"a", b"b")


def test_an_append_continues_the_history_it_names(store: Store) -> None:
    async def story(history: History) -> None:
        first = await begun(history, b"a", b"b")
        assert first == mark_of(b"a", b"b")
        assert await history.append(KEY, first, [b"c"], at_ms=2) == Appended(mark_of(b"a", b"b", b"c"))
        assert await history.read(KEY, START, 10) == [b"a", b"b", b"c"]

    over(store, story)


@pytest.mark.parametrize(
    "after",
    [START, mark_of(b"x"), mark_of(b"a", b"x"), mark_of(b"a", b"b", b"x")],
    ids=["start", "an earlier one", "another of the same length", "a later one"],
)
def test_an_append_elsewhere_changes_nothing(store: Store, after: Mark) -> None:
    async def story(history: History) -> None:
        await begun(history, b"a", b"b")
        assert await history.append(KEY, after, [b"new"], at_ms=2, once=once()) == Moved()
        assert await history.read(KEY, START, 10) == [b"a", b"b"]
        result = await history.append(KEY, mark_of(b"a", b"b"), [b"c"], at_ms=3, once=once())
        assert isinstance(result, Appended), "the refused append must not have used up its idempotency key"

    over(store, story)


def test_the_same_append_again_finds_itself_done(store: Store) -> None:
    async def story(history: History) -> None:
        mark = await begun(history, b"a")
        for _ in range(3):  # the replies to the first ones were lost
            assert await history.append(KEY, mark, [b"b", b"c"], at_ms=2) == Appended(mark_of(b"a", b"b", b"c"))
        assert await history.read(KEY, START, 10) == [b"a", b"b", b"c"]

    over(store, story)


def test_the_same_append_again_after_others_is_told_that_the_history_moved(store: Store) -> None:
    async def story(history: History) -> None:
        mark = await begun(history, b"a")
        await history.append(KEY, mark, [b"b"], at_ms=2)
        await history.append(KEY, mark.then(b"b"), [b"c"], at_ms=2)
        assert await history.append(KEY, mark, [b"b"], at_ms=3) == Moved()
        assert await history.read(KEY, mark, 10) == [b"b", b"c"]

    over(store, story)


def test_a_run_is_created_once(store: Store) -> None:
    async def story(history: History) -> None:
        results = await asyncio.gather(
            *(history.append(KEY, START, [f"created {i}".encode()], at_ms=1) for i in range(20))
        )
        assert sum(isinstance(result, Appended) for result in results) == 1
        assert len(await history.read(KEY, START, 10) or []) == 1

    over(store, story)


def test_runs_and_tenants_are_apart(store: Store) -> None:
    async def story(history: History) -> None:
        elsewhere = RunKey("another", "run")
        for key in (KEY, OTHER, elsewhere):
            payloads = [f"{key.tenant} {key.run}".encode()]
            result = await history.append(key, START, payloads, at_ms=1, once=once(answer=payloads[0]))
            assert isinstance(result, Appended)
        assert await history.drop(OTHER)
        assert await history.read(OTHER, START, 10) == []
        assert await history.read(KEY, START, 10) == [b"default run"]
        assert await history.read(elsewhere, START, 10) == [b"another run"]
        assert [listed.run for listed in await history.runs("another")] == ["run"]
        seen = await history.append(elsewhere, START, [b"x"], at_ms=1, once=once())
        assert seen == Seen(DIGEST, b"another run")

    over(store, story)


def test_100_concurrent_appends_give_one_winner_per_mark(store: Store) -> None:
    async def story(history: History) -> None:
        mark = await begun(history, b"begin")
        for turn in range(3):
            payloads = [f"{turn}.{i}".encode() for i in range(100)]
            results = await asyncio.gather(*(history.append(KEY, mark, [one], at_ms=1) for one in payloads))
            [winner] = [payload for payload, result in zip(payloads, results, strict=True) if result != Moved()]
            assert await history.read(KEY, mark, 10) == [winner]
            mark = mark.then(winner)

    over(store, story)


def test_100_writers_that_catch_up_all_get_in(store: Store) -> None:
    async def write(number: int, history: History) -> None:
        mark, payload = START, f"writer {number}".encode()
        while not isinstance(await history.append(KEY, mark, [payload], at_ms=1), Appended):
            read = await history.read(KEY, mark, 1000)
            assert read is not None
            for one in read:
                mark = mark.then(one)

    async def story(history: History) -> None:
        await asyncio.gather(*(write(number, history) for number in range(100)))
        assert sorted(await history.read(KEY, START, 1000) or []) == sorted(f"writer {i}".encode() for i in range(100))

    over(store, story)


def test_reading_goes_page_by_page(store: Store) -> None:
    async def story(history: History) -> None:
        payloads = [f"event {number}".encode() for number in range(25)]
        await begun(history, *payloads)
        mark, pages = START, []
        while page := await history.read(KEY, mark, 10):
            pages.append(len(page))
            for payload in page:
                assert payload == payloads[mark.number]
                mark = mark.then(payload)
        assert pages == [10, 10, 5]
        assert mark == mark_of(*payloads)

    over(store, story)


@pytest.mark.parametrize("mark", [mark_of(b"x"), mark_of(b"a", b"x"), mark_of(b"a", b"b", b"c"), mark_of(b"b")])
def test_reading_behind_a_foreign_mark_gives_none(store: Store, mark: Mark) -> None:
    async def story(history: History) -> None:
        await begun(history, b"a", b"b")
        assert await history.read(KEY, mark, 10) is None

    over(store, story)


def test_a_run_that_does_not_exist_contains_the_start_only(store: Store) -> None:
    async def story(history: History) -> None:
        assert await history.read(KEY, START, 10) == []
        assert await history.read(KEY, mark_of(b"a"), 10) is None
        assert await history.append(KEY, mark_of(b"a"), [b"b"], at_ms=1) == Moved()
        assert await history.load(KEY) is None
        assert await history.runs("default") == []
        assert not await history.drop(KEY)

    over(store, story)


def test_a_used_key_gets_its_first_answer_again(store: Store) -> None:
    async def story(history: History) -> None:
        mark = await begun(history, b"a")
        first = await history.append(KEY, mark, [b"b"], at_ms=2, once=once(answer=b"the first\x00answer"))
        assert first == Appended(mark.then(b"b"))
        # As it comes from a retry of the client on another replica: another place, payload, digest and answer.
        for after in (mark, mark.then(b"b"), START):
            for digest in (DIGEST, OTHER_DIGEST):
                again = once(digest=digest, answer=b"another")
                assert await history.append(KEY, after, [b"c"], at_ms=3, once=again) == Seen(
                    DIGEST, b"the first\x00answer"
                )
        assert await history.read(KEY, START, 10) == [b"a", b"b"]

    over(store, story)


def test_a_key_is_forgotten_after_its_life(store: Store) -> None:
    async def story(history: History) -> None:
        mark = await begun(history, b"a")
        await history.append(KEY, mark, [b"b"], at_ms=2, once=once(ttl=1))
        give_up = time.monotonic() + 10
        mark = mark.then(b"b")
        while (result := await history.append(KEY, mark, [b"c"], at_ms=3, once=once())) == Seen(DIGEST, b"answer"):
            assert time.monotonic() < give_up
            await asyncio.sleep(0.05)
        assert result == Appended(mark.then(b"c"))

    over(store, story)


async def told(*parts: list[bytes]) -> AsyncIterator[list[bytes]]:
    for part in parts:
        yield part


def test_a_run_begins_with_a_whole_history(store: Store) -> None:
    async def story(history: History) -> None:
        assert await history.begin(KEY, told([b"a", b"b"], [], [b"c"]), at_ms=3) == Appended(mark_of(b"a", b"b", b"c"))
        assert await whole(history) == [b"a", b"b", b"c"]
        assert await history.runs("default") == [Listed(KEY.run, 3)]
        after = mark_of(b"a", b"b", b"c")
        assert await history.append(KEY, after, [b"d"], at_ms=4) == Appended(after.then(b"d"))

    over(store, story)


def test_a_run_that_exists_does_not_begin_again(store: Store) -> None:
    async def story(history: History) -> None:
        await begun(history, b"a")
        assert await history.begin(KEY, told([b"b"]), at_ms=3) == Moved()
        assert await history.begin(KEY, told([b"a", b"b"]), at_ms=3) == Moved()
        assert await whole(history) == [b"a"]

    over(store, story)


def test_a_beginning_that_breaks_off_leaves_nothing(store: Store) -> None:
    async def broken() -> AsyncIterator[list[bytes]]:
        yield [b"a"]
        raise ConnectionResetError

    async def story(history: History) -> None:
        with pytest.raises(ConnectionResetError):
            await history.begin(KEY, broken(), at_ms=3)
        assert await history.runs("default") == []
        assert await history.read(KEY, START, 10) == []
        assert await history.begin(KEY, told([b"b"]), at_ms=3) == Appended(mark_of(b"b"))
        assert await whole(history) == [b"b"]

    over(store, story)


def test_of_20_beginnings_one_wins(store: Store) -> None:
    async def story(history: History) -> None:
        results = await asyncio.gather(
            *(history.begin(KEY, told([b"%d" % number], [b"x"]), at_ms=3) for number in range(20))
        )
        [winner] = [number for number, result in enumerate(results) if isinstance(result, Appended)]
        assert await whole(history) == [b"%d" % winner, b"x"]

    over(store, story)


def test_a_beginning_keeps_its_key(store: Store) -> None:
    async def story(history: History) -> None:
        assert await history.recall(KEY, "k") is None
        assert isinstance(await history.begin(KEY, told([b"a"]), at_ms=3, once=once()), Appended)
        assert await history.recall(KEY, "k") == Seen(DIGEST, b"answer")
        assert await history.recall(KEY, "l") is None
        again = once(digest=OTHER_DIGEST, answer=b"another")
        assert await history.begin(KEY, told([b"b"]), at_ms=4, once=again) == Seen(DIGEST, b"answer")
        assert await whole(history) == [b"a"]
        assert await history.drop(KEY)
        assert await history.recall(KEY, "k") is None

    over(store, story)


def test_a_remembered_key_is_found_and_stays_as_it_is(store: Store) -> None:
    async def story(history: History) -> None:
        await history.remember(KEY, once())
        assert await history.recall(KEY, "k") is None
        mark = await begun(history, b"a")
        await history.remember(KEY, once())
        await history.remember(KEY, once(digest=OTHER_DIGEST, answer=b"another"))
        assert await history.recall(KEY, "k") == Seen(DIGEST, b"answer")
        assert await history.append(KEY, mark, [b"b"], at_ms=2, once=once()) == Seen(DIGEST, b"answer")
        assert await history.drop(KEY)
        assert await history.recall(KEY, "k") is None

    over(store, story)


def test_a_draft_is_seen_by_nobody_before_it_is_finished(store: Store) -> None:
    async def story(history: History) -> None:
        draft = history.draft(KEY)
        await draft.extend([b"a", b"b"])
        await draft.extend([])
        await draft.extend([b"c"])
        assert await history.read(KEY, START, 10) == []
        assert await history.runs("default") == []
        assert await draft.read(START, 2) == [b"a", b"b"]
        assert await draft.read(mark_of(b"a"), 10) == [b"b", b"c"]
        assert await draft.read(mark_of(b"a", b"b", b"c"), 10) == []
        assert await draft.read(mark_of(b"x"), 10) is None
        assert await draft.finish(at_ms=3, once=once()) == Appended(mark_of(b"a", b"b", b"c"))
        assert await whole(history) == [b"a", b"b", b"c"]
        assert await history.runs("default") == [Listed(KEY.run, 3)]
        assert await history.recall(KEY, "k") == Seen(DIGEST, b"answer")

    over(store, story)


def test_a_draft_that_is_abandoned_or_too_late_is_nothing(store: Store) -> None:
    async def story(history: History) -> None:
        first, second, third = history.draft(KEY), history.draft(KEY), history.draft(KEY)
        for draft, payload in ((first, b"a"), (second, b"b"), (third, b"c")):
            await draft.extend([payload])
        await first.abandon()
        assert await first.read(START, 10) == []
        assert await history.runs("default") == []
        assert await second.finish(at_ms=3) == Appended(mark_of(b"b"))
        assert await third.finish(at_ms=3) == Moved()
        assert await whole(history) == [b"b"]

    over(store, story)


def test_a_beginning_of_many_and_large_payloads(store: Store) -> None:
    payloads = [b"%d" % number for number in range(3000)] + [bytes([number]) * 3_000_000 for number in range(4)]

    async def story(history: History) -> None:
        assert await history.begin(KEY, told(payloads), at_ms=3) == Appended(mark_of(*payloads))
        assert await whole(history) == payloads

    over(store, story)


@pytest.mark.parametrize("key", ["k", "!", "~" * 128, "{x}:{y}", "a:b/c*?[]"])
def test_any_visible_key_works(store: Store, key: str) -> None:
    async def story(history: History) -> None:
        await history.append(KEY, START, [b"a"], at_ms=1, once=once(key))
        assert await history.append(KEY, START, [b"b"], at_ms=1, once=once(key)) == Seen(DIGEST, b"answer")
        assert await history.drop(KEY)
        assert await history.append(KEY, START, [b"b"], at_ms=1, once=once(key)) == Appended(mark_of(b"b"))

    over(store, story)


@pytest.mark.parametrize("size", [0, 1, 8 * 2**20, 8 * 2**20 + 1, 20_000_000])
def test_a_snapshot_of_any_size_comes_back_whole(store: Store, size: int) -> None:
    async def story(history: History) -> None:
        mark = await begun(history, b"a")
        content = os.urandom(size)
        await history.save(KEY, mark, content)
        assert await history.load(KEY) == (mark, content)

    over(store, story)


def test_a_later_snapshot_takes_the_place_of_the_earlier(store: Store) -> None:
    async def story(history: History) -> None:
        mark = await begun(history, b"a", b"b")
        await history.save(KEY, mark_of(b"a"), os.urandom(20_000_000))
        await history.save(KEY, mark, b"small")
        assert await history.load(KEY) == (mark, b"small")

    over(store, story)


def test_a_snapshot_of_a_dropped_run_is_not_kept(store: Store) -> None:
    async def story(history: History) -> None:
        mark = await begun(history, b"a")
        await history.drop(KEY)
        await history.save(KEY, mark, b"late")
        assert await history.load(KEY) is None

    over(store, story)


def test_a_payload_of_20_mb_of_any_bytes(store: Store) -> None:
    async def story(history: History) -> None:
        large = os.urandom(20_000_000)
        mark = await begun(history, b"a", large, b"", bytes(range(256)))
        assert await whole(history) == [b"a", large, b"", bytes(range(256))]
        assert await history.read(KEY, mark, 10) == []

    over(store, story)


def test_many_payloads_in_one_append(store: Store) -> None:
    async def story(history: History) -> None:
        payloads = [f"{number}".encode() for number in range(20_000)]  # Lua's own unpack fails near 8,000 values
        await begun(history, *payloads)
        assert await whole(history) == payloads

    over(store, story)


def test_a_long_history_of_large_payloads_is_read_in_pieces(store: Store) -> None:
    async def story(history: History) -> None:
        payloads = [os.urandom(300_000) for _ in range(60)]
        await begun(history, *payloads)
        assert await whole(history) == payloads

    over(store, story)


def test_runs_are_listed_by_newest_activity(store: Store) -> None:
    async def story(history: History) -> None:
        for at_ms, name in enumerate(["a", "b", "c"], 1000):
            await begun(history, b"x", key=RunKey("default", name), at_ms=at_ms)
        await begun(history, b"x", key=RunKey("foreign", "z"), at_ms=5000)
        await history.append(RunKey("default", "a"), mark_of(b"x"), [b"y"], at_ms=2000)
        assert await history.runs("default") == [Listed("a", 2000), Listed("c", 1002), Listed("b", 1001)]

    over(store, story)


def test_runs_of_one_moment_are_listed_by_name(store: Store) -> None:
    async def story(history: History) -> None:
        for name in ("m", "z", "a"):
            await begun(history, b"x", key=RunKey("default", name), at_ms=7)
        assert [listed.run for listed in await history.runs("default")] == ["a", "m", "z"]

    over(store, story)


def test_a_run_is_dropped_only_where_its_history_ends(store: Store) -> None:
    async def story(history: History) -> None:
        await begun(history, b"a", b"b")
        for elsewhere in (mark_of(b"a"), mark_of(b"a", b"x"), START):
            assert not await history.drop(KEY, elsewhere)
        assert await whole(history) == [b"a", b"b"]
        assert await history.drop(KEY, mark_of(b"a", b"b"))
        assert not await history.drop(KEY, mark_of(b"a", b"b"))
        assert await history.read(KEY, START, 10) == []

    over(store, story)


def test_a_dropped_run_can_be_made_anew(store: Store) -> None:
    async def story(history: History) -> None:
        mark = await begun(history, b"a", b"b", b"c")
        await history.save(KEY, mark, b"snapshot")
        assert await history.drop(KEY)
        assert await history.runs("default") == []
        assert await history.load(KEY) is None
        assert await begun(history, b"new") == mark_of(b"new")
        assert await history.read(KEY, mark, 10) is None, "the old place is not in the new history"
        assert await history.read(KEY, START, 10) == [b"new"]

    over(store, story)


def test_tenants_share_nothing_but_the_names_of_their_runs(store: Store) -> None:
    async def story(history: History) -> None:
        mark, theirs = await begun(history, b"a", at_ms=1), await begun(history, b"x", key=NEIGHBOUR, at_ms=2)
        assert await history.append(KEY, mark, [b"b"], at_ms=3, once=once()) == Appended(mark.then(b"b"))
        assert await history.recall(NEIGHBOUR, "k") is None
        added = await history.append(NEIGHBOUR, theirs, [b"y"], at_ms=4, once=once(answer=b"another"))
        assert added == Appended(theirs.then(b"y"))
        assert await history.recall(KEY, "k") == Seen(DIGEST, b"answer")
        assert await history.recall(NEIGHBOUR, "k") == Seen(DIGEST, b"another")
        await history.save(KEY, mark, b"snapshot")
        assert await history.load(NEIGHBOUR) is None
        assert await history.runs("default") == [Listed("run", 3)]
        assert await history.runs("team-a") == [Listed("run", 4)]
        assert await history.runs("team") == await history.runs("team-a.b") == []
        assert await history.drop(KEY)
        assert await history.runs("default") == []
        assert await history.read(NEIGHBOUR, START, 10) == [b"x", b"y"]
        assert await history.recall(NEIGHBOUR, "k") == Seen(DIGEST, b"another")

    over(store, story)


def test_what_one_client_wrote_another_reads(store: Store) -> None:
    async def story(history: History) -> None:
        mark = await begun(history, b"a")
        async with store.opened() as another:
            assert await another.read(KEY, START, 10) == [b"a"]
            await another.append(KEY, mark, [b"b"], at_ms=1)
        async with store.opened() as later:
            assert await later.read(KEY, mark, 10) == [b"b"]

    over(store, story)


def test_ping_returns(store: Store) -> None:
    over(store, lambda history: history.ping())


def test_usage_is_within_the_limit_or_unknown(store: Store) -> None:
    async def story(history: History) -> None:
        usage = await history.usage()
        assert usage is None or 0 < usage.used < usage.limit

    over(store, story)
