"""Rewinds and forks while others write, the run is replaced, or the store fails in the middle."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence

import pytest

from greso_service.core.mark import Mark
from greso_service.errors import Conflict, KeyReused, StaleGeneration, Unavailable
from greso_service.given import Given, Idempotency
from greso_service.history.base import Appended, History, Moved, Once, RunKey, Seen
from greso_service.runs import Runs

from ..stores import PassingHistory, RedisStore, state_of  # noqa: TID252
from .test_runs_replicas import KEY, over, replica, report

FORK = RunKey(KEY.tenant, "fork")


def keyed(name: str, body: str = "") -> Given:
    return Given(Idempotency(name, f"{name} {body}".encode().ljust(32, b".")))


class Meddling(PassingHistory):
    """Lets something happen just before the next append, once."""

    def __init__(self, inner: History) -> None:
        super().__init__(inner)
        self.before: Callable[[], Awaitable[object]] | None = None

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
        before, self.before = self.before, None
        if before is not None:
            await before()
        return await self.inner.append(key, after, payloads, at_ms=at_ms, once=once, base=base)


async def trained(runs: Runs, steps: int, seed: int = 1) -> None:
    await runs.create(KEY, {"seed": seed, "train_batch_size": 2})
    for step in range(1, steps + 1):
        await report(runs, step, (f"p{step}", [0, 1]), (f"q{step}", [0, 0]), final=True)


async def generation(runs: Runs, key: RunKey = KEY) -> int:
    return int(json.loads((await runs.show(key)).body)["generation"])


def test_what_is_written_while_a_run_is_rewound_is_forgotten(redis_store: RedisStore) -> None:
    async def story(one: Runs, two: Runs) -> None:
        await trained(one, 4)
        before = json.loads((await one.fork(KEY, "twin", 2)).body)["totals"]
        async with redis_store.opened() as history:
            meddling = Meddling(history)
            rewinding = replica(meddling)
            await rewinding.show(KEY)
            meddling.before = lambda: report(two, 5, ("late", [0, 1]))
            await rewinding.rewind(KEY, 2)
            states = [await state_of(runs, KEY) for runs in (one, two, rewinding)]
            assert states[1:] == states[:1] * 2
            assert json.loads((await one.show(KEY)).body)["totals"] == before
            assert await generation(two) == 1

    over(redis_store, story)


def test_a_run_replaced_while_it_is_rewound_is_rewound_as_the_new_one(redis_store: RedisStore) -> None:
    async def story(one: Runs, two: Runs) -> None:
        await trained(one, 4)

        async def replace() -> None:
            await two.delete(KEY)
            await trained(two, 3, seed=2)

        async with redis_store.opened() as history:
            meddling = Meddling(history)
            rewinding = replica(meddling)
            await rewinding.show(KEY)
            meddling.before = replace
            answer = json.loads((await rewinding.rewind(KEY, 2)).body)
            assert (answer["spec"]["seed"], answer["step"], answer["totals"]["groups"]) == (2, 2, 4)
            fresh = replica(history)
            assert await state_of(fresh, KEY) == await state_of(rewinding, KEY) == await state_of(two, KEY)

    over(redis_store, story)


def test_a_delete_of_an_older_generation_does_not_remove_a_run_that_is_rewound_meanwhile(
    redis_store: RedisStore,
) -> None:
    others: list[Runs] = []

    class Slow(PassingHistory):
        async def drop(self, key: RunKey, at: Mark | None = None) -> bool:
            await others[0].rewind(KEY, 1)
            return await self.inner.drop(key, at)

    async def story(one: Runs, two: Runs) -> None:
        others.append(two)
        await trained(one, 3)
        async with redis_store.opened() as history:
            with pytest.raises(StaleGeneration):
                await replica(Slow(history)).delete(KEY, Given(generation=0))
        assert await generation(one) == 1

    over(redis_store, story)


def test_a_fork_whose_key_could_not_be_remembered_is_told_again(redis_store: RedisStore) -> None:
    class Forgetful(PassingHistory):
        failing = True

        async def remember(self, key: RunKey, once: Once) -> None:
            if self.failing:
                self.failing = False
                raise Unavailable("away")
            await self.inner.remember(key, once)

    async def story(one: Runs, two: Runs) -> None:
        await trained(one, 3)
        expected = await state_of(one, KEY)
        first = (await one.fork(KEY, "twin", None)).body.replace(b"twin", b"fork")
        async with redis_store.opened() as history:
            forking = replica(Forgetful(history))
            with pytest.raises(Unavailable):
                await forking.fork(KEY, FORK.run, None, keyed("k"))
            await report(two, 4, ("more", [0, 1]), final=True)
            for _ in range(3):
                again = await forking.fork(KEY, FORK.run, None, keyed("k"))
                assert (again.body, again.replayed) == (first, True)
            with pytest.raises(KeyReused):
                await forking.fork(KEY, "other", None, keyed("k", "another body"))
        assert expected["totals"]["groups"] == json.loads((await two.show(FORK)).body)["totals"]["groups"] == 6

    over(redis_store, story)


def test_a_refused_fork_leaves_the_other_run_as_it_was(redis_store: RedisStore) -> None:
    async def story(one: Runs, two: Runs) -> None:
        await trained(one, 3)
        await one.create(FORK, {})
        head = redis_store.redis.hgetall("greso:{default/fork}:head")
        with pytest.raises(Conflict, match="fork exists"):
            await two.fork(KEY, FORK.run, 2, keyed("k"))
        assert redis_store.redis.hgetall("greso:{default/fork}:head") == head

    over(redis_store, story)


def test_a_store_that_fails_while_a_rewind_is_met_leaves_what_was_known(redis_store: RedisStore) -> None:
    class Failing(PassingHistory):
        left = 10**9

        async def read(self, key: RunKey, after: Mark, limit: int) -> list[bytes] | None:
            self.left -= 1
            if self.left < 0:
                raise Unavailable("away")
            return await self.inner.read(key, after, limit)

    async def story(one: Runs, two: Runs) -> None:
        await trained(one, 4)
        async with redis_store.opened() as history:
            failing = Failing(history)
            late = replica(failing)
            await late.show(KEY)
            asked = ["p1", "q1", "q4"]
            known = json.loads((await two.select(KEY, 9, asked)).body)
            await late.show(KEY)
            await one.rewind(KEY, 2)
            failing.left = 1  # the rewind is read, the history that it keeps is not
            with pytest.raises(Unavailable):
                await late.show(KEY)
            failing.left = 10**9
            assert await state_of(late, KEY) == await state_of(one, KEY)
            assert known["generation"] == 0

    over(redis_store, story)
