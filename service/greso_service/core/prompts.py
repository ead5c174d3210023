"""PromptTable: prompt ids <-> dense indices, as flat arrays (48 bytes for an id of 20), vectorised look-up."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from greso_service.core.arrays import grown, zeros
from greso_service.core.draws import U64, Ids, Words

Index = NDArray[np.int64]

UNKNOWN = -1


class PromptTable:
    """Ids in order of first appearance; index i is the i-th distinct id ever added.

    An open-addressing hash table with linear probing, at most half full, over the ids' 64-bit hashes; a hit is
    confirmed by comparing the bytes, so ids whose hashes collide stay apart.
    """

    __slots__ = ("_hashes", "_lengths", "_offsets", "_slots", "_words", "size")

    def __init__(self) -> None:
        self.size = 0
        self._hashes = np.zeros(0, dtype=np.uint64)
        self._lengths = np.zeros(0, dtype=np.uint16)
        self._offsets = np.zeros(1, dtype=np.uint32)  # of each id's first word; one more than ids; 32 GiB
        self._words = np.zeros(0, dtype=np.uint64)
        self._slots = np.full(128, UNKNOWN, dtype=np.int32)

    def __len__(self) -> int:
        return self.size

    @property
    def nbytes(self) -> int:
        """Memory that the ids take, without room to grow."""
        columns = (self._hashes, self._lengths, self._offsets)
        words = self._words.itemsize * int(self._offsets[self.size])
        return self.size * sum(column.itemsize for column in columns) + words + self._slots.nbytes

    @property
    def hashes(self) -> U64:
        """uint64[size]: every id's hash, by index."""
        return self._hashes[: self.size]

    def find(self, ids: Ids) -> Index:
        """int64[n]: the index of each id, `UNKNOWN` where it was never added."""
        if not self.size:
            return np.full(len(ids), UNKNOWN, np.int64)
        found = self._probe(ids, np.arange(len(ids)), exact=False)
        [rows] = (found != UNKNOWN).nonzero()
        same = self._equal(ids, rows, found[rows])
        if not _all(same):  # two ids with one 64-bit hash: probe on behind the first, comparing bytes
            rows = rows[~same]
            found[rows] = self._probe(ids, rows, exact=True)
        return found

    def _probe(self, ids: Ids, rows: Index, *, exact: bool) -> Index:
        """int64[rows]: the first index in each row's probe sequence with its hash and, if `exact`, its bytes."""
        found = np.empty(rows.size, np.int64)
        mask, hashes = len(self._slots) - 1, ids.hashes[rows]
        slots = (hashes & np.uint64(mask)).astype(np.int64)
        open_ = np.arange(rows.size)
        while open_.size:
            found[open_] = candidates = self._slots[slots]
            taken, other = candidates != UNKNOWN, self._hashes[candidates] != hashes
            if exact:
                met = taken & ~other
                other[met] = ~self._equal(ids, rows[open_[met]], candidates[met])
            going = taken & other
            open_, hashes, slots = open_[going], hashes[going], (slots[going] + 1) & mask
        return found

    def _equal(self, ids: Ids, rows: Index, candidates: NDArray[np.int32] | Index) -> NDArray[np.bool_]:
        """bool[rows]: whether the ids in these rows have the bytes of these candidates."""
        lengths, width = ids.lengths[rows], ids.words.shape[1]
        same: NDArray[np.bool_] = self._lengths[candidates] == lengths
        used = -(-lengths // 8)
        offsets = self._offsets[candidates].astype(np.int64)
        if _all(same) and _all(used == width):  # as all ids are, mostly, of data sets: nothing to pick out
            for column in range(width):
                same &= self._words[offsets + column] == ids.words[rows, column]
            return same
        for column in range(width):
            [compare] = (same & (column < used)).nonzero()
            same[compare] = self._words[offsets[compare] + column] == ids.words[rows[compare], column]
        return same

    def plan(self, ids: Ids, size: int | None = None) -> tuple[Index, list[bytes]]:
        """What adding `ids` would do, without doing it: every id's index, and the new distinct ids in order.

        `size`: of the table by then, if other ids are to be added before (none of them among these).
        """
        size = self.size if size is None else size
        index = self.find(ids)
        fresh: dict[bytes, int] = {}
        unknown = np.flatnonzero(index == UNKNOWN)
        for row in unknown.tolist():
            index[row] = fresh.setdefault(ids.raw(row), size + len(fresh))
        return index, list(fresh)

    def add(self, ids: Words) -> None:
        """Append `ids`, which must be distinct and not in the table yet (as `plan` returns them)."""
        if not len(ids):
            return
        start, self.size = self.size, self.size + len(ids)
        self._hashes = grown(self._hashes, self.size)
        self._lengths = grown(self._lengths, self.size)
        self._offsets = grown(self._offsets, self.size + 1)
        self._hashes[start : self.size] = ids.hashes
        self._lengths[start : self.size] = ids.lengths
        used = -(-ids.lengths // 8)
        ends = self._offsets[start] + np.cumsum(used)
        self._offsets[start + 1 : self.size + 1] = ends
        self._words = grown(self._words, int(ends[-1]))
        packed = ids.words[np.arange(ids.words.shape[1]) < used[:, None]]
        self._words[self._offsets[start] : ends[-1]] = packed
        if 2 * self.size > len(self._slots):
            self._slots = _empty_slots(self.size)
            start = 0
        self._claim_slots(np.arange(start, self.size))

    def _claim_slots(self, index: Index) -> None:
        mask = len(self._slots) - 1
        slots = (self._hashes[index] & np.uint64(mask)).astype(np.int64)
        while index.size:
            free = self._slots[slots] == UNKNOWN
            # Where several ids want one free slot the last writer wins; the others see that they lost and move on.
            self._slots[slots[free]] = index[free]
            lost = self._slots[slots] != index
            index, slots = index[lost], (slots[lost] + 1) & mask

    def texts(self, index: Sequence[int] | Index | range) -> list[str]:
        """The ids at the given indices."""
        every = np.asarray(index, np.int64)
        found = list[str]()
        for start in range(0, every.size, _CHUNK):
            found += self._texts(every[start : start + _CHUNK])
        return found

    def _texts(self, index: Index) -> list[str]:
        lengths = self._lengths[index].astype(np.int64)
        used = -(-lengths // 8)
        column = np.arange(int(used.max()))
        padded = np.zeros((index.size, column.size), np.uint64)
        filled = column < used[:, None]
        padded[filled] = self._words[(self._offsets[index].astype(np.int64)[:, None] + column)[filled]]
        raw = padded.view(f"S{8 * column.size}").ravel().tolist()
        texts: list[str] = [id_.decode() for id_ in raw]
        # Zeros at the end are taken for padding, but may be the id's own.
        for row in np.flatnonzero(np.fromiter(map(len, raw), np.int64, len(raw)) != lengths).tolist():
            texts[row] = raw[row].ljust(lengths[row], b"\0").decode()
        return texts

    def containing(self, part: bytes) -> NDArray[np.bool_]:
        """bool[size]: whether `part` stands in each id's bytes; all of them for an empty one."""
        found = np.full(self.size, not part, dtype=np.bool_)
        for start in range(0, self.size if part else 0, _CHUNK):
            chunk = slice(start, min(start + _CHUNK, self.size))
            found[start + self._holding(part, chunk)] = True
        return found

    def _holding(self, part: bytes, chunk: slice) -> Index:
        """int64: the ids of a chunk that contain `part`, counted from its first and with repeats."""
        offsets, lengths = self._offsets[chunk.start : chunk.stop + 1], self._lengths[chunk]
        text = self._words[offsets[0] : offsets[-1]].view(np.uint8)
        places = _occurrences(text, np.frombuffer(part, np.uint8))
        owners = np.repeat(np.arange(lengths.size), np.diff(offsets))[places >> _SHIFT]
        # Ids stand one behind another, each padded with zeros: what reaches behind an id's end is no match.
        ends = ((offsets[:-1] - offsets[0]) << _SHIFT) + lengths
        inside: Index = owners[places + len(part) <= ends[owners]]
        return inside

    def packed(self) -> tuple[U64, NDArray[np.uint16]]:
        """Everything in two arrays (all words, all lengths), for snapshots."""
        return self._words[: self._offsets[self.size]], self._lengths[: self.size]

    @classmethod
    def unpacked(cls, words: U64, lengths: NDArray[np.uint16]) -> PromptTable:
        """The table that `packed` was taken from."""
        table = cls()
        counts = lengths.astype(np.int64)
        used = -(-counts // 8)
        table.size, table._words, table._lengths = lengths.size, words, lengths
        table._hashes, table._offsets = zeros(lengths.shape, np.dtype("u8")), grown(table._offsets, lengths.size + 1)
        np.cumsum(used, out=table._offsets[1 : lengths.size + 1])
        if words.size != used.sum():
            raise ValueError(f"{lengths.size} ids have {words.size} words")
        if lengths.size:
            table._slots = _empty_slots(lengths.size)
        for start in range(0, len(lengths), _CHUNK):
            part = slice(start, min(start + _CHUNK, len(lengths)))
            chosen, width = words[table._offsets[start] : table._offsets[part.stop]], int(used[part].max())
            padded = np.zeros((part.stop - start, width), np.uint64)
            padded[np.arange(width) < used[part, None]] = chosen
            table._hashes[part] = Words.padded(counts[part], padded).hashes
            table._claim_slots(np.arange(part.start, part.stop))
        return table


def _all(array: NDArray[np.bool_]) -> bool:
    """As `array.all()`, in a tenth of its time for few."""
    return int(np.count_nonzero(array)) == array.size


def _empty_slots(size: int) -> NDArray[np.int32]:
    """Slots for `size` ids, which then take a quarter to a half of them."""
    return np.full(1 << (2 * size - 1).bit_length(), UNKNOWN, np.int32)


def _occurrences(text: NDArray[np.uint8], part: NDArray[np.uint8]) -> Index:
    """int64: where `part` begins in `text`, ascending."""
    last = text.size - part.size + 1
    if last <= 0:
        return np.zeros(0, np.int64)
    # Rare bytes first: few places are left to be looked at for the others.
    common = np.bincount(text[:_CHUNK], minlength=256)[part]
    first, *others = np.argsort(common, kind="stable").tolist()
    hit = text[first : first + last] == part[first]
    if others:
        second, *others = others
        hit &= text[second : second + last] == part[second]
    places = np.flatnonzero(hit)
    for place in others:
        places = places[text[places + place] == part[place]]
    return places


_SHIFT = 3  # a word has 2 ** 3 bytes
_CHUNK = 65_536  # ids unpacked or searched at a time: bounds the padded matrix (256 bytes an id at most) to 16 MiB
