"""Damaged bytes: the documented error, or what they say; never another error, never more memory than they are worth."""

from __future__ import annotations

import asyncio
import functools
import json
import struct
import tracemalloc
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from greso_service.core.mark import START, Mark
from greso_service.errors import InvalidInput
from greso_service.fairness import Room
from greso_service.given import BARE
from greso_service.history import codec, exported, snapshot
from greso_service.history.base import RunKey
from greso_service.history.codec import CodecError, Recorded
from greso_service.history.exported import Checker, ExportError, Lines, Writer
from greso_service.history.memory import MemoryHistory
from greso_service.importing import Importing
from greso_service.live import LiveRuns
from greso_service.observed import nobody
from greso_service.runs import Runs

from ..folding import content, draw, mixed, pool, report, run  # noqa: TID252

GOLDEN = Path(__file__).parents[1] / "unit" / "golden"
EVENTS = [bytes.fromhex(path.read_text()) for path in sorted(GOLDEN.glob("*.hex"))]
MEMORY = 64 * 2**20  # bytes: a quarter of what the smaller bomb holds


@st.composite
def damaged(draw: st.DrawFn, whole: Sequence[bytes]) -> bytes:
    """One of the blobs after some of: flipped bits, other bytes, a cut, a piece taken out, put in, said twice."""
    blob = bytearray(draw(st.sampled_from(whole)))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(len(blob) - 1, 0)))
        size = draw(st.integers(1, 9))
        match draw(st.integers(0, 5)):
            case 0 if blob:
                blob[place] ^= 1 << draw(st.integers(0, 7))
            case 1:
                blob[place : place + size] = draw(st.binary(min_size=size, max_size=size))
            case 2:
                del blob[place:]
            case 3:
                del blob[place : place + size]
            case 4:
                blob[place:place] = draw(st.binary(max_size=9))
            case _:
                blob[place : place + size] = draw(st.sampled_from([b"\xff" * 4, b"\0" * 8, b"\xff" * 8, b"\x7f" * 2]))
    return bytes(blob)


def plain(recorded: Recorded) -> Any:
    return repr(recorded.event), recorded.at_ms, recorded.nonce


@given(damaged(EVENTS) | st.binary(max_size=300))
def test_a_damaged_event_is_refused_or_is_the_event_that_it_says(payload: bytes) -> None:
    try:
        read = codec.decode(payload)
    except CodecError:
        return
    try:
        written = codec.encode(read)
    except (OverflowError, struct.error):  # numbers that no event of ours has
        return
    assert plain(codec.decode(written)) == plain(read)


@given(damaged(EVENTS), st.booleans())
def test_a_damaged_body_that_is_compressed_well(payload: bytes, cut: bool) -> None:
    body = zlib.compress(payload[20:], 9)
    try:
        codec.decode(payload[:2].ljust(2, b"\1") + b"\1\0" + bytes(16) + body[: -cut or None])
    except CodecError:
        return


@pytest.mark.parametrize("kind", range(1, 10))
def test_a_body_that_says_to_be_huge_takes_no_room(kind: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "_LARGEST", 2**20)
    bodies = [zlib.compress(body, 9) for body in (b"\0" * 2**24, b"\xff" * 2**24, bytes(9) + b"\xff" * 60)]
    tracemalloc.start()
    try:
        for body in bodies:
            with pytest.raises(CodecError):
                codec.decode(struct.pack("<BBBxQQ", 1, kind, 1, 0, 0) + body)
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()


@functools.cache
def grown() -> bytes:
    state = run(seed=3, train_batch_size=20, streak_rule="same_kind")
    pool(state, [f"pool/{number}" for number in range(50)], domains=["math", "code"])
    for step in range(4):
        drawn = draw(state, step, 9)["prompts"]
        report(state, step, [*((prompt, [0, 1, 1]) for prompt in drawn), *mixed(1, 2, 3)], final=True)
    return snapshot.Frozen(state).encode()


@given(damaged([grown()]))
def test_a_damaged_snapshot_is_refused_or_is_the_state(blob: bytes) -> None:
    try:
        read = snapshot.decode(blob)
    except CodecError:
        return
    assert content(read) == content(snapshot.decode(grown()))


@given(damaged([zlib.decompress(grown()[1:])]))
def test_a_snapshot_damaged_before_it_was_compressed_raises_nothing_else(inner: bytes) -> None:
    try:
        snapshot.decode(bytes([snapshot.VERSION]) + zlib.compress(inner, 1))
    except CodecError:
        return


junk = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


def header_and_arrays() -> tuple[Any, bytes]:
    inner = zlib.decompress(grown()[1:])
    [length] = struct.unpack_from("<I", inner)
    return json.loads(inner[4 : 4 + length]), inner[4 + length :]


def put(header: Any, path: Sequence[str], value: Any) -> None:
    for name in path[:-1]:
        header = header[name]
    header[path[-1]] = value


PATHS = [
    *([name] for name in header_and_arrays()[0]),
    *(["arrays", name] for name in header_and_arrays()[0]["arrays"]),
    *(["progress", name] for name in header_and_arrays()[0]["progress"]),
    ["arrays", "words", 0], ["arrays", "words", 1], ["arrays", "visits", 1], ["spec", "domains"], ["created", "seed"],
]  # fmt: skip


@given(st.sampled_from(PATHS), junk)
@example(["arrays", "words", 1], [2**60])
@example(["arrays", "words", 1], [-1])
@example(["arrays", "words", 0], "O")
@example(["arrays", "visits", 1], [2**31, 2**31])
@example(["since"], "9" * 5000 + "-1")
def test_a_snapshot_of_another_header_raises_nothing_else(path: list[Any], value: Any) -> None:
    header, arrays = header_and_arrays()
    put(header, path, value)
    text = json.dumps(header).encode()
    blob = bytes([snapshot.VERSION]) + zlib.compress(struct.pack("<I", len(text)) + text + arrays, 1)
    try:
        snapshot.decode(blob)
    except CodecError:
        return


def test_a_snapshot_that_is_a_bomb_takes_no_room() -> None:
    header, arrays = header_and_arrays()
    text = json.dumps(header).encode()
    inner = struct.pack("<I", len(text)) + text + arrays + bytes(2**28)
    blobs = [bytes([snapshot.VERSION]) + zlib.compress(each, 1) for each in (inner, bytes(2**28), b"\xff" * 2**20)]
    tracemalloc.start()
    try:
        for blob in blobs:
            with pytest.raises(CodecError):
                snapshot.decode(blob)
        assert tracemalloc.get_traced_memory()[1] < MEMORY
    finally:
        tracemalloc.stop()


# The file form: NDJSON.


def export_of(payloads: Sequence[bytes]) -> bytes:
    mark = START
    for payload in payloads:
        mark = mark.then(payload)
    writer = Writer("r", mark)
    return writer.begin() + writer.lines(payloads) + writer.end()


@functools.cache
def history() -> tuple[bytes, ...]:
    """A small history that folds."""
    kept: list[bytes] = []

    async def told() -> None:
        memory = MemoryHistory()
        runs = Runs(memory, idempotency_ttl=60, snapshot_every=1000)
        key = RunKey("default", "r")
        await runs.create(key, {"train_batch_size": 2})
        await runs.add_prompts(key, ["a", "b", "é"])
        await runs.draw(key, 0, 2)
        await runs.report(key, 0, ["a", "b"], [[0, 1], [1, 1]], final=True)
        await runs.report(key, 1, ["a"], [[0.5]], final=True)
        await runs.rewind(key, 0)
        kept.extend(await memory.read(key, START, 100) or [])

    asyncio.run(told())
    return tuple(kept)


def read(lines: bytes, pieces: Sequence[int] = ()) -> list[bytes]:
    """The payloads of an export that comes in pieces of the given sizes, and the rest."""
    cutter, checker, taken, at = Lines(), Checker(), list[bytes](), 0
    for size in [*pieces, len(lines)]:
        taken += [each for line in cutter.take(lines[at : at + size]) if (each := checker.take(line)) is not None]
        at += size
    taken += [each for line in cutter.end() if (each := checker.take(line)) is not None]
    checker.finish()
    return taken


@given(st.lists(st.integers(1, 200), max_size=20))
def test_an_export_may_come_in_any_pieces(pieces: list[int]) -> None:
    assert read(export_of(history()), pieces) == list(history())


@given(damaged([export_of(history())]) | st.binary(max_size=300))
def test_a_damaged_export_is_refused_with_its_line_or_is_whole(lines: bytes) -> None:
    try:
        taken = read(lines)
    except ExportError as error:
        taken, line = None, error.line
    if taken is None:
        assert 1 <= line <= lines.count(b"\n") + 2
    else:
        assert taken == list(history())


@given(damaged([export_of(history())]))
def test_a_damaged_export_makes_no_run(lines: bytes) -> None:
    made(lines, may=list(history()))


@given(st.integers(0, len(history()) - 1), st.data())
def test_an_export_of_a_damaged_event_makes_no_run_or_one_that_folds(place: int, data: st.DataObject) -> None:
    """The event is damaged, and all marks and checksums are those of what it became."""
    events = list(history())
    events[place] = data.draw(damaged([events[place]]))
    made(export_of(events), may=events)


def made(lines: bytes, may: list[bytes]) -> None:
    """Import what may be wrong: there is no run then, or one with these events, which folds to a state."""

    async def told() -> None:
        memory, key = MemoryHistory(), RunKey("default", "r")
        live = LiveRuns(
            memory,
            idempotency_ttl=60,
            snapshot_every=99,
            keep_steps=None,
            room=Room(9),
            observe=nobody,
            clock=lambda: 0.0,
        )

        async def pieces() -> Any:
            yield lines

        refused: list[InvalidInput] = []
        try:
            await Importing(memory, live).take(key, pieces(), lambda: BARE)
        except InvalidInput as error:
            refused.append(error)
        if refused:
            assert refused[0].faults[0].pointer.startswith("/")
            assert await memory.read(key, START, 100) == []
            return
        assert await memory.read(key, START, 100) == may
        async with live.held(key) as held:
            await live.current(key, held)
            assert held.mark.number == len(may)

    asyncio.run(told())


@given(st.text(max_size=40) | st.binary(max_size=40).map(lambda raw: raw.decode("latin-1")))
def test_a_mark_is_read_or_is_a_value_error(text: str) -> None:
    try:
        mark = Mark.parse(text.encode())
    except ValueError:
        return
    assert Mark.parse(str(mark).encode()) == mark


def test_a_line_without_an_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exported, "LONGEST_LINE", 2**16)
    cutter = Lines()
    assert cutter.take(b"x" * 2**16) == []
    with pytest.raises(ExportError, match="longer"):
        cutter.take(b"x")
