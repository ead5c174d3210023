"""Trials that were never trained: curves whose truth is known."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

from greso_client.trainer.compare.measure import StepRow, Trial

if TYPE_CHECKING:
    from collections.abc import Sequence

BEFORE = 0.35
ROLLOUTS_A_STEP = 1000


def trial(arm: str, accuracies: Sequence[float], seed: int = 1, rollouts: int = ROLLOUTS_A_STEP) -> Trial:
    """One step before each evaluation; the first accuracy is the start's."""
    rows = [
        StepRow(
            step=i,
            rollouts=rollouts * i,
            rounds=2,
            groups=125,
            effective=40,
            learnt_from=32,
            examined=200,
            skipped_easy=30,
            skipped_hard=45,
            reason="complete",
            loss=0.0,
            accuracy=accuracy,
            seconds=2.0,
            rollout_seconds=1.0,
            update_seconds=0.8,
            service_seconds=0.1,
            p_easy=0.5,
            p_hard=0.5,
        )
        for i, accuracy in enumerate(accuracies[1:], start=1)
    ]
    return Trial(arm, seed, f"run-{arm}-{seed}", accuracies[0], rows)


def learning(arm: str, seed: int, speed: float, *, noise: float = 0.01, steps: int = 40) -> Trial:
    """A model that learns at `speed` (1: three quarters of the way in 28 steps), measured with evaluation noise.

    How fast a seed learns varies from seed to seed by 10 %, for all arms alike, and by 5 % for each arm alone.
    """
    together, alone = random.Random(seed), random.Random(f"{arm}/{seed}")
    pace = speed * math.exp(together.gauss(0, 0.1) + alone.gauss(0, 0.05)) / 20
    accuracies = [BEFORE + 0.6 * (1 - math.exp(-pace * i)) + alone.gauss(0, noise) for i in range(1, steps + 1)]
    return trial(arm, [BEFORE, *accuracies], seed)
