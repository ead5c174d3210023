"""A folded state <-> bytes, so that a start needs not fold the whole history.

Versioned. A version that this service doesn't know is no error: the history is folded from its beginning instead.

Layout: version (a byte), length of the JSON header (u32), header, then the header's arrays one after another; all but
the version compressed.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greso_service.core.arrays import zeros
from greso_service.core.audit import AuditCounts, Found
from greso_service.core.controller import Counts, Exploration, Progress
from greso_service.core.difficulty import Ability
from greso_service.core.domains import Domain
from greso_service.core.events import Created, Span
from greso_service.core.mark import Mark
from greso_service.core.pool import Cursor, Walk
from greso_service.core.prompt_arrays import PromptArrays
from greso_service.core.prompts import PromptTable
from greso_service.core.recent import RECENT, SAID_ROW, RecentGroups
from greso_service.core.sample import VISIT_ROW, Sample
from greso_service.core.spec import RunSpec
from greso_service.core.state import RunState
from greso_service.core.steps import STEP_ROW, StepLog
from greso_service.core.streaks import StreakCounts
from greso_service.core.target import Tried, Tuning
from greso_service.core.totals import Totals
from greso_service.history.codec import CodecError

VERSION = 4  # 3 had no domains; 2 had no ability, audits and counts of passes; 1 had no sample
_LEVEL = 1
# What reading something else may raise.
_DAMAGED = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    OSError,  # no memory for a mapping
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
_PIECE, _PART = 2**16, 2**20  # bytes unpacked at a time, before and after: both stay in a processor's cache
_SAMPLE = ("index", "count", "rows")
_DTYPES = {"groups_said": SAID_ROW, "steps": STEP_ROW, "sample_rows": VISIT_ROW}

_OF_DOMAIN = "domain_steps_"


def _steps_of(number: int) -> str:
    """The name of the array of a domain's steps."""
    return f"{_OF_DOMAIN}{number}"


class Frozen:
    """A state's content that later folds don't touch, taken at once; `encode` may run in another thread meanwhile.

    `written_ms`: when the newest event in it was written, milliseconds since 1970; 0 where that is not known.
    """

    def __init__(self, state: RunState, written_ms: int = 0) -> None:
        self._still = state.still()
        words, lengths = state.table.packed()
        pool = state.pool[: state.pool_size]
        self._grown = {"groups_said": state.groups.said, "words": words, "lengths": lengths, "pool": pool}
        copied = {"steps": state.steps.rows, **{f"sample_{name}": getattr(state.sample, name) for name in _SAMPLE}}
        copied |= {_steps_of(number): domain.steps.rows for number, domain in enumerate(state.domains)}
        self._copied: dict[str, NDArray[Any]] = {name: array.copy() for name, array in copied.items()}
        self.header = {
            "written_ms": written_ms,
            "created": state.created.to_dict(),
            "spec": state.spec.to_dict(),
            "progress": asdict(state.progress),
            "cursor": asdict(state.cursor),
            "domains": [_written(domain) for domain in state.domains],
            "totals": asdict(state.totals),
            "ability": asdict(state.ability),
            "owed": state.owed,
            "told_from": state.told_from,
            "audits": asdict(state.audits),
            "generation": state.generation,
            "past": [[str(span.after), str(span.until), span.step] for span in state.past],
            "since": str(state.since),
        }

    def encode(self) -> bytes:
        """The snapshot's bytes."""
        # Most prompts of a large pool were not visited yet, and the groups are by far the largest rows.
        visited = np.flatnonzero(self._still.rows("visits"))
        every = None if visited.size == self._still.size else visited
        groups = {f"groups_{name}": name for name in RecentGroups.BY_PROMPT}
        described = {name: (self._still.kind(name), [self._still.size]) for name in PromptArrays.__slots__}
        described |= {name: (self._still.kind(column), [visited.size, RECENT]) for name, column in groups.items()}
        rest = {**self._grown, **self._copied}
        described |= {name: (array.dtype, list(array.shape)) for name, array in rest.items()}
        shapes = {name: [kind.str, shape] for name, (kind, shape) in described.items()}
        header = json.dumps({**self.header, "arrays": shapes}, separators=(",", ":")).encode()
        packer = zlib.compressobj(_LEVEL)
        parts = [bytes([VERSION]), packer.compress(struct.pack("<I", len(header)) + header)]

        def pack(array: NDArray[Any]) -> None:
            if array.size:
                parts.append(packer.compress(np.ascontiguousarray(array).data))

        for name in PromptArrays.__slots__:  # one after another: all at once would be the state once more
            pack(self._still.rows(name))
        for column in groups.values():
            pack(self._still.rows(column, every))
        for array in rest.values():
            pack(array)
        return b"".join([*parts, packer.flush()])


def decode(snapshot: bytes) -> RunState:
    """The state of a snapshot. Raises `CodecError` if it is damaged or of another version."""
    return read(snapshot)[0]


def read(snapshot: bytes) -> tuple[RunState, int]:
    """The state of a snapshot and its `written_ms`; else as `decode`."""
    if snapshot[:1] != bytes([VERSION]):
        raise CodecError(f"this service reads snapshots of version {VERSION}")
    try:
        content = _Content(memoryview(snapshot)[1:])
        [length] = struct.unpack("<I", content.take(4))
        header, arrays = json.loads(content.take(length)), dict[str, NDArray[Any]]()
        for name, (dtype, shape) in header["arrays"].items():
            kind = STEP_ROW if name.startswith(_OF_DOMAIN) else _DTYPES.get(name) or np.dtype(dtype)
            if not all(type(size) is int and size >= 0 for size in shape):
                raise ValueError(f"{name} has no shape")
            arrays[name] = content.array(kind, tuple(shape))
        content.end()
        return _state(header, arrays), int(header["written_ms"])
    except _DAMAGED as error:
        raise CodecError(f"damaged snapshot: {error}") from error


class _Content:
    """What a snapshot holds, unpacked piece by piece to where it stays: there is hardly anything of it in memory twice.

    Raises `ValueError` where it ends too early.
    """

    def __init__(self, packed: memoryview) -> None:
        self._unpacker = zlib.decompressobj()
        self._packed = packed
        self._piece = b""  # of it, and not unpacked yet

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        return b"".join(self._parts(size))

    def array(self, kind: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        """The next array."""
        array = zeros(shape, kind)
        content, start = array.reshape(-1).view(np.uint8) if array.size else np.zeros(0, np.uint8), 0
        for part in self._parts(content.size):
            read = np.frombuffer(part, np.uint8)
            if read.any():  # else it is zero as it is, and memory that nothing is written to is none
                content[start : start + read.size] = read
            start += read.size
        return array

    def _parts(self, size: int) -> Iterator[bytes]:
        while size:
            if not self._piece:
                self._piece, self._packed = bytes(self._packed[:_PIECE]), self._packed[_PIECE:]
            part = self._unpacker.decompress(self._piece, min(size, _PART))
            self._piece = self._unpacker.unconsumed_tail
            if not part and not self._piece and not self._packed:
                raise ValueError("it is cut short")
            size -= len(part)
            yield part

    def end(self) -> None:
        """Raises `ValueError` if there is more, or what was taken is not what was packed."""
        left = self._piece + bytes(self._packed)
        if self._unpacker.decompress(left, 1) or not self._unpacker.eof or self._unpacker.unused_data:
            raise ValueError("it does not end where it should")


def _state(header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> RunState:
    state = RunState(Created(header["created"]))
    state.spec = RunSpec.of(header["spec"])
    state.table = PromptTable.unpacked(arrays["words"], arrays["lengths"])
    size = state.table.size
    for name in PromptArrays.__slots__:
        kind = getattr(state.prompts, name).dtype
        setattr(state.prompts, name, _shaped(arrays[name], (size,)).astype(kind, copy=False))
    packed = {name: arrays[f"groups_{name}"] for name in RecentGroups.PACKED}
    state.groups = RecentGroups.unpacked(size, np.flatnonzero(arrays["visits"]), packed)
    state.streaks = StreakCounts.of(state.view.kind, state.view.streak)
    state.pool, state.pool_size = arrays["pool"], arrays["pool"].size
    index, count, rows = (arrays[f"sample_{name}"] for name in _SAMPLE)
    state.sample = Sample.restored(index, state.table.hashes[index], count, rows)
    state.steps = StepLog(arrays["steps"])
    state.cursor = Cursor(**header["cursor"])
    state.totals = Totals(**header["totals"])
    state.ability = Ability(**header["ability"])
    state.owed, state.told_from = header["owed"], header["told_from"]
    state.audits = AuditCounts(**{kind: Found(**found) for kind, found in header["audits"].items()})
    state.generation = header["generation"]
    state.past = tuple(Span(_mark(after), _mark(until), step) for after, until, step in header["past"])
    state.since = _mark(header["since"])
    state.progress = _progress(header["progress"])
    state.domains = [_domain(fields, arrays[_steps_of(number)]) for number, fields in enumerate(header["domains"])]
    return state


def _shaped(array: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    if array.shape != shape:
        raise ValueError(f"an array has the shape {array.shape} instead of {shape}")
    return array


def _written(domain: Domain) -> dict[str, Any]:
    fields = {name: asdict(getattr(domain, name)) for name in ("progress", "totals", "walk")}
    return {"name": domain.name, "pool": domain.pooled, **fields}


def _domain(fields: dict[str, Any], steps: NDArray[Any]) -> Domain:
    domain = Domain(fields["name"], _progress(fields["progress"]), fields["pool"])
    domain.steps, domain.totals = StepLog(steps), Totals(**fields["totals"])
    walk = fields["walk"]
    domain.walk = Walk(Cursor(**walk["cursor"]), walk["owed"], walk["due"])
    return domain


def _progress(fields: dict[str, Any]) -> Progress:
    counts, tuning = fields["counts"], fields["tuning"]
    return Progress(
        Exploration(**fields["exploration"]),
        fields["step"],
        fields["complete"],
        Counts(**{**counts, "tried": Tried(**counts["tried"])}),
        None if tuning is None else Tuning(**{**tuning, "tried": Tried(**tuning["tried"])}),
    )


def _mark(text: str) -> Mark:
    return Mark.parse(text.encode())
