"""Array work that the folded state is built on: appending in amortised time, and updates of rows named twice."""

from __future__ import annotations

import math
import mmap
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_MAPPED: Final = 2**20
"""Bytes; a mapping takes whole pages and a system call."""


def grown(array: NDArray[Any], size: int) -> NDArray[Any]:
    """`array` itself when it has room for `size` rows, else a copy of twice the room, zero-filled behind the old rows.

    Room not yet used costs address space, not memory; nor does an array in which nothing was written yet.
    """
    if size <= len(array):
        return array
    wider = zeros((max(size, 2 * len(array), 64), *array.shape[1:]), array.dtype)
    if array.any() if array.dtype.names is None else array.size:
        wider[: len(array)] = array
    return wider


def zeros(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """As `np.zeros`, but a large array is a mapping of its own.

    The C library hands out freed memory again, even for large arrays once some were freed: it must then write the
    zeros, and what is freed itself stays with the process.
    """
    size = math.prod(shape) * dtype.itemsize
    if size < _MAPPED:
        return np.zeros(shape, dtype)
    # Private, since pages of a shared one take memory as soon as they are read.
    return np.frombuffer(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), dtype).reshape(shape)


def distinct(index: NDArray[np.int64]) -> bool:
    """Whether no value is there twice; a third of the time that `np.unique` takes for some hundreds."""
    ordered = np.sort(index)
    return not np.count_nonzero(ordered[1:] == ordered[:-1])


def in_turn(index: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Rows of `index` split so that no part has a value twice and the rows of each value keep their order."""
    if distinct(index):
        return [np.arange(index.size)]
    order = np.argsort(index, kind="stable")
    ordered = index[order]
    first = np.searchsorted(ordered, ordered)
    turn = np.empty(index.size, dtype=np.int64)
    turn[order] = np.arange(index.size) - first
    ends = np.cumsum(np.bincount(turn))[:-1]
    return np.split(np.argsort(turn, kind="stable"), ends)
