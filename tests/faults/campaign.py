"""Many schedules, in several worlds at once, and what came of them by kind of fault."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from . import checker
from .checker import Violation
from .nursery import Nursery
from .schedule import KINDS, Schedule, schedule
from .trial import Verdict, carry_out
from .world import SERVERS, World

_NUMBERS = itertools.count()


@dataclass
class Tally:
    """Schedules by kind of fault, each counted for all of its kinds, and those that went wrong."""

    rows: dict[str, Counter[str]] = field(default_factory=dict)
    total: Counter[str] = field(default_factory=Counter)
    failed: list[Verdict] = field(default_factory=list)

    def add(self, verdict: Verdict) -> None:
        """Count a schedule."""
        counts = Counter({
            "schedules": 1, "acknowledged": verdict.acknowledged, "requests": verdict.requests,
            "retries": verdict.retries, "lost to cuts": verdict.lost_to_cuts, "wrong": len(verdict.wrong),
        }) + checker.told_apart(verdict.wrong)  # fmt: skip
        for kind in verdict.schedule.kinds:
            self.rows.setdefault(kind, Counter()).update(counts)
        self.total.update(counts)
        if verdict.wrong:
            self.failed.append(verdict)


def failure(verdict: Verdict, kinds: Sequence[str] = KINDS) -> str:
    """What went wrong, and how to do just that again."""
    asked = verdict.schedule
    only = "" if tuple(kinds) == KINDS else f" --kinds '{','.join(kinds)}'"
    lines = [f"seed {asked.seed} ({', '.join(sorted(asked.kinds))}):"]
    lines += [f"  {each.what}: {each.detail}" for each in verdict.wrong[:20]]
    return "\n".join([*lines, f"  again: python -m tests.faults --schedules 1 --seed {asked.seed}{only}"])


async def campaign(
    seeds: Iterable[int],
    *,
    worlds: int = 3,
    kinds: Sequence[str] = KINDS,
    nursery: Nursery,
    done: Callable[[Verdict], None],
) -> None:
    """Carry the schedules of these seeds out; `done` hears of each. The seed decides which server it meets."""
    queues: tuple[list[int], list[int]] = ([], [])
    for seed in seeds:
        queues[seed % 2].append(seed)
    workers = [worlds - worlds // 2, worlds // 2] if queues[0] and queues[1] else [worlds, worlds]
    opening = asyncio.Lock()  # one after the other, or on a loaded machine none gets ready in time
    with tempfile.TemporaryDirectory(prefix="greso-faults-") as folder:

        async def work(which: int) -> None:
            mine = queues[which]
            while mine:
                async with _world(nursery, Path(folder), SERVERS[which], opening) as world:
                    verdict = None
                    while mine and (verdict is None or not verdict.wrong):  # a world in which it went wrong is left
                        verdict = await _carried_out(world, schedule(mine.pop(0), kinds))
                        done(verdict)

        async with asyncio.TaskGroup() as group:
            for which, mine in enumerate(queues):
                for _ in range(min(max(workers[which], 1), len(mine))):
                    group.create_task(work(which))


async def _carried_out(world: World, asked: Schedule) -> Verdict:
    try:
        return await carry_out(world, asked)
    except Exception:  # noqa: BLE001 - it is told with the seed, and the others go on
        return Verdict(asked, [Violation("broke off", traceback.format_exc())])


@asynccontextmanager
async def _world(nursery: Nursery, folder: Path, server: str, opening: asyncio.Lock) -> AsyncIterator[World]:
    world = World(nursery, folder / f"world-{next(_NUMBERS)}", server)
    try:
        async with opening:
            await world.open()
        yield world
    finally:
        await world.close()
