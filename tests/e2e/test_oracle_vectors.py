"""The law's worked vectors and each of its sentences about streaks, steps and steering, asked over HTTP.

The expected numbers stand here as the law gives them; the oracle's own model is held against the same numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from .oracle.compare import check
from .oracle.model import Run
from .oracle.records import Spec
from .oracle.views import member

if TYPE_CHECKING:
    from .oracle.service import Service

History = list[list[float]]

# Rewards of each group oldest first, then streak, keep probability; the same under `same_kind`; kind.
VECTORS: dict[str, tuple[History, tuple[int, float], tuple[int, float], str]] = {
    "no history": ([], (0, 1.0), (0, 1.0), "new"),
    "one easy group": ([[1] * 4], (1, 0.5), (1, 0.5), "easy"),
    "three hard groups": ([[0] * 4] * 3, (3, 0.125), (3, 0.125), "hard"),
    "hard then easy": ([[0, 0], [1, 1]], (2, 0.25), (1, 0.5), "easy"),
    "an effective group between": ([[0, 0], [0, 1], [0, 0]], (1, 0.5), (1, 0.5), "hard"),
    "the floor": ([[0.1] * 3] * 8, (8, 0.01), (8, 0.01), "hard"),
    "an undetermined group first": ([[1], [1, 1]], (1, 0.5), (1, 0.5), "easy"),
    "equal but not solved": ([[0.5, 0.5]], (1, 0.5), (1, 0.5), "hard"),
    "effective last": ([[0, 0], [0, 1]], (0, 1.0), (0, 1.0), "effective"),
    "only undetermined groups": ([[1], []], (0, 1.0), (0, 1.0), "new"),
    "an undetermined group last": ([[0, 0], [0, 0], [1]], (2, 0.25), (2, 0.25), "hard"),
    "easy, hard, easy": ([[1, 1], [0, 0], [1, 1]], (3, 0.125), (1, 0.5), "easy"),
    "below the tolerance": ([[1, 1.0000005]], (1, 0.5), (1, 0.5), "easy"),
    "above the tolerance": ([[1, 1.000002]], (0, 1.0), (0, 1.0), "effective"),
    "solved within the tolerance": ([[0.9999995] * 3], (1, 0.5), (1, 0.5), "easy"),
    "small differences of great rewards": ([[1e9, 1e9 + 1e-3]], (0, 1.0), (0, 1.0), "effective"),
    "negative rewards": ([[-1, -1], [-1, -1]], (2, 0.25), (2, 0.25), "hard"),
}


@pytest.mark.parametrize("rule", ["zero_variance", "same_kind"])
@pytest.mark.parametrize("case", VECTORS)
def test_worked_vectors(served: Service, name: str, case: str, rule: str) -> None:
    history, paper, reference, kind = VECTORS[case]
    streak, keep = paper if rule == "zero_variance" else reference
    model = Run(Spec(streak_rule=rule))
    run = served.create(name, streak_rule=rule)
    for rewards in history:
        # One step that stays open: p_easy and p_hard stay at 0.5.
        served.json("POST", f"{run}/report", {"step": 1, "results": [{"prompt": "p", "rewards": rewards}]})
        model.report(1, [("p", tuple(rewards))])
    check([streak, keep, kind], [model.streak("p"), model.keep_probability("p"), model.kind("p")], "the oracle's model")
    expected = {"streak": streak, "keep_probability": keep}
    answer = served.json("POST", f"{run}/select", {"step": 1, "prompts": ["p"], "explain": True})
    check(expected, answer["decisions"][0], f"the decision after {history}")
    if history:
        check(expected | {"kind": kind}, served.json("GET", f"{run}/prompts/p"), f"the prompt after {history}")


@pytest.mark.parametrize(
    ("rewards", "streak", "effective"),
    [
        ([1, 1, 1, 0.96], 1, True),
        ([1, 1, 1, 0.5], 0, True),
        ([0, 0, 0, 0.2], 1, True),
        ([0, 0, 0.5, 0.2], 0, True),
        ([0, 0, 0, 0], 1, False),
    ],
)
def test_looser_classes_move_the_streak_and_nothing_else(
    served: Service, name: str, rewards: list[float], streak: int, effective: bool
) -> None:
    run = served.create(name, easy_min_mean=0.98, hard_max_mean=0.11)
    told = served.json("POST", f"{run}/report", {"step": 1, "results": [{"prompt": "p", "rewards": rewards}]})
    assert told["effective"] == ([0] if effective else [])
    assert told["step"]["effective"] == effective
    assert told["zero_variance"]["easy"] + told["zero_variance"]["hard"] == (not effective)
    answer = served.json("POST", f"{run}/select", {"step": 1, "prompts": ["p"], "explain": True})
    check({"streak": streak, "keep_probability": 0.5**streak}, answer["decisions"][0], f"after {rewards}")


def results(effective: int, easy: int, hard: int, start: int = 0) -> list[dict[str, Any]]:
    """So many groups of distinct prompts."""
    kinds = [[0, 1]] * effective + [[1, 1]] * easy + [[0, 0]] * hard
    return [{"prompt": f"q{start + at}", "rewards": rewards} for at, rewards in enumerate(kinds)]


def test_the_worked_step(served: Service, name: str) -> None:
    run = served.create(name)
    # Everything seen before, so that the step can adjust.
    first = results(0, 0, 384)
    served.json("POST", f"{run}/report", {"step": 0, "results": first, "final": True})
    told = served.json("POST", f"{run}/report", {"step": 1, "results": results(231, 90, 63)})
    check(
        {
            "effective": list(range(231)),
            "zero_variance": {"easy": 90, "hard": 63},
            "undetermined": 0,
            "step": {"number": 1, "groups": 384, "effective": 231, "missing": 25, "complete": False},
            "next_rollout_batch_size": 52,
            "exploration": {"easy": 0.5, "hard": 0.5},
        },
        told,
        "the worked step",
    )
    ended = served.json("POST", f"{run}/report", {"step": 1, "results": [], "final": True})
    check(
        {"step": {"complete": True}, "exploration": {"easy": 0.49, "hard": 0.51}, "next_rollout_batch_size": 384},
        ended,
        "the worked step's end",
    )


@pytest.mark.parametrize(
    ("effective", "zero", "batch", "expected"),
    [
        (6, 4, 100, 9),  # 1.25 * 4 / 0.6 = 8.33
        (9, 91, 200, 14),  # 1.25 * 1 / 0.09 = 13.9
        (0, 7, 100, 100),  # nothing effective: the full batch
        (2, 18, 1000, 100),  # 1.25 * 8 / (1/10) is 100, not a rounding error more
        (6, 54, 1000, 50),  # 1.25 * 4 / (1/10), likewise
        (9, 0, 100, 2),  # 1.25 * 1 / 1
        (2, 18, 64, 64),  # not above the rollout batch size
    ],
)
def test_adaptive_batch_size(served: Service, name: str, effective: int, zero: int, batch: int, expected: int) -> None:
    run = served.create(name, train_batch_size=10, rollout_batch_size=batch)
    told = served.json("POST", f"{run}/report", {"step": 1, "results": results(effective, 0, zero)})
    assert told["next_rollout_batch_size"] == expected
    asked = served.json("POST", f"{run}/select", {"step": 1, "prompts": []})
    assert asked["rollout_batch_size"] == expected
    assert asked["selected"] == []


def test_adaptive_batch_size_pools_the_rounds_of_a_step(served: Service, name: str) -> None:
    run = served.create(name, train_batch_size=10, rollout_batch_size=100, min_rollout_batch_size=8)
    sizes = []
    for at, (effective, zero) in enumerate([(2, 8), (5, 1), (2, 0)]):
        body = {"step": 1, "results": results(effective, 0, zero, 20 * at)}
        sizes.append(served.json("POST", f"{run}/report", body)["next_rollout_batch_size"])
    # 1.25 * 8 / (2/10); 1.25 * 3 / (7/16) = 8.57; 1.25 * 1 / (9/18) = 2.5, clamped below
    assert sizes == [50, 9, 8]


def steer(served: Service, run: str, step: int, effective: int, easy: int, hard: int) -> dict[str, Any]:
    """Report and end a step; returns p_easy and p_hard after it."""
    body = {"step": step, "results": results(effective, easy, hard), "final": True}
    told = served.json("POST", f"{run}/report", body)
    assert isinstance(told["exploration"], dict)
    return told["exploration"]


def test_no_adjustment_for_a_step_of_new_prompts_only(served: Service, name: str) -> None:
    run = served.create(name)
    check({"easy": 0.5, "hard": 0.5}, steer(served, run, 1, 2, 3, 3), "all new")
    check({"easy": 0.49, "hard": 0.49}, steer(served, run, 2, 2, 3, 3), "all seen")
    # One prompt more than before: seven seen, so the step adjusts.
    check({"easy": 0.48, "hard": 0.48}, steer(served, run, 3, 3, 3, 3), "one new")


def test_a_prompt_that_stands_twice_in_a_step_has_been_seen(served: Service, name: str) -> None:
    run = served.create(name)
    twice = [{"prompt": "p", "rewards": [0, 0]}] * 2
    told = served.json("POST", f"{run}/report", {"step": 1, "results": twice, "final": True})
    check({"easy": 0.51, "hard": 0.49}, told["exploration"], "twice in one report")


def test_undetermined_groups_neither_count_nor_make_a_prompt_seen(served: Service, name: str) -> None:
    run = served.create(name)
    body = {"step": 1, "results": [{"prompt": "p", "rewards": [1]}, {"prompt": "p", "rewards": []}], "final": True}
    told = served.json("POST", f"{run}/report", body)
    check({"undetermined": 2, "step": {"groups": 0, "effective": 0, "complete": True}}, told, "undetermined only")
    check({"easy": 0.5, "hard": 0.5}, told["exploration"], "undetermined only")
    body = {"step": 2, "results": [{"prompt": "p", "rewards": [0, 0]}], "final": True}
    told = served.json("POST", f"{run}/report", body)
    check({"easy": 0.5, "hard": 0.5}, told["exploration"], "the prompt's first judged group")
    check({"rollouts": 3, "undetermined": 2}, served.json("GET", run)["totals"], "totals")


def test_exploration_stays_within_its_bounds(served: Service, name: str) -> None:
    run = served.create(name, exploration_step=0.2, exploration_bounds=[0.15, 0.8])
    steer(served, run, 0, 0, 0, 9)
    seen = [steer(served, run, step, 0, 0, 9) for step in range(1, 5)]
    seen += [steer(served, run, step, 0, 9, 0) for step in range(5, 10)]
    easy = [0.7, 0.8, 0.8, 0.8, 0.6, 0.4, 0.2, 0.15, 0.15]
    hard = [0.3, 0.15, 0.15, 0.15, 0.35, 0.55, 0.75, 0.8, 0.8]
    check([{"easy": e, "hard": h} for e, h in zip(easy, hard, strict=True)], seen, "bounds")


def test_a_step_completes_in_each_of_three_ways_and_adjusts_once(served: Service, name: str) -> None:
    run = served.create(name, train_batch_size=4, rollout_batch_size=8)

    def told(step: int, effective: int, hard: int, *, final: bool = False) -> tuple[bool, dict[str, Any]]:
        body = {"step": step, "results": results(effective, 0, hard), "final": final}
        answer = served.json("POST", f"{run}/report", body)
        return answer["step"]["complete"], answer["exploration"]

    def p(moves_easy: int, moves_hard: int) -> dict[str, float]:
        return {"easy": 0.5 + moves_easy / 100, "hard": 0.5 + moves_hard / 100}

    check([True, p(0, 0)], list(told(1, 4, 2)), "B_t reached, all new")
    check([True, p(1, -1)], list(told(2, 4, 2)), "B_t reached")
    check([True, p(1, -1)], list(told(2, 0, 2)), "late for a complete step")
    check([True, p(1, -1)], list(told(2, 1, 5, final=True)), "late and final")
    check([True, p(2, -2)], list(told(3, 1, 3, final=True)), "final")
    check([False, p(2, -2)], list(told(5, 3, 0)), "step 5 opens, step 4 was never reported")
    check([True, p(2, -2)], list(told(4, 0, 6)), "step 4 is complete, reported or not")
    check([False, p(3, -1)], list(told(9, 1, 1)), "step 9 opens and ends step 5, which had no hard group")
    check([True, p(3, -1)], list(told(5, 4, 4)), "late for step 5")
    rows = {row["step"]: row for row in served.json("GET", f"{run}/steps?limit=100")["steps"]}
    counts = {step: (row["groups"], row["effective"], row["rollouts"]) for step, row in rows.items()}
    expected = {1: (6, 4, 12), 2: (6, 4, 12), 3: (4, 1, 8), 5: (3, 3, 6), 9: (2, 1, 4)}
    assert {step: counts[step] for step in expected} == expected
    assert {step: rows[step]["complete"] for step in expected} == {1: True, 2: True, 3: True, 5: True, 9: False}
    totals = served.json("GET", run)["totals"]
    # 6 + 6 + 2 + 6 + 4 + 3 + 6 + 2 + 8 groups of two, late ones among them
    check({"rollouts": 86, "effective": 18, "zero_variance": {"easy": 0, "hard": 25}}, totals, "totals")


def test_the_whole_report_that_completes_a_step_counts(served: Service, name: str) -> None:
    run = served.create(name, train_batch_size=2, rollout_batch_size=8)
    told = served.json("POST", f"{run}/report", {"step": 1, "results": results(5, 1, 1)})
    check({"groups": 7, "effective": 5, "missing": 0, "complete": True}, told["step"], "more than enough")


def test_the_uniform_policy_skips_nothing(served: Service, name: str) -> None:
    run = served.create(name, policy="uniform")
    body = {"step": 1, "results": results(0, 0, 50) * 9}
    served.json("POST", f"{run}/report", body)
    prompts = [f"q{at}" for at in range(50)]
    answer = served.json("POST", f"{run}/select", {"step": 2, "prompts": prompts})
    check({"selected": list(range(50)), "examined": 50, "skipped": {"easy": 0, "hard": 0}}, answer, "uniform")


def test_asking_about_a_step_that_is_over_changes_nothing_but_the_counts_of_asking(served: Service, name: str) -> None:
    run = served.create(name)
    steer(served, run, 5, 1, 1, 1)
    for step in (2, 5):
        served.json("POST", f"{run}/select", {"step": step, "prompts": ["q0", "q1", "new"]})
    state = served.json("GET", run)
    check({"step": 5, "exploration": {"easy": 0.5, "hard": 0.5}, "totals": {"examined": 6}}, state, "the state")
    rows = served.json("GET", f"{run}/steps?limit=10")["steps"]
    for row in rows:
        shown = [member(row, "p_easy", "exploration.easy"), member(row, "p_hard", "exploration.hard")]
        check([0.5, 0.5], shown, f"p_easy and p_hard of step {row['step']}")
        assert row["complete"] is True
