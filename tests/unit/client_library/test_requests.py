"""What goes over the wire, and how answers come back."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from greso_client import (
    Client,
    ConflictError,
    DomainTotals,
    Exploration,
    ForbiddenError,
    Group,
    InvalidRequestError,
    NotFoundError,
    ProtocolError,
    Skipped,
    ZeroVariance,
)
from greso_client._checked import checked_groups
from greso_client._options import default_spool

from .doubles import FakeService, problem

grouped: Callable[..., Group] = Group  # of anything, as callers that are not checked for types may


def make(service: FakeService, **more: str) -> Client:
    return Client("http://service", run="test", spool=False, transport=httpx.MockTransport(service), **more)  # type: ignore[arg-type]


def test_every_post_has_a_key_of_its_own_and_a_retry_has_the_same(client: Client, service: FakeService) -> None:
    service.script.extend([problem(503), httpx.ConnectError("reset")])
    client.select(0, ["a"])
    client.report(0, [Group("a", [0, 1])])
    keys = [request.headers["idempotency-key"] for request in service.requests if request.method == "POST"]
    assert len(keys) == 4
    assert len(set(keys)) == 2
    assert keys[0] == keys[1] == keys[2] != keys[3]


def test_the_api_key_goes_as_bearer_from_the_argument_or_the_environment(
    service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    with make(service) as client:
        client.state()
    monkeypatch.setenv("GRESO_API_KEY", "from-environment")
    with make(service) as client:
        client.state()
    with make(service, api_key="given") as client:
        client.state()
    sent = [request.headers.get("authorization") for request in service.requests]
    assert sent == [None, "Bearer from-environment", "Bearer given"]


def test_the_url_comes_from_the_environment_and_may_have_a_path(
    service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRESO_URL", "https://gateway.example:444/greso/")
    paths: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        paths.append(str(request.url))
        return httpx.Response(200, json=service.state())

    with Client(run="test", spool=False, transport=httpx.MockTransport(answer)) as client:
        client.state()
    assert paths == ["https://gateway.example:444/greso/v1/runs/test"]


@pytest.mark.parametrize(
    ("prompt", "path"),
    [("a/b", "a%2Fb"), ("..", "%2E%2E"), ("ä ?#%", "%C3%A4%20%3F%23%25"), ("plain-1.2_x", "plain-1.2_x")],
)
def test_a_prompt_id_stays_one_path_segment(service: FakeService, prompt: str, path: str) -> None:
    with make(service) as client:
        service.script.append(problem(404, "no such prompt"))
        with pytest.raises(NotFoundError):
            client.prompt(prompt)
    assert service.requests[-1].url.raw_path == f"/v1/runs/test/prompts/{path}".encode()


def test_a_big_pool_goes_in_parts_of_lines(
    client: Client, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("greso_client._requests.POOL_PART", 2)
    size = client.add_prompts(["a", "b\n", "c", "b\n", "é"])
    assert (size.added, size.pool, size.degraded) == (4, 4, False)
    uploads = [request for request in service.requests if request.url.path.endswith("/pool")]
    assert [request.headers["content-type"] for request in uploads] == ["application/x-ndjson"] * 3
    assert [json.loads(line) for line in uploads[1].content.splitlines()] == ["c", "b\n"]


def test_select_sends_only_what_was_asked_for_and_reads_the_whole_answer(client: Client, service: FakeService) -> None:
    service.skip = {"b"}
    answer = client.select(3, ["a", "b", "c", "d"], limit=2, at_least=1, explain=True)
    assert service.bodies("/select")[-1] == {
        "step": 3, "prompts": ["a", "b", "c", "d"], "limit": 2, "at_least": 1, "explain": True,
    }  # fmt: skip
    assert (answer.selected, answer.examined, answer.skipped) == ([0, 2], 3, Skipped(0, 1))
    assert answer.exploration == Exploration(0.4, 0.6)
    assert answer.decisions is not None
    assert [decision.keep for decision in answer.decisions] == [True, False, True]
    client.select(3, ["a"])
    assert service.bodies("/select")[-1] == {"step": 3, "prompts": ["a"]}


def test_rewards_may_be_anything_that_floats() -> None:
    numpy = pytest.importorskip("numpy")
    torch = pytest.importorskip("torch")
    service = FakeService()
    with make(service) as client:
        client.report(
            numpy.int64(1), [Group("a", numpy.array([0, 1], "f4")), Group("b", torch.ones(2)), Group("c", [True, 0])]
        )
    groups = service.bodies("/report")[-1]["results"]
    assert [group["rewards"] for group in groups] == [[0.0, 1.0], [1.0, 1.0], [1.0, 0.0]]


@pytest.mark.parametrize(
    ("groups", "pointer"),
    [
        ([grouped("a", [0, 1]), grouped("b", [1, math.nan])], "/results/1/rewards/1"),
        ([grouped("a", [math.inf])], "/results/0/rewards/0"),
        ([grouped("", [1])], "/results/0/prompt"),
        ([grouped("é" * 129, [1])], "/results/0/prompt"),
        ([grouped("\ud800", [1])], "/results/0/prompt"),
        ([grouped(7, [1])], "/results/0/prompt"),
        ([grouped("a", ["1"])], "/results/0/rewards/0"),
        ([grouped("a", [1, b"1"])], "/results/0/rewards/1"),
        ([grouped("a", [0, None])], "/results/0/rewards/1"),
        ([grouped("a", [0, 1j])], "/results/0/rewards/1"),
        ([grouped("a", [[0, 1]])], "/results/0/rewards/0"),
        ([grouped("a", [0, 10**400])], "/results/0/rewards/1"),
        ([grouped("a", [-(10**5000)])], "/results/0/rewards/0"),
        ([grouped("a", "01")], "/results/0/rewards"),
        ([grouped("a", 1)], "/results/0/rewards"),
        ([grouped("a", None)], "/results/0/rewards"),
        ([grouped("a", {0: 1.0})], "/results/0/rewards"),
        ([grouped("a", [0, 1]), ("b", [1])], "/results/1"),
        ([{"prompt": "a", "rewards": [1]}], "/results/0"),
        ("a", "/results"),
        (grouped("a", [1]), "/results"),
        (None, "/results"),
        (5, "/results"),
    ],
)
def test_a_report_that_could_never_be_accepted_is_refused_here_with_its_place(
    client: Client, service: FakeService, groups: Any, pointer: str
) -> None:
    with pytest.raises(InvalidRequestError, match=r"^The request is wrong and was not sent") as caught:
        client.report(0, groups)
    assert caught.value.problem.errors[0].pointer == pointer
    assert pointer in str(caught.value)
    assert "422" not in str(caught.value), "nobody answered with it"
    assert caught.value.status == 422
    assert not service.requests


@pytest.mark.parametrize(
    ("rewards", "place"),
    [(["0", "1"], "/0"), ([[0.0, 1.0]], "/0"), ([0.0, math.nan], "/1"), (3.0, ""), ([0.5, 1j], "/0")],
)
def test_arrays_that_hold_no_finite_numbers_are_refused_too(client: Client, rewards: Any, place: str) -> None:
    numpy = pytest.importorskip("numpy")
    with pytest.raises(InvalidRequestError) as caught:
        client.report(0, [Group("a", numpy.array(rewards))])
    assert caught.value.problem.errors[0].pointer == f"/results/0/rewards{place}"


@given(st.lists(st.one_of(st.floats(), st.integers(), st.booleans(), st.fractions(), st.text(), st.none()), max_size=6))
def test_rewards_are_taken_exactly_if_each_is_a_finite_number(rewards: list[Any]) -> None:
    wrong = [place for place, reward in enumerate(rewards) if not is_finite(reward)]
    if wrong:
        with pytest.raises(InvalidRequestError) as caught:
            checked_groups([Group("a", rewards)])
        assert caught.value.problem.errors[0].pointer == f"/results/0/rewards/{wrong[0]}"
    else:
        assert checked_groups([Group("a", rewards)])[0].rewards == [float(reward) for reward in rewards]


def test_rewards_that_only_add_up_to_infinity_are_taken(client: Client, service: FakeService) -> None:
    client.report(0, [Group("a", [1.7e308, 1.7e308]), Group("b", [10**308] * 2)])
    assert [group["rewards"] for group in service.bodies("/report")[-1]["results"]] == [[1.7e308] * 2, [1e308] * 2]


def is_finite(reward: Any) -> bool:
    try:
        return not isinstance(reward, str) and math.isfinite(float(reward))
    except (TypeError, OverflowError):
        return False


@pytest.mark.parametrize(
    ("call", "pointer"),
    [
        (lambda client: client.select(0, None), "/prompts"),
        (lambda client: client.select(0, 5), "/prompts"),
        (lambda client: client.select(0, ["a"], limit="2"), "/limit"),
        (lambda client: client.select(0, ["a"], at_least=1.5), "/at_least"),
        (lambda client: client.draw(0, count=2.0), "/count"),
        (lambda client: client.add_prompts(5), "/prompts"),
        (lambda client: client.report("1", []), "/step"),
        (lambda client: client.report(1, [], seconds=5.0), "/seconds"),
        (lambda client: client.report(True, []), "/step"),
        (lambda client: client.report(2**53, []), "/step"),
        (lambda client: client.report(1, [], final="no"), "/final"),
        (lambda client: client.report(1, [], final=None), "/final"),
        (lambda client: client.select(0, ["a"], limit=-1), "/limit"),
        (lambda client: client.select(0, ["a"], at_least=-1), "/at_least"),
        (lambda client: client.select(0, ["a"], at_least=None), "/at_least"),
        (lambda client: client.select(0, ["a"], explain="no"), "/explain"),
        (lambda client: client.draw(0, count=-1), "/count"),
        (lambda client: client.rewind(2**53), "/step"),
        (lambda client: client.collect(1, list, prompts="abc"), "/prompts"),
        (lambda client: client.collect(1, list, prompts=5), "/prompts"),
        (lambda client: client.collect(1, list, max_rounds="2"), "/max_rounds"),
        (lambda client: client.collect(1, list, max_rounds=0), "/max_rounds"),
        (lambda client: client.collect(1, list, offer=1.5), "/offer"),
        (lambda client: client.collect("1", list), "/step"),
        (lambda client: client.collect(None, list), "/step"),
        (lambda client: client.collect(-1, list), "/step"),
    ],
)
def test_arguments_of_the_wrong_kind_are_refused_here_with_their_place(
    client: Client, service: FakeService, call: Callable[[Client], object], pointer: str
) -> None:
    with pytest.raises(InvalidRequestError, match="was not sent") as caught:
        call(client)
    assert caught.value.problem.errors[0].pointer == pointer
    assert not service.requests


def test_whole_numbers_and_truth_values_may_be_numpys(client: Client, service: FakeService) -> None:
    numpy = pytest.importorskip("numpy")
    service.pool = ["a", "b"]
    client.select(numpy.int64(0), ["a"], limit=numpy.int32(1), at_least=numpy.uint8(1))
    client.draw(0, numpy.int64(1))
    client.report(0, [], final=numpy.bool_(True))
    assert service.bodies("/report")[-1]["final"] is True
    assert service.bodies("/select")[-1] == {"step": 0, "prompts": ["a"], "limit": 1, "at_least": 1}
    assert service.bodies("/draw")[-1] == {"step": 0, "count": 1}


def test_a_rollout_function_that_returns_something_else_is_told(client: Client, service: FakeService) -> None:
    service.pool = ["a"]
    wrong: Any = lambda prompts: [([0, 1], None) for _ in prompts]  # noqa: E731
    with pytest.raises(ValueError, match=r"returned a tuple for 'a'; it must return a Rollout\(rewards, data\)"):
        client.collect(0, wrong)


def test_a_string_is_no_list_of_prompts(client: Client) -> None:
    with pytest.raises(InvalidRequestError, match="one string"):
        client.select(0, "abc")


def test_a_negative_step_is_refused(client: Client) -> None:
    with pytest.raises(InvalidRequestError, match="/step"):
        client.draw(-1)


def test_a_spec_that_json_cannot_carry_is_refused(client: Client) -> None:
    with pytest.raises(InvalidRequestError, match="finite JSON"):
        client.create_run(reward_tolerance=math.nan)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, InvalidRequestError), (401, ForbiddenError), (403, ForbiddenError), (404, NotFoundError),
     (409, ConflictError), (413, InvalidRequestError), (422, InvalidRequestError)],
)  # fmt: skip
def test_refusals_raise_at_once_also_in_fail_open_mode(
    client: Client, service: FakeService, status: int, kind: type[Exception]
) -> None:
    errors = [{"pointer": "/prompts/0", "detail": "too long"}]
    service.script.append(problem(status, "no", errors=errors))
    with pytest.raises(kind, match="/prompts/0: too long"):
        client.select(0, ["a"])
    assert len(service.requests) == 1


def test_a_refusal_that_is_no_problem_document_is_not_the_services_and_says_what_came() -> None:
    service = FakeService()
    service.script.append(httpx.Response(404, text="<html>no such page"))
    with make(service) as client, pytest.raises(ProtocolError, match="no such page") as caught:
        client.state()
    assert caught.value.status == 404


def test_unknown_fields_of_an_answer_are_ignored(client: Client, service: FakeService) -> None:
    body = json.loads(service.route(httpx.Request("GET", "http://service/v1/runs/test")).content) | {"later": {"x": 1}}
    service.script.append(httpx.Response(200, json=body))
    assert client.state().run == "test"


def test_the_spool_of_a_run_is_found_again_by_url_and_run(tmp_path: Path) -> None:
    base = tmp_path / "xdg" / "greso" / "spool"
    assert default_spool("http://127.0.0.1:8080", "r") == base / "127.0.0.1_8080" / "r.jsonl"
    assert default_spool("http://[::1]:8080/x", "r") == base / "..1_8080" / "r.jsonl"
    assert default_spool("https://host", "r") == base / "host" / "r.jsonl"


@pytest.mark.parametrize(
    ("asked", "query"),
    [
        ({}, ""),
        ({"after": 3, "limit": 2}, "after=3&limit=2"),
        ({"domain": "math"}, "domain=math"),
        ({"domain": ""}, "domain="),
    ],
)
def test_steps_are_asked_for_as_all_or_as_one_domain_saw_them(
    client: Client, service: FakeService, asked: dict[str, Any], query: str
) -> None:
    service.script.append(httpx.Response(200, json={"steps": []}))
    assert client.steps(**asked) == []
    assert service.requests[-1].url.query.decode() == query


def test_the_domains_of_a_run_are_in_its_state(client: Client, service: FakeService) -> None:
    assert client.state().domains == (), "a service that knows none"
    both, pair = {"easy": 1, "hard": 0}, {"easy": 0.5, "hard": 0.25}
    counts = dict.fromkeys(("examined", "selected", "groups", "effective", "undetermined", "rollouts"), 7)
    totals = counts | {"skipped": both, "zero_variance": both}
    rows = [
        {"domain": name, "pool": 3, "share": share, "exploration": pair, "target": pair, "totals": totals}
        for name, share in (("math", 0.4), (None, None))
    ]
    service.script.append(httpx.Response(200, json=service.state() | {"domains": rows}))
    math_domain, rest = client.state().domains
    assert (math_domain.domain, math_domain.pool, math_domain.share) == ("math", 3, 0.4)
    assert math_domain.target == math_domain.exploration == Exploration(0.5, 0.25)
    assert math_domain.totals == DomainTotals(7, 7, Skipped(1, 0), 7, 7, ZeroVariance(1, 0), 7, 7)
    assert (rest.domain, rest.share) == (None, None)
