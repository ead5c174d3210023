"""The worked vectors of algorithm.md, each by name, through RunState.fold."""

from __future__ import annotations

import numpy as np
import pytest

from greso_service.core.draws import Ids
from greso_service.core.outcome import Outcome

from ..folding import mixed, report, run, select, streak  # noqa: TID252

EASY, HARD, NONE = Outcome.EASY, Outcome.HARD, Outcome.UNDETERMINED

# history, z, kind, keep; where same_kind differs, its z and keep
VECTORS: dict[str, tuple[list[list[float]], int, Outcome, float, tuple[int, float] | None]] = {
    "none": ([], 0, NONE, 1.0, None),
    "one solved group": ([[1, 1, 1, 1]], 1, EASY, 0.5, None),
    "three all-wrong groups": ([[0, 0, 0, 0]] * 3, 3, HARD, 0.125, None),
    "hard, then easy": ([[0, 0], [1, 1]], 2, EASY, 0.25, (1, 0.5)),
    "an effective group between": ([[0, 0], [0, 1], [0, 0]], 1, HARD, 0.5, None),
    "the floor": ([[0.1, 0.1, 0.1]] * 8, 8, HARD, 0.01, None),
    "a one-reward group is undetermined": ([[1], [1, 1]], 1, EASY, 0.5, None),
    "equal but not solved": ([[0.5, 0.5]], 1, HARD, 0.5, None),
}


@pytest.mark.parametrize("rule", ["zero_variance", "same_kind"])
@pytest.mark.parametrize("name", VECTORS)
@pytest.mark.parametrize("at_once", [False, True], ids=["a report each", "in one report"])
def test_keep_probability(name: str, rule: str, at_once: bool) -> None:
    history, z, kind, keep, other = VECTORS[name]
    if rule == "same_kind" and other is not None:
        z, keep = other
    state = run(streak_rule=rule, train_batch_size=1000)
    groups = [("a", rewards) for rewards in history]
    for part in [groups] if at_once else [[group] for group in groups]:
        report(state, 0, part)
    assert streak(state, "a") == (z, kind)
    [decision] = select(state, 1, ["a"])["decisions"]
    assert (decision["keep_probability"], decision["streak"]) == (keep, z)


def seen_before(state_prompts: int) -> list[tuple[str, list[float]]]:
    return [(f"p{number}", [0, 1]) for number in range(state_prompts)]


def test_the_step_lacks_25_and_asks_for_52() -> None:
    state = run()
    answer = report(state, 0, mixed(231, 90, 63))
    assert answer["step"] == {"number": 0, "groups": 384, "effective": 231, "missing": 25, "complete": False}
    assert answer["zero_variance"] == {"easy": 90, "hard": 63}
    assert answer["next_rollout_batch_size"] == 52
    assert answer["exploration"] == {"easy": 0.5, "hard": 0.5}


def test_the_step_completed_so_moves_p_easy_to_49_and_p_hard_to_51() -> None:
    state = run()
    report(state, 0, seen_before(384), final=True)
    answer = report(state, 1, mixed(231, 90, 63), final=True)
    assert answer["step"]["complete"]
    assert answer["exploration"] == {"easy": 0.49, "hard": 0.51}
    assert answer["next_rollout_batch_size"] == 384


def test_a_first_step_of_new_prompts_moves_nothing() -> None:
    state = run()
    answer = report(state, 0, mixed(231, 90, 63), final=True)
    assert answer["exploration"] == {"easy": 0.5, "hard": 0.5}


@pytest.mark.parametrize(("exponent", "keep"), [(1, 0.49), (2, 0.49**2), (3, 0.49**3)])
def test_keep_probability_follows_the_steered_p_easy(exponent: int, keep: float) -> None:
    state = run()
    report(state, 0, seen_before(384), final=True)
    report(state, 1, mixed(231, 90, 63), final=True)
    for _ in range(exponent - 1):
        report(state, 1, [("p240", [1, 1])])  # late: extends the streak, steers nothing
    [decision] = select(state, 2, ["p240"])["decisions"]
    assert decision["streak"] == exponent
    assert decision["keep_probability"] == pytest.approx(keep, rel=1e-15)


def test_every_candidate_of_a_select_is_judged_by_its_own_draw() -> None:
    state = run(train_batch_size=10_000)
    prompts = [f"p{number}" for number in range(1000)]
    report(state, 0, [(prompt, [0, 0]) for prompt in prompts])
    answer = select(state, 7, prompts)
    index = state.table.find(Ids.of(prompts))
    draws = state.question(7, index).draws
    assert answer["selected"] == np.flatnonzero(draws < 0.5).tolist()
    assert answer["skipped"] == {"easy": 0, "hard": 1000 - len(answer["selected"])}
