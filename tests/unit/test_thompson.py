"""Samples from Beta posteriors: against numpy's, and as pure functions of the draws."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from greso_service.core import thompson
from greso_service.core.draws import Ids, mix, uniforms

COUNT = 40_000


def samples(a: float, b: float, count: int = COUNT, step: int = 0) -> Any:
    draws = uniforms(Ids.of([f"p{number}" for number in range(count)]).hashes, 5, step)
    return thompson.beta(np.full(count, a, np.float32), np.full(count, b, np.float32), draws)


def distance(one: Any, other: Any) -> float:
    """Kolmogorov and Smirnov's: the largest difference of the two empirical distribution functions."""
    one, other = np.sort(one), np.sort(other)
    at = np.concatenate([one, other])
    below = [np.searchsorted(each, at, side="right") / each.size for each in (one, other)]
    return float(np.abs(below[0] - below[1]).max())


# Two right samples of this size are within 1.95 sqrt(2 / COUNT) = 0.014 of one another in 999 of 1,000 cases; the rest
# is the approximation's.
@pytest.mark.parametrize(
    ("a", "b", "most"),
    [(1, 1, 0.035), (1, 9, 0.035), (9, 1, 0.035), (2, 2, 0.025), (1, 100, 0.035), (5, 5, 0.02), (3, 30, 0.02),
     (17, 4, 0.02), (200, 300, 0.02), (1.5, 1.25, 0.035), (5000, 5000, 0.02)],
)  # fmt: skip
def test_samples_are_beta_distributed(a: float, b: float, most: float) -> None:
    right = np.random.default_rng(11).beta(a, b, 10 * COUNT)
    assert distance(samples(a, b), right) < most


@pytest.mark.parametrize(("a", "b"), [(1, 1), (9, 1), (3, 30), (200, 300)])
def test_mean_and_spread(a: float, b: float) -> None:
    found = samples(a, b).astype(np.float64)
    deviation = np.sqrt(a * b / (a + b + 1)) / (a + b)
    assert abs(found.mean() - a / (a + b)) < 0.05 * deviation
    assert found.std() == pytest.approx(deviation, rel=0.05)


def test_the_same_draws_give_the_same_samples() -> None:
    assert samples(2, 3).tobytes() == samples(2, 3).tobytes()
    assert (samples(2, 3) != samples(2, 3, step=1)).mean() > 0.99
    draws = np.random.default_rng(0).random(1000)
    a, b = np.linspace(1, 9, 1000, dtype=np.float32), np.linspace(30, 1, 1000, dtype=np.float32)
    together = thompson.beta(a, b, draws)
    alone = [thompson.beta(a[at : at + 1], b[at : at + 1], draws[at : at + 1])[0] for at in range(1000)]
    assert together.tolist() == alone


def test_both_gammas_are_independent_of_one_another() -> None:
    draws = uniforms(Ids.of([f"p{number}" for number in range(COUNT)]).hashes, 5, 0)
    bits = (draws * 2.0**53).astype(np.uint64)
    first, second = thompson._normal(bits), thompson._normal(mix(bits + np.uint64(1)))
    assert abs(np.corrcoef(first, second)[0, 1]) < 4 / np.sqrt(COUNT)


@pytest.mark.parametrize("draw", [0.0, 2.0**-53, 0.5, 1 - 2.0**-53])
@pytest.mark.parametrize(("a", "b"), [(1, 1), (1, 1e7), (1e7, 1), (1e30, 1e30), (1, 1e30)])
def test_extremes_are_probabilities(a: float, b: float, draw: float) -> None:
    [found] = thompson.beta(np.array([a], np.float32), np.array([b], np.float32), np.array([draw]))
    assert 0 <= found <= 1


def test_no_samples() -> None:
    assert samples(1, 1, 0).shape == (0,)
