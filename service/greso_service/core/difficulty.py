"""The item-response model behind policy `irt`: one ability of the model in training, one difficulty of each prompt.

The chance that a response to prompt i earns its reward at step t is logistic(ability_t - difficulty_i) (Rasch, 1960),
unless the prompt is hopeless: then it is 0, whatever the ability (a wrong reference answer, a question far beyond the
model). What is known of a prompt is the chance that it is hopeless, and a Gaussian over its difficulty if it is not.
A group narrows the Gaussian; steps without one widen it again, as the model changes meanwhile in ways that one number
does not follow. The ability follows the prompts that are rolled out, and so moves the prediction of those that are not:
a prompt that nobody has looked at for a while ages with the model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from greso_service.core import exact

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

PRIOR_VARIANCE: Final = 9.0
"""Of a difficulty before its first group, in squared logits, around a mean of 0: anything is likely."""

DRIFT: Final = 0.02
"""By how much a step without a group widens a difficulty's variance, up to that of the prior."""

MOST_ABILITY_MOVE: Final = 0.2
"""Logits by which the ability may move in one step of the trainer: more is noise, not learning."""

_ABILITY_PRIOR: Final = 20.0
"""Rewards' worth of doubt with which the ability's moves are shrunk: a report of few groups hardly moves it."""

HOPELESS_PRIOR: Final = 0.5
"""Chance that a prompt of which nothing is known is hopeless. High on purpose: with a lower one draws look at nearly
the whole pool before they come back to what they found."""

_MOST_HOPELESS: Final = 0.9997
_HOPELESS_WITH_A_PASS: Final = 0.05
"""Not 0: the pass may have been luck, or a reward that erred."""

_LEAST_PASSED: Final = 0.01
"""Responses: next to nothing, and yet a pass."""

_MOST_NEWTON_STEPS: Final = 20
_CONVERGED: Final = 1e-3
"""Logits: with every step shorter than this, the next would be of its square's order."""

_MOST_NEWTON_MOVE: Final = 3.0
"""Logits a Newton step may go: where the logistic is flat, a full one would jump far beyond the mode and back."""


@dataclass(frozen=True, slots=True)
class Ability:
    """The ability, in logits; `moved`: how far it has gone in `step` so far."""

    value: float = 0.0
    step: int = -1
    moved: float = 0.0

    def then(self, step: int, passed: Floats, tried: Floats, predicted: Floats, weight: Floats) -> Ability:
        """The ability after groups of known prompts: `passed` of `tried` responses each, at these predicted rates.

        One Newton step on the groups' likelihood, shrunk towards no move, and bounded per step of the trainer.
        `weight`: how much of each group counts, the chance that its prompt is not hopeless.
        """
        # fsum rounds once, so that the sum does not depend on how a processor groups its terms.
        now = max(step, self.step)
        surprise = math.fsum((weight * (passed - tried * predicted)).tolist())
        information = math.fsum((weight * tried * predicted * (1 - predicted)).tolist()) + _ABILITY_PRIOR
        moved = self.moved if now == self.step else 0.0
        low, high = -MOST_ABILITY_MOVE - moved, MOST_ABILITY_MOVE - moved
        move = min(max(surprise / information, low), high)
        return Ability(self.value + move, now, moved + move)


@dataclass(frozen=True, slots=True)
class Belief:
    """What is known of n prompts. `mean`, `variance`: of the difficulty, in logits; `hopeless`: its chance."""

    mean: Floats
    variance: Floats
    hopeless: Floats

    def after(self, ability: float, passed: Floats, tried: Floats) -> Belief:
        """What is known after `passed` of `tried` responses of each prompt."""
        hopeless = _hopeless_after(self, ability, passed, tried)
        mode, variance = laplace(self.mean, self.variance, ability, passed, tried)
        # Nothing is learnt of the difficulty from a prompt that is hopeless.
        return Belief(self.mean + (1 - hopeless) * (mode - self.mean), variance, hopeless)


def hopeless(column: NDArray[exact.F]) -> NDArray[exact.F]:
    """Chances that prompts are hopeless; 0 stands for that of the prior."""
    chance: NDArray[exact.F] = np.where(column > 0, column, column.dtype.type(HOPELESS_PRIOR))
    return chance


def _hopeless_after(belief: Belief, ability: float, passed: Floats, tried: Floats) -> Floats:
    """Bayes' rule: a prompt without a pass may be hopeless or just hard; one with a pass hardly is."""
    number = tried.astype(np.int64)
    silence = _expected(*(exact.powers(1 - rate, number) for rate in _points(belief.mean, belief.variance, ability)))
    before = belief.hopeless
    after = np.minimum(before / (before + (1 - before) * silence), _MOST_HOPELESS)
    return np.where(passed > 0, _HOPELESS_WITH_A_PASS, after)


def aged(variance: NDArray[exact.F], steps: NDArray[np.int64]) -> NDArray[exact.F]:
    """Variances after so many steps without a group; a variance of 0 stands for that of the prior."""
    number = variance.dtype.type
    known: NDArray[exact.F] = np.maximum(steps, 0).astype(variance.dtype)
    known *= number(DRIFT)
    known += variance
    np.minimum(known, number(PRIOR_VARIANCE), out=known)
    known[variance <= 0] = PRIOR_VARIANCE
    return known


def laplace(mean: Floats, variance: Floats, ability: float, passed: Floats, tried: Floats) -> tuple[Floats, Floats]:
    """Mean and variance of difficulties after `passed` of `tried` responses: Laplace's approximation at the mode."""
    mode, sure = mean.copy(), 1 / variance
    for _ in range(_MOST_NEWTON_STEPS):  # about four for a group as expected; more the more it surprises
        rate = exact.logistic(ability - mode)
        slope = (mean - mode) / variance - (passed - tried * rate)
        curve = sure + tried * rate * (1 - rate)
        move = np.clip(slope / curve, -_MOST_NEWTON_MOVE, _MOST_NEWTON_MOVE)
        mode += move
        if np.abs(move).max(initial=0) < _CONVERGED:
            break
    rate = exact.logistic(ability - mode)
    return mode, 1 / (sure + tried * rate * (1 - rate))


def responses(belief: Belief, ability: float, most: int) -> tuple[Floats, Floats]:
    """`passed` of `tried` responses, at most `most`, from which these beliefs would be learnt anew, as far as they can.

    At the mode the slope in `laplace` is 0, and the curve is 1 / variance: solved for `passed` and `tried`. Nothing
    passed where a prompt is more likely hopeless than one that nothing is known of.
    """
    mean, variance = belief.mean, belief.variance
    rate = exact.logistic(ability - mean)
    information = np.maximum(rate * (1 - rate), np.finfo(np.float64).tiny)
    tried = np.rint(np.clip((1 / variance - 1 / PRIOR_VARIANCE) / information, 0, most))
    passed = np.clip(tried * rate - mean / PRIOR_VARIANCE, np.minimum(_LEAST_PASSED, tried), tried)
    return np.where(belief.hopeless < HOPELESS_PRIOR, passed, 0), tried


def pass_rate(belief: Belief, ability: float) -> Floats:
    """float64[n]: expected pass rates, E[logistic(ability - difficulty)], 0 for the hopeless part."""
    return (1 - belief.hopeless) * _expected(*_points(belief.mean, belief.variance, ability))


def effective(belief: Belief, ability: float, group_size: int) -> Floats:
    """float64[n]: chances that a group of `group_size` responses is effective: E[1 - p^G - (1 - p)^G]."""
    points = _points(belief.mean, belief.variance, ability)
    return (1 - belief.hopeless) * _expected(*(_mixed(rate, group_size) for rate in points))


def value(mean: Singles, variance: Singles, hopeless: Singles, ability: float, group_size: int) -> Singles:
    """float32[n]: what groups are worth: E[(1 - p^G - (1 - p)^G) sqrt(1 - p)], from 0 to 1.

    The root tells effective groups apart: a rare success teaches more than a rare slip, as there is more to learn.
    """
    worth: Singles = _expected(*(_worth(rate, group_size) for rate in _points(mean, variance, ability)))
    worth *= 1 - hopeless
    return worth


def _worth(rate: Singles, group_size: int) -> Singles:
    worth = _mixed(rate, group_size)
    worth *= np.sqrt(1 - rate)
    return worth


def _mixed(rate: NDArray[exact.F], group_size: int) -> NDArray[exact.F]:
    mixed: NDArray[exact.F] = 1 - exact.power(rate, group_size)
    mixed -= exact.power(1 - rate, group_size)
    np.maximum(mixed, 0, out=mixed)
    return mixed


_SPREAD: Final = math.sqrt(3)
_MIDDLE, _SIDE = 2 / 3, 1 / 6
"""Gauss and Hermite's quadrature of three points: a Gaussian's mean with weight 2/3, mean +- sqrt(3) sd with 1/6."""


def _points(mean: NDArray[exact.F], variance: NDArray[exact.F], ability: float) -> list[NDArray[exact.F]]:
    """Pass rates at the three difficulties of the quadrature."""
    number = mean.dtype.type
    odds = exact.exp(mean - number(ability))  # of failing
    spread = exact.exp(np.sqrt(variance) * number(_SPREAD))
    low: NDArray[exact.F] = odds * spread
    high: NDArray[exact.F] = np.divide(odds, spread, out=spread)
    return [np.divide(1, np.add(1, against, out=against), out=against) for against in (low, odds, high)]


def _expected(low: NDArray[exact.F], middle: NDArray[exact.F], high: NDArray[exact.F]) -> NDArray[exact.F]:
    number = middle.dtype.type
    mean: NDArray[exact.F] = low + high
    mean *= number(_SIDE)
    mean += middle * number(_MIDDLE)
    return mean
