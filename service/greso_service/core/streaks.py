"""StreakCounts: how many prompts of a run have which kind and streak, kept up to date without walking the prompts."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from greso_service.core.outcome import UNDETERMINED, Outcome

LONGEST: Final = 16
"""Streaks from here on are counted together: with p <= 0.75 their keep probability is below every usual floor."""

Kinds = NDArray[np.int8]
Streaks = NDArray[np.int32]


class StreakCounts:
    """`table`: int64[kinds, LONGEST + 1], prompts by the `Outcome` of their latest judged group and their streak."""

    __slots__ = ("table",)

    def __init__(self) -> None:
        self.table = np.zeros((len(Outcome), LONGEST + 1), np.int64)

    def join(self, prompts: int) -> None:
        """Count prompts that are new to the run."""
        self.table[UNDETERMINED, 0] += prompts

    def move(self, kind: Kinds, streak: Streaks, to_kind: Kinds, to_streak: Streaks) -> None:
        """Count prompts of these kinds and streaks as such of those."""
        self.table += self._counted(to_kind, to_streak) - self._counted(kind, streak)

    def _counted(self, kind: Kinds, streak: Streaks) -> NDArray[np.int64]:
        cells = kind.astype(np.int64) * (LONGEST + 1) + np.minimum(streak, LONGEST)
        return np.bincount(cells, minlength=self.table.size).reshape(self.table.shape)

    @classmethod
    def of(cls, kind: Kinds, streak: Streaks) -> StreakCounts:
        """The counts of a whole run."""
        counts = cls()
        counts.table = counts._counted(kind, streak)
        return counts
