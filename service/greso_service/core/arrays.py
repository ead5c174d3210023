"""Array work that the folded state is built on: appending in amortised time, and updates of rows named twice."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def grown(array: NDArray[Any], size: int) -> NDArray[Any]:
    """`array` itself when it has room for `size` rows, else a copy of twice the room, zero-filled behind the old rows.

    New rows come from `np.zeros`, so room not yet used costs address space, not memory.
    """
    if size <= len(array):
        return array
    wider = np.zeros((max(size, 2 * len(array), 64), *array.shape[1:]), dtype=array.dtype)
    wider[: len(array)] = array
    return wider


def in_turn(index: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Rows of `index` split so that no part has a value twice and the rows of each value keep their order."""
    if np.unique(index).size == index.size:
        return [np.arange(index.size)]
    order = np.argsort(index, kind="stable")
    ordered = index[order]
    first = np.searchsorted(ordered, ordered)
    turn = np.empty(index.size, dtype=np.int64)
    turn[order] = np.arange(index.size) - first
    ends = np.cumsum(np.bincount(turn))[:-1]
    return np.split(np.argsort(turn, kind="stable"), ends)
