"""Bad input to select, draw, report and pool: refused with its place named, and nothing applied."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from .oracle.problems import JSON, problem, send, untouched

if TYPE_CHECKING:
    from .oracle.service import Service

GOOD = {"prompt": "p", "rewards": [0, 1]}
LONG_PROMPTS = ["x" * 257, "é" * 129, "日" * 86, "x" * 100_000]

# What every call with a step refuses: the field's value, and where the refusal points.
BAD_STEPS: list[Any] = [-1, "1", 1.5, True, None, [1], {}, -(2**70)]
BAD_PROMPTS: list[Any] = ["", 17, None, True, ["p"], {}, *LONG_PROMPTS]


def each(*values: Any) -> tuple[Any, ...]:
    """Values of any types, to go through."""
    return values


BAD_REPORTS: list[tuple[Any, list[str]]] = [
    *[({"step": step, "results": [GOOD]}, ["/step"]) for step in BAD_STEPS],
    *[({"step": 1, "results": [GOOD, {"prompt": p, "rewards": [1]}]}, ["/results/1/prompt"]) for p in BAD_PROMPTS],
    ({"results": [GOOD]}, ["/step", ""]),
    ({"step": 1}, ["/results", ""]),
    *[({"step": 1, "results": value}, ["/results"]) for value in each(None, "x", {}, 1)],
    *[({"step": 1, "results": [GOOD, value]}, ["/results/1"]) for value in each(None, "p", 1, [])],
    ({"step": 1, "results": [GOOD, {"rewards": [1]}]}, ["/results/1/prompt", "/results/1"]),
    ({"step": 1, "results": [GOOD, {"prompt": "p"}]}, ["/results/1/rewards", "/results/1"]),
    *[
        ({"step": 1, "results": [GOOD, {"prompt": "p", "rewards": value}]}, ["/results/1/rewards"])
        for value in each(None, "11", 1, {})
    ],
    *[
        ({"step": 1, "results": [GOOD, {"prompt": "p", "rewards": [0, 1, value]}]}, ["/results/1/rewards/2"])
        for value in each("1", None, True, [1], {}, "NaN")
    ],
    ({"step": 1, "results": [GOOD], "bogus": 1}, ["/bogus"]),
    ({"step": 1, "results": [GOOD], "a/b~": 1}, ["/a~1b~0"]),
    ({"step": 1, "results": [GOOD, GOOD | {"bogus": 1}]}, ["/results/1/bogus"]),
    *[({"step": 1, "results": [GOOD], "final": value}, ["/final"]) for value in each("yes", 1, [])],
]

BAD_SELECTS: list[tuple[Any, list[str]]] = [
    *[({"step": step, "prompts": ["p"]}, ["/step"]) for step in BAD_STEPS],
    *[({"step": 1, "prompts": ["p", "p", prompt]}, ["/prompts/2"]) for prompt in BAD_PROMPTS],
    ({"prompts": ["p"]}, ["/step", ""]),
    ({"step": 1}, ["/prompts", ""]),
    *[({"step": 1, "prompts": value}, ["/prompts"]) for value in each(None, "p", {}, 1)],
    *[({"step": 1, "prompts": ["p"], "limit": value}, ["/limit"]) for value in each(-1, "1", 1.5, True, [])],
    *[({"step": 1, "prompts": ["p"], "at_least": value}, ["/at_least"]) for value in each(-1, "1", 1.5, True, [])],
    *[({"step": 1, "prompts": ["p"], "explain": value}, ["/explain"]) for value in each("yes", 1, [])],
    ({"step": 1, "prompts": ["p"], "bogus": None}, ["/bogus"]),
]

BAD_DRAWS: list[tuple[Any, list[str]]] = [
    *[({"step": step, "count": 1}, ["/step"]) for step in BAD_STEPS],
    ({"count": 1}, ["/step", ""]),
    *[({"step": 1, "count": value}, ["/count"]) for value in each(-1, "1", 1.5, True, [])],
    ({"step": 1, "bogus": 1}, ["/bogus"]),
]

BAD_POOLS: list[tuple[Any, list[str]]] = [
    *[({"prompts": ["new", prompt]}, ["/prompts/1"]) for prompt in BAD_PROMPTS],
    *[({"prompts": value}, ["/prompts"]) for value in each(None, "p", {}, 1)],
    ({}, ["/prompts", ""]),
    ({"prompts": ["new"], "bogus": 1}, ["/bogus"]),
]

CALLS: dict[str, tuple[str, str, Any]] = {
    "report": ("POST", "report", {"step": 1, "results": [GOOD]}),
    "select": ("POST", "select", {"step": 1, "prompts": ["p"]}),
    "draw": ("POST", "draw", {"step": 1, "count": 1}),
    "pool": ("PUT", "pool", {"prompts": ["new"]}),
    "rewind": ("POST", "rewind", {"step": 0}),
    "fork": ("POST", "fork", {"run": "bad-input-fork"}),
}


@pytest.fixture(scope="module")
def run(served: Service) -> str:
    """One run with something in it: whatever is refused below, it stays as it is."""
    path = served.create("bad-input", train_batch_size=4, rollout_batch_size=8)
    served.json("PUT", f"{path}/pool", {"prompts": ["p", "q"]})
    served.json("POST", f"{path}/report", {"step": 1, "results": [GOOD, {"prompt": "q", "rewards": [0, 0]}]})
    return path


def refuse(served: Service, run: str, call: str, body: Any, pointers: list[str]) -> None:
    method, verb, _ = CALLS[call]
    with untouched(served, run):
        problem(served.call(method, f"{run}/{verb}", body), 422, pointers=pointers)


def shown(case: Any) -> str:
    """A short id for a case."""
    return json.dumps(case)[:60] if isinstance(case, dict) else ""


@pytest.mark.parametrize(("body", "pointers"), BAD_REPORTS, ids=shown)
def test_bad_reports(served: Service, run: str, body: Any, pointers: list[str]) -> None:
    refuse(served, run, "report", body, pointers)


@pytest.mark.parametrize(("body", "pointers"), BAD_SELECTS, ids=shown)
def test_bad_selects(served: Service, run: str, body: Any, pointers: list[str]) -> None:
    refuse(served, run, "select", body, pointers)


@pytest.mark.parametrize(("body", "pointers"), BAD_DRAWS, ids=shown)
def test_bad_draws(served: Service, run: str, body: Any, pointers: list[str]) -> None:
    refuse(served, run, "draw", body, pointers)


@pytest.mark.parametrize(("body", "pointers"), BAD_POOLS, ids=shown)
def test_bad_pools(served: Service, run: str, body: Any, pointers: list[str]) -> None:
    refuse(served, run, "pool", body, pointers)


NO_JSON = [
    b"",
    b"{",
    b'{"step": 1,}',
    b"{'step': 1}",
    b'{"step": 1} {"step": 2}',
    b'{"step": 1, "results": [], "prompts": ["\xff\xfe"]}',
    b"[" * 100_000,
    b'{"step": ' * 50_000,
    b"\x00",
    b'"step"',
    b"[]",
    b"null",
    b"17",
]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("raw", NO_JSON, ids=lambda raw: repr(raw[:20]))
def test_bodies_that_are_no_json_object(served: Service, run: str, call: str, raw: bytes) -> None:
    method, verb, _ = CALLS[call]
    with untouched(served, run):
        problem(send(served, method, f"{run}/{verb}", raw), 400, 422)


@pytest.mark.parametrize("literal", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999", b"9" * 400])
def test_rewards_that_are_not_finite(served: Service, run: str, literal: bytes) -> None:
    raw = b'{"step": 1, "results": [{"prompt": "p", "rewards": [0, 1, ' + literal + b"]}]}"
    with untouched(served, run):
        told = problem(send(served, "POST", f"{run}/report", raw), 400, 422)
    if told["status"] == 422:
        assert [error["pointer"] for error in told["errors"]] == ["/results/0/rewards/2"]


def test_lone_surrogates_are_no_prompt(served: Service, run: str) -> None:
    with untouched(served, run):
        for call, body in {
            "report": rb'{"step": 1, "results": [{"prompt": "\ud800", "rewards": [0, 1]}]}',
            "select": rb'{"step": 1, "prompts": ["a\udc00b"]}',
            "pool": rb'{"prompts": ["\ud83d"]}',
        }.items():
            method, verb, _ = CALLS[call]
            problem(send(served, method, f"{run}/{verb}", body), 400, 422)


def test_several_wrong_places(served: Service, run: str) -> None:
    body = {"step": -1, "results": [{"prompt": "", "rewards": ["x"]}, GOOD, {"prompt": "p", "rewards": [None]}]}
    wrong = {"/step", "/results/0/prompt", "/results/0/rewards/0", "/results/2/rewards/0"}
    told = problem(served.call("POST", f"{run}/report", body), 422, pointers=wrong)
    # Whether all are named at once is open; nothing that is right may be named.
    assert {error["pointer"] for error in told["errors"]} <= wrong


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("media", ["text/plain", "application/xml", "application/x-www-form-urlencoded", "image/png"])
def test_other_media_types_are_415(served: Service, run: str, call: str, media: str) -> None:
    method, verb, body = CALLS[call]
    with untouched(served, run):
        problem(send(served, method, f"{run}/{verb}", json.dumps(body).encode(), media), 415)


@pytest.mark.parametrize("call", ["report", "select", "draw", "rewind", "fork"])
def test_ndjson_is_for_the_pool_only(served: Service, run: str, call: str) -> None:
    method, verb, body = CALLS[call]
    raw = json.dumps(body).encode()
    with untouched(served, run):
        problem(send(served, method, f"{run}/{verb}", raw, "application/x-ndjson"), 415)


@pytest.mark.parametrize("media", ["application/json; charset=utf-8", "Application/JSON"])
def test_spellings_of_json(served: Service, name: str, media: str) -> None:
    path = served.create(name)
    assert send(served, "POST", f"{path}/select", b'{"step": 1, "prompts": []}', media).status_code == 200


METHODS = {
    "": {"GET", "PUT", "PATCH", "DELETE"},
    "/pool": {"PUT"},
    "/select": {"POST"},
    "/draw": {"POST"},
    "/report": {"POST"},
    "/rewind": {"POST"},
    "/fork": {"POST"},
    "/steps": {"GET"},
    "/prompts": {"GET"},
    "/prompts/p": {"GET"},
}


@pytest.mark.parametrize("path", METHODS)
def test_other_methods_are_405(served: Service, run: str, path: str) -> None:
    allowed = METHODS[path]
    with untouched(served, run):
        for method in {"GET", "PUT", "POST", "PATCH", "DELETE"} - allowed:
            answer = served.call(method, run + path, None if method == "GET" else {})
            problem(answer, 405)
            assert allowed <= {verb.strip() for verb in answer.headers["allow"].split(",")}


@pytest.mark.parametrize("path", ["/v1", "/v1/nothing", "/v2/runs", "/v1/runs/bad-input/nothing", "/nothing.html"])
def test_unknown_paths_are_404(served: Service, path: str) -> None:
    problem(served.call("GET", path), 404)


def test_each_problem_has_an_instance_of_its_own(served: Service) -> None:
    instances = [problem(served.call("GET", "/v1/runs/never-made"), 404)["instance"] for _ in range(3)]
    assert len(set(instances)) == 3


def test_json_is_the_default_media_of_answers(served: Service, run: str) -> None:
    answer = served.call("POST", f"{run}/select", {"step": 1, "prompts": []})
    assert answer.headers["content-type"].split(";")[0] == JSON
