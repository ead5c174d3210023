"""Runs of the ranking policies and of `band` over HTTP and a real Redis: replicas, restarts, changes, errors."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from greso_service.history.base import RunKey
from greso_service.runs import Runs

from ..stores import RedisStore, state_of  # noqa: TID252

if TYPE_CHECKING:
    from ..servers import Service  # noqa: TID252

POLICIES = ["irt", "p_mixed", "mopps", "band"]
NAMES = [f"p{number}" for number in range(60)]
SPEC = {"train_batch_size": 6, "rollout_batch_size": 10, "group_size": 4, "seed": 8, "cooldown_steps": 1}
KEY = RunKey("default", "run")


def earned(choose: random.Random, prompt: str) -> list[int]:
    rate = [0.0, 0.3, 0.6, 1.0][int(prompt[1:]) % 4]
    return [int(choose.random() < rate) for _ in range(4)]


def trained(service: Service, run: str, steps: range, choose: random.Random) -> list[list[str]]:
    """Steps of rounds of draw and report; what was drawn."""
    drawn = []
    for step in steps:
        complete = False
        for _ in range(4):
            told = service.json("POST", f"{run}/draw", {"step": step})
            drawn.append(told["prompts"])
            results = [{"prompt": prompt, "rewards": earned(choose, prompt)} for prompt in told["prompts"]]
            complete = service.json("POST", f"{run}/report", {"step": step, "results": results})["step"]["complete"]
            if complete:
                break
    return drawn


@pytest.mark.parametrize("policy", POLICIES)
def test_a_run(service: Service, run_name: str, policy: str) -> None:
    runs = [f"/v1/runs/{run_name}-{twin}" for twin in range(2)]
    drawn = []
    for run in runs:
        service.json("PUT", run, {"policy": policy, **SPEC})
        service.json("PUT", f"{run}/pool", {"prompts": NAMES})
        drawn.append(trained(service, run, range(4), random.Random(1)))
    assert drawn[0] == drawn[1], "the same history, the same draws"
    for prompts in drawn[0]:
        assert len(prompts) == len(set(prompts))
    [run, _] = runs
    state = service.json("GET", run)
    assert state["totals"]["selected"] == sum(map(len, drawn[0]))
    asked = {"step": 9, "prompts": [*NAMES, "new"], "limit": 7, "explain": True}
    told = service.json("POST", f"{run}/select", asked)
    assert len(told["selected"]) == 7
    assert told["selected"] == sorted(set(told["selected"]))
    assert len(told["decisions"]) == told["examined"]
    assert told["examined"] == sum(told["skipped"].values()) + 7
    assert {one["reason"] for one in told["decisions"]} <= {
        "new", "effective", "explore", "fill", "skip_easy", "skip_hard",
    }  # fmt: skip
    assert all(0 <= one["keep_probability"] <= 1 for one in told["decisions"])
    if policy != "band":
        assert told["examined"] == 61
        kept = [one["keep_probability"] for one in told["decisions"] if one["keep"]]
        left = [one["keep_probability"] for one in told["decisions"] if not one["keep"]]
        assert min(kept) >= max(left)
    for other in ("greso", "uniform", *POLICIES):
        assert service.json("PATCH", run, {"policy": other})["spec"]["policy"] == other
        assert service.json("POST", f"{run}/draw", {"step": 20, "count": 3})["epoch"] >= 0
    rewound = service.call("POST", f"{run}/rewind", {"step": 2})
    assert rewound.is_success, rewound.text


def test_a_rewound_run_draws_again_what_it_drew(service: Service, run_name: str) -> None:
    run = f"/v1/runs/{run_name}"
    service.json("PUT", run, {"policy": "irt", **SPEC})
    service.json("PUT", f"{run}/pool", {"prompts": NAMES})
    trained(service, run, range(3), random.Random(2))
    service.json("POST", f"{run}/report", {"step": 2, "results": [], "final": True})
    first = trained(service, run, range(3, 6), random.Random(3))
    service.json("POST", f"{run}/rewind", {"step": 2})
    assert trained(service, run, range(3, 6), random.Random(3)) == first


@pytest.mark.parametrize("stop", ["close", "kill"])
def test_a_restarted_service_draws_what_it_would_have(start_service: Callable[..., Service], stop: str) -> None:
    service, policies = start_service(), POLICIES[:2] if stop == "kill" else POLICIES[2:]
    for policy in policies:
        for twin in range(2):
            run = f"/v1/runs/{policy}-{twin}"
            service.json("PUT", run, {"policy": policy, **SPEC})
            service.json("PUT", f"{run}/pool", {"prompts": NAMES})
            trained(service, run, range(2), random.Random(5))
    expected = {policy: trained(service, f"/v1/runs/{policy}-0", range(2, 4), random.Random(6)) for policy in policies}
    if stop == "kill":
        service.kill()
    else:
        service.process.terminate()  # type: ignore[union-attr]
        service.process.wait(20)  # type: ignore[union-attr]
    service.start()
    for policy in policies:
        assert trained(service, f"/v1/runs/{policy}-1", range(2, 4), random.Random(6)) == expected[policy]


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"policy": "best"}, "policy"),
        ({"exploration_share": 1.5}, "exploration_share"),
        ({"exploration_share": -0.1}, "exploration_share"),
        ({"cooldown_steps": -1}, "cooldown_steps"),
        ({"cooldown_steps": 1.5}, "cooldown_steps"),
        ({"posterior_decay": 2}, "posterior_decay"),
        ({"audit_share": "all"}, "audit_share"),
        ({"pass_rate_band": [0.9, 0.1]}, "pass_rate_band"),
        ({"pass_rate_band": [0.1]}, "pass_rate_band"),
        ({"shadow": "yes please"}, "shadow"),
    ],
)
def test_a_bad_spec_is_refused_with_its_place(
    service: Service, run_name: str, spec: dict[str, Any], field: str
) -> None:
    run = f"/v1/runs/{run_name}"
    refused = service.call("PUT", run, spec)
    assert refused.status_code == 422
    assert any(error["pointer"].startswith(f"/{field}") for error in refused.json()["errors"])
    assert service.call("GET", run).status_code == 404
    service.json("PUT", run, {})
    assert service.call("PATCH", run, spec).status_code == 422
    assert service.json("GET", run)["spec"].get("policy") == "greso"


def test_a_draw_by_rank_from_an_empty_pool_is_refused(service: Service, run_name: str) -> None:
    service.json("PUT", f"/v1/runs/{run_name}", {"policy": "irt"})
    refused = service.call("POST", f"/v1/runs/{run_name}/draw", {"step": 0, "count": 3})
    assert refused.status_code == 409
    assert "pool is empty" in refused.json()["detail"]


@pytest.mark.parametrize("policy", POLICIES)
def test_replicas_take_turns_and_agree(redis_store: RedisStore, policy: str) -> None:
    async def told() -> None:
        choose = random.Random(4)
        async with redis_store.opened() as one, redis_store.opened() as two:
            replicas = [Runs(history, idempotency_ttl=60, snapshot_every=5) for history in (one, two)]
            await replicas[0].create(KEY, {"policy": policy, "audit_share": 0.2, **SPEC})
            await replicas[1].add_prompts(KEY, NAMES)
            for step in range(6):
                answers = await asyncio.gather(*(runs.draw(KEY, step, 4) for runs in replicas))
                drawn = [prompt for answer in answers for prompt in json.loads(answer.body)["prompts"]]
                assert len(drawn) == len(set(drawn)), "two draws at once, of one step"
                rewards = [[float(reward) for reward in earned(choose, prompt)] for prompt in drawn]
                await replicas[step % 2].report(KEY, step, drawn, rewards, final=True)
            states = []
            for runs in replicas:
                states.append(await state_of(runs, KEY))
                await runs.close()
        for snapshot in (True, False):  # one that knows nothing, from the snapshot and from the first event
            if not snapshot:
                redis_store.redis.delete("greso:{default/run}:snap")
            async with redis_store.opened() as history:
                states.append(await state_of(Runs(history, idempotency_ttl=60, snapshot_every=10**6), KEY))
        assert states[1:] == states[:1] * 3

    asyncio.run(told())
