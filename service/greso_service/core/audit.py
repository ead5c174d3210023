"""Audits: what was learnt of skips from prompts that were rolled out although the policy would have skipped them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]

_Z: Final = 1.959963984540054
"""The normal quantile of a two-sided interval of 95 %."""


@dataclass(slots=True)
class Found:
    """Judged groups of audited prompts, and how many of them were effective: skips that would have been false."""

    groups: int = 0
    effective: int = 0

    @property
    def rate(self) -> float | None:
        """The false-skip rate; None before any group."""
        return self.effective / self.groups if self.groups else None

    def interval(self) -> tuple[float, float]:
        """Wilson's interval (1927) of the false-skip rate, at 95 %; all of [0, 1] before any group."""
        return wilson(self.effective, self.groups)


def wilson(hits: int, tries: int) -> tuple[float, float]:
    """Wilson's score interval of a share, at 95 %."""
    if not tries:
        return 0.0, 1.0
    share, square = hits / tries, _Z**2 / tries
    middle = share + square / 2
    side = _Z * math.sqrt((share * (1 - share) + square / 4) / tries)
    return max((middle - side) / (1 + square), 0.0), min((middle + side) / (1 + square), 1.0)


@dataclass(slots=True)
class AuditCounts:
    """What audits found, by the kind that the prompts would have been skipped as."""

    easy: Found = field(default_factory=Found)
    hard: Found = field(default_factory=Found)

    def add(self, easy: Bools, effective: Bools) -> None:
        """Count groups: bool[n] skipped as easy (else as hard), and bool[n] effective."""
        for found, rows in ((self.easy, easy), (self.hard, ~easy)):
            found.groups += int(np.count_nonzero(rows))
            found.effective += int(np.count_nonzero(rows & effective))
