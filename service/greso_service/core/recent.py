"""RecentGroups: the last groups of each prompt in detail, for people who ask why it was skipped.

The history has all groups; here are the last `RECENT` of each prompt. Most of them say the same as others (a group of 8
right-or-wrong rewards says one of nine things), so what a group says is kept once, in a list that prompts refer to.
"""

from __future__ import annotations

from itertools import repeat
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from greso_service.core.arrays import grown, zeros
from greso_service.core.draws import U64, mix
from greso_service.core.prompts import Index

RECENT: Final = 8
"""Groups remembered per prompt."""

SAID_ROW = np.dtype([("mean", "<f8"), ("low", "<f8"), ("high", "<f8"), ("count", "<u2"), ("outcome", "i1")])
"""What a group says; NaN means it has no rewards. `outcome`: an `Outcome`."""

GROUP_ROW = np.dtype([("step", "<i8"), *SAID_ROW.descr])
"""A group of a prompt."""

_LOOKED_UP: Final = 4_096
"""Entries of the list that groups are compared with. Graded rewards hardly ever say the same twice, and an index of all
they say would take more memory than it saves."""

_ENTRY: Final = 100
"""Bytes of an entry of the index."""

_ROOM: Final = 2**16
"""Entries that the list may have before those that no prompt refers to any more are dropped: what 16 bits can tell."""


class RecentGroups:
    """`steps` and `codes`: unsigned[prompts, RECENT], as wide as need be, the v-th group of a prompt at v % RECENT.
    `said`: SAID_ROW, what each code stands for. Code 0 stands for no group.
    """

    BY_PROMPT: Final = ("steps", "codes")
    PACKED: Final = (*BY_PROMPT, "said")

    __slots__ = ("_codes", "_known", "_most", "_said", "_steps", "size")

    def __init__(self) -> None:
        self._restore(np.zeros((0, RECENT), np.uint16), np.zeros((0, RECENT), np.uint16), np.zeros(1, SAID_ROW))

    def _restore(
        self, steps: NDArray[np.unsignedinteger], codes: NDArray[np.unsignedinteger], said: NDArray[np.void]
    ) -> None:
        self._steps, self._codes = steps, codes
        self._keep(said)

    def _keep(self, said: NDArray[np.void]) -> None:
        self._said, self.size = said, said.size
        keys = _keys(said[1:_LOOKED_UP]).tolist()
        self._known = dict(zip(reversed(keys), range(len(keys), 0, -1), strict=True))
        self._most = max(_ROOM, 3 * self.size // 2)

    def nbytes(self, prompts: int) -> int:
        """Memory of so many prompts' groups, without room to grow."""
        by_prompt = RECENT * (self._steps.itemsize + self._codes.itemsize)
        return prompts * by_prompt + self.size * SAID_ROW.itemsize + len(self._known) * _ENTRY

    def grow(self, size: int) -> None:
        """Make room for `size` prompts."""
        self._steps, self._codes = grown(self._steps, size), grown(self._codes, size)

    def put(self, index: Index, visits: NDArray[np.int32], step: int, said: NDArray[np.void]) -> None:
        """Remember a group of each of these prompts, distinct ones that have had `visits` groups before."""
        self._steps, codes = _fitting(self._steps, step), self._coded(said)
        self._codes = _fitting(self._codes, self.size)
        place = index, visits % RECENT
        self._steps[place], self._codes[place] = step, codes
        if self.size > self._most:
            self._sweep()

    def _coded(self, said: NDArray[np.void]) -> NDArray[np.int64]:
        keys = _keys(said)
        codes = np.fromiter(map(self._known.get, keys.tolist(), repeat(0)), np.int64, keys.size)
        [new] = (codes == 0).nonzero()
        if new.size:
            codes[new] = self._admitted(keys[new], said[new])
        return codes

    def _admitted(self, every: U64, said: NDArray[np.void]) -> NDArray[np.int64]:
        """New codes for what was not said before, or is not looked up."""
        keys, first, which = np.unique(every, return_index=True, return_inverse=True)
        begin, self.size = self.size, self.size + keys.size
        self._known.update(zip(keys.tolist(), range(begin, _LOOKED_UP), strict=False))
        self._said = grown(self._said, self.size)
        self._said[begin : self.size] = said[first]
        codes: NDArray[np.int64] = begin + which
        return codes

    def _sweep(self) -> None:
        """Drop what no prompt refers to any more."""
        used = np.bincount(self._codes.ravel(), minlength=self.size) > 0
        used[0] = True
        self._codes = (np.cumsum(used) - 1).astype(self._codes.dtype)[self._codes]
        self._keep(self._said[: self.size][used])

    def of(self, index: Index) -> NDArray[np.void]:
        """GROUP_ROW[n, RECENT]: the groups of prompts, the v-th at v % RECENT; zeros where there was none."""
        codes = self._codes[index]
        groups = np.empty(codes.shape, GROUP_ROW)
        groups["step"] = self._steps[index]
        said = self._said[codes]
        for name in SAID_ROW.names or ():
            groups[name] = said[name]
        return groups

    @property
    def by_prompt(self) -> dict[str, NDArray[Any]]:
        """`steps` and `codes`, with room for more prompts."""
        return {"steps": self._steps, "codes": self._codes}

    @property
    def said(self) -> NDArray[np.void]:
        """What the codes stand for, so far."""
        return self._said[: self.size]

    @classmethod
    def unpacked(cls, size: int, index: Index, packed: dict[str, NDArray[Any]]) -> RecentGroups:
        """Of `size` prompts; `packed`: `said`, and `steps` and `codes` of those at `index`, ascending."""
        groups = cls()
        steps, codes = (_placed(packed[name], index, size) for name in cls.BY_PROMPT)
        groups._restore(steps, codes, packed["said"])
        if groups.size > _ROOM:
            groups._sweep()  # or a run that is loaded often would keep for ever what its prompts have left
        return groups


def _placed(rows: NDArray[Any], index: Index, size: int) -> NDArray[Any]:
    """[size, RECENT]: the rows at `index`, ascending, and zeros elsewhere."""
    if rows.shape != (index.size, RECENT):
        raise ValueError(f"groups of {index.size} prompts have the shape {rows.shape}")
    if index.size == size:
        return rows
    placed = zeros((size, RECENT), rows.dtype)
    placed[index] = rows
    return placed


def _fitting(array: NDArray[Any], number: int) -> NDArray[Any]:
    """`array`, widened if it must be to hold `number`."""
    return array if number <= np.iinfo(array.dtype).max else array.astype(np.min_scalar_type(number))


def _keys(said: NDArray[np.void]) -> U64:
    """uint64[n]: equal for those that say the same, and only for them but for a chance of 2^-64."""
    keys = said["count"].astype(np.uint64) << np.uint64(8) | said["outcome"].astype(np.uint64)
    for name in ("mean", "low", "high"):
        keys = mix(keys ^ np.ascontiguousarray(said[name]).view(np.uint64))
    return keys
