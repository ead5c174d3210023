"""Pool uploads with what is known of the prompts beforehand, over HTTP and over replicas."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import numpy as np
import pytest

from greso_service.core.draws import Ids
from greso_service.core.question import PromptView, beta_mean
from greso_service.errors import InvalidInput
from greso_service.given import Given, Idempotency
from greso_service.history.base import History, RunKey
from greso_service.history.memory import MemoryHistory
from greso_service.priors import Rates
from greso_service.runs import Runs

from ..asgi import over_shared, pointers, problem, within  # noqa: TID252
from ..stores import RedisStore, state_of  # noqa: TID252

NDJSON = {"Content-Type": "application/x-ndjson"}
OLD, NEW = RunKey("default", "old"), RunKey("default", "new")
POOL = "/v1/runs/new/pool"


async def begin(client: httpx.AsyncClient) -> None:
    """A run that has learnt, with a pool, and a new one."""
    spec = {"policy": "irt", "train_batch_size": 2, "rollout_batch_size": 2, "exploration_share": 0}
    for run in ("old", "new"):
        assert (await client.put(f"/v1/runs/{run}", json=spec)).status_code == 201
    await client.put("/v1/runs/old/pool", json={"prompts": ["easy", "middle", "hard", "new"]})
    groups = {"easy": [1] * 8, "middle": [1, 0] * 4, "hard": [0] * 8, "elsewhere": [1, 0] * 4}
    results = [{"prompt": prompt, "rewards": rewards} for prompt, rewards in groups.items()]
    assert (await client.post("/v1/runs/old/report", json={"step": 0, "results": results})).status_code == 200


async def put(client: httpx.AsyncClient, body: Any, **headers: str) -> httpx.Response:
    return await client.put(POOL, json=body, headers=headers)


async def drawn(client: httpx.AsyncClient, count: int = 1) -> list[str]:
    """The best prompts of the new run's pool, best first."""
    answer = await client.post("/v1/runs/new/draw", json={"step": 0, "count": count})
    return list(answer.json()["prompts"])


UPLOAD: list[Any] = [
    {"prompt": "easy", "pass_rate": 1},
    {"prompt": "middle", "pass_rate": 0.5, "samples": 64},
    "plain",
    {"prompt": "hard", "pass_rate": 0.0},
    {"prompt": "unrated"},
]


@pytest.mark.parametrize("lines", [False, True])
def test_rates_decide_what_is_drawn_first(lines: bool) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        await begin(client)
        if lines:
            text = "".join(json.dumps(item) + "\n" for item in UPLOAD)
            answer = await client.put(POOL, content=text, headers=NDJSON)
        else:
            answer = await put(client, {"prompts": UPLOAD})
        assert answer.json() == {"added": 5, "pool": 5, "priors": 3}
        assert await drawn(client) == ["middle"]
        again = await put(client, {"prompts": UPLOAD})
        assert again.json() == {"added": 0, "pool": 5, "priors": 3}

    over_shared(story)


def test_objects_without_a_rate_are_as_strings() -> None:
    async def story(client: httpx.AsyncClient) -> None:
        await begin(client)
        assert (await put(client, {"prompts": [{"prompt": "a"}, "b"]})).json() == {"added": 2, "pool": 2}

    over_shared(story)


@pytest.mark.parametrize(
    ("item", "where"),
    [
        ({}, ""),
        ({"pass_rate": 0.5}, ""),
        ({"prompt": 7}, "/prompt"),
        ({"prompt": None}, "/prompt"),
        ({"prompt": ""}, ""),
        ({"prompt": "x" * 257}, ""),
        ({"prompt": "a", "pass_rate": -1e-9}, "/pass_rate"),
        ({"prompt": "a", "pass_rate": 1.1}, "/pass_rate"),
        ({"prompt": "a", "pass_rate": 10**400}, "/pass_rate"),
        ({"prompt": "a", "pass_rate": "0.5"}, "/pass_rate"),
        ({"prompt": "a", "pass_rate": True}, "/pass_rate"),
        ({"prompt": "a", "pass_rate": None}, "/pass_rate"),
        ({"prompt": "a", "pass_rate": 0.5, "samples": 0}, "/samples"),
        ({"prompt": "a", "pass_rate": 0.5, "samples": 65_536}, "/samples"),
        ({"prompt": "a", "pass_rate": 0.5, "samples": 1.5}, "/samples"),
        ({"prompt": "a", "samples": 8}, "/samples"),
        ({"prompt": "a", "pass_rates": 0.5}, "/pass_rates"),
        ({"prompt": "a", "a/b~c": 0.5}, "/a~1b~0c"),
        (7, ""),
        (None, ""),
        (["a"], ""),
        (True, ""),
    ],
    ids=lambda part: str(part)[:30],
)
@pytest.mark.parametrize("lines", [False, True])
def test_items_say_where_they_are_wrong(item: Any, where: str, lines: bool) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        await begin(client)
        items = ["ok", {"prompt": "fine", "pass_rate": 0.5}, "ok", item, "ok"]
        text = "".join(json.dumps(each) + "\n" for each in items) if lines else json.dumps({"prompts": items})
        answer = await client.put(POOL, content=text, headers=NDJSON if lines else {})
        if lines and isinstance(item, dict) and item.get("pass_rate") == 10**400:
            assert pointers(problem(answer, 400)) == ["/3"]  # too large to be read at all
        else:
            assert pointers(problem(answer, 422))[0] == ("" if lines else "/prompts") + "/3" + where
        assert (await client.get("/v1/runs/new")).json()["prompts"] == 0

    over_shared(story)


@pytest.mark.parametrize(
    ("body", "status", "where"),
    [
        ({}, 422, "/prompts"),
        ({"prompts": None}, 422, "/prompts"),
        ({"from_run": None}, 422, "/from_run"),
        ({"from_run": ""}, 422, "/from_run"),
        ({"from_run": "a/b"}, 422, "/from_run"),
        ({"from_run": ["old"]}, 422, "/from_run"),
        ({"from_run": "new"}, 422, "/from_run"),
        ({"from_run": "nobody"}, 404, "/from_run"),
        ({"from_run": "nobody", "prompts": []}, 404, "/from_run"),
        ({"from_run": "old", "prompts": ["a", ""]}, 422, "/prompts/1"),
        ({"from_run": "old", "prompts": [{"prompt": "a", "pass_rate": 2}]}, 422, "/prompts/0/pass_rate"),
        ({"from_run": "old", "as_of": 3}, 422, "/as_of"),
    ],
    ids=str,
)
def test_imports_say_where_they_are_wrong(body: Any, status: int, where: str) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        await begin(client)
        assert pointers(problem(await put(client, body), status)) == [where]
        assert (await client.get("/v1/runs/new")).json()["prompts"] == 0

    over_shared(story)


def test_a_run_that_is_not_there_cannot_be_given_prompts_of_another() -> None:
    async def story(client: httpx.AsyncClient) -> None:
        await begin(client)
        answer = problem(await client.put("/v1/runs/nobody/pool", json={"from_run": "old"}), 404)
        assert "nobody" in answer["detail"]

    over_shared(story)


def test_all_of_another_runs_pool_joins_with_what_it_knows() -> None:
    async def story(client: httpx.AsyncClient) -> None:
        await begin(client)
        assert (await put(client, {"from_run": "old"})).json() == {"added": 4, "pool": 4, "priors": 3}
        assert await drawn(client) == ["middle"]

    over_shared(story)


def test_named_prompts_join_with_what_another_run_knows_of_them() -> None:
    async def story(client: httpx.AsyncClient) -> None:
        await begin(client)
        items = ["hard", "elsewhere", "nowhere", {"prompt": "easy", "pass_rate": 0.5, "samples": 1000}]
        assert (await put(client, {"from_run": "old", "prompts": items})).json() == {
            "added": 4, "pool": 4, "priors": 3,
        }  # fmt: skip
        assert await drawn(client, 2) == ["easy", "elsewhere"]

    over_shared(story)


def test_a_run_without_a_pool_gives_all_its_prompts_and_limits_hold() -> None:
    async def story(client: httpx.AsyncClient) -> None:
        for run in ("old", "new"):
            await client.put(f"/v1/runs/{run}", json={})
        results = [{"prompt": prompt, "rewards": [0, 1]} for prompt in "abc"]
        await client.post("/v1/runs/old/report", json={"step": 0, "results": results})
        first = await put(client, {"from_run": "old"}, **{"Idempotency-Key": "k"})
        assert first.json() == {"added": 3, "pool": 3, "priors": 3}
        results = [{"prompt": prompt, "rewards": [0, 1]} for prompt in "de"]
        await client.post("/v1/runs/old/report", json={"step": 0, "results": results})
        answer = problem(await put(client, {"from_run": "old"}), 422)
        assert pointers(answer) == ["/from_run"]
        assert "5 prompts; max_pool_upload is 4" in answer["detail"]
        items = [{"prompt": prompt} for prompt in "abcde"]
        for _ in range(2):  # too large by now, but it was taken over under this key before
            again = await put(client, {"from_run": "old"}, **{"Idempotency-Key": "k"})
            assert again.json() == {"added": 3, "pool": 3, "priors": 3}
        reused = await put(client, {"from_run": "old", "prompts": ["a"]}, **{"Idempotency-Key": "k"})
        assert problem(reused, 422)["type"] == "urn:greso:problem:idempotency-key-reused"
        assert pointers(problem(await put(client, {"prompts": items}), 422)) == ["/prompts"]

    within(story, max_pool_upload=4)


def test_an_import_is_repeated_without_effect_even_when_its_source_is_gone() -> None:
    async def story(client: httpx.AsyncClient) -> None:
        await begin(client)
        first = await put(client, {"from_run": "old"}, **{"Idempotency-Key": "k"})
        results = [{"prompt": "hard", "rewards": [0, 1]}]
        await client.post("/v1/runs/old/report", json={"step": 1, "results": results})
        for _ in range(2):
            again = await put(client, {"from_run": "old"}, **{"Idempotency-Key": "k"})
            assert (again.content, again.headers["idempotent-replayed"]) == (first.content, "true")
            await client.delete("/v1/runs/old")
        answer = problem(await put(client, {"from_run": "old", "prompts": []}, **{"Idempotency-Key": "k"}), 422)
        assert answer["type"] == "urn:greso:problem:idempotency-key-reused"
        assert pointers(problem(await put(client, {"from_run": "old"}), 404)) == ["/from_run"]

    over_shared(story)


def replica(history: History) -> Runs:
    return Runs(history, idempotency_ttl=86_400, snapshot_every=2)


def test_replicas_agree_and_a_restart_from_a_snapshot_keeps_it(redis_store: RedisStore) -> None:
    async def story() -> None:
        async with redis_store.opened() as first, redis_store.opened() as second, redis_store.opened() as third:
            one, two = replica(first), replica(second)
            for key in (OLD, NEW):
                await one.create(key, {"policy": "irt"})
            await two.report(OLD, 0, ["a", "b"], [[1, 0], [0, 0]], final=True)
            rates = Rates(np.array([1]), np.array([0.3]), np.array([0]))
            await one.add_prompts(NEW, ["x", "y"], rates=rates)
            assert json.loads((await two.import_prompts(NEW, OLD, None, most=9)).body)["priors"] == 2
            await one.report(NEW, 0, ["a", "y"], [[1, 0], [1, 1]], final=True)
            await two.draw(NEW, 1, 2)
            assert await state_of(one, NEW) == await state_of(two, NEW)
            for runs in (one, two):
                await runs.close()
            late = replica(third)
            assert await state_of(late, NEW) == await state_of(two, NEW)
            await late.close()

    asyncio.run(story())


def test_what_an_import_said_stays_when_its_source_is_deleted_and_needs_it_no_more() -> None:
    async def story() -> None:
        history = MemoryHistory()
        one = replica(history)
        for key in (OLD, NEW):
            await one.create(key, {})
        await one.report(OLD, 0, ["a"], [[0] * 8], final=True)
        await one.import_prompts(NEW, OLD, None, most=9)
        await one.delete(OLD)
        two = Runs(history, idempotency_ttl=86_400, snapshot_every=10_000)
        await two.show(NEW)
        state = two._live.known(NEW)
        assert state is not None
        assert beta_mean(PromptView(state.prompts, state.table.find(Ids.of(["a"]))))[0] < 0.4
        given = Given(Idempotency("other", b"." * 32))
        with pytest.raises(InvalidInput, match="/from_run: there is no run old"):
            await two.import_prompts(NEW, OLD, None, given, most=9)
        for runs in (one, two):
            await runs.close()

    asyncio.run(story())
