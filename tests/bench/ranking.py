"""`python -m tests.bench.ranking`: what a draw by rank costs in runs of 10^4 to 10^7 prompts, and a report's fold.

Milliseconds of processor time, least and median of several: on a machine with other work it is nearer to what the code
takes than the clock, and still too much where that work shares caches and cores. Scores are of
one window (at most 2^20 prompts), of which a draw takes the best 384; `first`: of a run in which nothing was rolled out
yet, where all scores are equal. Beside them the bytes that a prompt's columns take.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable

import numpy as np
from rich.console import Console
from rich.table import Table

from greso_service.core import ranked_draw
from greso_service.core.events import Created, Reported
from greso_service.core.fold import fold
from greso_service.core.outcome import Rewards
from greso_service.core.policy import RANKINGS
from greso_service.core.spec import RunSpec
from greso_service.core.state import RunState

COUNT, GROUP, STEP = 384, 8, 100


def state_of(prompts: int, policy: str, *, seen: bool) -> RunState:
    """A run whose pool has so many prompts, with columns as after some groups each if they were seen."""
    state, random = RunState(Created(RunSpec.of({"policy": policy, "train_batch_size": 10**6}).to_dict())), _random()
    state.prompts.grow(prompts)
    state.groups.grow(prompts)
    state.table.size = prompts  # without ids: only their hashes matter here, and ten million take a while
    state.table._hashes = random.integers(0, 2**63, prompts, dtype=np.uint64)
    state.pool, state.pool_size = np.arange(prompts, dtype=np.uint32), prompts
    columns = state.prompts
    columns.pooled[:prompts] = True
    if seen:
        columns.visits[:prompts] = 1
        columns.last_step[:prompts] = random.integers(0, STEP, prompts)
        columns.passed[:prompts] = random.integers(0, GROUP + 1, prompts)
        columns.failed[:prompts] = GROUP - columns.passed[:prompts]
        columns.difficulty[:prompts] = random.normal(0, 2.5, prompts)
        columns.variance[:prompts] = random.uniform(0.3, 2, prompts)
        columns.drawn[:prompts] = columns.last_step[:prompts] + 1
    return state


def _random() -> np.random.Generator:
    return np.random.default_rng(0)


def took(work: Callable[[], object], times: int) -> str:
    """Least and median milliseconds of processor time; all of it is one thread's."""
    found = []
    for _ in range(times):
        began = time.process_time()
        work()
        found.append((time.process_time() - began) * 1e3)
    return f"{min(found):,.1f} ({np.median(found):,.1f})"


def fold_times(prompts: int, times: int) -> str:
    """Of reports of `COUNT` groups of `GROUP`, each on a state that has seen all its prompts."""
    state, random = state_of(prompts, "irt", seen=True), _random()
    reports = [
        Reported(
            STEP + number,
            False,
            [],
            random.choice(prompts, COUNT, replace=False),
            Rewards(np.full(COUNT, GROUP, np.uint16), random.integers(0, 2, COUNT * GROUP).astype(np.float64)),
        )
        for number in range(times)
    ]
    coming = iter(reports)
    return took(lambda: fold(state, next(coming)), times)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.ranking", description=__doc__)
    parser.add_argument("--prompts", type=int, nargs="+", default=[10**4, 10**5, 10**6, 10**7], metavar="N")
    parser.add_argument("--times", type=int, default=9, help="of each measurement (default %(default)s)")
    asked = parser.parse_args()
    console = Console()
    table = Table(title=f"milliseconds, least (median) of {asked.times}; draws of {COUNT}", title_justify="left")
    for name in ("policy", "prompts", "scores", "draw", "first draw"):
        table.add_column(name, justify="left" if name == "policy" else "right")
    for policy in sorted(RANKINGS):
        for prompts in asked.prompts:
            state = state_of(prompts, policy, seen=True)
            length = min(prompts, ranked_draw.WINDOW)
            scores = took(lambda s=state, n=length: ranked_draw._scores(s, STEP, slice(0, n)), asked.times)  # type: ignore[misc]
            drawn = took(lambda s=state: ranked_draw.draw(s, STEP, COUNT, s.scopes()[0]), asked.times)  # type: ignore[misc]
            del state
            fresh = state_of(prompts, policy, seen=False)
            first = took(lambda s=fresh: ranked_draw.draw(s, 0, COUNT, s.scopes()[0]), asked.times)  # type: ignore[misc]
            table.add_row(policy, f"{prompts:,}", scores, drawn, first)
    console.print(table)
    console.print(f"fold of a report of {COUNT} x {GROUP}: {fold_times(100_000, 10 * asked.times)} ms")
    console.print(f"{os.cpu_count()} cores, {platform.machine()}, numpy {np.__version__}")


if __name__ == "__main__":
    main()
