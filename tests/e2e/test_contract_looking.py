"""What can be looked at: pool uploads, steps, prompts, and the service itself."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from ..servers import GRESO  # noqa: TID252
from .oracle.problems import problem, send, untouched
from .oracle.service import segment
from .oracle.views import all_pages, rows

if TYPE_CHECKING:
    from .oracle.service import Service

NDJSON = "application/x-ndjson"


def lines(*values: Any) -> bytes:
    return "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values).encode()


def test_the_pool_takes_json_and_ndjson(served: Service, name: str) -> None:
    path = served.create(name)
    assert served.json("PUT", f"{path}/pool", {"prompts": ["a", "b", "a"]}) == {"added": 2, "pool": 2}
    answer = send(served, "PUT", f"{path}/pool", lines("b", "c", "ü/日本", "line\nbreak", "c"), NDJSON)
    assert answer.json() == {"added": 3, "pool": 5}
    # The last line need not end, and lines may end as on other systems.
    assert send(served, "PUT", f"{path}/pool", b'"d"\r\n"e"', NDJSON).json() == {"added": 2, "pool": 7}
    assert send(served, "PUT", f"{path}/pool", b"", NDJSON).json() == {"added": 0, "pool": 7}
    assert served.json("PUT", f"{path}/pool", {"prompts": []}) == {"added": 0, "pool": 7}
    names = {row["prompt"] for row in all_pages(served, f"{path}/prompts", "prompts")}
    assert names == {"a", "b", "c", "d", "e", "ü/日本", "line\nbreak"}
    state = served.json("GET", path)
    assert (state["pool"], state["prompts"]) == (7, 7)


@pytest.mark.parametrize(
    "bad",
    [
        b"17",
        b'"x',
        b"x",
        b"null",
        b'["x"]',
        b'""',
        b'"' + b"x" * 257 + b'"',
        b'"\xff"',
        rb'"\ud800"',
        b'"a" "b"',
        b"NaN",
    ],
)
def test_one_bad_line_refuses_the_whole_upload(served: Service, name: str, bad: bytes) -> None:
    path = served.create(name)
    with untouched(served, path):
        told = problem(send(served, "PUT", f"{path}/pool", b'"good"\n' + bad + b'\n"good too"\n', NDJSON), 400, 422)
    # The line is named, counted from 0 as a pointer or from 1 in words.
    text = json.dumps(told)
    assert "line 2" in text.lower() or '/1"' in text, text


@pytest.fixture(scope="module")
def looked(served: Service) -> str:
    """Twelve steps of one to four groups, prompts of every kind."""
    path = served.create("looked-at", train_batch_size=2, rollout_batch_size=4)
    served.json("PUT", f"{path}/pool", {"prompts": [f"unseen/{at}" for at in range(5)]})
    for step in range(12):
        results = [
            {"prompt": f"easy/{step % 3}", "rewards": [1, 1]},
            {"prompt": f"hard/{step % 4}", "rewards": [0, 0]},
            {"prompt": f"mixed/{step % 2}", "rewards": [0, 1, 1, 0.5]},
        ]
        served.json("POST", f"{path}/select", {"step": step, "prompts": [r["prompt"] for r in results]})
        served.json("POST", f"{path}/report", {"step": step, "results": results[: 1 + step % 3], "final": True})
    return path


def test_steps_are_paged_by_after_and_limit(served: Service, looked: str) -> None:
    every = rows(served.json("GET", f"{looked}/steps?limit=100"), "steps")
    assert [row["step"] for row in every] == list(range(12))
    assert rows(served.json("GET", f"{looked}/steps?after=4&limit=3"), "steps") == every[5:8]
    assert rows(served.json("GET", f"{looked}/steps?after=11"), "steps") == []
    assert rows(served.json("GET", f"{looked}/steps?after=99"), "steps") == []
    assert len(rows(served.json("GET", f"{looked}/steps?limit=5"), "steps")) == 5


@pytest.mark.parametrize("query", ["after=x", "limit=x", "limit=-1", "limit=1.5"])
@pytest.mark.parametrize("view", ["steps", "prompts"])
def test_bad_queries(served: Service, looked: str, view: str, query: str) -> None:
    if "after" in query and view == "prompts":
        query = "kind=purple"
    problem(served.call("GET", f"{looked}/{view}?{query}"), 400, 422)


@pytest.mark.parametrize("query", ["kind=purple", "sort=beauty", "cursor=%00nonsense"])
def test_unknown_kinds_sorts_and_cursors(served: Service, looked: str, query: str) -> None:
    problem(served.call("GET", f"{looked}/prompts?{query}"), 400, 422)
    problem(served.call("GET", "/v1/runs?cursor=%00nonsense"), 400, 422)


def test_prompts_by_kind(served: Service, looked: str) -> None:
    every = all_pages(served, f"{looked}/prompts", "prompts", limit=4)
    for kind, prefix in {"easy": "easy/", "hard": "hard/", "effective": "mixed/", "new": "unseen/"}.items():
        listed = all_pages(served, f"{looked}/prompts", "prompts", kind=kind, limit=2)
        names = [row["prompt"] for row in listed]
        assert len(names) == len(set(names))
        assert set(names) == {row["prompt"] for row in every if row["kind"] == kind}
        assert all(found.startswith(prefix) for found in names)
        assert names


@pytest.mark.parametrize("sort", ["streak", "last_step", "mean", "visits"])
def test_prompts_sorted(served: Service, looked: str, sort: str) -> None:
    listed = all_pages(served, f"{looked}/prompts", "prompts", sort=sort, limit=4)
    names = [row["prompt"] for row in listed]
    assert len(names) == len(set(names))
    every = {row["prompt"] for row in all_pages(served, f"{looked}/prompts", "prompts")}
    assert set(names) == every
    field = "mean_reward" if sort == "mean" and "mean" not in listed[0] else sort
    values = [row[field] for row in listed if row[field] is not None]
    assert values in (sorted(values), sorted(values, reverse=True))


@pytest.mark.parametrize(
    "prompt",
    ["a/b", "a%2Fb", "a b", "?x=1#y", "日本/語", "..", "../..", ".", "/", "//", "a//b", "%", "a+b", "é" * 128, "\n"],
)
def test_prompts_are_percent_encoded_in_paths(served: Service, name: str, prompt: str) -> None:
    path = served.create(name)
    served.json("PUT", f"{path}/pool", {"prompts": [prompt, "other"]})
    fresh = served.json("GET", f"{path}/prompts/{segment(prompt)}")
    assert (fresh["prompt"], fresh["kind"], fresh["streak"], fresh["keep_probability"]) == (prompt, "new", 0, 1)
    served.json("POST", f"{path}/report", {"step": 3, "results": [{"prompt": prompt, "rewards": [0, 0]}]})
    known = served.json("GET", f"{path}/prompts/{segment(prompt)}")
    assert (known["prompt"], known["kind"], known["streak"], known["last_step"]) == (prompt, "hard", 1, 3)


@pytest.mark.parametrize("prompt", ["never", "%FF", "%C3", "a%2Fb", "x" * 257, "%00"])
def test_an_unknown_prompt_is_404(served: Service, looked: str, prompt: str) -> None:
    problem(served.call("GET", f"{looked}/prompts/{prompt}"), *((404,) if prompt == "never" else (400, 404, 422)))


def test_looking_changes_nothing(served: Service, looked: str) -> None:
    with untouched(served, looked):
        for view in ("", "/steps", "/prompts", "/prompts/never", "/prompts/easy%2F0"):
            served.call("GET", looked + view)
        served.call("GET", "/v1/runs")


def test_health(served: Service) -> None:
    assert served.call("GET", "/livez").status_code == 200
    ready = served.call("GET", "/readyz")
    assert ready.status_code == 200
    assert "redis" in ready.text.lower()


def test_version_and_metrics(served: Service) -> None:
    version = served.json("GET", "/version")
    assert any(isinstance(value, str) and value[:1].isdigit() for value in version.values())
    metrics = served.call("GET", "/metrics")
    assert metrics.status_code == 200
    assert metrics.headers["content-type"].startswith(("text/plain", "application/openmetrics-text"))
    assert "# TYPE " in metrics.text


def test_openapi_names_every_call(served: Service) -> None:
    paths = served.json("GET", "/openapi.json")["paths"]
    expected = {
        "/v1/runs": {"get"},
        "/v1/runs/{run}": {"get", "put", "patch", "delete"},
        "/v1/runs/{run}/select": {"post"},
        "/v1/runs/{run}/pool": {"put"},
        "/v1/runs/{run}/draw": {"post"},
        "/v1/runs/{run}/report": {"post"},
        "/v1/runs/{run}/rewind": {"post"},
        "/v1/runs/{run}/fork": {"post"},
        "/v1/runs/{run}/steps": {"get"},
        "/v1/runs/{run}/prompts": {"get"},
    }
    for path, methods in expected.items():
        assert methods <= paths[path].keys(), path
    assert any(path.startswith("/v1/runs/{run}/prompts/{") for path in paths)
    assert served.call("GET", "/docs").status_code == 200


@pytest.mark.parametrize("prompt", [".", "..", "a/b?c#%2E", "é\n"])
def test_the_command_line_shows_a_prompt_whatever_its_id_is(served: Service, name: str, prompt: str) -> None:
    path = served.create(name)
    served.json("POST", f"{path}/report", {"step": 1, "results": [{"prompt": prompt, "rewards": [0, 1]}]})
    command = [str(GRESO), "show", name, "--prompt", prompt, "--json", "--url", str(served.http.base_url)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["prompt"] == prompt
