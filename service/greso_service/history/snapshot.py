"""A folded state <-> bytes, so that a start needs not fold the whole history.

Versioned. A version that this service doesn't know is no error: the history is folded from its beginning instead.

Layout: version (a byte), length of the JSON header (u32), header, then the header's arrays one after another; all but
the version compressed.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greso_service.core.audit import AuditCounts, Found
from greso_service.core.controller import Counts, Exploration, Progress
from greso_service.core.difficulty import Ability
from greso_service.core.domains import Domain
from greso_service.core.events import Created, Span
from greso_service.core.mark import Mark
from greso_service.core.pool import Cursor, Walk
from greso_service.core.prompt_arrays import PromptArrays
from greso_service.core.prompts import PromptTable
from greso_service.core.recent import SAID_ROW, RecentGroups
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
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
_SAMPLE = ("index", "count", "rows")
_DTYPES = {"groups_said": SAID_ROW, "steps": STEP_ROW, "sample_rows": VISIT_ROW}

_OF_DOMAIN = "domain_steps_"


def _steps_of(number: int) -> str:
    """The name of the array of a domain's steps."""
    return f"{_OF_DOMAIN}{number}"


class Frozen:
    """A copy of a state's content that later folds don't touch; `encode` may then run in another thread.

    `written_ms`: when the newest event in it was written, milliseconds since 1970; 0 where that is not known.
    """

    def __init__(self, state: RunState, written_ms: int = 0) -> None:
        words, lengths = state.table.packed()
        size = state.table.size
        arrays = {name: getattr(state.prompts, name)[:size] for name in PromptArrays.__slots__}
        # Most prompts of a large pool were not visited yet, and the groups are by far the largest rows.
        visited = np.flatnonzero(state.prompts.visits[:size])
        copied = {f"groups_{name}": array for name, array in state.groups.packed(visited).items()}
        arrays |= copied
        arrays |= {"words": words, "lengths": lengths, "pool": state.pool[: state.pool_size], "steps": state.steps.rows}
        arrays |= {f"sample_{name}": getattr(state.sample, name) for name in _SAMPLE}
        arrays |= {_steps_of(number): domain.steps.rows for number, domain in enumerate(state.domains)}
        self.arrays: dict[str, NDArray[Any]] = {
            name: array if name in copied else array.copy() for name, array in arrays.items()
        }
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
        shapes = {name: [array.dtype.str, list(array.shape)] for name, array in self.arrays.items()}
        header = json.dumps({**self.header, "arrays": shapes}, separators=(",", ":")).encode()
        packer = zlib.compressobj(_LEVEL)
        parts = [bytes([VERSION]), packer.compress(struct.pack("<I", len(header)) + header)]
        parts += [packer.compress(np.ascontiguousarray(array).data) for array in self.arrays.values() if array.size]
        return b"".join([*parts, packer.flush()])


def decode(snapshot: bytes) -> RunState:
    """The state of a snapshot. Raises `CodecError` if it is damaged or of another version."""
    return read(snapshot)[0]


def read(snapshot: bytes) -> tuple[RunState, int]:
    """The state of a snapshot and its `written_ms`; else as `decode`."""
    if snapshot[:1] != bytes([VERSION]):
        raise CodecError(f"this service reads snapshots of version {VERSION}")
    try:
        content = _Content(snapshot[1:])
        [length] = struct.unpack("<I", content.take(4))
        header, arrays = json.loads(content.take(length)), {}
        for name, (dtype, shape) in header["arrays"].items():
            kind = STEP_ROW if name.startswith(_OF_DOMAIN) else _DTYPES.get(name) or np.dtype(dtype)
            if not all(type(size) is int and size >= 0 for size in shape):
                raise ValueError(f"{name} has no shape")
            arrays[name] = np.frombuffer(content.take(math.prod(shape) * kind.itemsize), kind).reshape(shape)
        content.end()
        return _state(header, arrays), int(header["written_ms"])
    except _DAMAGED as error:
        raise CodecError(f"damaged snapshot: {error}") from error


class _Content:
    """What a snapshot holds, unpacked piece by piece: all at once would take as much memory as the state again."""

    def __init__(self, packed: bytes) -> None:
        self._unpacker = zlib.decompressobj()
        self._packed = packed

    def take(self, size: int) -> bytearray:
        """The next `size` bytes. Raises `ValueError` if there are fewer."""
        taken = bytearray()
        while len(taken) < size:
            part = self._unpacker.decompress(self._packed, size - len(taken))
            self._packed = self._unpacker.unconsumed_tail
            if not part:
                raise ValueError("it is cut short")
            taken = taken + part if taken else bytearray(part)
        return taken

    def end(self) -> None:
        """Raises `ValueError` if there is more, or what was taken is not what was packed."""
        if self._unpacker.decompress(self._packed, 1) or not self._unpacker.eof or self._unpacker.unused_data:
            raise ValueError("it does not end where it should")


def _state(header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> RunState:
    state = RunState(Created(header["created"]))
    state.spec = RunSpec.of(header["spec"])
    state.table = PromptTable.unpacked(arrays["words"], arrays["lengths"])
    state.prompts.grow(state.table.size)
    size = state.table.size
    for name in PromptArrays.__slots__:
        getattr(state.prompts, name)[:size] = arrays[name]
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
