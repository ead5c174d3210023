"""Epochs over a run's pool: each a fresh permutation, computed place by place without being stored.

The permutation is a balanced Feistel network on the smallest even number of bits that holds the pool, walked past
the numbers outside it (Black and Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002). A place costs the
same in a pool of any size, so nothing walks or sorts the pool when an epoch begins.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from greso_service.core.draws import mix
from greso_service.core.prompts import Index

_ROUNDS = 6  # Luby and Rackoff need 4 for a pseudorandom permutation; two more as small pools have weak rounds


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where the walk stands: `position` places of epoch `epoch` were examined, of `size` prompts it began with."""

    epoch: int = 0
    position: int = 0
    size: int = 0

    def ready(self, pool: int) -> Cursor:
        """The cursor from which the next place is taken; an epoch that is used up gives way to the next one.

        An epoch covers the pool as it was when the epoch began: prompts added later come in the next one.
        """
        if self.position < self.size:
            return self
        begun = self.size > 0
        return Cursor(self.epoch + begun, 0, pool)

    def moved(self, places: int) -> Cursor:
        """The cursor after `places` more places of this epoch."""
        return Cursor(self.epoch, self.position + places, self.size)


@dataclass(frozen=True, slots=True)
class Walk:
    """Where draws stand in a part of the pool. `owed`: prompts that the walk still is to bring to draws by rank.

    `due`: prompts that the part still is to give by its quota; below 0: it gave more.
    """

    cursor: Cursor = Cursor()
    owed: float = 0.0
    due: float = 0.0


def permuted(places: Index, size: int, key: int) -> Index:
    """int64[n]: where the key's permutation of range(size) sends each of the given places (all < size)."""
    half = max(((size - 1).bit_length() + 1) // 2, 1)
    rounds = _rounds(half, key)
    values = places.copy()
    walking = np.arange(values.size)
    while walking.size:
        values[walking] = moved = _feistel(values[walking], half, rounds)
        walking = walking[moved >= size]
    return values


@lru_cache(maxsize=64)  # by epoch and pool: draws of one follow one another
def _rounds(half: int, key: int) -> tuple[NDArray[np.uint32], ...]:
    """The network's round functions, each as a table of its 2^half values: a look-up costs a tenth of mixing anew."""
    every, mask = np.arange(1 << half, dtype=np.uint64), np.uint64((1 << half) - 1)
    tables = []
    for number in range(_ROUNDS):
        round_key = np.uint64((key + number * 0x9E3779B97F4A7C15) % 2**64)
        tables.append((mix(mix(every + round_key) ^ round_key) & mask).astype(np.uint32))
    return tuple(tables)


def _feistel(values: Index, half: int, rounds: tuple[NDArray[np.uint32], ...]) -> Index:
    left, right = values >> half, values & ((1 << half) - 1)
    for table in rounds:
        left, right = right, left ^ table[right]
    return (left << half) | right
