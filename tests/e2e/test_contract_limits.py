"""The stated limits: at the limit it works, beyond it is refused whole and the limit is named."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from .oracle.problems import JSON, problem, send, untouched

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .oracle.service import Service

NDJSON = "application/x-ndjson"
MIB = 1024 * 1024


def names_limit(told: dict[str, Any], limit: int) -> None:
    """The refusal says which number was exceeded."""
    text = json.dumps(told)
    spellings = [str(limit), f"{limit:,}", f"{limit:_}"]
    if limit % MIB == 0:
        spellings += [f"{limit // MIB} MiB"]
    assert any(spelling in text for spelling in spellings), f"{limit} is not named: {text[:1000]}"


def test_prompts_per_select(served: Service, name: str) -> None:
    path = served.create(name)
    prompts = [str(at) for at in range(65_536)]
    answer = served.json("POST", f"{path}/select", {"step": 1, "prompts": prompts})
    assert answer["selected"] == list(range(65_536))
    with untouched(served, path):
        told = problem(served.call("POST", f"{path}/select", {"step": 1, "prompts": [*prompts, "x"]}), 413, 422)
        names_limit(told, 65_536)


def test_results_per_report(served: Service, name: str) -> None:
    path = served.create(name)
    results = [{"prompt": str(at), "rewards": [0, 1]} for at in range(65_536)]
    answer = served.json("POST", f"{path}/report", {"step": 1, "results": results})
    assert len(answer["effective"]) == 65_536
    body = {"step": 2, "results": [*results, {"prompt": "x", "rewards": [1]}]}
    before = served.json("GET", path)
    names_limit(problem(served.call("POST", f"{path}/report", body), 413, 422), 65_536)
    assert served.json("GET", path) == before


def test_rewards_per_group(served: Service, name: str) -> None:
    path = served.create(name)
    body: dict[str, Any] = {"step": 1, "results": [{"prompt": "p", "rewards": [0, 1] * 2048}]}
    assert served.json("POST", f"{path}/report", body)["effective"] == [0]
    body["results"][0]["rewards"].append(1)
    with untouched(served, path):
        names_limit(problem(served.call("POST", f"{path}/report", body), 413, 422), 4096)


def ndjson(count: int) -> bytes:
    return b"".join(b'"%d"\n' % at for at in range(count))


@pytest.mark.slow
def test_prompts_per_pool_upload(served: Service, name: str) -> None:
    path = served.create(name)
    told = problem(send(served, "PUT", f"{path}/pool", ndjson(1_000_001), NDJSON), 413, 422)
    names_limit(told, 1_000_000)
    assert served.json("GET", path)["pool"] == 0
    answer = send(served, "PUT", f"{path}/pool", ndjson(1_000_000), NDJSON)
    assert answer.json() == {"added": 1_000_000, "pool": 1_000_000}


@pytest.mark.parametrize("media", [JSON, NDJSON])
@pytest.mark.parametrize("declared", [True, False], ids=["content-length", "chunked"])
def test_body_size(served: Service, name: str, media: str, declared: bool) -> None:
    path = served.create(name)

    def pieces() -> Iterator[bytes]:
        for _ in range(32):
            yield b" " * MIB
        yield b" "

    body = b" " * (32 * MIB + 1) if declared else pieces()
    answer = served.http.put(f"{path}/pool", content=body, headers={"Content-Type": media})
    names_limit(problem(answer, 413), 32 * MIB)
    assert served.json("GET", path)["pool"] == 0


@pytest.mark.parametrize("prompt", ["x", "x" * 256, "é" * 128, "🧮" * 64, "\u0000", "\n", " ", "\u202e", "~", "{}"])
def test_prompts_of_1_to_256_bytes(served: Service, name: str, prompt: str) -> None:
    path = served.create(name)
    served.json("POST", f"{path}/report", {"step": 1, "results": [{"prompt": prompt, "rewards": [0, 0]}]})
    answer = served.json("POST", f"{path}/select", {"step": 1, "prompts": [prompt], "explain": True})
    assert answer["decisions"][0]["streak"] == 1
    assert served.json("PUT", f"{path}/pool", {"prompts": [prompt]}) == {"added": 1, "pool": 1}
    assert [row["prompt"] for row in served.json("GET", f"{path}/prompts")["prompts"]] == [prompt]


@pytest.mark.parametrize("step", [2**31, 2**53, 2**63 - 1, 2**63, 2**64, 10**30])
def test_great_steps_are_kept_exactly_or_refused(served: Service, name: str, step: int) -> None:
    path = served.create(name)
    answer = served.call("POST", f"{path}/report", {"step": step, "results": [{"prompt": "p", "rewards": [0, 1]}]})
    asked = served.call("POST", f"{path}/select", {"step": step, "prompts": ["p"]})
    if answer.status_code == 200:
        assert answer.json()["step"]["number"] == step
        assert served.json("GET", path)["step"] == step
        assert asked.status_code == 200
    else:
        problem(answer, 422, pointers=["/step"])
        problem(asked, 422, pointers=["/step"])


@pytest.mark.parametrize(
    ("rewards", "effective"),
    [([1e308, 1e308], False), ([1e308, -1e308], True), ([1.7e308, 1.7e308, 1.7e308, 0.0], True), ([5e-324, 0], False)],
)
def test_extreme_finite_rewards_are_judged(served: Service, name: str, rewards: list[float], effective: bool) -> None:
    path = served.create(name)
    body = {"step": 1, "results": [{"prompt": "p", "rewards": rewards}]}
    told = served.json("POST", f"{path}/report", body)
    assert told["effective"] == ([0] if effective else [])
    for view in (path, f"{path}/steps", f"{path}/prompts", f"{path}/prompts/p"):
        served.json("GET", view)


def test_counts_beyond_reason(served: Service, name: str) -> None:
    path = served.create(name)
    served.json("PUT", f"{path}/pool", {"prompts": ["a", "b"]})
    for count in (10**6, 2**31, 2**63, 10**30):
        for verb, body in (
            ("draw", {"count": count}),
            ("select", {"prompts": ["a"], "limit": count, "at_least": count}),
        ):
            answer = served.call("POST", f"{path}/{verb}", {"step": 1, **body})
            assert answer.status_code in {200, 422}, f"{verb} {count}: {answer.status_code} {answer.text[:500]}"
