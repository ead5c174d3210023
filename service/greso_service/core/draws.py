"""Keyed uniforms: pure functions of (run seed, step, prompt id), equal on every replica and on every retry.

The mixer is the 64-bit finaliser of SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators",
OOPSLA 2014). It decides nothing secret; it only has to be well mixed, cheap on arrays, and the same everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

U64 = NDArray[np.uint64]

MAX_ID_BYTES = 256
"""Longest prompt id in UTF-8 bytes (the HTTP contract)."""

_MASK = 2**64 - 1
_GOLDEN = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB
# For arrays: to make a number of numpy's takes longer than to shift a hundred by it.
_GOLDEN_64, _MIX_1_64, _MIX_2_64 = map(np.uint64, (_GOLDEN, _MIX_1, _MIX_2))
_11, _27, _30, _31 = map(np.uint64, (11, 27, 30, 31))
_WORD = 8
_DECIDE = 0x6772657364726177  # "gresdraw": keeps the draws of decisions apart from the keys of permutations
_AUDIT = 0x6772657361756469  # "gresaudi"
_WINDOW = 0x6772657377696E64  # "greswind"
_EPOCH = 0x6772657365706F63  # "gresepoc"


class IdError(ValueError):
    """A prompt id is not 1 to 256 UTF-8 bytes; `row` is its place in the list given."""

    def __init__(self, row: int, detail: str) -> None:
        super().__init__(f"prompt {row}: {detail}")
        self.row = row
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Words:
    """Prompt ids made ready for array work.

    `lengths`: int64[n] bytes; `words`: uint64[n, w], the id's bytes little-endian and padded with zeros; `hashes`:
    uint64[n], keyed by bytes and length.
    """

    lengths: NDArray[np.int64]
    words: U64
    hashes: U64

    @classmethod
    def padded(cls, lengths: NDArray[np.int64], words: U64) -> Words:
        """Ids from their padded words."""
        return cls(lengths, words, _hash(words, lengths))

    def __len__(self) -> int:
        return self.lengths.size


@dataclass(frozen=True, slots=True)
class Ids(Words):
    """The same with the ids themselves, n of them."""

    given: Sequence[str] | Sequence[bytes]

    @classmethod
    def of(cls, prompts: Sequence[str]) -> Ids:
        """Encode prompt ids. Raises `IdError` for the first that is empty, too long or not encodable."""
        try:
            joined = "".join(prompts)
            text = joined.encode()
            if len(text) != len(joined):  # where characters are not bytes, lengths are to be counted in bytes
                return cls.of_bytes([prompt.encode() for prompt in prompts])
        except UnicodeEncodeError:
            raise _first_unencodable(prompts) from None
        return cls._of(prompts, text)

    @classmethod
    def of_bytes(cls, raw: Sequence[bytes]) -> Ids:
        """Ids from their UTF-8 bytes. Raises `IdError` for the first of wrong length."""
        return cls._of(raw, b"".join(raw))

    @classmethod
    def _of(cls, given: Sequence[str] | Sequence[bytes], text: bytes) -> Ids:
        lengths = np.fromiter(map(len, given), np.int64, len(given))
        shortest, longest = (int(lengths.min()), int(lengths.max())) if lengths.size else (1, 1)
        if not 0 < shortest <= longest <= MAX_ID_BYTES:
            row = int(((lengths == 0) | (lengths > MAX_ID_BYTES)).argmax())
            raise IdError(row, f"must be 1 to {MAX_ID_BYTES} UTF-8 bytes, has {lengths[row]}")
        width = -(-longest // _WORD)
        padded = np.zeros((lengths.size, width * _WORD), np.uint8)
        if shortest == longest:
            padded[:, :longest] = np.frombuffer(text, np.uint8).reshape(lengths.size, longest)
        else:
            padded[np.arange(width * _WORD) < lengths[:, None]] = np.frombuffer(text, np.uint8)
        words = padded.view("<u8")
        return cls(lengths, words, _hash(words, lengths), given)

    def raw(self, row: int) -> bytes:
        """The UTF-8 bytes of one of them."""
        given = self.given[row]
        return given.encode() if isinstance(given, str) else given


def _first_unencodable(prompts: Sequence[str]) -> IdError:
    for row, prompt in enumerate(prompts):
        try:
            prompt.encode()
        except UnicodeEncodeError:
            return IdError(row, "is not encodable as UTF-8 (a lone surrogate)")
    raise AssertionError("every prompt is encodable")


def _hash(words: U64, lengths: NDArray[np.int64]) -> U64:
    if lengths.size and int(np.count_nonzero(lengths == lengths[0])) == lengths.size:  # as ids of data sets mostly are
        hashes = mix(lengths[:1].astype(np.uint64) + _GOLDEN_64)
        for column in range(-(-int(lengths[0]) // _WORD)):
            hashes = mix(hashes ^ words[:, column])
        return hashes
    hashes = mix(lengths.astype(np.uint64) + _GOLDEN_64)
    used = -(-lengths // _WORD)
    least = int(used.min(initial=words.shape[1]))
    for column in range(words.shape[1]):
        mixed = mix(hashes ^ words[:, column])
        hashes = mixed if column < least else np.where(column < used, mixed, hashes)
    return hashes


def mix(values: U64) -> U64:
    """SplitMix64's finaliser, element by element (a bijection of uint64)."""
    # In place from the second line on: fresh memory costs more than the arithmetic.
    values = values ^ (values >> _30)
    values *= _MIX_1_64
    shifted = values >> _27
    values ^= shifted
    values *= _MIX_2_64
    values ^= np.right_shift(values, _31, out=shifted)
    return values


def _mix_int(value: int) -> int:
    value = ((value ^ (value >> 30)) * _MIX_1) & _MASK
    value = ((value ^ (value >> 27)) * _MIX_2) & _MASK
    return value ^ (value >> 31)


def _key(domain: int, *parts: int) -> int:
    key = _mix_int((domain + _GOLDEN) & _MASK)
    for part in parts:
        key = _mix_int((key ^ part) + _GOLDEN & _MASK)
    return key


def uniforms(hashes: U64, seed: int, step: int) -> NDArray[np.float64]:
    """The draws behind a step's decisions: float64[n] in [0, 1), one per id hash, independent of their order."""
    return _unit(mix(mix(hashes ^ np.uint64(_key(_DECIDE, seed, step))) + _GOLDEN_64))


def audit_uniforms(hashes: U64, seed: int, step: int) -> NDArray[np.float64]:
    """The draws that decide which skipped prompts a step audits: float64[n] in [0, 1), not those of `uniforms`."""
    return _unit(mix(mix(hashes ^ np.uint64(_key(_AUDIT, seed, step))) + _GOLDEN_64))


def window_start(seed: int, step: int, size: int) -> int:
    """Where a step's window of a run of `size` prompts begins."""
    return _key(_WINDOW, seed, step) % size


def uniforms_by_step(hash_: np.uint64, seed: int, steps: NDArray[np.int64]) -> NDArray[np.float64]:
    """One id's draws over many steps: float64[steps], each what `uniforms` gives for that step."""
    return _by_step(_DECIDE, hash_, seed, steps)


def audit_uniforms_by_step(hash_: np.uint64, seed: int, steps: NDArray[np.int64]) -> NDArray[np.float64]:
    """The same of `audit_uniforms`."""
    return _by_step(_AUDIT, hash_, seed, steps)


def _by_step(domain: int, hash_: np.uint64, seed: int, steps: NDArray[np.int64]) -> NDArray[np.float64]:
    keys = mix((np.uint64(_key(domain, seed)) ^ steps.astype(np.uint64)) + _GOLDEN_64)
    return _unit(mix(mix(hash_ ^ keys) + _GOLDEN_64))


def _unit(bits: U64) -> NDArray[np.float64]:
    return (bits >> _11).astype(np.float64) * np.float64(2.0**-53)


def epoch_key(seed: int, epoch: int) -> int:
    """The 64-bit key of an epoch's permutation."""
    return _key(_EPOCH, seed, epoch)
