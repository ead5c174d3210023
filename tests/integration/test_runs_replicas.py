"""Several replicas over one real store: one history, one state, whoever writes and whatever is lost in between."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from greso_service.core.mark import Mark
from greso_service.errors import Conflict, NotFound, Unreadable
from greso_service.given import Given, Idempotency
from greso_service.history.base import Appended, History, Moved, Once, RunKey, Seen
from greso_service.runs import Runs

from ..stores import PassingHistory, RedisStore, state_of  # noqa: TID252

KEY = RunKey("default", "run")
LOG, HEAD, SNAP = (f"greso:{{default/run}}:{part}" for part in ("log", "head", "snap"))


def replica(history: History, snapshot_every: int = 10_000) -> Runs:
    return Runs(history, idempotency_ttl=86_400, snapshot_every=snapshot_every)


def over(store: RedisStore, story: Callable[[Runs, Runs], Awaitable[None]], snapshot_every: int = 10_000) -> None:
    async def told() -> None:
        async with store.opened() as one, store.opened() as two:
            replicas = replica(one, snapshot_every), replica(two, snapshot_every)
            await story(*replicas)
            for runs in replicas:
                await runs.close()

    asyncio.run(told())


async def report(
    runs: Runs, step: int, *groups: tuple[str, Sequence[float]], key: str = "", final: bool = False
) -> Any:
    given = Given(Idempotency(key, key.encode().ljust(32, b".")) if key else None)
    names, earned = [name for name, _ in groups], [rewards for _, rewards in groups]
    answer = await runs.report(KEY, step, names, earned, final=final, given=given)
    return {**json.loads(answer.body), "replayed": answer.replayed}


async def act(runs: Runs, choose: random.Random, number: int) -> tuple[str, Any]:
    """Something that a trainer may do."""
    step = number // 12
    names = [f"p{choose.randrange(60)}" for _ in range(choose.randrange(1, 10))]
    match choose.randrange(5):
        case 0:
            return "pool", json.loads((await runs.add_prompts(KEY, names)).body)
        case 1:
            return "select", json.loads((await runs.select(KEY, step, names, limit=choose.choice([None, 3]))).body)
        case 2:
            return "draw", json.loads((await runs.draw(KEY, step, choose.randrange(1, 12))).body)
        case 3:
            return "change", json.loads((await runs.change(KEY, {"train_batch_size": choose.randrange(5, 40)})).body)
    groups = [(name, [float(choose.random() < 0.5) for _ in range(4)]) for name in names]
    return "report", await report(runs, step, *groups, final=choose.random() < 0.1)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("snapshot_every", [1, 7, 10_000])
def test_replicas_interleaved_at_random_agree_bit_for_bit(
    redis_store: RedisStore, seed: int, snapshot_every: int
) -> None:
    choose = random.Random(seed)

    async def story(*replicas: Runs) -> None:
        await replicas[0].create(KEY, {"seed": seed, "train_batch_size": 20})
        await replicas[1].add_prompts(KEY, [f"p{number}" for number in range(40)])
        for turn in range(0, 120, 6):
            await asyncio.gather(*(act(choose.choice(replicas), choose, turn + place) for place in range(6)))
        states = [await state_of(runs, KEY) for runs in replicas]
        for runs in replicas:
            await runs.close()
        async with redis_store.opened() as history:
            states.append(await state_of(replica(history), KEY))  # from the snapshot, if there is one
            redis_store.redis.delete(SNAP)
            states.append(await state_of(replica(history), KEY))  # from the first event
        assert states[1:] == states[:1] * 3

    over(redis_store, story, snapshot_every)


def test_no_place_of_the_pool_is_drawn_twice(redis_store: RedisStore) -> None:
    async def story(*replicas: Runs) -> None:
        choose = random.Random(4)
        await replicas[0].create(KEY, {"policy": "uniform"})
        await replicas[0].add_prompts(KEY, [f"p{number}" for number in range(100)])
        drawn: list[str] = []
        for _ in range(10):
            answers = await asyncio.gather(
                *(choose.choice(replicas).draw(KEY, 0, choose.choice([1, 5, 20])) for _ in range(10))
            )
            drawn += [prompt for answer in answers for prompt in json.loads(answer.body)["prompts"]]
        rest = -len(drawn) % 100
        drawn += json.loads((await replicas[0].draw(KEY, 0, rest)).body)["prompts"] if rest else []
        assert set(Counter(drawn).values()) == {len(drawn) // 100}, "whole epochs hold every prompt equally often"

    over(redis_store, story)


def test_one_of_many_equal_creations_wins_and_all_succeed(redis_store: RedisStore) -> None:
    async def story(*replicas: Runs) -> None:
        results = await asyncio.gather(*(replicas[number % 2].create(KEY, {"seed": 3}) for number in range(20)))
        assert sum(created for _, created in results) == 1
        assert len({answer.body for answer, _ in results}) == 1

    over(redis_store, story)


def test_one_of_many_different_creations_wins(redis_store: RedisStore) -> None:
    async def story(*replicas: Runs) -> None:
        results = await asyncio.gather(
            *(replicas[seed % 2].create(KEY, {"seed": seed}) for seed in range(20)), return_exceptions=True
        )
        [winner] = [seed for seed, result in enumerate(results) if not isinstance(result, BaseException)]
        assert all(isinstance(result, Conflict) for seed, result in enumerate(results) if seed != winner)
        assert json.loads((await replicas[0].show(KEY)).body)["spec"]["seed"] == winner

    over(redis_store, story)


def test_what_looks_wrong_to_a_replica_that_is_behind_is_judged_again(redis_store: RedisStore) -> None:
    async def story(one: Runs, two: Runs) -> None:
        await one.create(KEY, {"exploration_bounds": [0.4, 0.6]})
        await two.show(KEY)
        await one.add_prompts(KEY, ["a"])
        assert json.loads((await two.draw(KEY, 0, 1)).body)["prompts"] == ["a"]
        await one.change(KEY, {"exploration_bounds": [0.1, 0.9]})
        assert json.loads((await two.change(KEY, {"p_easy": 0.2})).body)["exploration"]["easy"] == 0.2
        await one.delete(KEY)
        await one.create(KEY, {})
        with pytest.raises(Conflict, match="pool is empty"):
            await two.draw(KEY, 0, 1)

    over(redis_store, story)


def test_a_key_used_on_one_replica_is_known_on_the_other(redis_store: RedisStore) -> None:
    async def story(one: Runs, two: Runs) -> None:
        await one.create(KEY, {})
        first = await report(one, 0, ("a", [0, 1]), key="k")
        again = await report(two, 0, ("a", [0, 1]), key="k")
        assert (first.pop("replayed"), again.pop("replayed")) == (False, True)
        assert again == first
        assert (await state_of(two, KEY))["totals"]["groups"] == 1

    over(redis_store, story)


class LosingReplies(PassingHistory):
    """Loses the reply to each append, so that the client of the store sends it again; others write in between."""

    def __init__(self, inner: History) -> None:
        super().__init__(inner)
        self.in_between: Callable[[], Awaitable[object]] | None = None
        self.lost = 0

    async def append(
        self,
        key: RunKey,
        after: Mark,
        payloads: Sequence[bytes],
        *,
        at_ms: int,
        once: Once | None = None,
        base: Mark | None = None,
    ) -> Appended | Moved | Seen:
        await self.inner.append(key, after, payloads, at_ms=at_ms, once=once, base=base)
        self.lost += 1
        if self.in_between:
            await self.in_between()
        return await self.inner.append(key, after, payloads, at_ms=at_ms, once=once, base=base)


@pytest.mark.parametrize("key", ["", "k"], ids=["without a key", "with a key"])
@pytest.mark.parametrize("others", [0, 1, 3])
def test_a_report_whose_reply_was_lost_counts_once(redis_store: RedisStore, key: str, others: int) -> None:
    async def story(one: Runs, two: Runs) -> None:
        await one.create(KEY, {"train_batch_size": 2})
        async with redis_store.opened() as history:
            losing = LosingReplies(history)

            async def write() -> None:
                for number in range(others):
                    await report(two, 0, (f"other{number}", [1, 1]))

            losing.in_between = write
            unlucky = replica(losing)
            answer = await report(unlucky, 0, ("mine", [0, 1]), key=key)
            assert losing.lost == 1
            assert answer["step"] == {"number": 0, "groups": 1, "effective": 1, "missing": 1, "complete": False}
            states = [await state_of(runs, KEY) for runs in (one, two, unlucky)]
            assert states[1:] == states[:1] * 2
            assert states[0]["totals"]["groups"] == 1 + others

    over(redis_store, story)


def test_a_large_upload_whose_reply_was_lost_counts_once(redis_store: RedisStore) -> None:
    async def story(one: Runs, two: Runs) -> None:
        await one.create(KEY, {})
        async with redis_store.opened() as history:
            losing = LosingReplies(history)
            losing.in_between = lambda: two.select(KEY, 0, ["p1"])
            prompts = [f"p{number}" for number in range(140_000)]  # three events in one append
            answer = await replica(losing).add_prompts(KEY, prompts)
            assert json.loads(answer.body) == {"added": 140_000, "pool": 140_000}
        assert json.loads((await one.show(KEY)).body)["pool"] == 140_000

    over(redis_store, story)


def test_a_run_deleted_elsewhere_is_gone_here(redis_store: RedisStore) -> None:
    async def story(one: Runs, two: Runs) -> None:
        await one.create(KEY, {})
        await report(two, 0, ("a", [0, 1]), key="k")
        await two.add_prompts(KEY, ["a"])
        await one.delete(KEY)
        for call in (
            two.select(KEY, 0, ["a"]),
            two.select(KEY, 0, []),
            two.draw(KEY, 0, 0),
            two.add_prompts(KEY, ["a"]),
            two.change(KEY, {}),
            report(two, 0, ("a", [0, 1]), key="k"),
            report(two, 0),
            two.show(KEY),
            two.steps(KEY, -1, 10),
            two.delete(KEY),
        ):
            with pytest.raises(NotFound):
                await call
        assert redis_store.keys() == set()
        assert len(two._live) == 0, "nothing is kept of runs that are not there"

    over(redis_store, story)


def test_a_run_deleted_and_made_anew_elsewhere_is_the_new_one_here(redis_store: RedisStore) -> None:
    async def story(one: Runs, two: Runs) -> None:
        for _ in range(3):
            await one.create(KEY, {"seed": 1})
            await two.add_prompts(KEY, ["a", "b"])
            for number in range(5):
                await report(two, number, ("a", [0, 0]), key=f"k{number}")
            await two.close()
            await one.delete(KEY)
            await one.create(KEY, {"seed": 2})
            assert json.loads((await two.add_prompts(KEY, ["a", "b"])).body) == {"added": 2, "pool": 2}
            assert not (await report(two, 0, ("b", [1, 1]), key="k1"))["replayed"]
            assert await state_of(two, KEY) == await state_of(one, KEY)
            assert (await state_of(two, KEY))["totals"]["groups"] == 1
            await two.delete(KEY)

    over(redis_store, story, snapshot_every=2)


@pytest.mark.parametrize("with_snapshot", [False, True])
def test_a_store_that_lost_its_newest_writes_is_followed(redis_store: RedisStore, with_snapshot: bool) -> None:
    async def story(one: Runs, two: Runs) -> None:
        await one.create(KEY, {})
        await report(one, 0, ("a", [0, 0]))
        await state_of(two, KEY)
        kept = redis_store.dump()
        for number in range(6):
            await report(one, 1, (f"lost{number}", [0, 1]))
        await one.close()
        if with_snapshot:  # a snapshot newer than the log
            kept[SNAP.encode()] = redis_store.dump()[SNAP.encode()]
        redis_store.restore(kept)
        await report(two, 1, ("b", [1, 1]))
        answer = await report(one, 1, ("c", [1, 1]))
        assert answer["step"]["groups"] == 2
        assert await state_of(one, KEY) == await state_of(two, KEY)
        assert (await state_of(one, KEY))["totals"]["groups"] == 3
        async with redis_store.opened() as history:
            assert await state_of(replica(history), KEY) == await state_of(one, KEY)

    over(redis_store, story, snapshot_every=3)


def test_a_run_whose_newest_writes_are_lost_is_read_from_its_snapshot_on(redis_store: RedisStore) -> None:
    async def story(one: Runs, _two: Runs) -> None:
        await one.create(KEY, {})
        for number in range(20):
            await report(one, number, (f"p{number}", [0, 1]))
        await one.close()
        redis_store.redis.xtrim(LOG, minid=redis_store.redis.hget(SNAP, "mark"), approximate=False)
        kept = redis_store.dump()
        for number in range(3):
            await report(one, 20, (f"lost{number}", [0, 1]))
        await one.close()  # no snapshot of what is to be lost may still be on its way
        redis_store.restore(kept)
        async with redis_store.opened() as history:
            assert await state_of(one, KEY) == await state_of(replica(history), KEY)
        assert (await state_of(one, KEY))["totals"]["groups"] == 20

    over(redis_store, story, snapshot_every=6)


@pytest.mark.parametrize("damage", ["other version", "cut off", "no parts", "no mark"])
def test_a_snapshot_that_cannot_be_used_is_done_without(redis_store: RedisStore, damage: str) -> None:
    async def story(one: Runs, _two: Runs) -> None:
        await one.create(KEY, {})
        for number in range(4):
            await report(one, number, ("a", [0, 0]))
        await one.close()
        redis = redis_store.redis
        fields = redis.hgetall(SNAP)
        [part] = [name for name in fields if name != b"mark"]
        match damage:
            case "other version":
                redis.hset(SNAP, part, b"\x02" + fields[part][1:])
            case "cut off":
                redis.hset(SNAP, part, fields[part][:-20])
            case "no parts":
                redis.hdel(SNAP, part)
            case "no mark":
                redis.hdel(SNAP, "mark")
        async with redis_store.opened() as history:
            assert await state_of(replica(history), KEY) == await state_of(one, KEY)

    over(redis_store, story, snapshot_every=5)


def test_a_start_from_a_snapshot_reads_only_what_came_after(redis_store: RedisStore) -> None:
    async def story(one: Runs, _two: Runs) -> None:
        await one.create(KEY, {})
        for number in range(20):
            await report(one, number, (f"p{number}", [0, 1]))
        await one.close()
        mark = redis_store.redis.hget(SNAP, "mark")
        redis_store.redis.xtrim(LOG, minid=mark, approximate=False)
        async with redis_store.opened() as history:
            assert await state_of(replica(history), KEY) == await state_of(one, KEY)

    over(redis_store, story, snapshot_every=6)


@pytest.mark.parametrize("damage", ["a foreign event", "no beginning", "a foreign mark"])
def test_a_damaged_log_is_an_error_not_a_hang(redis_store: RedisStore, damage: str) -> None:
    async def story(one: Runs, two: Runs) -> None:
        await one.create(KEY, {})
        await report(one, 0, ("a", [0, 1]))
        match damage:
            case "a foreign event":
                redis_store.redis.xadd(LOG, {"e": "nonsense"}, id="9-9")
                redis_store.redis.hset(HEAD, "mark", "9-9")
            case "no beginning":
                redis_store.redis.xtrim(LOG, maxlen=1, approximate=False)
            case "a foreign mark":
                redis_store.redis.hset(HEAD, "mark", "9-9")
        with pytest.raises(Unreadable, match="run}:log"):
            await asyncio.wait_for(report(two, 0, ("a", [0, 1])), 5)

    over(redis_store, story)


def test_requests_larger_than_the_event_loop_takes_at_once(redis_store: RedisStore) -> None:
    async def story(one: Runs, two: Runs) -> None:
        await one.create(KEY, {"train_batch_size": 100_000})
        groups = [(f"p{number}", [0.0, float(number % 2)]) for number in range(30_000)]
        first, second = await asyncio.gather(report(one, 0, *groups), report(two, 0, *groups))
        assert sorted([first["step"]["groups"], second["step"]["groups"]]) == [30_000, 60_000]
        selected = json.loads((await two.select(KEY, 1, [name for name, _ in groups])).body)
        assert selected["examined"] == 30_000
        assert await state_of(one, KEY) == await state_of(two, KEY)

    over(redis_store, story)


def test_a_run_that_cannot_be_read_does_not_keep_the_others_from_being_followed(redis_store: RedisStore) -> None:
    async def story(one: Runs, two: Runs) -> None:
        other = RunKey("default", "another")
        for key in (KEY, other):
            await one.create(key, {})
            for replica in (one, two):
                await replica.report(key, 0, ["a"], [[0, 1]], final=True)
        with redis_store.redis.pipeline() as pipe:  # as a newer service would write
            head = redis_store.redis.hgetall(HEAD)
            mark = Mark.parse(head[b"mark"])
            payload = b"\xff" * 40
            following = mark.then(payload)
            pipe.xadd(LOG, {b"e": payload}, id=str(following))
            pipe.hset(HEAD, "mark", str(following))
            pipe.execute()
        await one.report(other, 1, ["b"], [[0, 1]], final=True)
        await two.refresh()
        assert {each.key.run: each.figures.step for each in two.standing()}["another"] == 1
        await two.refresh()

    over(redis_store, story)


def test_the_age_of_a_snapshot_grows_while_none_can_be_kept(redis_store: RedisStore) -> None:
    async def story(one: Runs, _: Runs) -> None:
        await one.create(KEY, {})

        async def reported(steps: range) -> int:
            for step in steps:
                await report(one, step, ("a", [0, 1]))
            await one.close()
            [standing] = one.standing()
            return standing.unsaved

        assert await reported(range(40)) <= 10
        redis_store.redis.execute_command("ACL", "SETUSER", "default", "-rename")
        try:
            assert await reported(range(40, 80)) >= 40
            assert not redis_store.redis.keys("*:snap:*"), "what could not be kept is not left lying"
        finally:
            redis_store.redis.execute_command("ACL", "SETUSER", "default", "+rename")
        assert await reported(range(80, 100)) <= 10

    over(redis_store, story, snapshot_every=10)


def test_a_replica_that_starts_from_a_snapshot_follows_the_run_at_once(redis_store: RedisStore) -> None:
    async def story(one: Runs, two: Runs) -> None:
        await one.create(KEY, {})
        for step in range(12):
            await report(one, step, ("a", [0, 1]), final=True)
        await one.close()
        await two.show(KEY)
        assert [standing.figures.step for standing in two.standing()] == [11]
        await report(one, 12, ("a", [0, 1]), final=True)
        await two.refresh()
        assert [standing.figures.step for standing in two.standing()] == [12]
        assert [each.written for each in one.standing()] == [each.written for each in two.standing()]

    over(redis_store, story, snapshot_every=1)
