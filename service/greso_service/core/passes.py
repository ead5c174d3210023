"""Passed and failed responses of groups, and the Beta posterior over a prompt's pass rate that policies are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greso_service.core.arrays import distinct
from greso_service.core.outcome import Rewards
from greso_service.core.spec import RunSpec

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Passes:
    """Of n groups: `tried` responses and the `passed` part of them, float64[n]. A reward between 0 and `solved_reward`
    is that part of a pass; with a `solved_reward` that is not above 0, what reaches it passes and the rest fails.
    """

    passed: Floats
    tried: Floats

    @classmethod
    def earned(cls, rewards: Rewards, mean: Floats, spec: RunSpec) -> Passes:
        """From groups and their means (NaN for a group without rewards)."""
        tried = rewards.lengths.astype(np.float64)
        low, high = 0.0, spec.solved_reward
        if high <= 0:
            return cls(_counted(rewards, rewards.values >= high - spec.reward_tolerance), tried)
        values = rewards.values
        if values.size and (values.min() < low or values.max() > high):
            return cls(_counted(rewards, np.clip(values, low, high) / high), tried)
        # In this order nothing overflows and no group passes more than it tried, whatever the rounding does.
        return cls(np.where(tried > 0, mean, 0.0) / high * tried, tried)

    def of(self, rows: NDArray[Any]) -> Passes:
        """Those of some groups."""
        return Passes(self.passed[rows], self.tried[rows])

    def together(self, index: NDArray[np.int64], rows: NDArray[Any]) -> tuple[NDArray[np.int64], Passes]:
        """Those of some groups, of the prompts at `index`, added up by prompt: the distinct prompts and theirs."""
        some = self.of(rows)
        if distinct(index):
            return index, some
        each, place = np.unique(index, return_inverse=True)
        passed, tried = (np.bincount(place, weights=part) for part in (some.passed, some.tried))
        return each, Passes(passed.astype(np.float64), tried.astype(np.float64))


def _counted(rewards: Rewards, passed: NDArray[np.float64] | NDArray[np.bool_]) -> Floats:
    groups = np.repeat(np.arange(rewards.lengths.size), rewards.lengths)
    total: Floats = np.bincount(groups, weights=passed, minlength=rewards.lengths.size).astype(np.float64)
    return total


def counted(
    passed: NDArray[np.float32], failed: NDArray[np.float32], group: Passes, decay: float
) -> tuple[Floats, Floats]:
    """Counts over and above the prior Beta(1, 1) after a group; `decay`: what is left of the older ones.

    MoPPS (arXiv 2507.04632), a <- decay * a + (1 - decay) * a_prior + k, with a_prior = 1 taken off.
    """
    return decay * passed + group.passed, decay * failed + (group.tried - group.passed)
