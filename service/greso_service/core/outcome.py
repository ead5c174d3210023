"""Rewards of groups -> outcomes, for all groups of a report at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from greso_service.core.spec import RunSpec


class Outcome(IntEnum):
    """What a group's rewards say; also the kind of a prompt: that of its latest judged group, 0 before any."""

    UNDETERMINED = 0
    EFFECTIVE = 1
    EASY = 2
    HARD = 3


UNDETERMINED, EFFECTIVE, EASY, HARD = (int(outcome) for outcome in Outcome)
"""The same for arrays: with a member of an enum numpy takes longer than with an int, 2 microseconds each time."""

JUDGED = (Outcome.EFFECTIVE, Outcome.EASY, Outcome.HARD)


@dataclass(frozen=True, slots=True)
class Rewards:
    """The rewards of n groups, ragged: `lengths` uint16[n] rewards per group, `values` float64[sum(lengths)]."""

    lengths: NDArray[np.uint16]
    values: NDArray[np.float64]

    @classmethod
    def of(cls, groups: Sequence[Sequence[float]]) -> Rewards:
        """From one sequence of finite numbers per group."""
        lengths = np.fromiter(map(len, groups), dtype=np.uint16, count=len(groups))
        total = int(lengths.sum(dtype=np.int64))
        values = np.fromiter(chain.from_iterable(groups), dtype=np.float64, count=total)
        return cls(lengths, values + 0.0)  # -0.0 becomes 0.0: equal rewards have equal bits, here and in the history


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What n groups earned. `mean`, `low`, `high`: float64[n], NaN for a group without rewards.

    `outcome`: int8[n], whether the group trains and, if not, which kind it is. `streak`: int8[n], what the group does
    to the prompt's streak: EASY and HARD extend it, EFFECTIVE ends it, UNDETERMINED leaves it. The two differ only
    under the looser classes `easy_min_mean` and `hard_max_mean`.
    """

    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    outcome: NDArray[np.int8]
    streak: NDArray[np.int8]


def classify(rewards: Rewards, spec: RunSpec) -> Outcomes:
    """Classify every group by `spec` (algorithm.md, sections "Words" and 2)."""
    mean, low, high = _statistics(rewards)
    with np.errstate(over="ignore"):  # rewards near the largest float: their spread is inf, which is > tolerance
        differ = high - low > spec.reward_tolerance
    judged = rewards.lengths >= 2
    solved = mean >= spec.solved_reward - spec.reward_tolerance
    outcome = np.where(differ, EFFECTIVE, np.where(solved, EASY, HARD))
    outcome = np.where(judged, outcome, UNDETERMINED).astype(np.int8)
    return Outcomes(mean, low, high, outcome, _loosened(outcome, mean, judged, spec))


def _statistics(rewards: Rewards) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    lengths = rewards.lengths.astype(np.int64)
    filled = lengths > 0
    mean, low, high = (np.full(lengths.size, np.nan) for _ in range(3))
    if filled.any():
        starts = (np.cumsum(lengths) - lengths)[filled]
        low[filled] = np.minimum.reduceat(rewards.values, starts)
        high[filled] = np.maximum.reduceat(rewards.values, starts)
        with np.errstate(over="ignore", invalid="ignore"):
            mean[filled] = np.add.reduceat(rewards.values, starts) / lengths[filled]
        # Rewards near the largest float overflow the sum; their mean is then as good as any number between them.
        mean = np.where(filled & ~np.isfinite(mean), low / 2 + high / 2, mean)
        # Equal rewards have exactly their value as mean, whatever the rounding of the sum did.
        np.clip(mean, low, high, out=mean)
    return mean, low, high


def _loosened(
    outcome: NDArray[np.int8], mean: NDArray[np.float64], judged: NDArray[np.bool_], spec: RunSpec
) -> NDArray[np.int8]:
    streak = outcome
    if spec.hard_max_mean is not None:
        loose = judged & (streak == EFFECTIVE) & (mean <= spec.hard_max_mean)
        streak = np.where(loose, np.int8(HARD), streak)
    if spec.easy_min_mean is not None:
        streak = np.where(judged & (mean >= spec.easy_min_mean), np.int8(EASY), streak)
    return streak
