"""What is known of prompts by the item-response model: against brute force, and at its extremes."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from greso_service.core import difficulty
from greso_service.core.difficulty import DRIFT, HOPELESS_PRIOR, MOST_ABILITY_MOVE, PRIOR_VARIANCE, Belief

from ..folding import report, run  # noqa: TID252

CAP, WITH_A_PASS = difficulty._MOST_HOPELESS, difficulty._HOPELESS_WITH_A_PASS
GRID = np.linspace(-60, 60, 24_001)


def logistic(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def belief(mean: float, variance: float, hopeless: float = HOPELESS_PRIOR) -> Belief:
    return Belief(np.array([mean]), np.array([variance]), np.array([hopeless]))


def after(known: Belief, passed: float, tried: float, ability: float = 0.0) -> Belief:
    return known.after(ability, np.array([passed]), np.array([tried]))


# The difficulty.


def posterior(mean: float, variance: float, passed: float, tried: float) -> tuple[float, float, float]:
    """Mode, mean and variance of a difficulty's posterior for ability 0, by sums over a grid."""
    x = mean + GRID
    log = -((x - mean) ** 2) / (2 * variance)
    log -= passed * np.logaddexp(0, x) + (tried - passed) * np.logaddexp(0, -x)
    weight = np.exp(log - log.max())
    weight /= weight.sum()
    middle = float((weight * x).sum())
    return float(x[log.argmax()]), middle, float((weight * (x - middle) ** 2).sum())


@pytest.mark.parametrize("tried", [1, 8, 4096])
@pytest.mark.parametrize("share", [0, 0.125, 1])
@pytest.mark.parametrize("mean", [-10.0, 1.0, 4.0])
def test_the_posterior_of_a_group(mean: float, share: float, tried: int) -> None:
    """The mode is found, however far the group is from what was expected; Laplace's approximation is half a standard
    deviation from the mean and a third of the variance from the variance at worst."""
    passed = round(share * tried)
    for variance in (0.01, 0.3, PRIOR_VARIANCE):
        columns = (np.array([each], np.float64) for each in (passed, tried))
        [found], [spread] = difficulty.laplace(np.array([mean]), np.array([variance]), 0.0, *columns)
        mode, middle, right = posterior(mean, variance, passed, tried)
        assert found == pytest.approx(mode, abs=6e-3)  # the grid is that coarse
        assert abs(found - middle) < 0.5 * math.sqrt(right)
        assert 0.7 * right < spread < 1.4 * right


@pytest.mark.parametrize("ability", [-3.0, 2.5])
def test_only_the_distance_to_the_ability_counts(ability: float) -> None:
    one, other = after(belief(1.0 + ability, 2.0), 3, 8, ability), after(belief(1.0, 2.0), 3, 8)
    assert one.mean - ability == pytest.approx(other.mean, rel=1e-9)
    assert one.variance == pytest.approx(other.variance)
    assert one.hopeless == pytest.approx(other.hopeless)


@given(
    st.floats(-40, 40), st.floats(1e-6, PRIOR_VARIANCE), st.floats(1e-3, 1 - 1e-3), st.floats(-40, 40),
    st.integers(0, 4096), st.floats(0, 1),
)  # fmt: skip
def test_an_update_is_finite_and_narrows(
    mean: float, variance: float, hopeless: float, ability: float, tried: int, share: float
) -> None:
    now = after(belief(mean, variance, hopeless), share * tried, tried, ability)
    assert math.isfinite(now.mean[0])
    assert 0 < now.variance[0] <= variance * (1 + 1e-12)
    assert 0 < now.hopeless[0] <= CAP
    expected = tried * logistic(ability - mean)
    if abs(share * tried - expected) > 1e-6 * (1 + tried):
        assert (now.mean[0] < mean) == (share * tried > expected) or now.mean[0] == pytest.approx(mean, abs=1e-3)


@pytest.mark.parametrize("truth", [-4.0, 0.0, 2.0])
@pytest.mark.parametrize("size", [8, 64])
def test_many_groups_of_one_prompt_lead_to_the_truth(truth: float, size: int) -> None:
    draws, rate = np.random.default_rng(17), float(logistic(-truth))
    known, groups = belief(0.0, PRIOR_VARIANCE), 2000 // size + 60
    for _ in range(groups):
        known = after(known, float(draws.binomial(size, rate)), float(size))
    deviation = 1 / math.sqrt(groups * size * rate * (1 - rate))
    assert known.variance[0] == pytest.approx(deviation**2, rel=0.6)
    assert abs(known.mean[0] - truth) < 4 * deviation + 0.15
    assert known.hopeless[0] < 0.3


@pytest.mark.parametrize(("size", "right"), [(1, False), (8, True), (8, False), (4096, True)])
def test_a_hundred_steps_without_an_exception(size: int, right: bool) -> None:
    """All right or all wrong for ever: ever farther, ever more slowly, and the state's float32 holds it."""
    state = run(group_size=size, train_batch_size=1, solved_reward=1.0)
    for step in range(100):
        report(state, step, [("a", [float(right)] * size)], final=True)
        mean, variance = float(state.prompts.difficulty[0]), float(state.prompts.variance[0])
        assert 0 < variance <= PRIOR_VARIANCE
        assert abs(state.ability.value) <= MOST_ABILITY_MOVE * (step + 1) + 1e-9
        assert 0 < (mean - state.ability.value) * (-1 if right else 1) < 60


def test_ageing() -> None:
    variance = np.array([0, 1, 8.99, 9, 0.5, 0.5], np.float32)
    aged = difficulty.aged(variance, np.array([7, 0, 10, 3, 10**9, -5]))
    assert aged.tolist() == pytest.approx([9, 1, 9, 9, 9, 0.5])
    assert aged.dtype == np.float32
    assert difficulty.aged(np.array([1.0]), np.array([25])) == pytest.approx([1 + 25 * DRIFT])
    assert difficulty.aged(np.zeros(0), np.zeros(0, np.int64)).size == 0
    assert variance.tolist() == pytest.approx([0, 1, 8.99, 9, 0.5, 0.5]), "the state's own column stays"


# The chance that a prompt is hopeless.


def expectation(mean: float, variance: float, ability: float, of: Any) -> float:
    """E[of(pass rate)] over the difficulty's Gaussian, by a fine sum."""
    x = np.linspace(-10, 10, 20_001)
    weight = np.exp(-(x**2) / 2)
    return float((weight * of(logistic(ability - mean - x * math.sqrt(variance)))).sum() / weight.sum())


@pytest.mark.parametrize("mean", [-3.0, 0.0, 4.0])
@pytest.mark.parametrize(("variance", "most"), [(0.01, 1e-3), (1.0, 0.04), (9.0, 0.12)])
def test_bayes_of_two_components(mean: float, variance: float, most: float) -> None:
    """Against sums over a fine grid of difficulties; the quadrature's three points are coarse for a wide Gaussian."""
    for hopeless, tried in itertools.product((0.1, 0.5, 0.9), (1, 8, 16)):
        silent = expectation(mean, variance, 0.5, lambda p, n=tried: (1 - p) ** n)
        right = min(hopeless / (hopeless + (1 - hopeless) * silent), CAP)
        found = after(belief(mean, variance, hopeless), 0, tried, 0.5).hopeless[0]
        assert abs(found - right) < most


def test_a_prompt_that_never_passes_tends_to_the_cap_and_a_pass_takes_it_back() -> None:
    known, before = belief(0.0, PRIOR_VARIANCE), HOPELESS_PRIOR
    for _ in range(50):
        known = after(known, 0, 8)
        assert before <= known.hopeless[0] <= CAP
        before = float(known.hopeless[0])
    assert before > 0.9
    doubtful = Belief(known.mean, known.variance, np.array([CAP]))
    for passed in (1, 0.01, 8):
        assert after(doubtful, passed, 8).hopeless.tolist() == [WITH_A_PASS]


def test_a_prompt_at_the_cap_is_worth_a_look_again_after_one_pass() -> None:
    state = run(policy="irt", group_size=8, train_batch_size=10**6)
    for step in range(30):
        report(state, step, [("never", [0.0] * 8), ("even", [1.0, 0.0] * 4)], final=True)
    assert state.prompts.hopeless[0] > 0.99

    def worth() -> Any:
        known = state.prompts
        mean, variance, hopeless = known.difficulty[:2], known.variance[:2], known.hopeless[:2]
        return difficulty.value(mean, variance, hopeless, state.ability.value, 8)

    never = worth()[0]
    report(state, 30, [("never", [1.0] + [0.0] * 7)], final=True)
    assert never < 0.01 < 0.1 < worth()[0]
    assert state.prompts.hopeless[0] == np.float32(WITH_A_PASS)


def test_the_difficulty_hardly_moves_while_a_prompt_is_probably_hopeless() -> None:
    free = after(belief(0.0, 4.0, 1e-9), 0, 8).mean[0]
    assert free > 1
    for hopeless in (0.9, 0.99, CAP):
        assert 0 <= after(belief(0.0, 4.0, hopeless), 0, 8).mean[0] < 1.0001 * (1 - hopeless) * free


def test_no_responses_change_nothing() -> None:
    known = after(belief(1.5, 2.0, 0.3), 0, 0)
    assert (known.mean[0], known.variance[0], known.hopeless[0]) == pytest.approx((1.5, 2.0, 0.3))


def test_0_stands_for_the_prior() -> None:
    column = np.array([0, 0.2, CAP], np.float32)
    assert difficulty.hopeless(column).tolist() == pytest.approx([HOPELESS_PRIOR, 0.2, CAP])
    assert difficulty.hopeless(column).dtype == np.float32
    assert column[0] == 0, "the state's own column stays"


# What is expected of a group.

CASES = [(-8.0, 0.1), (-1.0, 0.5), (0.5, 0.0), (3.0, 0.9)]
"""Means, and chances of being hopeless."""


@pytest.mark.parametrize(("mean", "hopeless"), CASES)
@pytest.mark.parametrize(("variance", "most"), [(0.01, 1e-4), (1.0, 7e-3), (9.0, 0.05)])
def test_expected_pass_rate(mean: float, hopeless: float, variance: float, most: float) -> None:
    [found] = difficulty.pass_rate(belief(mean, variance, hopeless), 0.5)
    assert abs(found - (1 - hopeless) * expectation(mean, variance, 0.5, lambda p: p)) < most


@pytest.mark.parametrize(("mean", "hopeless"), CASES)
@pytest.mark.parametrize(("variance", "most"), [(0.01, 1e-3), (1.0, 0.07), (9.0, 0.2)])
def test_expected_chance_and_value_of_an_effective_group(
    mean: float, hopeless: float, variance: float, most: float
) -> None:
    """Three points see little of a wide Gaussian: a fifth at worst. It is a score, not a forecast."""
    columns = (np.array([each], np.float32) for each in (mean, variance, hopeless))
    mean_, variance_, hopeless_ = columns
    for size in (2, 8, 16):
        [chance] = difficulty.effective(belief(mean, variance, hopeless), 0.5, size)
        right = expectation(mean, variance, 0.5, lambda p, g=size: 1 - p**g - (1 - p) ** g)
        assert abs(chance - (1 - hopeless) * right) < most
        [value] = difficulty.value(mean_, variance_, hopeless_, 0.5, size)
        worth = expectation(mean, variance, 0.5, lambda p, g=size: (1 - p**g - (1 - p) ** g) * (1 - p) ** 0.5)
        assert abs(value - (1 - hopeless) * worth) < most
        assert value.dtype == np.float32


def test_the_chance_is_highest_for_the_even_and_the_value_for_the_harder() -> None:
    means, narrow = np.linspace(-6, 6, 121), np.full(121, 0.1)
    chances = difficulty.effective(Belief(means, narrow, np.zeros(121)), 0.0, 8)
    values = difficulty.value(means.astype(np.float32), narrow.astype(np.float32), np.zeros(121, np.float32), 0.0, 8)
    assert chances.argmax() == 60
    assert chances == pytest.approx(chances[::-1], abs=1e-6)
    assert 0.5 < means[values.argmax()] < 2
    for scores in (chances, values):
        top = int(scores.argmax())
        assert (np.diff(scores[: top + 1]) >= 0).all()
        assert (np.diff(scores[top:]) <= 0).all()


@given(
    st.lists(
        st.tuples(st.floats(-200, 200, width=32), st.floats(1e-20, PRIOR_VARIANCE), st.floats(0, 1)),
        min_size=1,
        max_size=20,
    ),
    st.floats(-200, 200),
    st.sampled_from([1, 2, 3, 8, 64, 4096, 65_535]),
)
def test_a_score_is_a_probability_whatever_is_known(
    known: list[tuple[float, float, float]], ability: float, size: int
) -> None:
    """Never below 0: that would leave the prompt out of the draw for good."""
    columns = [np.array(column) for column in zip(*known, strict=True)]
    mean, variance, hopeless = (column.astype(np.float32) for column in columns)
    wide = Belief(*columns)
    for scores in (
        difficulty.value(mean, variance, hopeless, ability, size),
        difficulty.effective(wide, ability, size),
        difficulty.pass_rate(wide, ability),
    ):
        assert ((scores >= 0) & (scores <= 1)).all()


@pytest.mark.parametrize("size", [1, 2, 5, 8])
def test_no_pass_rate_has_a_negative_value(size: int) -> None:
    """All the rates near 0, near 1 and near their middle that float32 tells apart, some hundred thousand."""
    near = np.arange(1, 100_000, dtype=np.float32) * np.float32(2.0**-24)
    logits = np.concatenate([np.log(near / (1 - near)), -np.log(near / (1 - near)), near, -near]).astype(np.float32)
    nothing = np.zeros(logits.size, np.float32)
    values = difficulty.value(logits, nothing + np.float32(1e-12), nothing, 0.0, size)
    assert values.min() >= 0
    assert values.max() <= (1e-6 if size == 1 else 1), "a group of one is never effective"
