"""Runs whose oldest events are trimmed, on random histories: as if none had been, but for how far back they go."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greso_service import retention
from greso_service.core.events import Event, Patched
from greso_service.errors import Conflict, InvalidInput
from greso_service.given import BARE
from greso_service.history.base import History, RunKey
from greso_service.history.memory import MemoryHistory
from greso_service.runs import Runs

from ..stores import PassingHistory  # noqa: TID252
from .test_replay import KEY, ask
from .test_rewind import Deed, Fork, Model, Rewind, deeds, same
from .traces import PROMPTS, Draw, Patch, Pool, Report, Select, plan, specs

ASKED = Select(99, ["a", "b", "c", "d", "new"], None, 0)


pieces = st.sampled_from([1, 3, 20_000])


@contextmanager
def in_pieces(piece: int) -> Iterator[None]:
    """Trim so many events at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retention, "PIECE", piece)
        yield


class WithoutSnapshots(PassingHistory):
    """As a replica meets a run whose last snapshot is of a version that it can't read."""

    async def load(self, key: RunKey) -> None:
        return None


def replica(history: History, often: int, keep: int | None) -> Runs:
    return Runs(history, idempotency_ttl=60, snapshot_every=often, keep_steps=keep)


def trained(choose: Random, length: int) -> list[Deed]:
    """What a trainer does that goes on step by step, asks ahead, reports late and goes back to checkpoints."""
    step, trace = 0, list[Deed]([Pool(PROMPTS[:7])])
    while len(trace) < length:
        names = choose.sample(PROMPTS, choose.randrange(1, 6))
        groups = [(name, [float(choose.random() < 0.4) for _ in range(choose.randrange(1, 4))]) for name in names]
        match choose.choices(range(8), [5, 3, 5, 4, 1, 2, 1, 1])[0]:
            case 0:
                trace.append(Select(step + choose.choice([0, 0, 0, 1, 2]), names, choose.choice([None, 2]), 0))
            case 1:
                trace.append(Draw(step, choose.choice([None, 2])))
            case 2:
                step += choose.choice([0, 1, 1, 1, 3])
                trace.append(Report(step, groups, choose.random() < 0.5))
            case 3:
                trace.append(Report(step, [], final=True))
                step += 1
            case 4:
                trace.append(Report(max(step - choose.randrange(1, 5), 0), groups, final=False))
            case 5:
                back = max(step - choose.randrange(1, 6), 0)
                trace.append(Fork(back) if choose.random() < 0.3 else Rewind(back))
                step = back + 1 if isinstance(trace[-1], Rewind) else step
            case 6:
                trace.append(Patch({"exploration_step": choose.choice([0.01, 0.2])}))
            case _:
                trace.append(Fork(None))
    return trace


@pytest.mark.slow
@given(specs, st.integers(0, 2**32), st.integers(1, 4), st.integers(1, 30), st.integers(1, 9), pieces)
@settings(max_examples=8)
def test_a_trimmed_run_is_as_a_whole_one(
    spec: dict[str, Any], seed: int, keep: int, often: int, late: int, piece: int
) -> None:
    with in_pieces(piece):
        asyncio.run(Playing(keep, often).play(spec, trained(Random(seed), 30), late))


@given(specs, deeds, st.integers(1, 4), st.integers(1, 9), st.integers(1, 6), pieces)
@settings(max_examples=20)
def test_whatever_is_done_to_it(
    spec: dict[str, Any], trace: list[Deed], keep: int, often: int, late: int, piece: int
) -> None:
    with in_pieces(piece):
        asyncio.run(Playing(keep, often).play(spec, trace, late))


class Playing:
    """A run that two replicas serve and trim; a third looks now and then, a fourth begins anew each time."""

    def __init__(self, keep: int, often: int) -> None:
        self.keep = keep
        self.history = MemoryHistory()
        self.replicas = [replica(self.history, often, keep) for _ in range(2)]
        self.generation = 0
        self.oldest = 0  # forks made of the oldest step that there is
        self.reached = -1  # a step that had to be kept at some time, and so every later one

    async def play(self, spec: dict[str, Any], trace: list[Deed], late: int) -> None:
        model, behind = Model(spec), replica(self.history, 10**6, None)
        await self.replicas[0].create(KEY, spec)
        for number, deed in enumerate(trace):
            await self.act(self.replicas[number % 2], deed, number, model)
            for runs in self.replicas:
                await runs.close()  # what is saved and trimmed is, before the next
            fresh = replica(WithoutSnapshots(self.history), 10**6, None)
            await same([*self.replicas, fresh, *([behind] if number % late == 0 else [])], KEY, model, self.generation)
            self.note(model)
        await same([*self.replicas, behind], KEY, model, self.generation)

    def note(self, model: Model) -> None:
        """Steps that are complete by now, and are to be kept."""
        state = model.state()
        rows = [int(step) for step in state.steps.rows["step"] if state.progress.is_complete(int(step))]
        if len(rows) > self.keep:
            self.reached = max(self.reached, rows[-self.keep])

    async def act(self, runs: Runs, deed: Deed, number: int, model: Model) -> None:
        match deed:
            case Rewind(step):
                kept = model.until(step)
                if await self.goes(runs, step, model, runs.rewind(KEY, step)):
                    assert kept is not None
                    model.events, self.generation = kept, self.generation + 1
            case Fork(step):
                name = f"fork-{number}"
                kept = model.events if step is None else model.until(step)
                if await self.goes(runs, step, model, runs.fork(KEY, name, step)):
                    assert kept is not None
                    await self.is_as(name, kept)
            case Patch(changes):
                await runs.change(KEY, changes)
                model.events.append(Patched(changes))
            case _:
                added = plan(model.state(), deed)
                try:
                    await ask(runs, deed, BARE)
                except (Conflict, InvalidInput):
                    return
                model.events += added

    async def goes(self, runs: Runs, step: int | None, model: Model, asking: Any) -> bool:
        """Whether it is done. If not, either the step is not complete, or the error names one that can be gone to."""
        try:
            await asking
        except Conflict as error:
            oldest = re.search(r"step (\d+) is the oldest that it can go back to", str(error))
            if oldest is None:
                assert step is not None
                assert model.until(step) is None
                return False
            assert step is not None
            assert step < int(oldest[1]) <= self.reached
            self.oldest += 1
            name = f"oldest-{self.oldest}"
            kept = model.until(int(oldest[1]))
            assert kept is not None
            await runs.fork(KEY, name, int(oldest[1]))
            await self.is_as(name, kept)
            return False
        return True

    async def is_as(self, name: str, kept: list[Event]) -> None:
        """The fork is what the events make, and goes on as that does."""
        forked = Model({})
        forked.events = list(kept)
        key = RunKey(KEY.tenant, name)
        await same(self.replicas, key, forked, 0)
        fresh = replica(WithoutSnapshots(self.history), 10**6, None)
        await fresh.show(key)
        added = plan(forked.state(), ASKED)
        await fresh.select(key, ASKED.step, ASKED.prompts)
        forked.events += added
        await same([fresh], key, forked, 0)
