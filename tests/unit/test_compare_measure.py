"""When a curve reaches an accuracy, and what was spent until then."""

from __future__ import annotations

import dataclasses

import pytest

from greso_client.trainer.compare.measure import Point, common_accuracy, reached, smoothed

from .synthetic_trials import trial


def curve(*accuracies: float) -> list[Point]:
    """One evaluation every 1,000 rollouts and every 10 steps, the start first."""
    return [Point(10 * i, 1000 * i, accuracy) for i, accuracy in enumerate(accuracies)]


def test_the_start_is_kept_and_the_rest_are_means_of_up_to_three() -> None:
    accuracies = [point.accuracy for point in smoothed(curve(0.1, 0.2, 0.4, 0.6, 0.8))]
    assert accuracies == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.6])


def test_an_accuracy_is_reached_between_two_evaluations() -> None:
    goal = reached(curve(0.1, 0.2, 0.4, 0.6), 0.35)  # smoothed 0.1, 0.2, 0.3, 0.4
    assert goal is not None
    assert goal.rollouts == pytest.approx(2500)
    assert goal.step == pytest.approx(25)


def test_an_accuracy_that_is_never_reached_is_not_reached_by_one_lucky_evaluation() -> None:
    assert reached(curve(0.1, 0.2, 0.9, 0.2, 0.2), 0.6) is None


def test_the_common_accuracy_is_the_weakest_arms_best_rounded_down() -> None:
    assert common_accuracy([curve(0.1, 0.5, 0.5, 0.5), curve(0.1, 0.309, 0.309, 0.309)]) == 0.30


def test_arms_that_hardly_rose_have_no_common_accuracy() -> None:
    assert common_accuracy([curve(0.25, 0.28, 0.28), curve(0.25, 0.6, 0.6)]) is None


def test_what_was_spent_until_a_step_counts_a_fraction_of_it() -> None:
    found = trial("grpo", [0.1, 0.2, 0.3, 0.4])
    assert found.rollouts_until(0) == 0
    assert found.rollouts_until(2.25) == pytest.approx(2250)
    assert found.until(2.25, "seconds") == pytest.approx(4.5)
    assert found.rollouts_until(3) == found.rollouts == 3000
    assert found.until(3, "seconds") == found.total("seconds") == 6


def test_a_step_without_an_update_is_no_optimiser_step() -> None:
    found = trial("grpo", [0.1, 0.2, 0.3, 0.4])
    found.steps[1] = dataclasses.replace(found.steps[1], loss=None)
    assert found.updates == found.updates_until(3) == 2
    assert found.updates_until(1.5) == 1
    assert found.updates_until(2.5) == pytest.approx(1.5)
