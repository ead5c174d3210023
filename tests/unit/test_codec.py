"""Events <-> bytes. The golden bytes in golden/ are what earlier services wrote: they must be read for ever."""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

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
from greso_service.core.mark import START, Mark
from greso_service.core.outcome import Rewards
from greso_service.core.pool import Cursor, Walk
from greso_service.history.codec import CodecError, Recorded, decode, encode

GOLDEN = Path(__file__).with_name("golden")
HEAD = 20  # bytes of the envelope


def index(*rows: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array(rows, np.int64)


SPEC_OF_0_1_0 = {
    "easy_min_mean": None, "easy_share": 1 / 3, "exploration_bounds": [0.05, 0.95], "exploration_step": 0.01,
    "group_size": 8, "hard_max_mean": None, "min_keep_probability": 0.01, "min_rollout_batch_size": 1, "p_easy": 0.5,
    "p_hard": 0.5, "policy": "uniform", "reward_tolerance": 1e-6, "rollout_batch_size": 384, "safety_factor": 1.25,
    "seed": 7, "solved_reward": 1.0, "streak_rule": "zero_variance", "target_zero_variance": 0.25,
    "train_batch_size": 256,
}  # fmt: skip
EVENTS: dict[str, Event] = {
    "created": Created(SPEC_OF_0_1_0),
    "created-small": Created({"seed": 7}),
    "patched": Patched({"train_batch_size": 64, "easy_min_mean": None, "exploration_bounds": [0.1, 0.9]}),
    "pooled": Pooled([b"dapo/17", "é\0漢".encode()], index(0, 5, 1)),
    "pooled-nothing": Pooled([], index()),
    "selected": Selected(12, 512, 384, 70, 58),
    "drawn": Selected(2**53 - 1, 3, 2, 1, 0, Cursor(4, 17, 2_000_000)),
    "reported": Reported(
        12, True, [b"a", b"b"], index(0, 1, 0), Rewards.of([[1, 0, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]])
    ),
    "reported-ragged": Reported(0, False, [b"x" * 256], index(0, 3), Rewards.of([[0.25, -1.5, 3e300], []])),
    "reported-graded": Reported(1, False, [], index(1, 2), Rewards.of([[0, 0.5, 1, 0.5, 0, 0], [1, 1, 1, 0.5, 1, 1]])),
    "reported-nothing": Reported(3, True, [], index(), Rewards.of([])),
    "reported-many": Reported(
        9, False, [f"p{i}".encode() for i in range(900)], np.arange(900), Rewards.of([[0, 1]] * 900)
    ),
    "rewound": Rewound(
        400, 3, (Span(START, Mark(12, 2**32 - 1), 2**40), Span(Mark(20, 7), Mark(2**33, 0), 400))
    ),
    "rewound-nothing": Rewound(0, 1, ()),
    "forked": Forked("dapo-7b", 400),
    "forked-now": Forked("dapo-7b", None),
    "selected-sampled": Selected(13, 9, 5, 1, 3, skipped=(7, 0, 2**20)),
    "drawn-sampled": Selected(13, 9, 8, 1, 0, Cursor(4, 17, 2_000), (3,)),
    "drawn-by-rank": Selected(5, 3, 3, 0, 0, Cursor(0, 1, 9), ranked=Ranked((7, 2**20, 0), 1, 0.25)),
    "selected-audited": Selected(5, 9, 7, 1, 1, skipped=(4,), audited=Audited((1, 2), (3,))),
    "reported-timed": Reported(2, True, [], index(1), Rewards.of([[0, 1]]), Seconds(12.5, 3.25)),
    "priors": Priors(index(0, 7), np.array([1.5, 0.0]), np.array([8.0, 4.0])),
    "joined": Joined(("math", "code"), index(4, 0, 9), np.array([1, 2, 32], np.uint8)),
    "selected-by-domain": Selected(5, 9, 7, 1, 1, parts=(Part(0, 4, 4, 0, 0), Part(2, 5, 3, 1, 1))),
    "drawn-by-quota": Selected(
        5, 3, 3, 0, 0, parts=(Part(1, 3, 3, 0, 0, Walk(Cursor(1, 2, 7), 0.25, -0.5)), Part(2, 0, 0, 0, 0, Walk()))
    ),
}  # fmt: skip
RECORDED = {
    name: Recorded(event, 1_764_000_000_123, 2**64 - 1 - place) for place, (name, event) in enumerate(EVENTS.items())
}


def plain(value: Any) -> Any:
    """An event as nested plain values, arrays with their types, that can be compared."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.tolist()
    if isinstance(value, Cursor | tuple):
        return value
    if isinstance(value, Recorded | Rewards | Event):
        return type(value).__name__, {each.name: plain(getattr(value, each.name)) for each in fields(value)}
    return value


def golden(name: str) -> bytes:
    return bytes.fromhex((GOLDEN / f"{name}.hex").read_text())


@pytest.mark.parametrize("name", EVENTS)
def test_golden_bytes_are_read(name: str) -> None:
    assert plain(decode(golden(name))) == plain(RECORDED[name])


@pytest.mark.parametrize("name", EVENTS)
def test_golden_bytes_are_written(name: str) -> None:
    written, kept = encode(RECORDED[name]), golden(name)
    # zlib's output may differ between its versions; what it holds may not.
    assert opened(written) == opened(kept)


def opened(payload: bytes) -> bytes:
    return payload[:HEAD] + (zlib.decompress(payload[HEAD:]) if payload[2] else payload[HEAD:])


def test_there_are_golden_bytes_of_every_event_type() -> None:
    assert {type(event) for event in EVENTS.values()} == set(get_args(Event))
    assert {path.stem for path in GOLDEN.glob("*.hex")} == set(EVENTS)


def test_the_envelope_is_as_documented() -> None:
    payload = encode(Recorded(EVENTS["selected"], 0x0102030405060708, 0x1112131415161718))
    version, kind, flags, zero, at_ms, nonce = struct.unpack_from("<BBBBQQ", payload)
    assert (version, kind, flags, zero) == (1, 4, 0, 0)
    assert (at_ms, nonce) == (0x0102030405060708, 0x1112131415161718)
    assert payload[HEAD:] == struct.pack("<qqqqqB", 12, 512, 384, 70, 58, 0)


def test_type_numbers() -> None:
    numbers = {type(event): encode(RECORDED[name])[1] for name, event in EVENTS.items()}
    assert numbers == {
        Created: 1,
        Patched: 2,
        Pooled: 3,
        Selected: 4,
        Reported: 5,
        Rewound: 6,
        Forked: 7,
        Priors: 8,
        Joined: 9,
    }


def test_large_bodies_are_compressed_and_small_ones_are_not() -> None:
    assert encode(RECORDED["reported"])[2] == 0
    assert encode(RECORDED["reported-many"])[2] == 1
    assert len(encode(RECORDED["reported-many"])) < 4096


def test_bodies_that_do_not_compress_stay_as_they_are() -> None:
    noise = np.random.default_rng(1).random(1000).tolist()
    event = Reported(0, False, [b"a"], index(0), Rewards.of([noise]))
    payload = encode(Recorded(event, 0, 0))
    assert decode(payload).event.rewards.values.tolist() == noise  # type: ignore[union-attr]
    assert len(payload) < 8 * 1000 + 100


def test_binary_rewards_take_a_bit_each() -> None:
    rewards = Rewards.of(np.random.default_rng(1).integers(0, 2, (384, 8)).tolist())
    event = Reported(0, False, [], np.zeros(384, np.int64), rewards)
    assert len(encode(Recorded(event, 0, 0))) < 384 * 8 / 8 + 384 * 4 + 64


@pytest.mark.parametrize("distinct", [0, 1, 2, 3, 255, 256, 257, 1000])
def test_rewards_of_so_many_values(distinct: int) -> None:
    values = [float(number) / 7 for number in range(distinct)] * 4
    rewards = Rewards.of([values[:5], values[5:]] if values else [[], []])
    read = decode(encode(Recorded(Reported(0, False, [], index(0, 1), rewards), 0, 0))).event
    assert isinstance(read, Reported)
    assert plain(read.rewards) == plain(rewards)


@pytest.mark.parametrize("name", EVENTS)
def test_payloads_cut_off_anywhere_are_refused(name: str) -> None:
    payload = golden(name)
    for size in range(len(payload)):
        with pytest.raises(CodecError):
            decode(payload[:size])


@pytest.mark.parametrize("name", EVENTS)
def test_payloads_with_more_behind_are_refused(name: str) -> None:
    with pytest.raises(CodecError):
        decode(golden(name) + b"\0")


@pytest.mark.parametrize("version", [0, 2, 255])
def test_other_versions_are_named(version: int) -> None:
    with pytest.raises(CodecError, match=f"version {version}; .* version 1"):
        decode(bytes([version]) + golden("selected")[1:])


@pytest.mark.parametrize("kind", [0, 6, 255])
def test_unknown_types_are_refused(kind: int) -> None:
    payload = bytearray(golden("selected"))
    payload[1] = kind
    with pytest.raises(CodecError):
        decode(bytes(payload))


@pytest.mark.parametrize("name", EVENTS)
def test_any_changed_byte_is_refused_or_read_as_an_event(name: str) -> None:
    payload = golden(name)
    for place in range(len(payload)):
        for flip in (0x01, 0x80, 0xFF):
            damaged = bytearray(payload)
            damaged[place] ^= flip
            try:
                event = decode(bytes(damaged)).event
            except CodecError:
                continue
            assert isinstance(event, Event)


@pytest.mark.parametrize("content", ["[]", "7", "null", "nonsense", '"a"', ""])
def test_a_spec_that_is_no_object_is_refused(content: str) -> None:
    payload = golden("created-small")[:HEAD] + content.encode()
    with pytest.raises(CodecError):
        decode(payload)


def test_json_bodies_are_sorted_and_dense() -> None:
    body = encode(RECORDED["patched"])[HEAD:]
    assert body == b'{"easy_min_mean":null,"exploration_bounds":[0.1,0.9],"train_batch_size":64}'
    assert json.loads(body) == EVENTS["patched"].changes  # type: ignore[union-attr]


@pytest.mark.parametrize("lengths", [[4] * 3, [5, 4, 3]], ids=["equal", "ragged"])
def test_a_report_of_more_rewards_than_wanted_is_refused(lengths: list[int]) -> None:
    report = Reported(0, True, [], np.arange(3), Rewards.of([[1.0] * length for length in lengths]))
    payload = encode(Recorded(report, 0, 0))
    assert decode(payload, most_rewards=12).event.step == 0  # type: ignore[union-attr]
    with pytest.raises(CodecError, match="more than 11 rewards"):
        decode(payload, most_rewards=11)


def test_a_few_bytes_that_say_billions_cost_nothing() -> None:
    """65,535 rewards in each of 2^20 groups: refused before there is room made for them."""
    body = struct.pack("<qB", 0, 1) + struct.pack("<I", 0) + struct.pack("<I", 2**20) + bytes(4 * 2**20)
    body += struct.pack("<BH", 1, 65_535) + struct.pack("<H", 1) + struct.pack("<d", 1.0)
    payload = struct.pack("<BBBxQQ", 1, 5, 1, 0, 0) + zlib.compress(body, 9)
    with pytest.raises(CodecError, match="more than 100 rewards"):
        decode(payload, most_rewards=100)
