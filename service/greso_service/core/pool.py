"""Epochs over a run's pool: each a fresh permutation, computed place by place without being stored.

The permutation is a balanced Feistel network on the smallest even number of bits that holds the pool, walked past
the numbers outside it (Black and Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002). A place costs the
same in a pool of any size, so nothing walks or sorts the pool when an epoch begins.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from greso_service.core.draws import U64, mix
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
    values = places.astype(np.uint64)
    walking = np.arange(values.size)
    while walking.size:
        values[walking] = _feistel(values[walking], half, key)
        walking = walking[values[walking] >= np.uint64(size)]
    return values.astype(np.int64)


def _feistel(values: U64, half: int, key: int) -> U64:
    shift, mask = np.uint64(half), np.uint64((1 << half) - 1)
    left, right = values >> shift, values & mask
    for number in range(_ROUNDS):
        round_key = np.uint64((key + number * 0x9E3779B97F4A7C15) % 2**64)
        left, right = right, left ^ (mix(mix(right + round_key) ^ round_key) & mask)
    return (left << shift) | right
