"""Runs: create, change, list, delete, and what their state shows."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from .oracle.compare import check
from .oracle.problems import picture, problem, send, untouched
from .oracle.views import all_pages, next_cursor, rows

if TYPE_CHECKING:
    from .oracle.service import Service

DEFAULTS: dict[str, Any] = {
    "policy": "greso",
    "streak_rule": "zero_variance",
    "group_size": 8,
    "train_batch_size": 256,
    "rollout_batch_size": 384,
    "min_rollout_batch_size": 1,
    "safety_factor": 1.25,
    "target_zero_variance": 0.25,
    "easy_share": 1 / 3,
    "exploration_step": 0.01,
    "exploration_bounds": [0.05, 0.95],
    "min_keep_probability": 0.01,
    "reward_tolerance": 1e-6,
    "solved_reward": 1.0,
    "easy_min_mean": None,
    "hard_max_mean": None,
}

REFUSED_VALUES: dict[str, list[Any]] = {
    "group_size": [0, -1, 1.5, "8", True, [8]],
    "train_batch_size": [0, -1, 2.5, "many"],
    "rollout_batch_size": [0, -4, "many"],
    "min_rollout_batch_size": [-1, 1.5, 385],
    "safety_factor": [0, -1, "1.25", True],
    "target_zero_variance": [-0.1, 1.1, "x"],
    "easy_share": [-0.1, 1.1, "x"],
    "exploration_step": [-0.01, 1.5, "x"],
    "exploration_bounds": [[0.9, 0.1], [-0.1, 0.9], [0.1, 1.1], [0.5], [0.1, 0.5, 0.9], 0.5, "x"],
    "min_keep_probability": [-0.1, 1.1, "x"],
    "reward_tolerance": [-1e-9, "x"],
    "solved_reward": ["x", [1]],
    "easy_min_mean": ["x", []],
    "hard_max_mean": ["x", {}],
    "seed": ["abc", 1.5, [1]],
    "policy": ["random", "", 1],
    "streak_rule": ["paper", "", 1],
    "unknown": [1, None],
    "a/b~c": [1],
}
OUT_OF_RANGE = [(field, value) for field, values in REFUSED_VALUES.items() for value in values]


def pointers_to(field: str) -> list[str]:
    """A field, or an item of it, as JSON pointers."""
    escaped = field.replace("~", "~0").replace("/", "~1")
    return [f"/{escaped}", f"/{escaped}/0", f"/{escaped}/1"]


def test_a_new_run_has_the_defaults_and_an_empty_state(served: Service, name: str) -> None:
    answer = served.call("PUT", f"/v1/runs/{name}", {})
    assert answer.status_code == 201
    state = served.json("GET", f"/v1/runs/{name}")
    nothing = {
        "run": name,
        "generation": 0,
        "exploration": {"easy": 0.5, "hard": 0.5},
        "prompts": 0,
        "pool": 0,
        "spec": DEFAULTS,
        "totals": {
            "examined": 0,
            "selected": 0,
            "skipped": {"easy": 0, "hard": 0},
            "groups": 0,
            "effective": 0,
            "zero_variance": {"easy": 0, "hard": 0},
            "undetermined": 0,
            "rollouts": 0,
            "rollouts_avoided": 0,
        },
    }
    check(nothing, state, "a new run")
    assert isinstance(state["epoch"], int)
    assert isinstance(state["spec"]["seed"], int)
    check(nothing, answer.json(), "the answer to its creation")


def test_put_again_is_200_with_an_equal_spec_and_409_with_another(served: Service, name: str) -> None:
    path = f"/v1/runs/{name}"
    assert served.call("PUT", path, {"group_size": 4, "seed": 3}).status_code == 201
    with untouched(served, path):
        assert served.call("PUT", path, {"group_size": 4, "seed": 3}).status_code == 200
        # Equal, though one leaves out what the other says.
        assert served.call("PUT", path, {"group_size": 4, "seed": 3, "train_batch_size": 256}).status_code == 200
        told = problem(served.call("PUT", path, {"group_size": 5, "seed": 3}), 409)
        assert "group_size" in told["detail"]
        problem(served.call("PUT", path, {"group_size": 0, "seed": 3}), 422, pointers=["/group_size"])


@pytest.mark.parametrize(("field", "value"), OUT_OF_RANGE)
def test_spec_values_out_of_range(served: Service, name: str, field: str, value: Any) -> None:
    path = f"/v1/runs/{name}"
    answer = served.call("PUT", path, {field: value})
    accepted = [*pointers_to(field), *(pointers_to("rollout_batch_size") if "rollout" in field else [])]
    told = problem(answer, 422, pointers=accepted)
    assert told["title"]
    assert served.call("GET", path).status_code == 404, "a refused spec made a run"
    served.create(name)
    with untouched(served, path):
        problem(served.call("PATCH", path, {"easy_share": 0.4, field: value}), 422, pointers=accepted)


@pytest.mark.parametrize("literal", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"1" + b"0" * 400])
def test_numbers_that_are_not_finite_in_a_spec(served: Service, name: str, literal: bytes) -> None:
    for field in (b"safety_factor", b"reward_tolerance", b"solved_reward", b"easy_min_mean", b"seed", b"group_size"):
        answer = send(served, "PUT", f"/v1/runs/{name}", b'{"' + field + b'": ' + literal + b"}")
        problem(answer, 400, 422)
        assert served.call("GET", f"/v1/runs/{name}").status_code == 404


@pytest.mark.parametrize("value", [-1, 0, 2**31, 2**53, 2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63) - 1])
def test_a_seed_is_either_kept_exactly_or_refused(served: Service, name: str, value: int) -> None:
    answer = served.call("PUT", f"/v1/runs/{name}", {"seed": value})
    if answer.status_code == 201:
        assert served.json("GET", f"/v1/runs/{name}")["spec"]["seed"] == value
        assert served.call("POST", f"/v1/runs/{name}/select", {"step": 1, "prompts": ["p"]}).status_code == 200
    else:
        problem(answer, 422, pointers=["/seed"])


@pytest.mark.parametrize("good", ["a", "7", "A.b_c-d", "x" * 128, "0..", "run.json"])
def test_run_names(served: Service, good: str) -> None:
    assert served.call("PUT", f"/v1/runs/{good}", {}).status_code == 201
    assert served.json("GET", f"/v1/runs/{good}")["run"] == good
    assert served.call("DELETE", f"/v1/runs/{good}").status_code == 204


@pytest.mark.parametrize(
    "bad", ["x" * 129, "-a", "%2Da", "_a", "a%20b", "a%2Fb", "%C3%A9", "a%00", "%FF", "a%0A", "a:b", "%7Ba%7D"]
)
def test_other_run_names_are_refused(served: Service, bad: str) -> None:
    problem(served.call("PUT", f"/v1/runs/{bad}", {}), 400, 404, 422)
    problem(served.call("GET", f"/v1/runs/{bad}"), 400, 404, 422)


def test_patch_changes_tunables(served: Service, name: str) -> None:
    path = served.create(name, seed=1)
    changes = {
        "train_batch_size": 128,
        "rollout_batch_size": 200,
        "min_rollout_batch_size": 2,
        "safety_factor": 1.5,
        "target_zero_variance": 0.3,
        "easy_share": 0.5,
        "exploration_step": 0.02,
        "exploration_bounds": [0.1, 0.9],
        "min_keep_probability": 0.02,
        "easy_min_mean": 0.98,
        "hard_max_mean": 0.11,
    }
    for field, value in changes.items():
        assert served.call("PATCH", path, {field: value}).status_code == 200
        check({field: value}, served.json("GET", path)["spec"], f"PATCH {field}")
    check(DEFAULTS | changes | {"seed": 1}, served.json("GET", path)["spec"], "after all changes")


@pytest.mark.parametrize(("field", "value"), [("group_size", 4), ("seed", 9), ("streak_rule", "same_kind")])
def test_patch_refuses_what_cannot_change(served: Service, name: str, field: str, value: Any) -> None:
    path = served.create(name, seed=1)
    with untouched(served, path):
        problem(served.call("PATCH", path, {field: value}), 422, pointers=[f"/{field}"])
        problem(served.call("PATCH", path, {"easy_share": 0.9, field: value}), 422, pointers=[f"/{field}"])


def test_patch_changes_only_what_it_names(served: Service, name: str) -> None:
    path = served.create(name, train_batch_size=2, rollout_batch_size=4)
    served.json("POST", f"{path}/report", {"step": 1, "results": [{"prompt": "p", "rewards": [0, 1]}]})
    before = picture(served, path)
    served.json("PATCH", path, {"exploration_step": 0.05})
    after = picture(served, path)
    before[0]["spec"]["exploration_step"] = 0.05
    assert after == before


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None),
        ("PATCH", "", {}),
        ("DELETE", "", None),
        ("PUT", "/pool", {"prompts": []}),
        ("POST", "/select", {"step": 1, "prompts": []}),
        ("POST", "/draw", {"step": 1}),
        ("POST", "/report", {"step": 1, "results": []}),
        ("POST", "/rewind", {"step": 0}),
        ("POST", "/fork", {"run": "never-made-either"}),
        ("GET", "/steps", None),
        ("GET", "/prompts", None),
        ("GET", "/prompts/p", None),
    ],
)
def test_an_unknown_run_is_404(served: Service, method: str, path: str, body: Any) -> None:
    problem(served.call(method, f"/v1/runs/never-made{path}", body), 404)
    assert served.call("GET", "/v1/runs/never-made").status_code == 404


def test_runs_are_listed_newest_activity_first(served: Service, name: str) -> None:
    mine = [f"{name}-{at}" for at in range(5)]
    for run in [*mine, mine[1], mine[3]]:
        path = served.create(run, seed=1)
        served.json("POST", f"{path}/report", {"step": 1, "results": []})
        tick()
    expected = [mine[3], mine[1], mine[4], mine[2], mine[0]]
    assert [row["run"] for row in rows(served.json("GET", "/v1/runs?limit=5"), "runs")] == expected
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None and len(seen) < 5:
        query: dict[str, Any] = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = served.http.get("/v1/runs", params=query).json()
        assert len(rows(page, "runs")) <= 2
        seen += [row["run"] for row in rows(page, "runs")]
        cursor = next_cursor(page)
    assert seen[:5] == expected


def test_the_pages_of_the_list_hold_every_run_once(served: Service, name: str) -> None:
    mine = {f"{name}-{at}" for at in range(7)}
    for run in mine:
        served.create(run)
    listed = [row["run"] for row in all_pages(served, "/v1/runs", "runs", limit=3)]
    assert len(listed) == len(set(listed))
    assert mine <= set(listed)


def tick() -> None:
    """Wait until the clock that orders activities has gone on."""
    before = time.time_ns()
    while time.time_ns() - before < 3_000_000:
        time.sleep(0.001)


def test_delete_leaves_nothing(served: Service, name: str) -> None:
    body = {"step": 1, "results": [{"prompt": "p", "rewards": [0, 0]}]}
    path = served.create(name, seed=5, train_batch_size=1, rollout_batch_size=1)
    served.json("PUT", f"{path}/pool", {"prompts": ["p", "q"]})
    served.json("POST", f"{path}/report", body, "key")
    deleted = served.call("DELETE", path)
    assert deleted.status_code == 204
    assert deleted.content == b""
    for view in (path, f"{path}/steps", f"{path}/prompts", f"{path}/prompts/p"):
        problem(served.call("GET", view), 404)
    problem(served.call("DELETE", path), 404)
    problem(served.call("POST", f"{path}/report", body, "key"), 404)
    assert name not in [row["run"] for row in all_pages(served, "/v1/runs", "runs", limit=100)]
    # The name is free again, with another spec, and nothing of the old run shines through.
    assert served.call("PUT", path, {"seed": 6}).status_code == 201
    state = served.json("GET", path)
    check({"prompts": 0, "pool": 0, "generation": 0, "totals": {"rollouts": 0, "groups": 0}}, state, "recreated")
    again = served.call("POST", f"{path}/report", body, "key")
    assert again.headers.get("Idempotent-Replayed") != "true"
    assert served.json("GET", path)["totals"]["rollouts"] == 2


def test_runs_do_not_touch_each_other(served: Service, name: str) -> None:
    one, other = served.create(f"{name}-a"), served.create(f"{name}-b")
    with untouched(served, other):
        body = {"step": 1, "results": [{"prompt": "p", "rewards": [0, 0]}]}
        served.json("POST", f"{one}/report", body)
        served.json("PUT", f"{one}/pool", {"prompts": ["p"]})
        served.json("POST", f"{one}/draw", {"step": 1})
