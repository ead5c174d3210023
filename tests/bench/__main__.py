"""`make bench`: what the service costs, beside the floors and beside a loop in the trainer's own process.

Each figure is a median of many, with the 10th to the 90th percentile. What is compared takes turns in one run of this
command, so that the ratios hold on a noisy machine. `(x2.0)`: what was measured takes 2.0 times as long as what stands
there; `(/2.0)`: it is 2.0 times as fast.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from rich.console import Console
from tests.bench import calls, saturation, starts
from tests.bench.serving import served
from tests.bench.timing import Row, table


def _calls(asked: argparse.Namespace) -> Iterator[Row]:
    with served() as servers:
        sizes = [64, 384, 1_024, 8_192] + ([] if asked.quick else [65_536])
        yield from calls.by_candidates(servers, sizes, 20_000 if asked.quick else 200_000, asked.rounds)


def _sizes(asked: argparse.Namespace) -> Iterator[Row]:
    with served() as servers:
        sizes = [10_000, 100_000] + ([] if asked.quick else [1_000_000, 10_000_000])
        yield from calls.by_run_size(servers, sizes, asked.rounds, reported=100_000)


def _restarts(asked: argparse.Namespace) -> Iterator[Row]:
    yield from starts.restarts([20_000] if asked.quick else [100_000, 1_000_000], 3)


def _snapshots(asked: argparse.Namespace) -> Iterator[Row]:
    yield from starts.snapshots([20_000] if asked.quick else [100_000, 1_000_000], 5)


def _saturation(asked: argparse.Namespace) -> Iterator[Row]:
    if asked.quick:
        yield from saturation.saturation([1], [1, 16], [1_024], [8_192], 2)
    else:
        yield from saturation.saturation([1, 2], [1, 4, 16, 64, 256], [384, 4_096], [1_024, 8_192], 5)


SECTIONS: dict[str, tuple[str, Callable[[argparse.Namespace], Iterator[Row]]]] = {
    "calls": ("Calls, by candidates", _calls),
    "sizes": ("Calls, by the size of the run", _sizes),
    "restarts": ("Memory, and restarts", _restarts),
    "snapshots": ("Snapshots", _snapshots),
    "saturation": ("The most that it can do", _saturation),
}


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("sections", nargs="*", choices=[*SECTIONS, []], help="what to measure; all if left out")
    parser.add_argument("--rounds", type=int, default=200, help="calls per figure (default %(default)s)")
    parser.add_argument("--quick", action="store_true", help="smaller sizes")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    asked = parser.parse_args()
    console, found = Console(), dict[str, list[Row]]()
    if not console.is_terminal:
        console.width = 160
    for name in asked.sections or SECTIONS:
        title, measure = SECTIONS[name]
        found[name] = []
        with console.status(f"{title} ...") as status:
            for row in measure(asked):
                found[name].append(row)
                status.update(f"{title}: {row.what} {np.median(row.values):.2f} {row.unit} ...")
        console.print(table(title, found[name]))
    console.print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}")
    if asked.json:
        content = {name: [row.content() for row in rows] for name, rows in found.items()}
        asked.json.write_text(json.dumps(content, indent=1))


if __name__ == "__main__":
    main()
