"""The checker finds what is wrong with histories that are, and nothing wrong with those that are not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from greso_service import plans
from greso_service.core.events import Created, Event, Rewound, Span
from greso_service.core.mark import START
from greso_service.history import codec
from greso_service.history.codec import Recorded
from greso_service.history.exported import Writer

from ..folding import fold, run  # noqa: TID252
from . import reading
from .checker import check, disagreements, lost, told_apart
from .record import Asked, Cut, Happened, Told
from .schedule import KINDS, schedule


def asked(name: str, sent: float, *told: float, status: int = 200, body: bytes = b"{}", whole: bool = True) -> Asked:
    """A report, sent at `sent` and answered at the times `told`."""
    tries = [sent, *told[:-1]]
    answers = [Told(at, status, body, n > 0, tries[n]) for n, at in enumerate(told)]
    return Asked(name, "report", {}, whole, tries, answers)


A, B, C = asked("a", 1, 2), asked("b", 3, 4), asked("c", 5, 6)
SILENT = asked("silent", 3)
REFUSED = asked("refused", 3, 4, status=409)
AWAY = asked("away", 3, 4, status=503)
STALE = asked("stale", 3, 4, body=b'{"selected":[],"stale":true}')
PART = asked("part", 3, whole=False)
TWICE = asked("twice", 1, 2, 7)


def history(*names: str) -> list[Happened]:
    return [Happened(name) for name in names]


SOUND = {
    "nothing was asked": ([], []),
    "all in order": ([A, B, C], history("a", "b", "c")),
    "who asked at the same time comes in any order": (
        [asked("a", 1, 5), asked("b", 2, 4), asked("c", 3, 6)],
        history("c", "b", "a"),
    ),
    "without an answer it may be there": ([A, SILENT, C], history("a", "silent", "c")),
    "or not": ([A, SILENT, C], history("a", "c")),
    "a request that never got through and never happened": ([A, AWAY, PART, REFUSED], history("a")),
    "an answer of 503 says nothing": ([A, AWAY], history("a", "away")),
    "a stale selection acknowledges nothing": ([A, STALE], history("a")),
    "asked twice, there once": ([TWICE], history("twice")),
}


@pytest.mark.parametrize(("requests", "events"), SOUND.values(), ids=SOUND)
def test_a_sound_history(requests: Sequence[Asked], events: Sequence[Happened]) -> None:
    assert check(requests, events) == []


OTHER_ANSWER = Asked("a", "report", {}, True, [1, 3], [Told(2, 200, b"1"), Told(4, 200, b"2", replayed=True)])

WRONG = {
    "lost": ("lost", [A, B, C], history("a", "c")),
    "lost although the first try got no answer": ("lost", [asked("late", 1, 2, 3)], []),
    "doubled": ("doubled", [A, B], history("a", "b", "b")),
    "doubled though never acknowledged": ("doubled", [SILENT], history("silent", "silent")),
    "half of it": ("half applied", [A], [Happened("a", whole=False)]),
    "a part that was sent was taken for the whole": ("half applied", [PART], history("part")),
    "done although refused": ("refused and done", [REFUSED], history("refused")),
    "what nobody asked": ("invented", [A], history("a", "")),
    "what somebody else asked": ("invented", [A], history("a", "b")),
    "in another order than the answers": ("reordered", [A, B], history("b", "a")),
    "an answer of another history": ("answer of another history", [A], [Happened("a", answer=b"[]")]),
    "another answer the second time": ("answered otherwise", [OTHER_ANSWER], history("a")),
}


@pytest.mark.parametrize(("what", "requests", "events"), WRONG.values(), ids=WRONG)
def test_a_wrong_history(what: str, requests: Sequence[Asked], events: Sequence[Happened]) -> None:
    assert told_apart(check(requests, events)) == {what: 1}


CUT = Cut(flushed=2.5, killed=6.5, back=7)


def test_what_a_power_cut_may_take_is_an_end_of_what_was_not_flushed() -> None:
    assert check([A, B, C], history("a", "b"), [CUT]) == []
    assert check([A, B, C], history("a"), [CUT]) == []
    assert lost([A, B, C], history("a")) == {"b", "c"}
    assert told_apart(check([A, B, C], [], [CUT])) == {"lost": 1}, "a was acknowledged before the flush"
    assert told_apart(check([A, B, C], history("a", "c"), [CUT])) == {"a gap": 1}
    slow = asked("slow", 6, 9)  # done before, answered when Redis was back
    assert check([A, B, C, slow], history("a", "b"), [CUT]) == []
    after = asked("d", 8, 9)
    assert check([A, B, C, after], history("a", "d"), [CUT]) == []
    assert told_apart(check([A, B, C, after], history("a"), [CUT])) == {"lost": 1}


def test_replicas_that_disagree() -> None:
    one, two = {"state": "x", "export": b"1"}, {"state": "x", "export": b"2"}
    assert disagreements({"one": one, "two": one, "fresh": {"state": "x"}}) == []
    assert told_apart(disagreements({"one": one, "two": two, "fresh": {"state": "y"}})) == {"disagreeing": 2}


# From the bytes of an export

SPEC: dict[str, Any] = {"policy": "uniform", "train_batch_size": 4}
POOL = {"prompts": ["p0", "p1", "p2"]}


def report_of(number: int, reward: float = 1.0) -> dict[str, Any]:
    groups = [{"prompt": prompt, "rewards": [0.0, reward]} for prompt in ("p1", f"own/{number}")]
    return {"step": 0, "results": groups, "final": False}


def told_of(requests: Sequence[tuple[str, str, dict[str, Any]]]) -> tuple[list[Asked], list[Event]]:
    """Requests, one after the other, with the answers that they should get; and the events that come of them."""
    state = run(**SPEC)
    made, events = [], list[Event]([Created(state.spec.to_dict())])
    for at, (name, kind, body) in enumerate(requests):
        each = Asked(name, kind, body, True, [at])
        plan = reading.planned(state, each)
        assert plan is not None
        each.told.append(Told(at + 0.5, 200, plan.answer))
        fold(state, plan.events)
        events += plan.events
        made.append(each)
    return made, events


def export_of(events: Sequence[Event]) -> bytes:
    payloads = [codec.encode(Recorded(event, 1, nonce)) for nonce, event in enumerate(events)]
    mark = START
    for payload in payloads:
        mark = mark.then(payload)
    writer = Writer("r", mark)
    return writer.begin() + writer.lines(payloads) + writer.end()


STORY = [
    ("pool-0", "pool", POOL),
    ("report-1", "report", report_of(1)),
    ("select-2", "select", {"step": 0, "prompts": ["p0", "p1"]}),
    ("report-2", "report", report_of(2, reward=0.0)),
    ("draw-1", "draw", {"step": 0, "count": 1}),
]


def read_back(run_name: str, export: bytes, requests: Sequence[Asked]) -> reading.Read:
    return asyncio.run(reading.read(run_name, export, requests))


def judged(requests: Sequence[Asked], events: Sequence[Event]) -> dict[str, int]:
    made = Asked(reading.CREATED, "create", {}, True, [-1], [Told(-1, 201, b"")])
    read = read_back("r", export_of(events), requests)
    return dict(told_apart(check([made, *requests], read.happened)))


def test_an_export_is_read_back_to_its_requests() -> None:
    requests, events = told_of(STORY)
    assert judged(requests, events) == {}
    read = read_back("r", export_of(events), requests)
    assert [event.id for event in read.happened] == ["created", *(name for name, _, _ in STORY)]


def test_an_export_that_is_wrong_is_found_out() -> None:
    requests, events = told_of(STORY)
    assert judged(requests, [*events[:3], *events[4:]]) == {"lost": 1}
    doubled = judged(requests, [*events, events[2]])
    assert doubled == {"doubled": 1}
    before = fold(run(**SPEC), events[1:4])
    [shorter] = plans.report(before, 0, ["own/2"], [[0.0, 0.0]], final=False).events
    assert judged(requests, [*events[:4], shorter, *events[5:]]) == {"half applied": 1}
    assert judged(requests[:3], events) == {"invented": 2}
    del requests[4]
    assert judged(requests, events) == {"invented": 1}


def test_a_rewind_is_known_by_its_step() -> None:
    requests, events = told_of(STORY[:2])
    mark = START
    for nonce, event in enumerate(events):
        mark = mark.then(codec.encode(Recorded(event, 1, nonce)))
    events.append(Rewound(0, 1, (Span(START, mark, 0),)))
    back = Asked("rewind-0", "rewind", {"step": 0}, True, [5])
    read = read_back("r", export_of(events), [*requests, back])
    assert read.happened[-1].id == "rewind-0"
    assert read.happened[-1].answer is not None
    assert json.loads(read.happened[-1].answer)["generation"] == 1
    assert judged(requests, events) == {"invented": 1}


# Schedules


def test_a_seed_makes_the_same_schedule_and_the_kinds_come_up_alike() -> None:
    assert schedule(7) == schedule(7) != schedule(8)
    kinds = [kind for seed in range(500) for kind in schedule(seed).kinds]
    assert set(kinds) == set(KINDS)
    assert min(kinds.count(kind) for kind in KINDS) > 15


def test_requests_of_a_schedule_can_be_told_apart() -> None:
    for seed in range(50):
        ops = [op for trainer in schedule(seed).trainers for op in trainer]
        assert len({op.id for op in ops}) == len(ops)
        assert len({len(op.body["prompts"]) for op in ops if op.kind == "select"}) == sum(
            op.kind == "select" for op in ops
        )
