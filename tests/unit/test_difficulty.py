"""The item-response model: against brute force, at its extremes, and what it learns from many groups."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from greso_service.core import difficulty
from greso_service.core.difficulty import DRIFT, MOST_ABILITY_MOVE, PRIOR_VARIANCE, Ability

from ..folding import report, run  # noqa: TID252

GRID = np.linspace(-60, 60, 24_001)


def logistic(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def posterior(mean: float, variance: float, ability: float, passed: float, tried: float) -> tuple[float, float, float]:
    """Mode, mean and variance of a difficulty's posterior, by sums over a grid."""
    x, odds = mean + GRID, ability - mean - GRID
    log = -((x - mean) ** 2) / (2 * variance)
    log -= passed * np.logaddexp(0, -odds) + (tried - passed) * np.logaddexp(0, odds)
    weight = np.exp(log - log.max())
    weight /= weight.sum()
    middle = float((weight * x).sum())
    return float(x[log.argmax()]), middle, float((weight * (x - middle) ** 2).sum())


def updated(mean: float, variance: float, ability: float, passed: float, tried: float) -> tuple[float, float]:
    means, variances = difficulty.updated(
        np.array([mean]), np.array([variance]), ability, np.array([passed]), np.array([tried])
    )
    return float(means[0]), float(variances[0])


@pytest.mark.parametrize("tried", [1, 2, 8, 64, 512, 4096])
@pytest.mark.parametrize("share", [0, 0.125, 0.5, 0.875, 1])
@pytest.mark.parametrize("mean", [-10.0, -3.0, 0.0, 1.0, 4.0, 10.0])
@pytest.mark.parametrize("variance", [0.01, 0.3, 3.0, PRIOR_VARIANCE])
def test_the_posterior_of_a_group(mean: float, variance: float, share: float, tried: int) -> None:
    """The mode is found, however far the group is from what was expected; Laplace's approximation is half a standard
    deviation from the mean and a third of the variance from the variance at worst."""
    passed = round(share * tried)
    found, spread = updated(mean, variance, 0.0, passed, tried)
    mode, middle, right = posterior(mean, variance, 0.0, passed, tried)
    assert found == pytest.approx(mode, abs=6e-3)  # the grid is that coarse
    assert abs(found - middle) < 0.5 * math.sqrt(right)
    assert 0.7 * right < spread < 1.4 * right


@pytest.mark.parametrize("ability", [-3.0, 2.5])
def test_only_the_distance_to_the_ability_counts(ability: float) -> None:
    assert updated(1.0 + ability, 2.0, ability, 3, 8) == pytest.approx(
        np.add(updated(1.0, 2.0, 0.0, 3, 8), [ability, 0]).tolist(), rel=1e-9
    )


@given(st.floats(-40, 40), st.floats(1e-6, PRIOR_VARIANCE), st.floats(-40, 40), st.integers(0, 4096), st.floats(0, 1))
def test_an_update_is_finite_and_narrows(
    mean: float, variance: float, ability: float, tried: int, share: float
) -> None:
    found, spread = updated(mean, variance, ability, share * tried, tried)
    assert math.isfinite(found)
    assert 0 < spread <= variance * (1 + 1e-12)
    expected = tried * logistic(ability - mean)
    if abs(share * tried - expected) > 1e-6 * (1 + tried):
        assert (found < mean) == (share * tried > expected) or found == pytest.approx(mean, abs=1e-3)


@pytest.mark.parametrize("truth", [-4.0, -1.0, 0.0, 2.0, 5.0])
@pytest.mark.parametrize("size", [1, 2, 8, 64])
def test_many_groups_of_one_prompt_lead_to_the_truth(truth: float, size: int) -> None:
    draws, rate = np.random.default_rng(17), float(logistic(-truth))
    mean, variance, groups = 0.0, PRIOR_VARIANCE, 4000 // size + 200
    for _ in range(groups):
        mean, variance = updated(mean, variance, 0.0, float(draws.binomial(size, rate)), float(size))
    deviation = 1 / math.sqrt(groups * size * rate * (1 - rate))
    assert variance == pytest.approx(deviation**2, rel=0.6)
    assert abs(mean - truth) < 4 * deviation + 0.05


@pytest.mark.parametrize("size", [1, 8, 4096])
@pytest.mark.parametrize("right", [False, True])
def test_thousands_of_groups_without_an_exception(size: int, right: bool) -> None:
    """All right or all wrong for ever: ever farther, ever more slowly, and the state's float32 holds it."""
    state = run(group_size=size, train_batch_size=1, solved_reward=1.0)
    before = 0.0
    for step in range(600):
        report(state, step, [("a", [float(right)] * size)], final=True)
        mean, variance = float(state.prompts.difficulty[0]), float(state.prompts.variance[0])
        assert math.isfinite(mean)
        assert 0 < variance <= PRIOR_VARIANCE
        assert math.isfinite(state.ability.value)
        assert abs(state.ability.value) <= MOST_ABILITY_MOVE * (step + 1) + 1e-9
        distance = (mean - state.ability.value) * (-1 if right else 1)
        assert distance > 0
        before = max(before, distance)
    assert before < 60


def test_ageing() -> None:
    variance = np.array([0, 1, 8.99, 9, 0.5, 0.5], np.float32)
    aged = difficulty.aged(variance, np.array([7, 0, 10, 3, 10**9, -5]))
    assert aged.tolist() == pytest.approx([9, 1, 9, 9, 9, 0.5])
    assert aged.dtype == np.float32
    assert difficulty.aged(np.array([1.0]), np.array([25])) == pytest.approx([1 + 25 * DRIFT])
    assert difficulty.aged(np.zeros(0), np.zeros(0, np.int64)).size == 0
    assert variance.tolist() == pytest.approx([0, 1, 8.99, 9, 0.5, 0.5]), "the state's own column stays"


def expectation(mean: float, variance: float, ability: float, of: Any) -> float:
    """E[of(pass rate)] over the difficulty's Gaussian, by a fine sum."""
    x = np.linspace(-10, 10, 20_001)
    weight = np.exp(-(x**2) / 2)
    return float((weight * of(logistic(ability - mean - x * math.sqrt(variance)))).sum() / weight.sum())


@pytest.mark.parametrize("mean", [-8.0, -3.0, -1.0, 0.0, 0.5, 3.0, 8.0])
@pytest.mark.parametrize(("variance", "most"), [(0.01, 1e-4), (0.3, 2e-3), (1.0, 7e-3), (3.0, 0.02), (9.0, 0.05)])
def test_expected_pass_rate(mean: float, variance: float, most: float) -> None:
    [found] = difficulty.pass_rate(np.array([mean]), np.array([variance]), 0.5)
    assert abs(found - expectation(mean, variance, 0.5, lambda p: p)) < most
    assert 0 < found < 1


@pytest.mark.parametrize("size", [2, 8, 16])
@pytest.mark.parametrize("mean", [-8.0, -3.0, -1.0, 0.0, 0.5, 3.0, 8.0])
@pytest.mark.parametrize(("variance", "most"), [(0.01, 1e-3), (0.3, 0.02), (1.0, 0.07), (9.0, 0.2)])
def test_expected_chance_of_an_effective_group(mean: float, variance: float, most: float, size: int) -> None:
    """Three points see little of a wide Gaussian: a fifth at worst. It is a score, not a forecast."""
    [found] = difficulty.effective(np.array([mean], np.float32), np.array([variance], np.float32), 0.5, size)
    right = expectation(mean, variance, 0.5, lambda p: 1 - p**size - (1 - p) ** size)
    assert abs(found - right) < most


def test_the_score_is_highest_for_the_even_and_falls_to_both_sides() -> None:
    means = np.linspace(-6, 6, 121, dtype=np.float32)
    scores = difficulty.effective(means, np.full(121, 0.1, np.float32), 0.0, 8)
    assert scores.argmax() == 60
    assert (np.diff(scores[:61]) >= 0).all()
    assert (np.diff(scores[60:]) <= 0).all()
    assert scores == pytest.approx(scores[::-1], abs=1e-6)


@given(
    st.lists(st.tuples(st.floats(-200, 200, width=32), st.floats(1e-20, PRIOR_VARIANCE)), min_size=1, max_size=20),
    st.floats(-200, 200),
    st.sampled_from([1, 2, 3, 8, 64, 4096, 65_535]),
)
def test_a_score_is_a_probability_whatever_is_known(
    known: list[tuple[float, float]], ability: float, size: int
) -> None:
    """Never below 0: that would leave the prompt out of the draw for good."""
    mean, variance = (np.array(column, np.float32) for column in zip(*known, strict=True))
    scores = difficulty.effective(mean, variance, ability, size)
    assert ((scores >= 0) & (scores <= 1)).all()
    rates = difficulty.pass_rate(mean.astype(np.float64), variance.astype(np.float64), ability)
    assert ((rates >= 0) & (rates <= 1)).all()


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 100])
def test_no_pass_rate_has_a_negative_score(size: int) -> None:
    """All the rates near 0, near 1 and near their middle that float32 tells apart, some hundred thousand."""
    near = np.arange(1, 100_000, dtype=np.float32) * np.float32(2.0**-24)
    logits = np.concatenate([np.log(near / (1 - near)), -np.log(near / (1 - near)), near, -near]).astype(np.float32)
    scores = difficulty.effective(logits, np.full(logits.size, 1e-12, np.float32), 0.0, size)
    assert scores.min() >= 0
    assert scores.max() <= 1


def test_groups_of_one_are_never_effective() -> None:
    means = np.random.default_rng(0).normal(0, 3, 1000).astype(np.float32)
    assert difficulty.effective(means, np.full(1000, 2, np.float32), 0.3, 1) == pytest.approx(0, abs=1e-7)


# The ability.


def moved(ability: Ability, step: int, passed: float, rate: float, groups: int = 100) -> Ability:
    ones = np.ones(groups)
    return ability.then(step, passed * ones, 8 * ones, rate * ones)


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


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0, 8), st.floats(0, 1)), max_size=30))
def test_it_is_bounded_by_the_number_of_steps_whatever_their_order(reports: list[tuple[int, float, float]]) -> None:
    ability, newest = Ability(), set[int]()
    for step, passed, rate in reports:
        ability = moved(ability, step, passed, rate)
        newest.add(ability.step)
        assert abs(ability.value) <= MOST_ABILITY_MOVE * len(newest) + 1e-9
        assert abs(ability.moved) <= MOST_ABILITY_MOVE + 1e-12


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_certain_predictions_divide_by_nothing(rate: float) -> None:
    assert math.isfinite(moved(Ability(), 0, 4, rate).value)


def test_a_prompt_nobody_looks_at_ages_with_the_model() -> None:
    """The ability rises by others' groups, and the prediction for the one that was left alone with it."""
    state = run(group_size=8, train_batch_size=10**6)
    others = [f"p{number}" for number in range(60)]
    draws = np.random.default_rng(5)
    report(state, 0, [("left", [1.0] + [0.0] * 7), *((name, [1.0] * 2 + [0.0] * 6) for name in others)], final=True)

    def predicted() -> float:
        mean, variance = state._difficulties(np.array([0]), state.progress.step)
        return float(difficulty.pass_rate(mean, variance, state.ability.value)[0])

    before = predicted()
    for step in range(1, 41):
        rate = 0.25 + 0.6 * step / 40
        report(state, step, [(name, (draws.random(8) < rate).astype(float).tolist()) for name in others], final=True)
    assert state.ability.value > 0.7
    assert predicted() > before + 0.1
    assert state.prompts.variance[0] < state._difficulties(np.array([0]), 40)[1][0]
