"""What the API says to requests that are wrong: where, as a problem, and with nothing applied."""

from __future__ import annotations

import gzip
import json
import time
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from ..asgi import over_shared, pointers, problem, within  # noqa: TID252

JSON = {"Content-Type": "application/json"}
NDJSON = {"Content-Type": "application/x-ndjson"}
GOOD: dict[tuple[str, str], Any] = {
    ("PUT", "/v1/runs/new"): {},
    ("PATCH", "/v1/runs/r"): {"train_batch_size": 9},
    ("POST", "/v1/runs/r/select"): {"step": 0, "prompts": ["a"]},
    ("PUT", "/v1/runs/r/pool"): {"prompts": ["z"]},
    ("POST", "/v1/runs/r/draw"): {"step": 0},
    ("POST", "/v1/runs/r/report"): {"step": 0, "results": [{"prompt": "a", "rewards": [0, 1]}]},
}  # fmt: skip
WRITES = pytest.mark.parametrize(("method", "path"), GOOD, ids=lambda part: str(part).rpartition("/")[2])


async def begin(client: httpx.AsyncClient) -> None:
    assert (await client.put("/v1/runs/r", json={"train_batch_size": 4})).status_code == 201
    assert (await client.put("/v1/runs/r/pool", json={"prompts": ["p", "q"]})).status_code == 200


async def refused(
    client: httpx.AsyncClient, method: str, path: str, content: bytes, headers: dict[str, str], status: int = 422
) -> Any:
    """The problem of a request that must change nothing."""
    before = (await client.get("/v1/runs/r")).json(), (await client.get("/v1/runs")).json()
    answer = problem(await client.request(method, path, content=content, headers=headers), status)
    assert ((await client.get("/v1/runs/r")).json(), (await client.get("/v1/runs")).json()) == before
    return answer


@WRITES
@pytest.mark.parametrize(
    "content",
    [
        b"", b" ", b"{", b"{]", b"nonsense", b'{"step": }', b'{"step": 0,}', b"{'step': 0}", b'{"step": 00}', b"\x00",
        b'{"\xff": 0}', b"\xff\xfe{\x00}\x00", b'{"step": 0} {}', b"[" * 100_000, b'{"a":' * 100_000, b"\xef\xbb\xbf{}",
        b'{"a": "\\ud800"}',
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_no_json_is_malformed(method: str, path: str, content: bytes) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        await begin(client)
        await refused(client, method, path, content, JSON, 400)

    over_shared(story)


@WRITES
@pytest.mark.parametrize("content", [b"null", b"[]", b"7", b'"text"', b"true", b"1e400", b"NaN"])
def test_a_body_that_is_no_object_is_refused_as_a_whole(method: str, path: str, content: bytes) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        await begin(client)
        assert pointers(await refused(client, method, path, content, JSON)) == [""]

    over_shared(story)


@WRITES
def test_unknown_fields_are_refused(method: str, path: str) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        await begin(client)
        body = json.dumps({**GOOD[method, path], "nope": 1, "a/b~c": 2}).encode()
        assert sorted(pointers(await refused(client, method, path, body, JSON))) == ["/a~1b~0c", "/nope"]

    over_shared(story)


@WRITES
@pytest.mark.parametrize("given", ["text/plain", "application/xml", "multipart/form-data; boundary=x", "nonsense"])
def test_another_content_type_is_415(method: str, path: str, given: str) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        await begin(client)
        body = json.dumps(GOOD[method, path]).encode()
        answer = await refused(client, method, path, body, {"Content-Type": given}, 415)
        assert "application/json" in answer["detail"]

    over_shared(story)


@WRITES
@pytest.mark.parametrize("coding", ["gzip", "GZIP", "br", "gzip, identity"])
def test_a_compressed_body_is_415_that_says_so(method: str, path: str, coding: str) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        await begin(client)
        body = gzip.compress(json.dumps(GOOD[method, path]).encode())
        answer = await refused(client, method, path, body, {**JSON, "Content-Encoding": coding}, 415)
        assert answer["detail"] == f"send the body uncompressed, without Content-Encoding: {coding.lower()}"
        answer = await client.request(method, path, content=body, headers={**JSON, "Content-Encoding": coding})
        assert answer.headers["Accept-Encoding"] == "identity"
        plain = await client.request(method, path, json=GOOD[method, path], headers={"Content-Encoding": "identity"})
        assert plain.is_success

    over_shared(story)


@pytest.mark.parametrize("given", [{}, {"Content-Type": "APPLICATION/JSON; charset=utf-8"}, JSON])
def test_json_by_any_of_its_names_is_taken(given: dict[str, str]) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        await begin(client)
        answer = await client.post("/v1/runs/r/draw", content=b'{"step": 0}', headers=given)
        assert answer.status_code == 200

    over_shared(story)


STEPS = [-1, 2**53, 2**64, 10**400, 1.5, "1", True, None, [], {}]


@pytest.mark.parametrize("verb", ["select", "draw", "report"])
@pytest.mark.parametrize("step", STEPS, ids=lambda step: str(step)[:20])
def test_steps_are_whole_numbers_from_0(verb: str, step: Any) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        await begin(client)
        path = f"/v1/runs/r/{verb}"
        body = json.dumps({**GOOD["POST", path], "step": step}).encode()
        assert pointers(await refused(client, "POST", path, body, JSON)) == ["/step"]

    over_shared(story)


@pytest.mark.parametrize(
    "number", ["NaN", "Infinity", "-Infinity", "1e400", "-1e999", "1" + "0" * 400, '"1"', "null", "[]", "true", "{}"]
)
def test_rewards_are_finite_numbers(number: str) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        await begin(client)
        groups = f'[{{"prompt": "a", "rewards": [1]}}, {{"prompt": "b", "rewards": [0, {number}]}}]'
        body = f'{{"step": 0, "results": {groups}}}'.encode()
        answer = await refused(client, "POST", "/v1/runs/r/report", body, JSON)
        assert pointers(answer) == ["/results/1/rewards/1"]

    over_shared(story)


@pytest.mark.parametrize(
    ("results", "where"),
    [
        ([{"prompt": "a"}], ["/results/0/rewards"]),
        ([{"rewards": []}], ["/results/0/prompt"]),
        ([{"prompt": "a", "rewards": [], "more": 1}], ["/results/0/more"]),
        ([{"prompt": 1, "rewards": []}], ["/results/0/prompt"]),
        ([{"prompt": "a", "rewards": 1}], ["/results/0/rewards"]),
        (["a"], ["/results/0"]),
        ([None], ["/results/0"]),
        ({}, ["/results"]),
        ([{"prompt": "", "rewards": []}], ["/results/0/prompt"]),
        ([{"prompt": "a", "rewards": []}, {"prompt": "é" * 129, "rewards": []}], ["/results/1/prompt"]),
    ],
)
def test_results_say_where_they_are_wrong(results: Any, where: list[str]) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        await begin(client)
        body = json.dumps({"step": 0, "results": results}).encode()
        assert pointers(await refused(client, "POST", "/v1/runs/r/report", body, JSON)) == where

    over_shared(story)


IDS: list[tuple[Any, str]] = [("", "/1"), ("x" * 257, "/1"), ("漢" * 86, "/1"), (7, "/1"), (None, "/1"), (["a"], "/1")]


@pytest.mark.parametrize(("method", "path"), [("POST", "/v1/runs/r/select"), ("PUT", "/v1/runs/r/pool")])
@pytest.mark.parametrize(("prompt", "place"), IDS, ids=lambda part: repr(part)[:10])
def test_prompt_ids_have_1_to_256_bytes(method: str, path: str, prompt: Any, place: str) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        await begin(client)
        body = json.dumps({**GOOD[method, path], "prompts": ["ok", prompt, "ok"]}).encode()
        assert pointers(await refused(client, method, path, body, JSON)) == ["/prompts" + place]

    over_shared(story)


@pytest.mark.parametrize(
    ("lines", "status", "where"),
    [
        (b'"a"\n{"pass_rate": 1}\n', 422, "/1"),
        (b'"a"\n{"prompt": "b", "pass_rate": 1.5}\n', 422, "/1/pass_rate"),
        (b'"a"\n{"prompt": "b", "pass_rate": 1e400}\n', 400, "/1"),
        (b'{"prompt": "b", "more": 1}\n', 422, "/0/more"),
        (b'{"prompt": ""}\n', 422, "/0"),
        (b'"a"\n""\n', 422, "/1"),
        (b'"a"\n7\n', 422, "/1"),
        (b'"a"\nb\n', 400, "/1"),
        (b'"a"\n\n"b"', 400, "/1"),
        (b'"a"\n"\xff"\n', 400, "/1"),
        (b'"a"\n"b\n', 400, "/1"),
        (b'["a", "b"]', 422, "/0"),
    ],
)
def test_lines_say_where_they_are_wrong(lines: bytes, status: int, where: str) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        await begin(client)
        assert pointers(await refused(client, "PUT", "/v1/runs/r/pool", lines, NDJSON, status)) == [where]

    over_shared(story)


@pytest.mark.parametrize(
    "lines",
    [
        b'"a"\n"b"\n',
        b'"a"\n"b"',
        b'"a"\r\n"b"\r\n',
        b'  "a" \n"b"\n',
        b'"a"\n"\\u2028b"',
        '"a"\n"\u2028b"\n'.encode(),
    ],
)
def test_lines_are_taken(lines: bytes) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        await begin(client)
        answer = await client.put("/v1/runs/r/pool", content=lines, headers=NDJSON)
        assert answer.json() == {"added": 2, "pool": 4}

    over_shared(story)


def test_no_lines_add_nothing() -> None:
    async def story(client: httpx.AsyncClient) -> None:
        await begin(client)
        answer = await client.put("/v1/runs/r/pool", content=b"", headers=NDJSON)
        assert answer.json() == {"added": 0, "pool": 2}

    over_shared(story)


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"limit": -1}, "/limit"),
        ({"limit": "3"}, "/limit"),
        ({"limit": 1.0}, "/limit"),
        ({"at_least": -1}, "/at_least"),
        ({"at_least": None}, "/at_least"),
        ({"at_least": 3, "limit": 2}, "/at_least"),
        ({"explain": 1}, "/explain"),
        ({"explain": "yes"}, "/explain"),
        ({"prompts": "a"}, "/prompts"),
        ({"prompts": None}, "/prompts"),
        ({"prompts": {"a": 1}}, "/prompts"),
    ],
)
def test_a_select_says_where_it_is_wrong(changes: dict[str, Any], where: str) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        await begin(client)
        body = json.dumps({"step": 0, "prompts": ["a"], **changes}).encode()
        assert pointers(await refused(client, "POST", "/v1/runs/r/select", body, JSON)) == [where]

    over_shared(story)


@pytest.mark.parametrize("count", [10**6, 2**63, 10**30])
def test_numbers_without_an_upper_bound_may_be_huge(count: int) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        await begin(client)
        body = {"step": 0, "count": count}
        assert pointers(await refused(client, "POST", "/v1/runs/r/draw", json.dumps(body).encode(), JSON)) == ["/count"]
        asked = {"step": 0, "prompts": ["a", "b"], "limit": count, "at_least": count}
        selected = await client.post("/v1/runs/r/select", json=asked)
        assert (selected.status_code, selected.json()["selected"]) == (200, [0, 1])

    over_shared(story)


def test_of_duplicate_keys_the_last_counts() -> None:
    async def story(client: httpx.AsyncClient) -> None:
        await begin(client)
        body = b'{"step": -1, "step": 3, "results": 7, "results": []}'
        answer = await client.post("/v1/runs/r/report", content=body, headers=JSON)
        assert (answer.status_code, answer.json()["step"]["number"]) == (200, 3)

    over_shared(story)


@pytest.mark.parametrize(
    ("spec", "where"),
    [
        ({"group_size": 0}, ["/group_size"]),
        ({"seed": 2**63}, ["/seed"]),
        ({"seed": -1}, ["/seed"]),
        ({"policy": "best"}, ["/policy"]),
        ({"p_easy": 1.1}, ["/p_easy"]),
        ({"p_easy": "0.5"}, ["/p_easy"]),
        ({"exploration_bounds": [0.1]}, ["/exploration_bounds/1"]),
        ({"exploration_bounds": [0.6, 0.4]}, ["/exploration_bounds"]),
        ({"exploration_bounds": 0.5}, ["/exploration_bounds"]),
        ({"min_rollout_batch_size": 500}, ["/min_rollout_batch_size"]),
        ({"safety_factor": 0}, ["/safety_factor"]),
        ({"reward_tolerance": -1e-9}, ["/reward_tolerance"]),
        ({"solved_reward": None}, ["/solved_reward"]),
        ({"easy_min_mean": 0.1, "hard_max_mean": 0.2}, ["/hard_max_mean"]),
        ({"train_batch_size": True, "nope": 1}, ["/nope", "/train_batch_size"]),
    ],
)
def test_a_spec_says_where_it_is_wrong(spec: dict[str, Any], where: list[str]) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        await begin(client)
        answer = await refused(client, "PUT", "/v1/runs/new", json.dumps(spec).encode(), JSON)
        assert sorted(pointers(answer)) == where

    over_shared(story)


@pytest.mark.parametrize("name", ["group_size", "seed", "streak_rule"])
def test_what_is_fixed_at_creation_cannot_be_patched(name: str) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        await begin(client)
        spec = (await client.get("/v1/runs/r")).json()["spec"]
        body = json.dumps({name: spec[name], "train_batch_size": 7}).encode()
        assert pointers(await refused(client, "PATCH", "/v1/runs/r", body, JSON)) == [f"/{name}"]

    over_shared(story)


@pytest.mark.parametrize("name", ["-a", "%2E", "a b", "a" * 129, "é", "a%2Fb%2Fc", "a%0A", "%00"])
def test_run_names_that_are_none(name: str) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        for method in ("PUT", "GET", "DELETE", "PATCH"):
            answer = await client.request(method, f"/v1/runs/{name}", content=b"{}")
            assert answer.status_code in (404, 405, 422), answer.text
            problem(answer, answer.status_code)
        assert (await client.get("/v1/runs")).json()["runs"] == []

    over_shared(story)


@pytest.mark.parametrize("key", ["", "with space", "é", "x" * 129, "tab\tbed", "\x7f"])
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/v1/runs/r/report"), ("POST", "/v1/runs/r/draw"), ("PUT", "/v1/runs/r/pool")]
)
def test_idempotency_keys_are_visible_ascii(key: str, method: str, path: str) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        await begin(client)
        headers = httpx.Headers({**JSON, "Idempotency-Key": key}, encoding="utf-8")
        body = json.dumps(GOOD[method, path]).encode()
        answer = await refused(client, method, path, body, headers)  # type: ignore[arg-type]
        assert pointers(answer) == ["/header/idempotency-key"]

    over_shared(story)


def test_a_key_with_another_body_or_path_is_refused() -> None:
    async def story(client: httpx.AsyncClient) -> None:
        await begin(client)
        headers = {**JSON, "Idempotency-Key": "k"}
        body = json.dumps(GOOD["POST", "/v1/runs/r/report"]).encode()
        first = await client.post("/v1/runs/r/report", content=body, headers=headers)
        again = await client.post("/v1/runs/r/report", content=body, headers=headers)
        assert (first.status_code, again.content) == (200, first.content)
        assert "idempotent-replayed" not in first.headers
        assert again.headers["idempotent-replayed"] == "true"
        others = {
            "/v1/runs/r/report": b'{"step": 0, "results": []}',
            "/v1/runs/r/select": b'{"step": 0, "prompts": []}',
            "/v1/runs/r/draw": b'{"step": 0, "count": 0}',
        }
        for path, content in others.items():
            answer = await refused(client, "POST", path, content, headers)
            assert pointers(answer) == ["/header/idempotency-key"]
            assert answer["type"] == "urn:greso:problem:idempotency-key-reused"

    over_shared(story)


@pytest.mark.parametrize(
    ("method", "path", "strays"),
    [
        ("GET", "/v1/runs?limits=3", ["limits"]),
        ("GET", "/v1/runs?limit=3&tenant=a&Cursor=b", ["Cursor", "tenant"]),
        ("GET", "/v1/runs/r/steps?a~/b=1&after=0", ["a~0~1b"]),
        ("GET", "/v1/runs/r/events?follow=false&afterr=0", ["afterr"]),
        ("GET", "/v1/overview?limit=1&x=", ["x"]),
        ("GET", "/v1/runs/r/export?step=3", ["step"]),
        ("POST", "/v1/runs/r/report?final=true", ["final"]),
        ("PUT", "/v1/runs/new?group_size=4", ["group_size"]),
    ],
)
def test_parameters_that_are_not_known_are_named_and_nothing_is_applied(
    method: str, path: str, strays: list[str]
) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        await begin(client)
        before = (await client.get("/v1/runs")).content
        answer = await client.request(method, path, json=None if method == "GET" else {"step": 0, "results": []})
        content = problem(answer, 422)
        assert pointers(content) == [f"/query/{name}" for name in strays]
        assert "unknown parameter; there " in content["detail"]
        assert (await client.get("/v1/runs")).content == before

    over_shared(story)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/v1", 404),
        ("GET", "/v1/runs/r/nothing", 404),
        ("GET", "/v1/runs/unknown", 404),
        ("GET", "/v1/runs/unknown/steps", 404),
        ("GET", "/v1/runs/unknown/prompts", 404),
        ("GET", "/v1/runs/unknown/prompts/a", 404),
        ("GET", "/v1/runs/r/prompts/unknown", 404),
        ("DELETE", "/v1/runs/unknown", 404),
        ("POST", "/v1/runs", 405),
        ("POST", "/v1/runs/r", 405),
        ("GET", "/v1/runs/r/select", 405),
        ("DELETE", "/livez", 405),
        ("GET", "/v1/runs?limit=0", 422),
        ("GET", "/v1/runs?limit=1001", 422),
        ("GET", "/v1/runs?limit=x", 422),
        ("GET", "/v1/runs?cursor=x", 422),
        ("GET", "/v1/runs?cursor=%FF", 422),
        ("GET", "/v1/runs/r/steps?after=-2", 422),
        ("GET", "/v1/runs/r/steps?after=1e400", 422),
        ("GET", "/v1/runs/r/steps?limit=-1", 422),
        ("GET", "/v1/runs/r/prompts?kind=odd", 422),
        ("GET", "/v1/runs/r/prompts?sort=name", 422),
        ("GET", "/v1/runs/r/prompts?cursor=é", 422),
        ("GET", "/v1/runs/r/prompts?cursor=MSAy", 200),  # "1 2", as one of its own
        ("GET", "/v1/runs/r/prompts?cursor=MSAxZTQwMA", 422),  # "1 1e400"
        ("GET", "/v1/runs/r/prompts?cursor=MSA5OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5", 200),  # a huge place
        ("GET", "/v1/runs/r/prompts/" + "x" * 257, 422),
        ("GET", "/v1/runs/r/prompts/", 422),
    ],
)
def test_places_and_parameters(method: str, path: str, status: int) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        await begin(client)
        answer = await client.request(method, path)
        if status == 200:
            assert answer.status_code == 200, answer.text
        else:
            content = problem(answer, status)
            assert bool(pointers(content)) == (status == 422)

    over_shared(story)


@pytest.mark.parametrize(("method", "path"), [each for each in GOOD if each[1] != "/v1/runs/new"])
def test_unknown_runs_are_404_for_every_write(method: str, path: str) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        unknown = path.replace("/runs/r", "/runs/unknown")
        answer = await client.request(method, unknown, json=GOOD[method, path])
        assert "unknown" in problem(answer, 404)["detail"]
        assert (await client.get("/v1/runs")).json()["runs"] == []

    over_shared(story)


def test_an_empty_pool_cannot_be_drawn_from() -> None:
    async def story(client: httpx.AsyncClient) -> None:
        await client.put("/v1/runs/r", json={})
        answer = problem(await client.post("/v1/runs/r/draw", json={"step": 0}), 409)
        assert "pool" in answer["detail"]

    over_shared(story)


def test_another_spec_is_a_conflict_that_names_the_difference() -> None:
    async def story(client: httpx.AsyncClient) -> None:
        await begin(client)
        answer = problem(await client.put("/v1/runs/r", json={"train_batch_size": 5}), 409)
        assert "train_batch_size" in answer["detail"]

    over_shared(story)


@pytest.mark.parametrize(
    ("method", "path", "body", "first"),
    [
        ("POST", "/v1/runs/r/select", {"step": 0, "prompts": [7] * 200_000}, "/prompts/0"),
        ("PUT", "/v1/runs/r/pool", {"prompts": [7] * 200_000}, "/prompts/0"),
        ("POST", "/v1/runs/r/report", {"step": 0, "results": [None] * 200_000}, "/results/0"),
        (
            "POST",
            "/v1/runs/r/report",
            {"step": 0, "results": [{"prompt": "a", "rewards": [None] * 200_000}]},
            "/results/0/rewards/0",
        ),
    ],
)
def test_many_wrong_items_cost_no_more_than_one(method: str, path: str, body: Any, first: str) -> None:
    # Collecting a complaint about each took a minute of the whole service for a body of 8 MB.
    async def story(client: httpx.AsyncClient) -> None:
        await begin(client)
        content = json.dumps(body).encode()
        began = time.process_time()
        answer = await refused(client, method, path, content, JSON)
        assert time.process_time() - began < 0.5
        assert pointers(answer)[0] == first
        assert len(pointers(answer)) <= 20

    over_shared(story)


@pytest.mark.parametrize(
    "prompt", ["a/b", "a//b", "..", "%2F", "é\u2028", "a?b#c", "\0", " ", "+", "x" * 256, "a/groups", "🤖"]
)
def test_any_id_can_be_looked_at(prompt: str) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        await begin(client)
        report = {"step": 2, "results": [{"prompt": prompt, "rewards": [0.5, 0.5]}, {"prompt": prompt, "rewards": []}]}
        assert (await client.post("/v1/runs/r/report", json=report)).status_code == 200
        segment = quote(prompt, safe="").replace(".", "%2E")
        answer = (await client.get(f"/v1/runs/r/prompts/{segment}")).json()
        assert (answer["prompt"], answer["streak"], answer["kind"], answer["mean"]) == (prompt, 1, "hard", 0.5)
        assert [(group["count"], group["mean"], group["outcome"]) for group in answer["groups"]] == [
            (0, None, "undetermined"),
            (2, 0.5, "hard"),
        ]

    over_shared(story)


def test_a_name_that_can_not_be_is_told_in_words() -> None:
    words = "must be 1 to 128 letters, digits, '.', '_' or '-', the first a letter or digit"

    async def story(client: httpx.AsyncClient) -> None:
        await begin(client)
        assert problem(await client.put("/v1/runs/-r", json={}), 422)["detail"] == f"/path/run: {words}"
        fork = await client.post("/v1/runs/r/fork", json={"run": "a b"})
        assert problem(fork, 422)["detail"] == f"/run: {words}"
        await client.put("/v1/runs/empty", json={})
        drawn = problem(await client.post("/v1/runs/empty/draw", json={"step": 1}), 409)["detail"]
        assert "PUT /v1/runs/empty/pool" in drawn

    over_shared(story)


def test_probes_may_ask_with_head() -> None:
    async def story(client: httpx.AsyncClient) -> None:
        for path, status in (("/livez", 200), ("/readyz", 503)):  # this one was never started
            assert (await client.head(path)).status_code == (await client.get(path)).status_code == status
        assert (await client.post("/livez")).headers["Allow"] == "GET, HEAD"

    over_shared(story)


@pytest.mark.parametrize(("docs", "told"), [(True, "; see /docs"), (False, "")])
def test_what_is_not_there_is_told_with_where_to_look_if_that_is_there(docs: bool, told: str) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        assert problem(await client.get("/nowhere"), 404)["detail"] == f"there is nothing at /nowhere{told}"

    within(story, docs=docs)
