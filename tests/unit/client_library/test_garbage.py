"""Answers that are none: of other types, of another run, from a proxy."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from greso_client import Drawn, Group, ProtocolError, UnavailableError
from greso_client import _answers as answers
from greso_client._breaker import FIRST_PAUSE
from greso_client._core import Core
from greso_client._delivery import MOST_FAILURES
from greso_client._io import run
from greso_client._reply import UNREADABLE, Answer, read

from .doubles import DEFAULT_SPEC, ClockIO, FakeService, problem

GROUPS = [Group("a", [0.0, 1.0])]
SPLIT = {"easy": 0, "hard": 0}
SELECTION: dict[str, Any] = {
    "selected": [0, 2], "examined": 3, "skipped": {"easy": 1, "hard": 0}, "exploration": {"easy": 0.5, "hard": 0.5},
    "rollout_batch_size": 6, "generation": 0, "stale": False,
    "decisions": [{"keep": True, "reason": "new", "keep_probability": 1.0, "streak": 0}] * 3,
}  # fmt: skip
DRAWN: dict[str, Any] = {
    "prompts": ["a", "b"], "epoch": 0, "examined": 2, "skipped": SPLIT, "exploration": {"easy": 0.5, "hard": 0.5},
    "generation": 0,
}  # fmt: skip
REPORTED: dict[str, Any] = {
    "effective": [0], "zero_variance": SPLIT, "undetermined": 0, "next_rollout_batch_size": 6, "generation": 0,
    "exploration": {"easy": 0.5, "hard": 0.5},
    "step": {"number": 0, "groups": 1, "effective": 1, "missing": 3, "complete": False},
}  # fmt: skip
TOTALS: dict[str, Any] = {
    "examined": 9, "selected": 9, "skipped": SPLIT, "groups": 9, "effective": 9, "zero_variance": SPLIT,
    "undetermined": 0, "rollouts": 72,
}  # fmt: skip
STATE: dict[str, Any] = {
    "run": "test", "generation": 0, "step": 0, "exploration": {"easy": 0.5, "hard": 0.5}, "epoch": 0, "prompts": 3,
    "pool": 3, "spec": dict(DEFAULT_SPEC), "totals": TOTALS | {"rollouts_avoided": 0},
    "domains": [{
        "domain": None, "pool": 3, "share": 0.5, "exploration": {"easy": 0.5, "hard": 0.5},
        "target": {"easy": 0.2, "hard": 0.2}, "totals": TOTALS,
    }],
}  # fmt: skip
ROWS: dict[str, Any] = {
    "steps": [TOTALS | {"step": 0, "p_easy": 0.5, "p_hard": 0.5, "rounds": 1, "complete": True}],
}
PROMPT: dict[str, Any] = {
    "prompt": "a", "streak": 1, "kind": "hard", "keep_probability": 0.5, "visits": 1, "mean": 0.0, "last_step": 0,
    "groups": [{"step": 0, "count": 8, "mean": 0.0, "min": 0.0, "max": 0.0, "outcome": "hard"}],
}  # fmt: skip
READERS = {
    "select": (answers.selection_of(3, 2), SELECTION),
    "draw": (answers.drawn_of(2), DRAWN),
    "report": (answers.reported_of(0, 1), REPORTED),
    "state": (answers.state_of("test"), STATE),
    "steps": (answers.step_rows, ROWS),
    "prompt": (answers.prompt_state, PROMPT),
    "pool": (answers.pool_size, {"added": 1, "pool": 2, "priors": 3}),
}
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path to everything in a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, each in inner for place in places(each, (*path, key)))]


def changed(value: Any, path: tuple[Any, ...], to: Any) -> Any:
    """A JSON value with another one at a path."""
    if not path:
        return to
    copy = value.copy()
    copy[path[0]] = changed(value[path[0]], path[1:], to)
    return copy


@pytest.mark.parametrize("call", READERS)
def test_what_the_contract_says_is_read(call: str) -> None:
    reader, body = READERS[call]
    reader(body)


@pytest.mark.parametrize("call", READERS)
@given(data=st.data())
def test_an_answer_with_anything_in_it_is_read_as_the_contract_says_or_not_at_all(
    call: str, data: st.DataObject
) -> None:
    reader, body = READERS[call]
    place = data.draw(st.sampled_from(places(body)))
    text = json.dumps(changed(body, place, data.draw(ANYTHING))).encode()
    try:
        value = read(Answer(200, {}, text), reader)
    except ProtocolError:
        return
    assert_is_of_the_kinds_it_says(value)


def assert_is_of_the_kinds_it_says(value: Any) -> None:
    for name in ("examined", "rollout_batch_size", "generation", "epoch", "undetermined", "next_rollout_batch_size"):
        assert type(getattr(value, name, 0)) is int
    assert all(type(index) is int for index in [*getattr(value, "selected", []), *getattr(value, "effective", [])])
    if isinstance(value, Drawn):
        assert all(type(prompt) is str for prompt in value.prompts)


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"7", b"[" * 200_000, b'{"a":' * 200_000, b"\xff", b"9" * 5000])
def test_a_body_that_is_no_object_is_no_answer(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        read(Answer(200, {}, body), answers.nothing)


@given(st.integers(300, 599), st.text(max_size=40) | ANYTHING.map(json.dumps), st.none() | st.text(max_size=30))
def test_an_error_of_any_form_is_one_of_ours(status: int, body: str, later: str | None) -> None:
    headers = {} if later is None else {"retry-after": later}
    with pytest.raises(UnavailableError) as caught:
        read(Answer(status, headers, body.encode("utf-8", "replace")), answers.nothing)
    assert caught.value.retry_after is None or caught.value.retry_after >= 0


@pytest.mark.parametrize(
    ("later", "seconds"),
    [("3", 3.0), ("-3", 0.0), ("nan", None), ("inf", float("inf")), ("1e999", float("inf")), ("soon", None),
     ("Fri, 01 Jan 1999 00:00:00 GMT", 0.0), ("Mon, 99 Foo 0000 99:99:99 +9999", None),
     ("Fri, 31 Dec 99999 00:00:00 GMT", None), ("", None)],
)  # fmt: skip
def test_retry_after_of_any_form(later: str, seconds: float | None) -> None:
    for status in (429, 503):
        with pytest.raises(UnavailableError) as caught:
            read(Answer(status, {"retry-after": later}, b"busy"), answers.nothing)
        assert caught.value.retry_after == seconds


def test_a_service_that_is_asked_too_often_is_left_alone_as_long_as_it_says(
    core: Core, service: FakeService, io: ClockIO
) -> None:
    service.script.append(problem(429, headers={"retry-after": "20"}))
    assert run(core.select(0, ["a"])).degraded
    io.time += 15
    assert run(core.select(0, ["a"])).degraded
    assert len(service.requests) == 1
    io.time += 6
    assert not run(core.select(0, ["a"])).degraded


# Deliveries


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200),
        httpx.Response(204),
        httpx.Response(200, json={"status": "ok"}),
        httpx.Response(200, text="<html>"),
        httpx.Response(200, json=REPORTED | {"step": REPORTED["step"] | {"number": 7}}),
        httpx.Response(200, json=REPORTED | {"effective": [4]}),
        httpx.Response(404, text="<html>no upstream"),
        httpx.Response(403, text="<html>not allowed"),
    ],
)
def test_only_the_answer_to_a_report_is_its_delivery(
    core: Core, service: FakeService, io: ClockIO, answer: httpx.Response
) -> None:
    service.down = True
    run(core.report(0, GROUPS))
    service.down = False
    io.time += 2 * FIRST_PAUSE
    service.script.append(answer)
    assert not run(core.flush())
    counters = core.counts.snapshot()
    assert (counters.delivered, counters.refused) == (0, 0)
    io.time += 2 * FIRST_PAUSE
    assert run(core.flush())
    assert service.reported() == [(0, ["a"])]


def test_a_report_that_a_proxy_finds_too_large_makes_way(core: Core, service: FakeService, io: ClockIO) -> None:
    service.down = True
    for step in range(2):
        run(core.report(step, GROUPS))
    service.down = False
    io.time += 2 * FIRST_PAUSE
    service.script.extend([httpx.Response(413, text="<html>413 Request Entity Too Large")] * MOST_FAILURES)
    assert [run(core.flush()) for _ in range(MOST_FAILURES)] == [False] * (MOST_FAILURES - 1) + [True]
    assert service.reported() == [(1, ["a"])]
    assert core.counts.snapshot().refused == 1


@pytest.mark.parametrize("answer", [httpx.Response(200), httpx.Response(200, json={"status": "ok"})])
def test_a_pool_is_not_taken_for_sent_by_an_answer_that_is_none(
    core: Core, service: FakeService, io: ClockIO, answer: httpx.Response
) -> None:
    service.down = True
    run(core.add_prompts(["a", "b"]))
    service.down = False
    io.time += 2 * FIRST_PAUSE
    service.script.append(answer)
    run(core.select(0, ["a"]))
    assert service.pool == []
    io.time += 4 * FIRST_PAUSE
    run(core.select(0, ["a"]))
    assert service.pool == ["a", "b"]


def test_an_answer_of_another_generation_is_none(core: Core, service: FakeService) -> None:
    run(core.create_run({}))
    for reply in (SELECTION | {"selected": [0], "examined": 1}, REPORTED, DRAWN):
        service.script.append(httpx.Response(200, json=reply | {"generation": 3}))
    assert run(core.select(0, ["a"])).degraded
    assert run(core.report(0, GROUPS)).degraded
    with pytest.raises(UnavailableError, match="generation 3, not 0"):
        run(core.draw(0))
    assert core.generation == 0


def test_another_runs_state_teaches_nothing(core: Core, service: FakeService) -> None:
    service.script.append(httpx.Response(200, json=STATE | {"run": "other", "generation": 5}))
    assert run(core.create_run({})).degraded
    assert core.generation is None


def test_what_is_called_unreadable_holds_all_that_python_raises_over_json() -> None:
    assert issubclass(RecursionError, UNREADABLE)
    assert issubclass(OverflowError, UNREADABLE)
