"""Domains over HTTP: said with the pool, kept by every replica, told in all that one may look at."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from ..asgi import pointers, problem, within  # noqa: TID252

RUN = "/v1/runs/mixed"
SPEC = {
    "train_batch_size": 4,
    "rollout_batch_size": 8,
    "domains": {"math": {"quota": 0.5, "target_zero_variance": 0.1}, "code": {}},
}
POOL: list[Any] = [
    *({"prompt": f"math/{number}", "domain": "math"} for number in range(6)),
    *({"prompt": f"code/{number}", "domain": "code", "pass_rate": 0.5} for number in range(6)),
    *(f"rest/{number}" for number in range(6)),
]
NDJSON = {"Content-Type": "application/x-ndjson"}


async def begun(client: httpx.AsyncClient) -> None:
    assert (await client.put(RUN, json=SPEC)).status_code == 201
    assert (await client.put(f"{RUN}/pool", json={"prompts": POOL})).json() == {"added": 18, "pool": 18, "priors": 6}


async def train(client: httpx.AsyncClient, steps: int) -> None:
    done = (await client.get(RUN)).json()
    first = done["step"] + 1 if done["totals"]["groups"] else 0
    for step in range(first, first + steps):
        drawn = (await client.post(f"{RUN}/draw", json={"step": step})).json()["prompts"]
        results = [{"prompt": prompt, "rewards": [1, int(prompt.startswith("math"))]} for prompt in drawn]
        await client.post(f"{RUN}/report", json={"step": step, "results": results, "final": True})


def test_what_is_told_of_domains() -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        await begun(client)
        await train(client, 1)
        first = (await client.get(RUN)).json()["domains"]
        assert [row["totals"]["selected"] for row in first] == [4, 2, 2]
        await train(client, 9)
        state = (await client.get(RUN)).json()
        rows = {row["domain"]: row for row in state["domains"]}
        assert list(rows) == ["math", "code", None]
        assert {name: (row["pool"], row["share"]) for name, row in rows.items()} == {
            "math": (6, 0.5), "code": (6, 0.25), None: (6, 0.25),
        }  # fmt: skip
        for name in ("selected", "groups", "effective", "rollouts"):
            assert sum(row["totals"][name] for row in rows.values()) == state["totals"][name]
        assert rows["math"]["exploration"]["easy"] < rows["code"]["exploration"]["easy"]
        assert sum(rows["math"]["target"].values()) == pytest.approx(0.1)
        assert state["spec"]["domains"] == SPEC["domains"]
        assert (await client.get("/v1/overview")).json()["runs"][0]["domains"] == state["domains"]
        steps = (await client.get(f"{RUN}/steps", params={"domain": "code"})).json()["steps"]
        assert sum(row["groups"] for row in steps) == rows["code"]["totals"]["groups"] > 0
        listed = (await client.get(f"{RUN}/prompts", params={"domain": "math"})).json()["prompts"]
        assert {row["domain"] for row in listed} == {"math"}
        assert len(listed) == 6
        unsaid = (await client.get(f"{RUN}/prompts", params={"domain": ""})).json()["prompts"]
        assert {row["prompt"][:4] for row in unsaid} == {"rest"}
        assert (await client.get(f"{RUN}/prompts/math%2F1")).json()["domain"] == "math"

    within(scenario)


def test_a_rewind_forgets_what_a_domain_did() -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        await begun(client)
        await train(client, 2)
        before = (await client.get(RUN)).json()
        await train(client, 5)
        assert (await client.get(RUN)).json()["domains"] != before["domains"]
        assert (await client.post(f"{RUN}/rewind", json={"step": 1})).status_code == 200
        assert (await client.get(RUN)).json()["domains"] == before["domains"]

    within(scenario)


@pytest.mark.parametrize(
    ("item", "place"),
    [
        ({"prompt": "x", "domain": "a b"}, "/prompts/1/domain"),
        ({"prompt": "x", "domain": ""}, "/prompts/1/domain"),
        ({"prompt": "x", "domain": 3}, "/prompts/1/domain"),
        ({"prompt": "math/0", "domain": "code"}, "/prompts/1/domain"),
    ],
)
def test_a_domain_that_can_not_be_is_refused_where_it_stands(item: Any, place: str) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        await begun(client)
        answer = await client.put(f"{RUN}/pool", json={"prompts": ["new", item]})
        assert pointers(problem(answer, 422)) == [place]
        lines = "\n".join(map(json.dumps, ["new", item]))
        answer = await client.put(f"{RUN}/pool", content=lines, headers=NDJSON)
        assert pointers(problem(answer, 422)) == [place.removeprefix("/prompts")]
        assert (await client.get(RUN)).json()["pool"] == 18

    within(scenario)


@pytest.mark.parametrize(
    ("domains", "place"),
    [
        ({"math": {"quota": 2}}, "/domains/math/quota"),
        ({"math": {"weight": 0.5}}, "/domains/math/weight"),
        ({"math": 0.5}, "/domains/math"),
        ([], "/domains"),
        ({"a": {"quota": 0.7}, "b": {"quota": 0.7}}, "/domains"),
    ],
)
def test_domains_of_a_spec_that_can_not_be(domains: Any, place: str) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        assert pointers(problem(await client.put(RUN, json={"domains": domains}), 422)) == [place]
        await client.put(RUN, json={})
        assert pointers(problem(await client.patch(RUN, json={"domains": domains}), 422)) == [place]

    within(scenario)


def test_an_unknown_domain_is_said_with_those_there_are() -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        await begun(client)
        for path in ("steps", "prompts"):
            told = problem(await client.get(f"{RUN}/{path}", params={"domain": "maths"}), 422)
            assert pointers(told) == ["/query/domain"]
            assert "math, code" in str(told)

    within(scenario)


def test_the_same_spec_is_the_same_however_its_domains_are_ordered() -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        assert (await client.put(RUN, json={"domains": {"b": {}, "a": {"quota": 0.5}}})).status_code == 201
        assert (await client.put(RUN, json={"domains": {"a": {"quota": 0.5}, "b": {}}})).status_code == 200
        assert (await client.put(RUN, json={"domains": {"a": {"quota": 0.4}}})).status_code == 409
        await client.patch(RUN, json={"domains": {"c": {}}})
        assert (await client.get(RUN)).json()["spec"]["domains"] == {"c": {}}

    within(scenario)
