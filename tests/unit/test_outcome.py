"""Rewards of groups -> outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from greso_service.core.outcome import Outcome, Outcomes, Rewards, classify
from greso_service.core.spec import RunSpec

UNDETERMINED, EFFECTIVE, EASY, HARD = Outcome

BIGGEST = float(np.finfo(np.float64).max)


def judged(*groups: Sequence[float], **spec: Any) -> Outcomes:
    return classify(Rewards.of(groups), RunSpec.of(spec))


@pytest.mark.parametrize(
    ("rewards", "outcome"),
    [
        ([], UNDETERMINED),
        ([1], UNDETERMINED),
        ([0], UNDETERMINED),
        ([0, 0], HARD),
        ([1, 1], EASY),
        ([2, 2], EASY),
        ([-1, -1], HARD),
        ([0, 1], EFFECTIVE),
        ([1] * 7 + [0], EFFECTIVE),
        ([0.5, 0.5], HARD),
        ([0.1] * 3, HARD),
    ],
)
def test_outcome_of_a_group(rewards: list[float], outcome: Outcome) -> None:
    assert judged(rewards).outcome.tolist() == [outcome]
    assert judged(rewards).streak.tolist() == [outcome]


@pytest.mark.parametrize(
    ("rewards", "outcome"),
    [
        ([0.0, 1e-6], HARD),  # the tolerance itself is not enough
        ([0.0, 1.0000001e-6], EFFECTIVE),
        ([1 - 1e-6, 1 - 1e-6], EASY),  # solved up to the tolerance
        ([1 - 1.1e-6, 1 - 1.1e-6], HARD),
        ([1 - 0.9e-6, 1.0], EASY),
    ],
)
def test_tolerance(rewards: list[float], outcome: Outcome) -> None:
    assert judged(rewards).outcome.tolist() == [outcome]


def test_a_tolerance_of_zero_takes_any_difference() -> None:
    spec = {"reward_tolerance": 0.0}
    assert judged([0.0, 5e-324], [0.3, 0.3], **spec).outcome.tolist() == [EFFECTIVE, HARD]


def test_a_wide_tolerance_takes_none() -> None:
    assert judged([0, 1], [0, 0], reward_tolerance=1.0).outcome.tolist() == [EASY, EASY]  # solved: mean >= 1 - 1


@pytest.mark.parametrize("rewards", [[0.1 + 0.2, 0.3], [1 / 3] * 3 + [1 - 2 / 3], [0.7 * 3, 2.1], [1.1 * 1.1, 1.21]])
def test_rewards_that_differ_by_float_noise_only_do_not_differ(rewards: list[float]) -> None:
    # NeMo-RL#4158: a standard deviation of 1e-17 let all-equal groups through.
    assert len(set(rewards)) > 1
    assert judged(rewards).outcome[0] in (EASY, HARD)


@pytest.mark.parametrize("value", [0.1, 1 / 3, 0.7, 1e-300, 123456.789, -0.1, BIGGEST, -BIGGEST])
@pytest.mark.parametrize("count", [2, 3, 7, 8, 9, 64, 1000, 4096])
def test_the_mean_of_equal_rewards_is_the_reward(value: float, count: int) -> None:
    outcomes = judged([value] * count)
    assert outcomes.mean[0] == outcomes.low[0] == outcomes.high[0] == value
    assert outcomes.outcome[0] == (EASY if value >= 1 else HARD)


def test_huge_rewards_are_classified_without_a_warning() -> None:
    outcomes = judged([BIGGEST, -BIGGEST], [BIGGEST] * 5, [-BIGGEST] * 5, [BIGGEST, BIGGEST, 0])
    assert outcomes.outcome.tolist() == [EFFECTIVE, EASY, HARD, EFFECTIVE]
    assert np.isfinite(outcomes.mean).all()


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("count", [2, 8, 16, 100, 4096])
def test_the_mean_of_any_finite_rewards_is_among_them(count: int, order: int) -> None:
    outcomes = judged([BIGGEST * order, -BIGGEST * order] * (count // 2))
    assert -BIGGEST <= outcomes.mean[0] <= BIGGEST


def test_solved_reward_is_a_setting() -> None:
    assert judged([2, 2], [3, 3], [4, 4], solved_reward=3.0).outcome.tolist() == [HARD, EASY, EASY]
    assert judged([-1, -1], [0, 0], solved_reward=-0.5).outcome.tolist() == [HARD, EASY]


def test_a_loose_easy_class_changes_the_streak_only() -> None:
    outcomes = judged([1] * 99 + [0], [1] * 97 + [0] * 3, [1, 1], [0, 0], easy_min_mean=0.98)
    assert outcomes.outcome.tolist() == [EFFECTIVE, EFFECTIVE, EASY, HARD]
    assert outcomes.streak.tolist() == [EASY, EFFECTIVE, EASY, HARD]


def test_a_loose_hard_class_changes_the_streak_only() -> None:
    outcomes = judged([0] * 9 + [1], [0] * 8 + [1] * 2, [0, 0], [1, 1], hard_max_mean=0.11)
    assert outcomes.outcome.tolist() == [EFFECTIVE, EFFECTIVE, HARD, EASY]
    assert outcomes.streak.tolist() == [HARD, EFFECTIVE, HARD, EASY]


def test_loose_classes_include_their_bounds() -> None:
    outcomes = judged([1, 0.5], [0.5, 0], easy_min_mean=0.75, hard_max_mean=0.25)
    assert outcomes.streak.tolist() == [EASY, HARD]


def test_loose_classes_leave_undetermined_groups_alone() -> None:
    outcomes = judged([1], [0], [], easy_min_mean=0.9, hard_max_mean=0.1)
    assert outcomes.streak.tolist() == [UNDETERMINED] * 3


def test_groups_of_all_lengths_side_by_side() -> None:
    outcomes = judged([], [1], [], [0, 1], [], [3, 3, 3], [2], [])
    assert outcomes.outcome.tolist() == [
        UNDETERMINED, UNDETERMINED, UNDETERMINED, EFFECTIVE, UNDETERMINED, EASY, UNDETERMINED, UNDETERMINED,
    ]  # fmt: skip
    np.testing.assert_array_equal(outcomes.mean, [np.nan, 1, np.nan, 0.5, np.nan, 3, 2, np.nan])
    np.testing.assert_array_equal(outcomes.low, [np.nan, 1, np.nan, 0, np.nan, 3, 2, np.nan])
    np.testing.assert_array_equal(outcomes.high, [np.nan, 1, np.nan, 1, np.nan, 3, 2, np.nan])


def test_no_groups() -> None:
    outcomes = judged()
    assert outcomes.outcome.size == outcomes.mean.size == outcomes.streak.size == 0


@pytest.mark.parametrize("count", [255, 256, 65_535])
def test_large_groups(count: int) -> None:
    outcomes = judged([0.0] * (count - 1) + [1.0], [1.0] * count)
    assert outcomes.outcome.tolist() == [EFFECTIVE, EASY]
    assert outcomes.mean[0] == pytest.approx(1 / count)


def test_negative_zero_is_kept_as_zero() -> None:
    # Events are folded both as made and as read back; the codec stores each distinct value once, and -0.0 == 0.0.
    assert not np.signbit(Rewards.of([[-0.0, 0.0]]).values).any()
