"""Times of calls made in turns, and how they are told."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

Values = NDArray[np.float64]


_AT_A_TIME = 10
"""Calls of one kind before the next kind's turn: one alone would find the caches full of what the others did."""


def in_turns(calls: Sequence[Callable[[], object]], rounds: int) -> list[Values]:
    """Milliseconds of each call, float64[rounds] each, after a warm-up.

    They take turns, so that what else the machine does slows all of them: their ratios hold on a noisy machine.
    """
    times = np.zeros((len(calls), rounds))
    gc.collect()
    for call in calls:
        for _ in range(3):
            call()
    for start in range(0, rounds, _AT_A_TIME):
        for row, call in enumerate(calls):
            for place in range(start, min(start + _AT_A_TIME, rounds)):
                began = time.perf_counter()
                call()
                times[row, place] = (time.perf_counter() - began) * 1e3
    return list(times)


@dataclass(frozen=True)
class Row:
    """What was measured, and what is told beside it, values of one unit. Of those in `slower` it is told how many times
    the measured one is faster, of the others how many times it is slower.
    """

    what: str
    values: Values
    beside: dict[str, Values] = field(default_factory=dict)
    slower: tuple[str, ...] = ()
    unit: str = "ms"

    def ratio(self, name: str) -> float:
        """Of medians: how many times slower than `name`, or, of those that are to be slower, how many times faster."""
        own, other = float(np.median(self.values)), float(np.median(self.beside[name]))
        return other / own if name in self.slower else own / other

    def content(self) -> dict[str, Any]:
        """JSON-ready."""
        every = {"": self.values, **self.beside}
        told = {name or "value": np.percentile(one, (10, 50, 90)).tolist() for name, one in every.items()}
        return {
            "what": self.what,
            "unit": self.unit,
            **told,
            "ratios": {name: self.ratio(name) for name in self.beside},
        }


def number(value: float) -> str:
    """With three figures or so."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def spread(values: Values) -> str:
    """The 10th to the 90th percentile."""
    low, high = np.percentile(values, (10, 90))
    return f"{number(low)} - {number(high)}"


def table(title: str, rows: Sequence[Row]) -> Table:
    """Rows of one section, a column for each thing that is told beside any of them."""
    names = list(dict.fromkeys(name for row in rows for name in row.beside))
    made = Table(title=title, title_justify="left")
    for column in ("", "median", "10 % - 90 %", *names):
        made.add_column(column, justify="right" if column else "left", no_wrap=True)
    for row in rows:
        cells = [f"{row.what}, {row.unit}", number(float(np.median(row.values))), spread(row.values)]
        for name in names:
            if name in row.beside:
                sign = "/" if name in row.slower else "x"
                cells.append(f"{number(float(np.median(row.beside[name])))} ({sign}{number(row.ratio(name))})")
            else:
                cells.append("")
        made.add_row(*cells)
    return made
