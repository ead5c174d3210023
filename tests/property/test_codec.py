"""Any event survives being written and read."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from greso_service.core.events import (
    Created,
    Event,
    Forked,
    Joined,
    Part,
    Patched,
    Pooled,
    Priors,
    Reported,
    Rewound,
    Selected,
    Span,
)
from greso_service.core.mark import START, Mark
from greso_service.core.outcome import Rewards
from greso_service.core.pool import Cursor, Walk
from greso_service.history.codec import CodecError, Recorded, decode, encode

counts = st.integers(0, 2**63 - 1)
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
json_objects = st.dictionaries(
    names, st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | names | st.lists(st.integers())
)
ids = st.lists(st.binary(min_size=1, max_size=256), max_size=20)
indices = st.lists(st.integers(0, 2**32 - 1), max_size=30).map(lambda rows: np.array(rows, np.int64))
floats = st.floats(allow_nan=False, allow_infinity=False).map(lambda number: number + 0.0)  # no -0.0, as Rewards.of
groups = st.lists(st.lists(floats | st.sampled_from([0.0, 1.0]), max_size=9), max_size=12)
uniform_groups = st.integers(0, 8).flatmap(
    lambda size: npst.arrays(np.float64, st.tuples(st.integers(1, 20), st.just(size)), elements=floats).map(list)
)


@st.composite
def reported(draw: st.DrawFn) -> Reported:
    rewards = Rewards.of(draw(groups | uniform_groups))
    index = draw(npst.arrays(np.int64, rewards.lengths.size, elements=st.integers(0, 2**32 - 1)))
    return Reported(draw(counts), draw(st.booleans()), draw(ids), index, rewards)


@st.composite
def priors(draw: st.DrawFn) -> Priors:
    index = draw(indices)
    passed, tried = (draw(npst.arrays(np.float64, index.size, elements=floats)) for _ in range(2))
    return Priors(index, passed, tried)


@st.composite
def joined(draw: st.DrawFn) -> Joined:
    index = draw(indices)
    return Joined(tuple(draw(st.lists(names))), index, draw(npst.arrays(np.uint8, index.size)))


cursors = st.builds(Cursor, counts, counts, counts)
walks = st.none() | st.builds(Walk, cursors, floats, floats)
parts = st.builds(Part, st.integers(0, 255), counts, counts, counts, counts, walks)
marks = st.builds(Mark, counts, st.integers(0, 2**32 - 1))
spans = st.builds(Span, marks, marks, counts)

events: st.SearchStrategy[Event] = st.one_of(
    st.builds(Rewound, counts, counts, st.lists(spans, max_size=5).map(tuple)),
    st.builds(Forked, names, st.none() | counts),
    st.builds(Created, json_objects),
    st.builds(Patched, json_objects),
    st.builds(Pooled, ids, indices),
    st.builds(Selected, *[counts] * 5, st.none() | cursors, parts=st.lists(parts, max_size=3).map(tuple)),
    joined(),
    reported(),
    priors(),
)


def plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, Event | Rewards):
        return type(value).__name__, [plain(getattr(value, each.name)) for each in fields(value)]
    return value


@given(events, st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_any_event_comes_back(event: Event, at_ms: int, nonce: int) -> None:
    read = decode(encode(Recorded(event, at_ms, nonce)))
    assert (read.at_ms, read.nonce) == (at_ms, nonce)
    assert plain(read.event) == plain(event)


@given(events)
def test_writing_is_a_function_of_the_event(event: Event) -> None:
    payload = encode(Recorded(event, 5, 6))
    assert encode(decode(payload)) == payload


@given(events, events, st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_events_that_differ_differ_in_bytes(first: Event, second: Event, nonce: int, other: int) -> None:
    same = (plain(first), nonce) == (plain(second), other)
    assert (encode(Recorded(first, 0, nonce)) == encode(Recorded(second, 0, other))) == same


@given(st.binary(max_size=200))
def test_any_bytes_are_an_event_or_refused(payload: bytes) -> None:
    try:
        decode(payload)
    except CodecError:
        return


@given(st.integers(1, 9), st.booleans(), st.binary(max_size=80))
def test_any_body_is_an_event_or_refused(kind: int, compressed: bool, body: bytes) -> None:
    payload = bytes([1, kind, compressed, 0]) + bytes(16) + body
    try:
        decode(payload)
    except CodecError:
        return


@given(st.lists(st.binary(max_size=20), max_size=10))
def test_a_mark_survives_its_text_and_tells_histories_apart(payloads: list[bytes]) -> None:
    mark = START
    for payload in payloads:
        mark = mark.then(payload)
    assert Mark.parse(str(mark).encode()) == mark
    assert mark.number == len(payloads)
    if payloads and payloads != [*payloads[:-1], b"other"]:
        other = START
        for payload in [*payloads[:-1], b"other"]:
            other = other.then(payload)
        assert other != mark
