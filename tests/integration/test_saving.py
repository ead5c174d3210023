"""When a snapshot is due, and that no answer waits for one."""

from __future__ import annotations

import asyncio
import threading
import weakref

import pytest

from greso_service import retention, saving
from greso_service.core.mark import START, Mark
from greso_service.history import snapshot
from greso_service.history.base import History, RunKey
from greso_service.history.memory import MemoryHistory
from greso_service.retention import Cutting
from greso_service.runs import Runs

from ..stores import PassingHistory, state_of  # noqa: TID252

KEY = RunKey("default", "r")


def replica(history: MemoryHistory, snapshot_every: int = 1_000_000) -> Runs:
    return Runs(history, idempotency_ttl=86_400, snapshot_every=snapshot_every)


async def report(runs: Runs, step: int, first: int, groups: int) -> None:
    prompts = [f"p{number}" for number in range(first, first + groups)]
    await runs.report(KEY, step, prompts, [[0, 1]] * groups, final=False)


async def saved(history: MemoryHistory, runs: Runs) -> int:
    """The number of the event that the newest snapshot goes up to; 0 if there is none."""
    await runs.close()
    kept = await history.load(KEY)
    return 0 if kept is None else kept[0].number


@pytest.mark.parametrize(
    ("pool", "due"),
    [
        (0, 3),  # reports of 30 groups: 90 and more of the 80 that are many
        (4_000, 17),  # a large run: an eighth of its prompts
    ],
)
def test_it_is_due_behind_many_groups_however_few_events_they_came_with(
    monkeypatch: pytest.MonkeyPatch, pool: int, due: int
) -> None:
    monkeypatch.setattr(saving, "_MANY", 80)

    async def story() -> None:
        history = MemoryHistory()
        runs = replica(history)
        await runs.create(KEY, {})
        if pool:
            await runs.add_prompts(KEY, [f"p{number}" for number in range(pool)])
        await report(runs, 0, 0, 1)
        begun = await saved(history, runs)
        assert bool(begun) is (pool > 0), "a pool is worth a snapshot, too"
        reports = 0
        while await saved(history, runs) == begun:
            await report(runs, 0, 0, 30)
            reports += 1
        # A report is looked at before the next one.
        assert reports - 1 == due

    asyncio.run(story())


def test_a_replica_that_has_read_one_makes_the_next_as_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saving, "_MANY", 80)

    async def story() -> None:
        history = MemoryHistory()
        first = replica(history)
        await first.create(KEY, {})
        for _ in range(4):
            await report(first, 0, 0, 30)
        number = await saved(history, first)
        assert number
        second = replica(history)
        await report(second, 0, 0, 30)
        await report(second, 0, 0, 30)
        assert await saved(history, second) == number
        await report(second, 0, 0, 30)
        await report(second, 0, 0, 30)
        assert await saved(history, second) > number

    asyncio.run(story())


def test_a_long_trim_lets_those_of_other_runs_between_its_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    pieces, trimmed = {"long": 3, "short": 1}, list[str]()

    async def trim(_history: History, key: RunKey, _cutting: Cutting) -> bool:
        trimmed.append(key.run)
        await asyncio.sleep(0)
        pieces[key.run] -= 1
        return pieces[key.run] >= 0

    monkeypatch.setattr(retention, "trim", trim)

    async def story() -> None:
        saver = saving.Saver(MemoryHistory(), every=1, keep_steps=1)
        cutting = Cutting(0, (), START)
        await asyncio.gather(*(saver._trim(RunKey("default", run), cutting) for run in ("long", "short")))

    asyncio.run(story())
    assert trimmed == ["long", "short", "long", "short", "long", "long"]


class Holding(PassingHistory):
    """Takes a snapshot when it may."""

    def __init__(self, inner: History) -> None:
        super().__init__(inner)
        self.asked, self.go_on = asyncio.Event(), asyncio.Event()

    async def save(self, key: RunKey, mark: Mark, snapshot: bytes) -> None:
        self.asked.set()
        await self.go_on.wait()
        await super().save(key, mark, snapshot)


def test_while_the_store_takes_a_snapshot_no_rows_are_kept_for_it() -> None:
    async def story() -> None:
        history = Holding(MemoryHistory())
        runs = Runs(history, idempotency_ttl=86_400, snapshot_every=2)
        await runs.create(KEY, {})
        await report(runs, 0, 0, 10)
        await report(runs, 0, 0, 10)
        await asyncio.wait_for(history.asked.wait(), 60)
        state = runs._live.known(KEY)
        assert state is not None
        [still] = state.stills
        if (kept := still()) is not None:  # the thread drops its task behind the result
            gone = asyncio.Event()
            weakref.finalize(kept, asyncio.get_running_loop().call_soon_threadsafe, gone.set)
            del kept
            await asyncio.wait_for(gone.wait(), 20)
        history.go_on.set()
        await runs.close()

    asyncio.run(story())


def test_answers_go_on_while_a_snapshot_is_made_of_what_was(monkeypatch: pytest.MonkeyPatch) -> None:
    go_on, encode = threading.Event(), snapshot.Frozen.encode

    def slow(frozen: snapshot.Frozen) -> bytes:
        assert go_on.wait(60)
        return encode(frozen)

    async def story() -> None:
        history = MemoryHistory()
        runs = replica(history, snapshot_every=3)
        await runs.create(KEY, {})
        await runs.add_prompts(KEY, [f"p{number}" for number in range(100)])
        monkeypatch.setattr(snapshot.Frozen, "encode", slow)
        await report(runs, 0, 0, 10)
        for step in range(20):
            if step == 5:
                await runs.draw(KEY, 0, 10)
            await report(runs, step, step, 40)
        assert await history.load(KEY) is None
        go_on.set()
        number = await saved(history, runs)
        assert number == 3
        then = snapshot.decode((await history.load(KEY))[1])  # type: ignore[index]
        assert (then.totals.groups, then.prompts.visits[:100].tolist()) == (10, [1] * 10 + [0] * 90)
        assert await state_of(replica(history), KEY) == await state_of(runs, KEY), (
            "and what came later is folded onto it"
        )

    asyncio.run(story())
