"""Sample: some prompts of a run whose every visit is remembered, skips included, for people who look at the selection.

The paper shows such a map of prompts over epochs (arXiv 2506.02177, case study). The history says which of the sampled
prompts a decision skipped; of all others it only says how many.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from greso_service.core.arrays import in_turn
from greso_service.core.draws import U64
from greso_service.core.prompts import Index

SAMPLE: Final = 256
"""Prompts in the sample: a screen of rows, and a few bytes an event."""

VISITS: Final = 64
"""Visits remembered per prompt: the last ones; a screen of columns."""

SKIPPED_EASY: Final = 4
SKIPPED_HARD: Final = 5
"""What a visit was: an `Outcome` if the prompt was rolled out, else one of these two."""

VISIT_ROW = np.dtype([("step", "<i8"), ("what", "i1")])

_ALL = np.uint64(2**64 - 1)


class Sample:
    """The `SAMPLE` prompts with the smallest id hashes: chosen by chance, yet the same on every replica.

    `index`: int64[m], ascending; `count`: int64[m], visits noted; `rows`: VISIT_ROW[m, VISITS], the v-th visit at
    v % VISITS.
    """

    __slots__ = ("_hashes", "_largest", "count", "index", "rows")

    def __init__(self) -> None:
        self._fill(
            np.zeros(0, np.int64), np.zeros(0, np.uint64), np.zeros(0, np.int64), np.zeros((0, VISITS), VISIT_ROW)
        )

    def _fill(self, index: Index, hashes: U64, count: NDArray[np.int64], rows: NDArray[np.void]) -> None:
        self.index, self._hashes, self.count, self.rows = index, hashes, count, rows
        self._largest = hashes.max() if index.size == SAMPLE else _ALL

    @property
    def nbytes(self) -> int:
        """Memory of the sample."""
        return self.index.nbytes + self._hashes.nbytes + self.count.nbytes + self.rows.nbytes

    def admit(self, first: int, hashes: U64) -> None:
        """Consider prompts that are new to the run: those of index `first` and on. A prompt pushed out is forgotten."""
        coming = np.flatnonzero(hashes <= self._largest)
        if not coming.size:
            return
        index = np.concatenate([self.index, first + coming])
        every = np.concatenate([self._hashes, hashes[coming]])
        chosen = np.sort(np.lexsort((index, every))[:SAMPLE])  # by place, and so by index
        fresh = np.zeros((coming.size, VISITS), VISIT_ROW)
        count = np.concatenate([self.count, np.zeros(coming.size, np.int64)])[chosen]
        self._fill(index[chosen], every[chosen], count, np.concatenate([self.rows, fresh])[chosen])

    def among(self, index: Index, hashes: U64) -> NDArray[np.int64]:
        """int64: the rows of `index` that name sampled prompts; `hashes` uint64: theirs."""
        likely = np.flatnonzero(hashes <= self._largest)
        return likely[self._slots(index[likely])[1]] if likely.size else likely

    def _slots(self, index: Index) -> tuple[Index, NDArray[np.bool_]]:
        slots = np.minimum(np.searchsorted(self.index, index), max(self.index.size - 1, 0))
        return slots, self.index[slots] == index if self.index.size else np.zeros(index.size, np.bool_)

    def note(self, index: Index, step: int, what: NDArray[np.int8]) -> None:
        """Remember a visit of each of these prompts, in this order; of prompts outside of the sample nothing."""
        slots, held = self._slots(index)
        slots, what = slots[held], what[held]
        for rows in in_turn(slots):
            places = slots[rows], self.count[slots[rows]] % VISITS
            self.rows["step"][places] = step
            self.rows["what"][places] = what[rows]
            self.count[slots[rows]] += 1

    def visits(self, slot: int) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
        """The last visits of the prompt at `index[slot]`, oldest first: steps int64[k], what int8[k]; k <= VISITS."""
        count = int(self.count[slot])
        rows = self.rows[slot][np.arange(max(count - VISITS, 0), count) % VISITS]
        return rows["step"].astype(np.int64), rows["what"]

    @classmethod
    def restored(cls, index: Index, hashes: U64, count: NDArray[np.int64], rows: NDArray[np.void]) -> Sample:
        """The sample with these arrays, as another had them."""
        sample = cls()
        sample._fill(index, hashes, count, rows)
        return sample
