"""Looking at runs that are not in memory: nobody waits for long, nobody's run is pushed out, one bad run hides none."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable

from greso_service.cold import AGAIN, Cold
from greso_service.core.mark import Mark
from greso_service.history.base import History, RunKey
from greso_service.history.memory import MemoryHistory
from greso_service.runs import Runs

from ..stores import PassingHistory  # noqa: TID252

KEYS = [RunKey("default", f"run{number}") for number in range(6)]


class Watched(PassingHistory):
    """Counts the runs that are read from their beginning; those in `held` wait, `broken` are of another version."""

    def __init__(self, inner: History) -> None:
        super().__init__(inner)
        self.read_anew: Counter[str] = Counter()
        self.broken: set[str] = set()
        self.held = asyncio.Event()
        self.held.set()

    async def read(self, key: RunKey, after: Mark, limit: int) -> list[bytes] | None:
        if after.number == 0:
            self.read_anew[key.run] += 1
            await self.held.wait()
        found = await super().read(key, after, limit)
        return [b"\xff" + payload[1:] for payload in found or []] if key.run in self.broken else found


def over(story: Callable[[Runs, Watched], Awaitable[None]], most: int = 100) -> None:
    """Tell a story to a replica that has just started, over the histories of six runs."""

    async def told() -> None:
        history = MemoryHistory()
        first = Runs(history, idempotency_ttl=86_400, snapshot_every=1000)
        for key in KEYS:
            await first.create(key, {})
        watched = Watched(history)
        runs = Runs(watched, idempotency_ttl=86_400, snapshot_every=1000, max_live_runs=most)
        await story(runs, watched)
        await runs.close()

    asyncio.run(told())


def test_runs_that_are_read_in_time_are_at_hand() -> None:
    async def story(runs: Runs, _: Watched) -> None:
        assert await runs.at_hand(KEYS, within=30) == (KEYS, [], [])

    over(story)


def test_a_look_does_not_wait_for_slow_runs_and_they_are_read_meanwhile() -> None:
    async def story(runs: Runs, watched: Watched) -> None:
        watched.held.clear()
        assert await runs.at_hand(KEYS, within=0.01) == ([], KEYS, [])
        watched.held.set()
        while (await runs.at_hand(KEYS, within=30)).cold:
            pass
        assert set(watched.read_anew.values()) == {1}

    over(story)


def test_looking_pushes_out_no_run() -> None:
    async def story(runs: Runs, watched: Watched) -> None:
        await runs.select(KEYS[5], 0, ["a"])
        for _ in range(5):
            at_hand = await runs.at_hand(KEYS, within=30)
            assert (at_hand.ready, at_hand.cold) == ([KEYS[0], KEYS[1], KEYS[5]], KEYS[2:5])
            for key in at_hand.ready:
                await runs.look(key, lambda state: state.table.size, use=False)
        assert set(watched.read_anew.values()) == {1}
        await runs.show(KEYS[3])  # asked for by name, it takes the place of one that was only looked at
        assert KEYS[5] in (await runs.at_hand(KEYS, within=30)).ready

    over(story, most=3)


def test_looking_pushes_out_no_run_where_room_is_in_bytes() -> None:
    """How much a run takes is known when it is read: then it leaves itself, and is not read again at once."""

    async def told() -> None:
        history = MemoryHistory()
        first = Runs(history, idempotency_ttl=86_400, snapshot_every=1000)
        used, seen = RunKey("a", "used"), RunKey("b", "seen")
        for key in (used, seen):
            await first.create(key, {})
            await first.add_prompts(key, [f"p{number}" for number in range(5_000)])
            await first.show(key)
        watched, now = Watched(history), 0.0
        runs = Runs(watched, idempotency_ttl=86_400, snapshot_every=1000, max_live_bytes=first.size - 1)
        runs._cold = Cold(runs._live, clock=lambda: now)
        await runs.add_prompts(used, ["one"])
        for _ in range(3):
            assert await runs.at_hand([used, seen], within=30) == ([used], [seen], [])
        assert watched.read_anew["seen"] == 1
        await runs.delete(used)
        now = AGAIN
        assert (await runs.at_hand([seen], within=30)).ready == [seen]
        await runs.close()

    asyncio.run(told())


def test_a_run_that_cannot_be_read_is_told_and_tried_again_later() -> None:
    async def story(runs: Runs, watched: Watched) -> None:
        now = 0.0
        runs._cold = Cold(runs._live, clock=lambda: now)
        watched.broken = {"run2"}
        for _ in range(3):
            assert await runs.at_hand(KEYS, within=30) == (KEYS[:2] + KEYS[3:], [], [KEYS[2]])
        tried = watched.read_anew["run2"]
        now, watched.broken = AGAIN, set()
        assert (await runs.at_hand(KEYS, within=30)).ready == KEYS
        assert watched.read_anew["run2"] == tried + 1
        assert json.loads((await runs.show(KEYS[2])).body)["run"] == "run2"

    over(story)


def test_a_run_deleted_meanwhile_is_in_no_ones_way() -> None:
    async def story(runs: Runs, watched: Watched) -> None:
        await watched.drop(KEYS[1])
        assert (await runs.at_hand(KEYS, within=30)).ready == [KEYS[0], *KEYS[2:]]

    over(story)
