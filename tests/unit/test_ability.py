"""The ability: what moves it, how far, and that hopeless prompts do not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from greso_service.core import difficulty
from greso_service.core.difficulty import MOST_ABILITY_MOVE, Ability
from greso_service.core.state import RunState

from ..folding import report, run  # noqa: TID252


def moved(ability: Ability, step: int, passed: float, rate: float, groups: int = 100, weight: float = 1.0) -> Ability:
    ones = np.ones(groups)
    return ability.then(step, passed * ones, 8 * ones, rate * ones, weight * ones)


def test_the_ability_follows_the_surprise() -> None:
    assert moved(Ability(), 0, 4, 0.5).value == 0
    up, down = moved(Ability(), 0, 4.2, 0.5), moved(Ability(), 0, 3.8, 0.5)
    assert up.value == pytest.approx(-down.value)
    assert up.value == pytest.approx(100 * 0.2 / (100 * 2 + 20))


def test_a_few_groups_hardly_move_it() -> None:
    assert 0 < moved(Ability(), 0, 8, 0.9, groups=1).value < 0.04
    assert moved(Ability(), 3, 0, 0.5, groups=0) == Ability(0.0, 3, 0.0)


def test_it_moves_so_far_in_a_step_and_no_farther() -> None:
    ability = Ability()
    for _ in range(10):
        ability = moved(ability, 4, 8, 0.1)
        assert 0 <= ability.value <= MOST_ABILITY_MOVE + 1e-12
    assert ability.value == pytest.approx(MOST_ABILITY_MOVE)
    back = moved(ability, 4, 0, 0.9)
    assert back.value == pytest.approx(-MOST_ABILITY_MOVE), "it may take back what it has gone, and as much again"
    assert moved(ability, 5, 8, 0.1).value == pytest.approx(2 * MOST_ABILITY_MOVE)


def test_late_reports_use_up_what_the_newest_step_may_move() -> None:
    ability = Ability()
    for step in (9, 3, 9, 0, 8, 9):
        ability = moved(ability, step, 8, 0.1)
    assert ability.step == 9
    assert ability.value == pytest.approx(MOST_ABILITY_MOVE)


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0, 8), st.floats(0, 1), st.floats(0, 1)), max_size=30))
def test_it_is_bounded_by_the_number_of_steps_whatever_their_order(
    reports: list[tuple[int, float, float, float]],
) -> None:
    ability, newest = Ability(), set[int]()
    for step, passed, rate, weight in reports:
        ability = moved(ability, step, passed, rate, weight=weight)
        newest.add(ability.step)
        assert abs(ability.value) <= MOST_ABILITY_MOVE * len(newest) + 1e-9
        assert abs(ability.moved) <= MOST_ABILITY_MOVE + 1e-12


@pytest.mark.parametrize("rate", [0.0, 1.0])
@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_certain_predictions_divide_by_nothing(rate: float, weight: float) -> None:
    assert math.isfinite(moved(Ability(), 0, 4, rate, weight=weight).value)


def test_prompts_count_as_far_as_they_are_not_hopeless() -> None:
    assert moved(Ability(), 0, 0, 0.5, weight=0.0) == Ability(0.0, 0, 0.0)
    few, weighed = moved(Ability(), 0, 4.1, 0.5, groups=50), moved(Ability(), 0, 4.1, 0.5, weight=0.5)
    assert few.value == pytest.approx(weighed.value)


# In runs.

FAILED = [0.0] * 8


def believed(state: RunState, prompts: int) -> float:
    """The expected pass rate of the first prompt now."""
    return float(difficulty.pass_rate(state.beliefs(np.arange(prompts), state.progress.step), state.ability.value)[0])


def test_prompts_that_never_pass_do_not_drag_it_down() -> None:
    """Half of them are rolled out for ever without a pass; without a chance of being hopeless each would count."""
    state, draws = run(group_size=8, train_batch_size=10**6), np.random.default_rng(3)
    hopeless = [f"h{number}" for number in range(100)]
    others = [f"p{number}" for number in range(100)]
    lowest = 0.0
    for step in range(30):
        groups = [(name, FAILED) for name in hopeless]
        groups += [(name, (draws.random(8) < 0.5).astype(float).tolist()) for name in others]
        report(state, step, groups, final=True)
        lowest = min(lowest, state.ability.value)
    assert lowest > -0.7
    assert state.ability.value == pytest.approx(lowest, abs=0.4)
    assert (state.prompts.hopeless[:100] > 0.99).all()


@pytest.mark.parametrize("steps", [[400], [100, 250, 400], [400, 100]])
def test_a_prompt_ages_on_while_its_rollouts_fail(steps: list[int]) -> None:
    failed, plain = run(train_batch_size=10**6), run(train_batch_size=10**6)
    for state in (failed, plain):
        report(state, 0, [("a", [1, 0, 0, 0]), ("b", [1])])
    for step in steps:
        report(failed, step, [("a", []), ("b", [])])
    report(failed, 401, [("b", []), ("b", [1]), ("b", [])])
    report(plain, 401, [("b", [1])])
    for index in (np.array([0]), np.array([1])):
        [one, other] = [state.beliefs(index, 402) for state in (failed, plain)]
        assert one.variance == pytest.approx(other.variance, rel=1e-5)
        assert one.mean == pytest.approx(other.mean, rel=1e-5)
    assert failed.prompts.last_step[0] == 400, "when it was reported is told as before"


def test_a_prompt_nobody_looks_at_ages_with_the_model() -> None:
    """The ability rises by others' groups, and the prediction for the one that was left alone with it."""
    state = run(group_size=8, train_batch_size=10**6)
    others = [f"p{number}" for number in range(60)]
    draws = np.random.default_rng(5)
    report(state, 0, [("left", [1.0] + [0.0] * 7), *((name, [1.0] * 2 + [0.0] * 6) for name in others)], final=True)
    before = believed(state, 1)
    for step in range(1, 41):
        rate = 0.25 + 0.6 * step / 40
        report(state, step, [(name, (draws.random(8) < rate).astype(float).tolist()) for name in others], final=True)
    assert state.ability.value > 0.7
    assert believed(state, 1) > before + 0.1
    assert state.prompts.variance[0] < state.beliefs(np.array([0]), 40).variance[0]
