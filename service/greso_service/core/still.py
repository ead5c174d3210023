"""Still: what a run knows of its prompts at one moment, to be read by another thread while the fold goes on.

Nothing large is copied when it is taken. Before the fold changes rows it says whose, and those are kept as they were.
A reader copies a column, with changed rows in it maybe, and puts back what was kept: they all are among it by then.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greso_service.core.prompts import Index


class Still:
    """`columns`: arrays of `size` rows or more, which the fold alone changes, or replaces and leaves as they are."""

    def __init__(self, columns: Mapping[str, NDArray[Any]], size: int) -> None:
        self.size = size
        self._columns = {name: column[:size] for name, column in columns.items()}
        self._kept = np.zeros(size, np.bool_)
        self._before: list[tuple[Index, dict[str, NDArray[Any]]]] = []

    def keep(self, index: Index) -> None:
        """Keep the rows of prompts that are about to change."""
        rows = index[index < self.size]
        rows = np.unique(rows[~self._kept[rows]])
        if rows.size:
            self._before.append((rows, {name: column[rows] for name, column in self._columns.items()}))
            self._kept[rows] = True

    def kind(self, name: str) -> np.dtype[Any]:
        """A column's dtype."""
        return self._columns[name].dtype

    def rows(self, name: str, index: Index | None = None) -> NDArray[Any]:
        """A copy of a column as it was; of the rows at `index`, ascending and distinct, or of all."""
        column = self._columns[name]
        if index is None:
            whole: NDArray[Any] = column.copy()
            for rows, before in list(self._before):
                whole[rows] = before[name]
            return whole
        copy, asked = column[index], np.zeros(self.size, np.bool_)
        asked[index] = True
        for rows, before in list(self._before):
            kept = asked[rows]
            copy[np.searchsorted(index, rows[kept])] = before[name][kept]
        return copy
