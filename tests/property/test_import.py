"""Histories that go out and come in again: the same bytes, the same state, the same decisions; and nothing else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from greso_service.core.events import (
    Audited,
    Created,
    Event,
    Joined,
    Part,
    Patched,
    Pooled,
    Priors,
    Ranked,
    Reported,
    Rewound,
    Span,
)
from greso_service.core.events import Selected as SelectedEvent
from greso_service.core.mark import START, Mark
from greso_service.core.outcome import Rewards
from greso_service.core.pool import Cursor, Walk
from greso_service.errors import InvalidInput, NotFound
from greso_service.given import BARE
from greso_service.history import codec, exported
from greso_service.history.base import RunKey
from greso_service.history.codec import Recorded
from greso_service.history.exported import Writer
from greso_service.history.memory import MemoryHistory
from greso_service.runs import Runs

from ..stores import state_of  # noqa: TID252
from . import test_codec
from .test_replay import KEY, ask
from .test_rewind import Deed, Fork, Rewind, deeds, refused
from .traces import Action, Patch, Pool, Report, Select, actions, specs


def service() -> Runs:
    return Runs(MemoryHistory(), idempotency_ttl=60, snapshot_every=3)


async def pieces(text: bytes, size: int = 100) -> AsyncIterator[bytes]:
    for start in range(0, len(text), size):
        yield text[start : start + size]


async def exported_of(runs: Runs, key: RunKey = KEY) -> bytes:
    return b"".join([piece async for piece in await runs.export(key)])


async def do(runs: Runs, deed: Deed, number: int) -> Any:
    """Its answer; None if it is refused."""
    match deed:
        case Rewind(step):
            doing = runs.rewind(KEY, step)
        case Fork(step):
            doing = runs.fork(KEY, f"fork-{number}", step)
        case Patch(changes):
            doing = runs.change(KEY, changes)
        case _:
            doing = ask(runs, deed, BARE)
    answers: list[Any] = []

    async def done() -> None:
        answers.append((await doing).body)

    return None if await refused(done()) else answers[0]


@given(specs, deeds, st.lists(actions, max_size=6), st.integers(1, 3000))
def test_a_run_that_went_out_and_came_in_is_the_same(
    spec: dict[str, Any], trace: list[Deed], more: list[Action], size: int
) -> None:
    asyncio.run(_travelled(spec, trace, more, size))


async def _travelled(spec: dict[str, Any], trace: list[Deed], more: list[Action], size: int) -> None:
    one, two = service(), service()
    await one.create(KEY, spec)
    for number, deed in enumerate(trace):
        await do(one, deed, number)
    forks = [RunKey(KEY.tenant, listed.run) for listed in await one.listed(KEY.tenant) if listed.run != KEY.run]
    for key in (KEY, *forks):
        text = await exported_of(one, key)
        answer, made = await two.import_history(key, pieces(text, size))
        assert made
        assert answer.body == (await one.show(key)).body
        assert await exported_of(two, key) == text
        assert await state_of(two, key) == await state_of(one, key)
    text = await exported_of(one)
    other = RunKey("default", "other")
    await two.import_history(other, pieces(text, size))
    renamed = await exported_of(two, other)
    manifest, *lines, end = text.splitlines(keepends=True)
    assert renamed.splitlines(keepends=True)[:-1] == [manifest.replace(b'"run":"run"', b'"run":"other"'), *lines]
    assert len(renamed) == len(text) + 2
    assert list(exported.read(renamed.splitlines(keepends=True)))
    assert end not in renamed
    for number, deed in enumerate(more):
        assert await do(one, deed, 100 + number) == await do(two, deed, 100 + number)
    for runs in (one, two):
        await runs.close()


# What is off

rows = st.lists(st.integers(0, 12), max_size=6)
index = rows.map(lambda numbers: np.array(numbers, np.int64))
ids = st.lists(st.sampled_from([b"a", b"b", b"\xff", b"", b"x" * 257, b"new", b"newer", "é".encode()]), max_size=3)
steps = st.integers(-1, 10) | st.just(2**53)
few = st.integers(-1, 9)
numbers = st.sampled_from([0.0, 1.0, -1.0, 0.5, float("nan"), float("inf"), 3.0])


@st.composite
def reported(draw: st.DrawFn) -> Reported:
    rewards = draw(st.lists(st.lists(numbers, max_size=4), max_size=4))
    chosen = draw(st.lists(st.integers(0, 12), min_size=len(rewards), max_size=len(rewards)))
    return Reported(draw(steps), draw(st.booleans()), draw(ids), np.array(chosen, np.int64), Rewards.of(rewards))


@st.composite
def priors(draw: st.DrawFn) -> Priors:
    who = draw(index)
    values = st.lists(numbers, min_size=who.size, max_size=who.size)
    return Priors(who, np.array(draw(values), np.float64), np.array(draw(values), np.float64))


@st.composite
def joined(draw: st.DrawFn) -> Joined:
    who = draw(index)
    numbers = draw(st.lists(st.integers(0, 3), min_size=who.size, max_size=who.size))
    names = draw(st.lists(st.sampled_from(["math", "code", "", "a b"]), max_size=2))
    return Joined(tuple(names), who, np.array(numbers, np.uint8))


cursors = st.builds(Cursor, few, few, few)
walks = st.none() | st.builds(Walk, cursors, numbers, numbers)
parts = st.lists(st.builds(Part, st.integers(0, 3), few, few, few, few, walks), max_size=3).map(tuple)
marks = st.builds(Mark, st.integers(0, 4), st.integers(0, 3))
spans = st.lists(st.builds(Span, marks | st.just(START), marks, steps)).map(tuple)
changes: st.SearchStrategy[dict[str, Any]] = st.dictionaries(
    st.sampled_from(["p_easy", "policy", "seed", "train_batch_size", "exploration_bounds"]),
    st.sampled_from([0.5, 7, "irt", True, None, [0.1, 0.9], [1], {}, float("inf"), 2**80]),
)
near: st.SearchStrategy[Event] = st.one_of(
    reported(),
    priors(),
    joined(),
    st.builds(Pooled, ids, index),
    st.builds(
        SelectedEvent, steps, few, few, few, few, st.none() | cursors, rows.map(tuple),
        st.none() | st.builds(Ranked, rows.map(tuple), st.integers(0, 9), numbers),
        st.none() | st.builds(Audited, rows.map(tuple), rows.map(tuple)), st.just(()) | parts,
    ),
    st.builds(Rewound, steps, st.integers(0, 2), spans),
    st.builds(Patched, changes),
    st.builds(Created, st.just({})),
)  # fmt: skip


def written(payloads: Sequence[bytes]) -> bytes:
    mark = START
    for payload in payloads:
        mark = mark.then(payload)
    writer = Writer(KEY.run, mark)
    return writer.begin() + writer.lines(payloads) + writer.end()


@given(specs, st.lists(actions, max_size=8), near | test_codec.events, st.integers(0, 8), st.integers(0, 2**64 - 1))
def test_a_wrong_event_is_refused_by_its_line_or_does_no_harm(
    spec: dict[str, Any], trace: list[Action], wrong: Event, place: int, at_ms: int
) -> None:
    asyncio.run(_spoilt(spec, trace, wrong, place, at_ms))


async def _spoilt(spec: dict[str, Any], trace: list[Action], wrong: Event, place: int, at_ms: int) -> None:
    one, two = service(), service()
    await one.create(KEY, spec)
    for number, deed in enumerate(trace):
        await do(one, deed, number)
    payloads = list(exported.read((await exported_of(one)).splitlines(keepends=True)))
    place = min(place, len(payloads))
    payloads.insert(place, codec.encode(Recorded(wrong, at_ms, 7)))
    text = written(payloads)
    try:
        await two.import_history(KEY, pieces(text))
    except InvalidInput as error:
        [fault] = error.faults
        number = int(fault.pointer[1:])
        assert number > place, "what stands before it was right"
        assert f"line {number + 1} has " in fault.detail
        try:
            await two.show(KEY)
        except NotFound:
            return
        raise AssertionError("a part of it is there") from None
    assert await exported_of(two) == text
    state = await state_of(two, KEY)
    for deed in (
        Pool(["a", "b", "n"]),
        Select(3, ["a", "b", "n"], None, 0),
        Report(3, [("a", [0, 1]), ("n", [1])], True),
    ):
        assert await do(two, deed, 0) is not None
    json.loads((await two.show(KEY)).body)
    assert state["generation"] >= 0
