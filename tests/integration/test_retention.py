"""Runs that keep their last steps only, over a real store: whoever trims, rewinds or is killed, one state."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from greso_service import retention
from greso_service.api.app import create_app
from greso_service.core.mark import Mark
from greso_service.errors import Conflict, Unavailable, Unreadable
from greso_service.following import Last
from greso_service.history.base import Base, History, RunKey
from greso_service.history.memory import MemoryHistory
from greso_service.runs import Runs
from greso_service.settings import load

from ..asgi import client_of, problem  # noqa: TID252
from ..contract.test_history_redis import tapped  # noqa: TID252
from ..servers import Service, eventually  # noqa: TID252
from ..stores import PassingHistory, RedisStore, state_of  # noqa: TID252
from .test_runs_replicas import KEY, LosingReplies, report
from .test_runs_time_travel import Meddling, keyed

LOG, BASE, SNAP = (f"greso:{{default/run}}:{part}" for part in ("log", "base", "snap"))
LONG = 30  # steps, two events each
FORK = RunKey(KEY.tenant, "fork")


def replica(history: History, keep: int | None = 3, snapshot_every: int = 1) -> Runs:
    return Runs(history, idempotency_ttl=86_400, snapshot_every=snapshot_every, keep_steps=keep)


def over(
    store: RedisStore, story: Callable[[Runs, Runs, History], Awaitable[None]], keep: int = 3, snapshot_every: int = 1
) -> None:
    async def told() -> None:
        async with store.opened() as one, store.opened() as two:
            replicas = replica(one, keep, snapshot_every), replica(two, keep, snapshot_every)
            await story(*replicas, one)
            for runs in replicas:
                await runs.close()

    asyncio.run(told())


async def step(runs: Runs, number: int) -> None:
    """A step of two events, and what is saved and trimmed behind it."""
    await runs.select(KEY, number, [f"p{number}", f"q{number % 7}"])
    await report(runs, number, (f"p{number}", [0, 1]), (f"q{number % 7}", [0, 0]), final=True)
    await runs.close()


async def trained(runs: Runs, steps: int = LONG, first: int = 1) -> None:
    if first == 1:
        await runs.create(KEY, {"seed": 1, "train_batch_size": 2})
    for number in range(first, steps + 1):
        await step(runs, number)


async def fresh_state(store: RedisStore, key: RunKey = KEY) -> dict[str, Any]:
    """What a replica makes of the run that has only the base and the events."""
    store.redis.delete(SNAP)
    async with store.opened() as history:
        return await state_of(replica(history, None, 10**6), key)


def oldest(store: RedisStore) -> int:
    """The number that the log begins with."""
    [(mark, _)] = store.redis.xrange(LOG, count=1)
    return int(mark.partition(b"-")[0])


async def refused(asking: Awaitable[Any]) -> str:
    with pytest.raises(Conflict) as caught:
        await asking
    return str(caught.value)


class Counting(PassingHistory):
    """Notes how many events each trim took, and how often the base was read."""

    def __init__(self, inner: History) -> None:
        super().__init__(inner)
        self.pieces: list[int] = []
        self.bases = 0

    async def trim(self, key: RunKey, base: Base, *, before: Mark, end: Mark) -> bool:
        self.pieces.append(base.mark.number - before.number)
        return await super().trim(key, base, before=before, end=end)

    async def base(self, key: RunKey) -> Base | None:
        self.bases += 1
        return await super().base(key)


def test_a_rewind_too_far_is_refused_again_without_the_base(redis_store: RedisStore) -> None:
    """Which may be large, and a trainer that was told wrong asks again and again."""

    async def told() -> None:
        async with redis_store.opened() as history:
            counting = Counting(history)
            runs, trimming = replica(counting, None, 10**6), replica(history)
            await trained(trimming)
            first = await refused(runs.rewind(KEY, 1))
            before = counting.bases
            for asking in (runs.rewind(KEY, 1), runs.fork(KEY, "fork", 1)):
                assert await refused(asking) == first
            assert counting.bases == before
            await trained(trimming, LONG + 5, first=LONG + 1)
            assert await refused(runs.rewind(KEY, 1)) != first, "it was trimmed since"

    asyncio.run(told())


def test_a_long_history_is_trimmed_in_pieces(redis_store: RedisStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis does nothing else while it trims."""
    monkeypatch.setattr(retention, "PIECE", 7)

    async def told() -> None:
        async with redis_store.opened() as history:
            await trained(replica(history, None, 10**6))
            counting, whole = Counting(history), replica(MemoryHistory(), None)
            late = replica(counting, 3, 1)
            await step(late, LONG + 1)
            assert len(counting.pieces) == -(-(oldest(redis_store)) // 7)
            assert all(piece == 7 for piece in counting.pieces[:-1])
            assert redis_store.redis.xlen(LOG) <= 2 * (3 + 2)
            await trained(whole, LONG + 1)
            assert await state_of(late, KEY) == await fresh_state(redis_store) == await state_of(whole, KEY)

    asyncio.run(told())


def test_the_log_does_not_grow_and_every_replica_has_the_same_state(redis_store: RedisStore) -> None:
    async def story(one: Runs, two: Runs, history: History) -> None:
        await trained(one, 2)
        await two.show(KEY)  # and then it looks no more for long
        whole = replica(MemoryHistory(), None)
        await trained(whole)
        await trained(one, LONG, first=3)
        assert redis_store.redis.xlen(LOG) <= 2 * (3 + 2)
        expected = await state_of(whole, KEY)
        assert await state_of(one, KEY) == await state_of(two, KEY) == expected
        assert await fresh_state(redis_store) == expected
        text = await refused(two.rewind(KEY, 20))
        assert text.startswith("step 20 is not there any more: the events of run run up to number ")
        back = int(text.split("; step ")[1].split()[0])
        assert back <= LONG - 2, "three steps are kept"
        assert await refused(one.fork(KEY, "fork", back - 1)) == text.replace("step 20", f"step {back - 1}", 1)
        for runs in (one, whole):
            await runs.rewind(KEY, back)
            await runs.close()
        expected = await state_of(whole, KEY)
        assert await state_of(one, KEY) == await state_of(two, KEY) == expected
        assert await fresh_state(redis_store) == expected
        for runs in (two, whole):
            await trained(runs, LONG, first=back + 1)
        assert await state_of(one, KEY) == await fresh_state(redis_store) == await state_of(whole, KEY)
        await one.delete(KEY)
        assert redis_store.keys() == set()

    over(redis_store, story)


def test_a_trainer_that_rewinds_ever_again_does_not_fill_the_store(redis_store: RedisStore) -> None:
    async def story(one: Runs, two: Runs, history: History) -> None:
        whole = replica(MemoryHistory(), None)
        lengths = []
        for runs in (one, whole):
            await trained(runs, 4)
        for number in range(5, 25, 2):
            for runs in (two, whole):
                await step(runs, number)
                await step(runs, number + 1)
                await runs.select(KEY, number + 2, ["ahead"])
            for runs in (one, whole):
                await runs.rewind(KEY, number)
                await runs.close()
            lengths.append(redis_store.redis.xlen(LOG))
        assert max(lengths[3:]) <= 24
        assert await state_of(one, KEY) == await fresh_state(redis_store) == await state_of(whole, KEY)

    over(redis_store, story)


def test_a_fork_of_a_trimmed_run_goes_on_as_it_does(redis_store: RedisStore) -> None:
    async def story(one: Runs, two: Runs, history: History) -> None:
        await trained(one)
        await one.rewind(KEY, LONG - 1)
        await one.close()
        for at in (None, LONG - 1):
            answer = json.loads((await two.fork(KEY, FORK.run, at, keyed("k"))).body)
            assert (answer["generation"], answer["step"]) == (0, LONG - 1)
            assert (await two.fork(KEY, FORK.run, at, keyed("k"))).replayed
            expected = {**await state_of(one, KEY), "generation": 0}
            assert await state_of(one, FORK) == await fresh_state(redis_store, FORK) == expected
            assert "is not there any more" in await refused(one.rewind(FORK, 3))
            asked = ["p1", "q1", "q3", "new"]
            told = [json.loads((await one.select(key, LONG, asked)).body)["selected"] for key in (KEY, FORK)]
            assert told[0] == told[1]
            assert json.loads((await one.rewind(FORK, LONG - 1)).body)["generation"] == 1
            await one.rewind(KEY, LONG - 1)
            await one.close()
            await one.delete(FORK)
            assert not [key for key in sorted(redis_store.keys()) if b"/fork}" in key]
            redis_store.redis.delete("greso:{default/run}:once:k")

    over(redis_store, story)


def test_a_rewind_past_what_is_trimmed_meanwhile_is_refused(redis_store: RedisStore) -> None:
    async def story(one: Runs, two: Runs, history: History) -> None:
        keeping = replica(history, None)
        await trained(keeping)
        async with redis_store.opened() as other:
            for back, far in ((5, True), (LONG - 1, False)):
                meddling = Meddling(other)
                rewinding = replica(meddling, None)
                await rewinding.show(KEY)
                meddling.before = lambda: trained(one, LONG + 1, first=LONG + 1)
                if far:
                    assert "step 5 is not there any more" in await refused(rewinding.rewind(KEY, back))
                    await one.rewind(KEY, LONG)
                else:
                    await rewinding.rewind(KEY, back)
                await rewinding.close()
                await one.close()
                states = [await state_of(runs, KEY) for runs in (one, two, keeping)]
                assert states == [await fresh_state(redis_store)] * 3

    over(redis_store, story)


def test_a_rewind_while_it_is_trimmed_keeps_what_it_goes_back_to(redis_store: RedisStore) -> None:
    class Slow(PassingHistory):
        """Something happens just before it is trimmed."""

        before: Callable[[], Awaitable[object]] | None = None

        async def trim(self, key: RunKey, base: Base, *, before: Mark, end: Mark) -> bool:
            meanwhile, self.before = self.before, None
            if meanwhile is not None:
                await meanwhile()
                assert not await self.inner.trim(key, base, before=before, end=end)
                return False
            return await self.inner.trim(key, base, before=before, end=end)

    async def story(one: Runs, two: Runs, history: History) -> None:
        keeping = replica(history, None)
        await trained(keeping)
        async with redis_store.opened() as other:
            slow = Slow(other)
            trimming = replica(slow, 2)
            slow.before = lambda: keeping.rewind(KEY, 5)
            await trained(trimming, LONG + 1, first=LONG + 1)
            assert oldest(redis_store) == 1
            assert json.loads((await trimming.show(KEY)).body)["step"] == 5
            assert await state_of(keeping, KEY) == await fresh_state(redis_store)
            await trained(trimming, 15, first=6)
            assert oldest(redis_store) > 1
            assert await state_of(keeping, KEY) == await fresh_state(redis_store)

    over(redis_store, story)


@pytest.mark.parametrize("seed", range(3))
def test_writers_rewinds_and_trims_at_once_make_one_state(redis_store: RedisStore, seed: int) -> None:
    choose = random.Random(seed)

    async def write(runs: Runs, newest: list[int], name: str) -> int:
        done = 0
        for number in range(15):
            newest[0] += choose.random() < 0.3
            with suppress(Unavailable):  # too many at once, or too far behind without a key
                await report(runs, newest[0], (f"{name}-{number}", [0, number % 2]), final=choose.random() < 0.4)
                done += 1
                await runs.select(KEY, newest[0] + choose.randrange(2), [f"{name}-{number}", "other"])
        return done

    async def go_back(runs: Runs, newest: list[int]) -> int:
        gone = 0
        for _ in range(6):
            await asyncio.sleep(0)
            with suppress(Conflict, Unavailable):
                await runs.rewind(KEY, max(newest[0] - choose.randrange(1, 4), 0))
                newest[0] = max(newest[0] - 1, 1)
                gone += 1
            await runs.show(KEY)
        return gone

    async def story(one: Runs, two: Runs, history: History) -> None:
        await one.create(KEY, {"train_batch_size": 3})
        newest = [1]
        done = await asyncio.gather(
            *(write(runs, newest, f"{at}") for at, runs in enumerate([one, two] * 2)),
            go_back(one, newest),
            go_back(two, newest),
        )
        await trained(one, newest[0] + 4, first=newest[0] + 1)
        assert min(done[:4]) > 0
        assert oldest(redis_store) > 1
        await two.close()
        assert await state_of(one, KEY) == await state_of(two, KEY) == await fresh_state(redis_store)

    over(redis_store, story, keep=1)


@pytest.mark.slow
def test_killed_anywhere_on_the_way_of_trimming_nothing_is_lost(redis_store: RedisStore) -> None:
    async def story(one: Runs, two: Runs, history: History) -> None:
        keeping = replica(history, None, 10**6)
        await trained(keeping)
        began = oldest(redis_store)
        for at in range(4, 30):
            sent = 0

            async def away(_: int, at: int = at) -> None:
                nonlocal sent
                sent += 1
                if sent > at:
                    raise RedisConnectionError("the service was killed here")

            async with tapped(redis_store, away) as dying:
                killed = replica(dying)
                with suppress(Unavailable):
                    await report(killed, LONG, ("late", [0, 1]))
                await killed.close()
            assert await state_of(keeping, KEY) == await fresh_state(redis_store)
        assert (began, oldest(redis_store)) == (1, 2 * LONG - 5), "in the end it was not killed"

    over(redis_store, story)


def test_a_write_whose_reply_was_lost_before_a_trim_is_not_done_again(redis_store: RedisStore) -> None:
    async def story(one: Runs, two: Runs, history: History) -> None:
        await trained(one, 5)
        async with redis_store.opened() as other:
            losing = LosingReplies(other)
            unlucky = replica(losing, None)
            await unlucky.show(KEY)

            def between(first: int, last: int) -> None:
                async def write() -> None:
                    losing.in_between = None
                    await trained(two, last, first)

                losing.in_between = write

            between(6, 15)
            with pytest.raises(Unavailable, match="can't tell whether a first try of this write was done"):
                await report(unlucky, 5, ("mine", [0, 1]))
            between(16, 25)
            await report(unlucky, 15, ("mine", [0, 1]), key="k")
            between(26, 35)
            assert (await report(unlucky, 25, ("other", [0, 1]), key="l"))["replayed"]
        assert (await state_of(one, KEY))["totals"]["groups"] == 2 * 35 + 3

    over(redis_store, story)


def test_late_reports_and_keys_of_trimmed_steps_are_as_ever(redis_store: RedisStore) -> None:
    async def story(one: Runs, two: Runs, history: History) -> None:
        whole = replica(MemoryHistory(), None)
        for runs in (one, whole):
            await trained(runs, 4)
            await report(runs, 4, ("kept", [0, 1]), key="first")
            await trained(runs, LONG, first=5)
        assert oldest(redis_store) > 30
        told = [await report(runs, 2, ("late", [1, 1]), ("p2", [0, 0])) for runs in (two, whole)]
        assert told[0] == told[1]
        assert (await report(two, 4, ("kept", [0, 1]), key="first"))["replayed"]
        assert await state_of(one, KEY) == await fresh_state(redis_store) == await state_of(whole, KEY)

    over(redis_store, story)


def test_a_base_that_is_lost_or_of_another_version_is_an_error_that_says_so(redis_store: RedisStore) -> None:
    async def story(one: Runs, two: Runs, history: History) -> None:
        await trained(one)
        base = redis_store.redis.dump(BASE)
        mark = redis_store.redis.hget(BASE, "mark")
        for content in (b"\x63of the future", None):
            redis_store.redis.delete(BASE)
            if content is not None:
                redis_store.redis.hset(BASE, mapping={"mark": mark, mark + b":0": content})
            with pytest.raises(Unreadable, match="begins with another event than the first"):
                await fresh_state(redis_store)
            await report(one, LONG, ("more", [0, 1]))  # who has the state goes on
            await one.close()
        redis_store.redis.delete(BASE)
        redis_store.redis.restore(BASE, 0, base)
        assert await fresh_state(redis_store) == await state_of(one, KEY)

    over(redis_store, story)


def told_numbers(text: str) -> list[int]:
    return [json.loads(line[6:])["number"] for line in text.splitlines() if line.startswith("data: ")]


def test_what_was_trimmed_is_409_and_the_rest_is_told() -> None:
    async def story() -> None:
        history = MemoryHistory()
        settings = load({"keep_steps": 2, "snapshot_every": 1})
        async with client_of(create_app(settings, history)) as client:
            runs = replica(history, 2)
            await trained(runs, 2)
            first = await client.get("/v1/runs/run/events", params={"follow": False})
            assert told_numbers(first.text) == [1, 2, 3, 4, 5]
            [early] = [line[4:] for line in first.text.splitlines() if line.startswith("id: 2-")]
            await trained(runs, LONG, first=3)
            extent = await history.extent(KEY)
            assert extent is not None
            base, end = extent.base.number, extent.end.number
            rest = await client.get("/v1/runs/run/events", params={"follow": False})
            assert told_numbers(rest.text) == list(range(base + 1, end + 1))
            assert f"id: {extent.base}\n" in rest.text
            many = await client.get("/v1/runs/run/events", params={"follow": False, "last": 1000})
            assert many.text == rest.text
            for at in (base, base + 1, end):
                some = await client.get("/v1/runs/run/events", params={"follow": False, "after": at})
                assert told_numbers(some.text) == list(range(at + 1, end + 1))
            gone = [
                await client.get("/v1/runs/run/events", params={"follow": False, "after": 0}),
                await client.get("/v1/runs/run/events", params={"follow": False, "after": base - 1}),
                await client.get("/v1/runs/run/events", params={"follow": False, "after": early}),
                await client.get("/v1/runs/run/events", headers={"Last-Event-ID": early}),
                await client.get("/v1/runs/run/export"),
                await client.post("/v1/runs/run/rewind", json={"step": 3}),
                await client.post("/v1/runs/run/fork", json={"run": "other", "step": 3}),
            ]
            for answer in gone:
                detail = problem(answer, 409)["detail"]
                assert f"up to number {base} live on in a snapshot only; step {(base + 1) // 2} is the oldest" in detail
            assert (await client.get("/v1/runs/other")).status_code == 404
            beyond = await client.get("/v1/runs/run/events", params={"after": end + 1})
            assert f"has {end} events" in problem(beyond, 409)["detail"]
            await runs.close()

    asyncio.run(story())


def test_a_place_is_found_without_reading_the_history(redis_store: RedisStore) -> None:
    class Counting(PassingHistory):
        read_events = 0

        async def read(self, key: RunKey, after: Mark, limit: int) -> list[bytes] | None:
            payloads = await self.inner.read(key, after, limit)
            self.read_events += len(payloads or ())
            return payloads

    async def numbers(pages: AsyncIterator[Any]) -> list[int]:
        return [mark.number async for page in pages for mark, _ in page]

    async def told() -> None:
        async with redis_store.opened() as history:
            counting = Counting(history)
            runs = replica(counting, None, 10**6)
            await trained(runs, 200)
            for place, expected in ((Last(3), [399, 400, 401]), (Last(0), []), (398, [399, 400, 401])):
                counting.read_events = 0
                _, pages = await runs.events(KEY, place, on=False)
                assert await numbers(pages) == expected
                assert counting.read_events == len(expected)

    asyncio.run(told())


@pytest.mark.slow
def test_a_service_that_keeps_few_steps_is_killed_and_goes_on(start_service: Callable[..., Service]) -> None:
    service = start_service("--keep-steps", "2", "--snapshot-every", "1")
    path = "/v1/runs/run"
    service.json("PUT", path, {"train_batch_size": 2})
    for number in range(1, 13):
        results = [{"prompt": f"p{number}", "rewards": [0, 1]}, {"prompt": "hard", "rewards": [0, 0]}]
        service.json("POST", f"{path}/report", {"step": number, "results": results, "final": True}, key=f"k{number}")
        if number == 9:
            before = service.json("GET", path)
            service.kill()
            service.start()
            assert service.json("GET", path) == before
    service.json("POST", f"{path}/report", {"step": 13, "results": [], "final": True})
    eventually(lambda: service.call("POST", f"{path}/fork", {"run": "far", "step": 5}).status_code == 409)
    text = problem(service.call("POST", f"{path}/rewind", {"step": 5}), 409)["detail"]
    assert text.startswith("step 5 is not there any more: the events of run run up to number ")
    told = service.json("POST", f"{path}/rewind", {"step": 12})
    assert (told["step"], told["totals"]["groups"]) == (12, 24)
