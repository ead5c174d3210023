"""Scores of rankings: against brute force, alone and in company; policy `irt` and the rest of what was drawn."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from greso_service.core import difficulty
from greso_service.core.policy import RANKINGS, Question
from greso_service.core.rankings import irt, mopps, p_mixed

from ..folding import draw, pool, ranked, report, run  # noqa: TID252


@pytest.mark.parametrize("size", [1, 2, 3, 8, 64])
def test_p_mixed_is_the_chance_of_a_mixed_group(size: int) -> None:
    known = [(0, 0), (8, 0), (0, 8), (4, 4), (1, 7), (100, 3), (0, 4000), (16, 16)]
    scores = p_mixed(ranked("p_mixed", known, group_size=size))
    for score, (passed, failed) in zip(scores, known, strict=True):
        a, b, right, wrong = 1 + passed, 1 + failed, Fraction(1), Fraction(1)
        for j in range(size):
            right *= Fraction(a + j, a + b + j)
            wrong *= Fraction(b + j, a + b + j)
        assert score == pytest.approx(float(1 - right - wrong), abs=size * 1e-6)
    assert scores.min() >= 0


def test_p_mixed_of_fractional_counts() -> None:
    """Against the integral over the posterior."""
    p = np.linspace(0, 1, 200_001)[1:-1]
    for passed, failed in [(0.5, 2.25), (7.7, 0.3)]:
        weight = p**passed * (1 - p) ** failed
        right = float((weight * (1 - p**8 - (1 - p) ** 8)).sum() / weight.sum())
        assert p_mixed(ranked("p_mixed", [(passed, failed)])) == pytest.approx([right], abs=1e-4)


def test_mopps_is_nearness_to_a_half() -> None:
    draws = np.random.default_rng(0).random(3000).tolist()
    even, easy, hard = (mopps(ranked("mopps", [known] * 3000, draws)) for known in [(50, 50), (95, 5), (5, 95)])
    for scores in (even, easy, hard):
        assert ((scores >= 0) & (scores <= 1)).all()
    assert even.mean() > 0.97
    assert easy.mean() == pytest.approx(4 * 0.94 * 0.06, abs=0.02)
    assert hard.mean() == pytest.approx(4 * 0.94 * 0.06, abs=0.02)


@pytest.mark.parametrize("policy", RANKINGS)
def test_a_score_is_the_same_in_any_company(policy: str) -> None:
    known = [(float(k), float(n)) for k in range(6) for n in range(6)]
    draws = np.random.default_rng(1).random(36).tolist()
    together = RANKINGS[policy](ranked(policy, known, draws))
    for at in range(36):
        assert RANKINGS[policy](ranked(policy, known[at : at + 1], draws[at : at + 1])) == together[at]


# Policy `irt`.


def met(steps: list[int], drawn: list[int], visits: list[int], step: int, rest: int) -> Any:
    """Scores of prompts of which the same is known, over what they would be worth without a rest.

    `steps`: of their latest groups; `drawn`: for which they were drawn last, -1: never.
    """
    size = len(steps)
    asked = ranked("irt", [(4.0, 4.0)] * size, step=step, rest_steps=rest)
    rows = asked.candidates.rows
    rows.last_step[:size], rows.visits[:size] = steps, visits
    rows.drawn[:size] = np.array(drawn) + 1
    names = ("difficulty", "variance", "hopeless")
    mean, variance, hopeless = (asked.candidates.column(name) for name in names)
    variance = difficulty.aged(variance, step - rows.last_step[:size])
    full = difficulty.value(mean, variance, difficulty.hopeless(hopeless), 0.0, asked.spec.group_size)
    assert (full > 0.1).all()
    return irt(asked) / full


FIRST = [0, 10**6]
"""A trainer that goes on where another left off may begin anywhere."""


@pytest.mark.parametrize("first", FIRST)
def test_what_was_rolled_out_rests(first: int) -> None:
    ago = [1, 2, 10, 90]
    now = first + 100
    shares = met([now - each for each in ago], [-1] * 4, [1] * 4, now, 10)
    assert shares == pytest.approx([each / (each + 10) for each in ago], rel=1e-6)


@pytest.mark.parametrize("first", FIRST)
def test_what_was_never_met_is_worth_all_of_it(first: int) -> None:
    """Told about or not: `last_step` is the step of what was told."""
    assert met([0, first, first + 3], [-1] * 3, [0] * 3, first + 3, 10) == pytest.approx([1, 1, 1])


@pytest.mark.parametrize("first", FIRST)
def test_what_was_drawn_and_not_reported_yet_rests(first: int) -> None:
    """From the step that it was drawn for, never rolled out before or long ago; drawn ahead counts as just now."""
    now = first + 50
    shares = met([0, first, first, first], [now - 5, now - 5, now, now + 3], [0, 1, 1, 1], now, 10)
    assert shares == pytest.approx([5 / 15, 5 / 15, 1 / 11, 1 / 11], rel=1e-6)


@pytest.mark.parametrize("first", FIRST)
def test_a_report_from_a_later_step_than_asked_about_counts_as_just_now(first: int) -> None:
    shares = met([first + 9, first + 9], [first + 9, -1], [1, 1], first + 2, 10)
    assert shares == pytest.approx([1 / 11, 1 / 11], rel=1e-6)


def test_a_late_report_does_not_make_a_prompt_rest_longer() -> None:
    """What was drawn 20 steps ago and reported with its step just now has rested for 20."""
    state = run(policy="irt", rest_steps=10, train_batch_size=1000)
    pool(state, ["a"])
    draw(state, 0, 1)
    report(state, 20, [("b", [0.0, 1.0])], final=True)
    report(state, 0, [("a", [0.0, 1.0])])
    assert state.prompts.last_step[state.prompts.drawn == 1].tolist() == [0]
    assert met([0], [0], [1], 20, 10) == pytest.approx([20 / 30], rel=1e-6)


@pytest.mark.parametrize("first", FIRST)
def test_without_a_rest_all_is_left(first: int) -> None:
    shares = met([first, first, first + 9], [-1, first, first + 1], [1, 1, 0], first, 0)
    assert shares.tolist() == [1, 1, 1]


@pytest.mark.parametrize("rest", [0, 10, 10**6])
def test_scores_of_empty_and_extreme_runs_are_finite(rest: int) -> None:
    assert irt(ranked("irt", [], rest_steps=rest)).shape == (0,)
    asked: Question = ranked("irt", [(0.0, 0.0), (0.0, 9.0), (9.0, 0.0)], step=2**53 - 2, rest_steps=rest)
    asked.candidates.rows.drawn[:3] = [0, 1, 2**53 - 1]
    scores = irt(asked)
    assert ((scores >= 0) & (scores <= 1)).all()
    assert scores.dtype == np.float32
