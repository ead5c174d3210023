"""Many runs, impatient callers and large answers: what a replica keeps, forgets and gives again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from greso_service import live as live_module
from greso_service import plans
from greso_service.core.events import Event
from greso_service.core.mark import Mark
from greso_service.core.state import RunState
from greso_service.errors import KeyReused, NotFound, Unavailable
from greso_service.given import Given, Idempotency
from greso_service.history.base import History, RunKey
from greso_service.history.memory import MemoryHistory
from greso_service.placing import LONG
from greso_service.runs import Runs

from ..stores import PassingHistory, RedisStore, state_of  # noqa: TID252


def key(number: int) -> RunKey:
    return RunKey("default", f"run-{number}")


def given(name: str) -> Given:
    return Given(Idempotency(name, name.encode().ljust(32, b".")))


def replica(history: Any, **options: Any) -> Runs:
    return Runs(history, **{"idempotency_ttl": 86_400, "snapshot_every": 10, **options})


@pytest.mark.parametrize("most", [1, 3])
@pytest.mark.parametrize("snapshot_every", [3, 10_000])
def test_runs_not_used_lately_are_forgotten_and_read_again(most: int, snapshot_every: int) -> None:
    async def story() -> None:
        history = MemoryHistory()
        small, large = (replica(history, max_live_runs=live, snapshot_every=snapshot_every) for live in (most, 100))
        choose = random.Random(2)
        for number in range(6):
            await small.create(key(number), {"seed": number})
        for turn in range(100):
            number = choose.randrange(6)
            await small.report(key(number), turn // 20, [f"p{turn % 9}"], [[0, turn % 2]], final=False)
            if snapshot_every > 200:  # a run whose snapshot is being made is kept until it is
                assert len(small._live) <= most
        await small.close()
        await small.show(key(0))
        assert len(small._live) <= most
        assert [await state_of(small, key(number)) for number in range(6)] == [
            await state_of(large, key(number)) for number in range(6)
        ]
        await small.close()

    asyncio.run(story())


def test_runs_have_so_many_bytes_and_the_last_one_stays_whatever_it_takes() -> None:
    async def story() -> None:
        history = MemoryHistory()
        alone = replica(history)
        await alone.create(key(0), {})
        await alone.add_prompts(key(0), [f"p{number}" for number in range(2_000)])
        await asyncio.sleep(0)  # the answer goes out first
        a_run = alone.size
        assert a_run > 2_000 * 100
        runs = replica(history, max_live_bytes=3 * a_run + a_run // 2)
        for number in range(5):
            await runs.create(key(number), {})
            await runs.add_prompts(key(number), [f"p{number}" for number in range(2_000)])
        await runs.show(key(4))
        assert (len(runs), runs.size) == (3, 3 * a_run)
        assert list(runs._live._runs) == [key(2), key(3), key(4)]
        assert await state_of(runs, key(0)) == await state_of(alone, key(0))
        await runs.add_prompts(key(1), [f"more {number}" for number in range(20_000)])
        assert list(runs._live._runs) == [key(1)]
        await runs.show(key(2))
        assert list(runs._live._runs) == [key(2)]
        await runs.delete(key(2))
        assert (len(runs), runs.size) == (0, 0)
        with pytest.raises(NotFound):
            await runs.show(key(9))
        assert (len(runs), runs.size) == (0, 0)
        await runs.close()

    asyncio.run(story())


def test_the_run_in_use_is_not_forgotten_under_its_user() -> None:
    async def story() -> None:
        runs = replica(MemoryHistory(), max_live_runs=1)
        for number in range(8):
            await runs.create(key(number), {})
        await asyncio.gather(
            *(
                runs.report(key(turn % 8), 0, [f"p{turn}"], [[0, 1]], final=False, given=given(str(turn)))
                for turn in range(160)
            )
        )
        for number in range(8):
            assert json.loads((await runs.show(key(number))).body)["totals"]["groups"] == 20
        await runs.close()

    asyncio.run(story())


def test_a_run_that_somebody_waits_for_is_not_forgotten() -> None:
    """Its lock is free for a moment between two users. Who waited would go on with it beside whoever reads it anew."""

    async def story() -> None:
        runs = replica(MemoryHistory(), max_live_runs=1)
        for number in range(2):
            await runs.create(key(number), {})
        async with runs._live.held(key(0)) as live:
            waiting = asyncio.create_task(runs.show(key(0)))
            await asyncio.sleep(0)
            await runs.show(key(1))
        assert runs._live._runs.get(key(0)) is live
        await waiting
        assert len(runs) == 1
        await runs.close()

    asyncio.run(story())


def test_a_run_that_is_not_there_is_one_for_all_who_wait_for_it() -> None:
    async def story() -> None:
        runs = replica(MemoryHistory())
        async with runs._live.held(key(0)) as live:
            creating = asyncio.create_task(runs.create(key(0), {}))
            await asyncio.sleep(0)
        await creating
        assert runs._live._runs[key(0)] is live
        assert runs.size == live.bytes > 0
        await runs.close()

    asyncio.run(story())


def test_a_run_that_could_not_be_caught_up_is_weighed_all_the_same() -> None:
    """What was folded before the store went away is in memory."""

    class Away(PassingHistory):
        def __init__(self, inner: History) -> None:
            super().__init__(inner)
            self.left = 10**6

        async def read(self, run: RunKey, after: Mark, limit: int) -> list[bytes] | None:
            self.left -= 1
            if self.left < 0:
                raise Unavailable("away")
            return await self.inner.read(run, after, 1)

    async def story() -> None:
        inner = MemoryHistory()
        away = Away(inner)
        runs, other = replica(away), replica(inner)
        await runs.create(key(0), {})
        await runs.show(key(0))
        before = runs.size
        for number in range(3):
            await other.add_prompts(key(0), [f"{number}-{prompt}" for prompt in range(1_000)])
        away.left = 2
        with pytest.raises(Unavailable):
            await runs.refresh()
        assert runs.size > before + 1_000 * 100
        await runs.close()

    asyncio.run(story())


def test_asking_for_runs_that_are_not_there_costs_no_memory() -> None:
    async def story() -> None:
        runs = replica(MemoryHistory())
        for number in range(50):
            with pytest.raises(NotFound):
                await runs.show(key(number))
        assert len(runs._live) == 0

    asyncio.run(story())


class Slow(PassingHistory):
    """Answers when others had their turn, so that callers can be cancelled at every place."""

    async def append(self, *args: Any, **options: Any) -> Any:
        await asyncio.sleep(0)
        answer = await self.inner.append(*args, **options)
        await asyncio.sleep(0)
        return answer

    async def read(self, run: RunKey, after: Mark, limit: int) -> list[bytes] | None:
        await asyncio.sleep(0)
        return await self.inner.read(run, after, min(limit, 2))


@pytest.mark.parametrize("seed", range(4))
def test_callers_that_hang_up_at_any_moment_leave_the_state_whole(seed: int) -> None:
    async def story() -> None:
        choose = random.Random(seed)
        history = MemoryHistory()
        replicas = [replica(Slow(history), snapshot_every=3) for _ in range(2)]
        await replicas[0].create(key(0), {"train_batch_size": 30})
        for turn in range(80):
            writing = [
                asyncio.create_task(
                    runs.report(key(0), turn // 10, [f"p{turn}-{place}"], [[0, 1]], final=False, given=given(f"{turn}"))
                )
                for place, runs in enumerate(replicas)
            ]
            for _ in range(choose.randrange(12)):
                await asyncio.sleep(0)
            for task in choose.sample(writing, choose.randrange(3)):
                task.cancel()
            for task in writing:
                with contextlib.suppress(asyncio.CancelledError, KeyReused):
                    await task
        states = [await state_of(runs, key(0)) for runs in [*replicas, replica(history)]]
        assert states[1:] == states[:1] * 2
        assert 0 < states[0]["totals"]["groups"] <= 80
        for runs in replicas:
            await runs.close()

    asyncio.run(story())


def test_a_caller_that_hangs_up_leaves_a_large_report_to_be_folded_before_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The fold goes on in its thread. Who had read the run anew meanwhile would have found it put back as it was."""
    go_on, folding, fold = threading.Event(), threading.Event(), live_module._fold_events

    def slow(state: RunState, events: Sequence[Event]) -> None:
        if threading.current_thread() is not threading.main_thread():
            folding.set()
            assert go_on.wait(60)
        fold(state, events)

    monkeypatch.setattr(live_module, "_fold_events", slow)

    async def story() -> None:
        history = MemoryHistory()
        one, two = replica(history), replica(history)
        await one.create(key(0), {"train_batch_size": 10**6})
        prompts = [f"p{number}" for number in range(LONG)]
        large = asyncio.create_task(one.report(key(0), 0, prompts, [[0, 1]] * LONG, final=False))
        await asyncio.to_thread(folding.wait, 60)
        waiting = asyncio.create_task(one.report(key(0), 0, ["a"], [[0, 1]], final=False))
        await asyncio.sleep(0)
        monkeypatch.setattr(live_module, "_fold_events", fold)
        await two.report(key(0), 0, ["b"], [[0, 1]], final=False)
        for _ in range(2):
            large.cancel()
            await asyncio.sleep(0)
        assert not large.done()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await large
        await waiting
        state = await state_of(one, key(0))
        assert state["totals"]["groups"] == LONG + 2
        assert state == await state_of(two, key(0))

    asyncio.run(story())


def test_a_large_answer_is_given_again_to_the_byte(redis_store: RedisStore) -> None:
    async def story() -> None:
        prompts = [f"prompt {number}" for number in range(3000)]
        async with redis_store.opened() as one, redis_store.opened() as two:
            await replica(one).create(key(0), {})
            first = await replica(one).select(key(0), 0, prompts, explain=True, given=given("k"))
            again = await replica(two).select(key(0), 0, prompts, explain=True, given=given("k"))
            assert (again.body, again.replayed) == (first.body, True)
            assert len(first.body) > 100_000
            [record] = redis_store.redis.keys("*:once:*")
            assert redis_store.redis.strlen(record) < len(first.body) / 10

    asyncio.run(story())


@pytest.mark.parametrize(("policy", "aside"), [("irt", True), ("greso", False)])
def test_ranking_a_large_pool_keeps_nobody_waiting(policy: str, aside: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A draw of a few prompts looks at all of the pool when it ranks them: that leaves the event loop."""
    places: list[bool] = []
    plan = plans.draw

    def draw(*given: Any) -> Any:
        places.append(threading.current_thread() is not threading.main_thread())
        return plan(*given)

    monkeypatch.setattr(plans, "draw", draw)

    async def story() -> None:
        runs = replica(MemoryHistory())
        await runs.create(key(0), {"policy": policy})
        await runs.add_prompts(key(0), [f"p{number}" for number in range(LONG)])
        await runs.draw(key(0), 1, 4)
        await runs.close()

    asyncio.run(story())
    assert places == [aside]
