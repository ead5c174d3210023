"""Events and states <-> bytes. Little-endian, versioned; docs/redis-layout.md is the public description.

An event: version, type, flags, 0 (a byte each), time in ms since 1970 and a nonce (8 bytes each), body. The nonce makes
two events that say the same thing different, so that a history can tell a repeated append from a second one.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greso_service.core.events import (
    Audited,
    Created,
    Event,
    Forked,
    Joined,
    Part,
    Patched,
    Pooled,
    Priors,
    Ranked,
    Reported,
    Rewound,
    Seconds,
    Selected,
    Span,
)
from greso_service.core.mark import Mark
from greso_service.core.outcome import Rewards
from greso_service.core.pool import Cursor, Walk

VERSION = 1
_HEAD = struct.Struct("<BBBxQQ")
_SELECTED = struct.Struct("<qqqqqB")
_CURSOR = struct.Struct("<qqq")
_REPORTED = struct.Struct("<qB")
_COUNT = struct.Struct("<I")
_REWOUND = struct.Struct("<qqI")
_SPAN = struct.Struct("<qIqIq")
# What follows in a selection: where it left the pool; sampled prompts it skipped; a draw by rank; audits; its domains.
_WALKED, _SAMPLED, _RANKED, _AUDITED, _BY_DOMAIN = 1, 2, 4, 8, 16
_RANK = struct.Struct("<Id")
_PART = struct.Struct("<BqqqqB")
_DUE = struct.Struct("<dd")
_FINAL, _TIMED = 1, 2  # of a report
_SECONDS = struct.Struct("<dd")
_COMPRESSED = 1
_WORTH_COMPRESSING = 4096  # bytes; below it are reports of known prompts: packed tight already, and made every step
_LARGEST = 2**30  # bytes of a body; more in little is no event of ours
_MOST_REWARDS = 2**28  # of a report: 2 GiB of them, which no body of a request brings
_LEVEL = 1  # zlib's fastest: ids shrink to about a third with it, and to little less with slower ones


class CodecError(ValueError):
    """The bytes are no event or snapshot that this version can read."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """An event with the envelope that it is stored in."""

    event: Event
    at_ms: int
    nonce: int


def encode(recorded: Recorded) -> bytes:
    """The event's payload."""
    kind, write, _ = _BY_TYPE[type(recorded.event)]
    body = write(recorded.event)
    flags = 0
    if len(body) >= _WORTH_COMPRESSING:
        packed = zlib.compress(body, _LEVEL)
        if len(packed) < len(body):
            body, flags = packed, _COMPRESSED
    return _HEAD.pack(VERSION, kind, flags, recorded.at_ms, recorded.nonce) + body


def written_ms(payload: bytes) -> int:
    """When an event was written, in milliseconds since 1970, without decoding it."""
    return int(_HEAD.unpack_from(payload)[3])


def type_name(payload: bytes) -> str:
    """The name of an event's type, in lower case, without decoding it; `unknown` if it is newer than this version."""
    return _NAMES.get(payload[1], "unknown") if len(payload) > 1 else "unknown"


def decode(payload: bytes, *, most_rewards: int = _MOST_REWARDS) -> Recorded:
    """The event of a payload, in which a report may have so many rewards. Raises `CodecError`."""
    try:
        version, kind, flags, at_ms, nonce = _HEAD.unpack_from(payload)
        if version != VERSION:
            raise CodecError(f"event of version {version}; this service reads version {VERSION}")
        body = payload[_HEAD.size :]
        reader = _Reader(decompressed(body) if flags & _COMPRESSED else body, most_rewards)
        event = _BY_KIND[kind](reader)
        reader.finish()
    except (struct.error, LookupError, OverflowError, TypeError, ValueError) as error:
        if isinstance(error, CodecError):
            raise
        raise CodecError(f"damaged event: {error}") from error
    return Recorded(event, at_ms, nonce)


def decompressed(body: bytes) -> bytes:
    """What a zlib stream of ours holds, a GiB at most. Raises `CodecError`."""
    unpacker = zlib.decompressobj()
    try:
        content = unpacker.decompress(body, _LARGEST)
    except zlib.error as error:
        raise CodecError(f"damaged: {error}") from error
    if unpacker.unused_data or not unpacker.eof:
        raise CodecError("damaged: what is compressed in it has another length")
    return content


class _Reader:
    """Takes a body apart from front to back."""

    def __init__(self, body: bytes, most_rewards: int) -> None:
        self.body = body
        self.most_rewards = most_rewards
        self.at = 0

    def take(self, size: int) -> bytes:
        part = self.body[self.at : self.at + size]
        if len(part) < size:
            raise CodecError("damaged event: too short")
        self.at += size
        return part

    def struct(self, layout: struct.Struct) -> tuple[Any, ...]:
        return layout.unpack(self.take(layout.size))

    def count(self) -> int:
        return int(self.struct(_COUNT)[0])

    def array(self, dtype: str, count: int) -> NDArray[Any]:
        kind = np.dtype(dtype)
        return np.frombuffer(self.take(count * kind.itemsize), kind)

    def finish(self) -> None:
        if self.at != len(self.body):
            raise CodecError("damaged event: too long")


def _write_json(content: Any) -> bytes:
    return json.dumps(dict(content), separators=(",", ":"), sort_keys=True).encode()


def _read_json(reader: _Reader) -> dict[str, Any]:
    content = json.loads(reader.take(len(reader.body)))
    if not isinstance(content, dict):
        raise CodecError("damaged event: its content is no JSON object")
    return content


def _read_forked(reader: _Reader) -> Forked:
    content = _read_json(reader)
    return Forked(content["run"], content["step"])


def _write_ids(ids: list[bytes]) -> bytes:
    lengths = np.fromiter(map(len, ids), "<u2", len(ids))
    return _COUNT.pack(len(ids)) + lengths.tobytes() + b"".join(ids)


def _read_ids(reader: _Reader) -> list[bytes]:
    lengths = reader.array("<u2", reader.count())
    ends = np.cumsum(lengths, dtype=np.int64).tolist()
    joined = reader.take(ends[-1] if ends else 0)
    return [joined[end - length : end] for end, length in zip(ends, lengths.tolist(), strict=True)]


def _write_index(index: NDArray[np.int64]) -> bytes:
    return _COUNT.pack(index.size) + index.astype("<u4").tobytes()


def _read_index(reader: _Reader) -> NDArray[np.int64]:
    return reader.array("<u4", reader.count()).astype(np.int64)


def _write_numbers(numbers: tuple[int, ...]) -> bytes:
    return _write_index(np.array(numbers, np.int64))


def _read_numbers(reader: _Reader) -> tuple[int, ...]:
    return tuple(_read_index(reader).tolist())


def _write_rewards(rewards: Rewards) -> bytes:
    """Lengths once if all are equal; values as codes into the distinct ones if these are few (rewards mostly are)."""
    lengths, values = rewards.lengths, rewards.values
    equal = lengths.size > 0 and bool((lengths == lengths[0]).all())
    body = struct.pack("<B", equal) + (lengths[:1] if equal else lengths).astype("<u2").tobytes()
    distinct, codes = _coded(values)
    if distinct.size > 256 or 8 * distinct.size > values.size * 4:
        return body + struct.pack("<H", 0) + values.astype("<f8").tobytes()
    packed = np.packbits(codes.astype(np.bool_)) if distinct.size <= 2 else codes.astype(np.uint8)
    return body + struct.pack("<H", distinct.size) + distinct.astype("<f8").tobytes() + packed.tobytes()


def _coded(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """The distinct values, ascending, and each value's place among them."""
    ends = np.array([values.min(), values.max()]) if values.size else values
    upper = values == ends[-1:]
    if ends.size and (upper | (values == ends[0])).all():  # right or wrong, as most rewards are: no need to sort
        return (ends, upper) if ends[0] < ends[1] else (ends[:1], ~upper)
    distinct, codes = np.unique(values, return_inverse=True)
    return distinct, codes


def _read_rewards(reader: _Reader, groups: int) -> Rewards:
    [equal] = reader.take(1)
    most = reader.most_rewards
    if equal and groups * int.from_bytes(reader.body[reader.at : reader.at + 2], "little") > most:
        raise CodecError(f"a report has more than {most} rewards")
    lengths = np.repeat(reader.array("<u2", 1), groups) if equal else reader.array("<u2", groups)
    total = int(lengths.sum(dtype=np.int64))
    if total > most:
        raise CodecError(f"a report has more than {most} rewards")
    number = int(reader.array("<u2", 1)[0])
    if not number:
        return Rewards(lengths.astype(np.uint16), reader.array("<f8", total).astype(np.float64))
    distinct = reader.array("<f8", number)
    two = number <= 2
    codes = np.unpackbits(reader.array("u1", -(-total // 8)), count=total) if two else reader.array("u1", total)
    return Rewards(lengths.astype(np.uint16), distinct[codes].astype(np.float64))


def _write_selected(event: Selected) -> bytes:
    cursor = event.cursor
    parts = _WALKED * (cursor is not None) | _SAMPLED * bool(event.skipped)
    parts |= _RANKED * (event.ranked is not None) | _AUDITED * (event.audited is not None)
    parts |= _BY_DOMAIN * bool(event.parts)
    body = _SELECTED.pack(event.step, event.examined, event.selected, event.skipped_easy, event.skipped_hard, parts)
    if cursor is not None:
        body += _CURSOR.pack(cursor.epoch, cursor.position, cursor.size)
    if event.skipped:
        body += _write_numbers(event.skipped)
    if event.ranked is not None:
        body += _write_numbers(event.ranked.index) + _RANK.pack(event.ranked.walked, event.ranked.owed)
    if event.audited is not None:
        body += _write_numbers(event.audited.easy) + _write_numbers(event.audited.hard)
    if event.parts:
        body += _COUNT.pack(len(event.parts)) + b"".join(map(_write_part, event.parts))
    return body


def _write_part(part: Part) -> bytes:
    counts = (part.examined, part.selected, part.skipped_easy, part.skipped_hard)
    body = _PART.pack(part.domain, *counts, part.walk is not None)
    if part.walk is None:
        return body
    cursor = part.walk.cursor
    return body + _CURSOR.pack(cursor.epoch, cursor.position, cursor.size) + _DUE.pack(part.walk.owed, part.walk.due)


def _read_part(reader: _Reader) -> Part:
    domain, examined, selected, easy, hard, walked = reader.struct(_PART)
    walk = Walk(Cursor(*reader.struct(_CURSOR)), *reader.struct(_DUE)) if walked else None
    return Part(domain, examined, selected, easy, hard, walk)


def _read_selected(reader: _Reader) -> Selected:
    step, examined, selected, skipped_easy, skipped_hard, parts = reader.struct(_SELECTED)
    cursor = Cursor(*reader.struct(_CURSOR)) if parts & _WALKED else None
    skipped = _read_numbers(reader) if parts & _SAMPLED else ()
    ranked = Ranked(_read_numbers(reader), *reader.struct(_RANK)) if parts & _RANKED else None
    audited = Audited(_read_numbers(reader), _read_numbers(reader)) if parts & _AUDITED else None
    by_domain = tuple(_read_part(reader) for _ in range(reader.count())) if parts & _BY_DOMAIN else ()
    return Selected(step, examined, selected, skipped_easy, skipped_hard, cursor, skipped, ranked, audited, by_domain)


def _write_reported(event: Reported) -> bytes:
    flags = _FINAL * event.final | _TIMED * (event.seconds is not None)
    body = _REPORTED.pack(event.step, flags)
    body += _write_ids(event.new) + _write_index(event.index) + _write_rewards(event.rewards)
    return body if event.seconds is None else body + _SECONDS.pack(event.seconds.rollout, event.seconds.update)


def _read_reported(reader: _Reader) -> Reported:
    step, flags = reader.struct(_REPORTED)
    new, index = _read_ids(reader), _read_index(reader)
    rewards = _read_rewards(reader, index.size)
    seconds = Seconds(*reader.struct(_SECONDS)) if flags & _TIMED else None
    return Reported(step, bool(flags & _FINAL), new, index, rewards, seconds)


def _write_joined(event: Joined) -> bytes:
    names = _write_ids([name.encode() for name in event.new])
    return names + _write_index(event.index) + event.domain.tobytes()


def _read_joined(reader: _Reader) -> Joined:
    new, index = tuple(name.decode() for name in _read_ids(reader)), _read_index(reader)
    return Joined(new, index, reader.array("u1", index.size).astype(np.uint8))


def _write_priors(event: Priors) -> bytes:
    return _write_index(event.index) + event.passed.astype("<f8").tobytes() + event.tried.astype("<f8").tobytes()


def _read_priors(reader: _Reader) -> Priors:
    index = _read_index(reader)
    passed, tried = (reader.array("<f8", index.size).astype(np.float64) for _ in range(2))
    return Priors(index, passed, tried)


def _write_rewound(event: Rewound) -> bytes:
    spans = (
        _SPAN.pack(span.after.number, span.after.chain, span.until.number, span.until.chain, span.step)
        for span in event.kept
    )
    return _REWOUND.pack(event.step, event.generation, len(event.kept)) + b"".join(spans)


def _read_rewound(reader: _Reader) -> Rewound:
    step, generation, count = reader.struct(_REWOUND)
    spans = (reader.struct(_SPAN) for _ in range(count))
    kept = tuple(Span(Mark(*fields[:2]), Mark(*fields[2:4]), fields[4]) for fields in spans)
    return Rewound(step, generation, kept)


_BY_TYPE: dict[type, tuple[int, Callable[[Any], bytes], Callable[[_Reader], Event]]] = {
    Created: (1, lambda event: _write_json(event.spec), lambda reader: Created(_read_json(reader))),
    Patched: (2, lambda event: _write_json(event.changes), lambda reader: Patched(_read_json(reader))),
    Pooled: (
        3,
        lambda event: _write_ids(event.new) + _write_index(event.index),
        lambda reader: Pooled(_read_ids(reader), _read_index(reader)),
    ),
    Selected: (4, _write_selected, _read_selected),
    Reported: (5, _write_reported, _read_reported),
    Rewound: (6, _write_rewound, _read_rewound),
    Forked: (7, lambda event: _write_json({"run": event.run, "step": event.step}), _read_forked),
    Priors: (8, _write_priors, _read_priors),
    Joined: (9, _write_joined, _read_joined),
}
_BY_KIND = {kind: read for kind, _, read in _BY_TYPE.values()}
_NAMES = {kind: event.__name__.lower() for event, (kind, _, _) in _BY_TYPE.items()}
