"""A target that tunes itself, over HTTP: put on and off in a live run, told with its reason, never on bad terms."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from ..asgi import over_shared, pointers, problem  # noqa: TID252


async def step(client: httpx.AsyncClient, number: int, **more: Any) -> httpx.Response:
    """Report a step whose hard prompts come again in each."""
    earned = {"effective": [0, 1], "easy": [1, 1], "hard": [0, 0]}
    counts = {"effective": 12, "easy": 2, "hard": 6}
    results = [
        {"prompt": f"{kind}{i}", "rewards": earned[kind]} for kind, count in counts.items() for i in range(count)
    ]
    return await client.post("/v1/runs/r/report", json={"step": number, "results": results, "final": True, **more})


def test_on_and_off_in_a_live_run() -> None:
    async def story(client: httpx.AsyncClient) -> None:
        await client.put("/v1/runs/r", json={"target_zero_variance": 0.4})
        changed = await client.patch("/v1/runs/r", json={"target_zero_variance": "auto"})
        assert changed.json()["spec"]["target_zero_variance"] == "auto"
        for number in range(8):
            assert (await step(client, number, seconds={"rollout": 2.5, "update": 0.5})).is_success
        run = (await client.get("/v1/runs/r")).json()
        target, totals = run["target"], run["totals"]
        assert target["auto"]
        assert target["hard"] < 0.8 / 3
        assert "hard down: 0% of the hard prompts tried again were effective" in target["reason"]
        assert totals["seconds"] == {"rollout": 20.0, "update": 4.0}
        assert totals["effective_per_rollout_second"] == 96 / 20
        assert (await client.get("/v1/runs/r/overview")).json()["target"] == target
        metrics = (await client.get("/metrics")).text
        assert f'greso_run_target_ratio{{run="r",kind="hard"}} {target["hard"]}' in metrics
        [row] = (await client.get("/v1/runs/r/steps", params={"after": 6})).json()["steps"]
        assert row["seconds"] == {"rollout": 2.5, "update": 0.5}
        await client.patch("/v1/runs/r", json={"target_zero_variance": 0.3})
        target = (await client.get("/v1/runs/r")).json()["target"]
        assert (target["auto"], target["easy"]) == (False, pytest.approx(0.1))

    over_shared(story)


@pytest.mark.parametrize(
    ("seconds", "pointer"),
    [
        ({"rollout": -1}, "/seconds/rollout"),
        ({"rollout": 1e308}, "/seconds/rollout"),
        ({"rollout": 1e9, "update": 1.000001e9}, "/seconds/update"),
        ({"update": "long"}, "/seconds/update"),
        ({"rollout": 1, "reward": 2}, "/seconds/reward"),
        (3, "/seconds"),
    ],
)
def test_wrong_seconds_are_refused_whole(seconds: Any, pointer: str) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        await client.put("/v1/runs/r", json={})
        refused = await step(client, 0, seconds=seconds)
        assert pointers(problem(refused, 422)) == [pointer]
        assert (await client.get("/v1/runs/r")).json()["totals"]["groups"] == 0

    over_shared(story)


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"target_zero_variance": "automatic"}, "/target_zero_variance"),
        ({"target_zero_variance": 1.5}, "/target_zero_variance"),
        ({"target_bounds": [0.5, 0.02]}, "/target_bounds"),
    ],
)
def test_wrong_terms_are_refused(fields: dict[str, Any], pointer: str) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        refused = await client.put("/v1/runs/r", json=fields)
        assert {found.removesuffix("/0") for found in pointers(problem(refused, 422))} == {pointer}

    over_shared(story)
