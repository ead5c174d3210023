"""StepLog: what happened in each step, one row a step, sorted by step."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from greso_service.core.arrays import grown

STEP_ROW = np.dtype(
    [
        ("step", "<i8"),
        ("examined", "<i8"),
        ("selected", "<i8"),
        ("skipped_easy", "<i8"),
        ("skipped_hard", "<i8"),
        ("groups", "<i8"),
        ("effective", "<i8"),
        ("easy", "<i8"),
        ("hard", "<i8"),
        ("rollouts", "<i8"),
        ("rounds", "<i4"),
        ("rollout_s", "<f8"),
        ("update_s", "<f8"),
        ("p_easy", "<f8"),
        ("p_hard", "<f8"),
    ]
)

LATELY = 4
"""Steps whose groups tell the share of effective ones within a few percent, and are still of much the same model."""

_BACK = 64  # rows looked at for them: those in between are steps that were selected for and not reported


class StepLog:
    """Rows of `STEP_ROW`, one per step that was selected for or reported, in the order of steps."""

    __slots__ = ("_rows", "size")

    def __init__(self, rows: NDArray[Any] | None = None) -> None:
        self._rows = np.zeros(0, dtype=STEP_ROW) if rows is None else rows.copy()
        self.size = len(self._rows)

    @property
    def nbytes(self) -> int:
        """Memory of the rows, without room to grow."""
        return self.size * STEP_ROW.itemsize

    @property
    def rows(self) -> NDArray[Any]:
        """All rows, sorted by step."""
        return self._rows[: self.size]

    def __contains__(self, step: int) -> bool:
        return self._holds(self._place(step), step)

    def _place(self, step: int) -> int:
        return int(self.rows["step"].searchsorted(step))

    def _holds(self, place: int, step: int) -> bool:
        return place < self.size and bool(self._rows["step"][place] == step)

    def row(self, step: int) -> int:
        """The place of a step's row; a new, empty row if there is none yet."""
        place = self._place(step)
        if self._holds(place, step):
            return place
        self._rows = grown(self._rows, self.size + 1)
        self._rows[place + 1 : self.size + 1] = self._rows[place : self.size].copy()
        self._rows[place] = np.zeros((), dtype=STEP_ROW)
        self._rows["step"][place] = step
        self.size += 1
        return place

    def judged(self, step: int) -> tuple[int, int]:
        """Judged and effective groups of a step; 0, 0 for one without a row."""
        if step not in self:
            return 0, 0
        row = self.rows[self._place(step)]
        return int(row["groups"]), int(row["effective"])

    def judged_lately(self, before: int, steps: int) -> tuple[int, int]:
        """Judged and effective groups of the last so many steps below `before` that have any."""
        rows = self.rows[max(self._place(before) - _BACK, 0) : self._place(before)]
        rows = rows[rows["groups"] > 0][-steps:]
        return int(rows["groups"].sum()), int(rows["effective"].sum())

    def add(self, step: int, **amounts: float) -> None:
        """Add to counts and seconds of a step's row."""
        place = self.row(step)
        for name, amount in amounts.items():
            self._rows[name][place] += amount

    def set_exploration(self, step: int, easy: float, hard: float) -> None:
        """Note the exploration that a step has left behind so far."""
        place = self.row(step)
        self._rows["p_easy"][place] = easy
        self._rows["p_hard"][place] = hard
