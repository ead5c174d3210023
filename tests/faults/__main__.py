"""`python -m tests.faults`: thousands of random fault schedules against real processes, and a table of what came."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
from contextlib import suppress

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table

from .campaign import Tally, campaign, failure
from .nursery import Nursery
from .schedule import KINDS
from .trial import Verdict

COLUMNS = ("schedules", "acknowledged", "requests", "retries", "lost", "doubled", "half applied", "wrong")


def table(tally: Tally) -> Table:
    """What came of it, by kind of fault; `acknowledged` counts reports, `wrong` everything that the checker found."""
    told = Table(title="fault schedules; one with several faults counts in each row", title_justify="left")
    told.add_column("fault")
    for name in COLUMNS:
        told.add_column(name, justify="right")
    for kind in KINDS:
        if kind in tally.rows:
            told.add_row(kind, *(f"{tally.rows[kind][name]:,}" for name in COLUMNS))
    told.add_section()
    told.add_row("all schedules", *(f"{tally.total[name]:,}" for name in COLUMNS))
    return told


def main() -> None:
    """Run them, print the table; the exit code says whether anything was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--schedules", type=int, default=300, help="how many (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the first; the next has the next (default %(default)s)")
    parser.add_argument("--worlds", type=int, default=4, help="how many run at once (default %(default)s)")
    parser.add_argument("--kinds", default=",".join(KINDS), help="faults, with commas between (default: all)")
    asked = parser.parse_args()
    kinds = tuple(kind.strip() for kind in asked.kinds.split(","))
    if unknown := set(kinds) - set(KINDS):
        parser.error(f"no fault {min(unknown)!r}; there are: {', '.join(KINDS)}")
    console, tally, began = Console(), Tally(), time.monotonic()
    if not console.is_terminal:
        console.width = 120
    seeds = range(asked.seed, asked.seed + asked.schedules)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ended by whatever, it leaves nothing behind
    nursery = Nursery()
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=console) as progress, suppress(KeyboardInterrupt):
            bar = progress.add_task("schedules", total=asked.schedules)

            def done(verdict: Verdict) -> None:
                tally.add(verdict)
                progress.advance(bar)
                if not console.is_terminal and tally.total["schedules"] % 100 == 0:
                    console.print(f"{tally.total['schedules']:,} done, {len(tally.failed)} went wrong")
                if verdict.wrong:
                    console.print(failure(verdict, kinds), markup=False, highlight=False)

            asyncio.run(campaign(seeds, worlds=asked.worlds, kinds=kinds, nursery=nursery, done=done))
    finally:
        nursery.close()
    console.print(table(tally))
    ran = tally.total["schedules"]
    took = time.monotonic() - began
    console.print(f"{ran:,} schedules from seed {asked.seed} in {took:,.0f} s, {len(tally.failed)} went wrong")
    sys.exit(bool(tally.failed) or ran < asked.schedules)


if __name__ == "__main__":
    main()
