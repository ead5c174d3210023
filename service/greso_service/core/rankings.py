"""Policies that give each prompt a score, from 0 to 1: how much a group of it would teach."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from greso_service.core import difficulty, thompson
from greso_service.core.question import PromptView, Question

Singles = NDArray[np.float32]


class Ranking(Protocol):
    """A rule that says how much each candidate would teach."""

    def __call__(self, question: Question) -> Singles:
        """float32[n]: scores in [0, 1]; the highest are rolled out."""
        ...


def p_mixed(question: Question) -> Singles:
    """The Beta posterior's chance that a group is effective: 1 - E[p^G] - E[(1 - p)^G].

    E[p^G] = prod_{j < G} (a + j) / (a + b + j) for Beta(a, b).
    """
    passed, failed = (1 + column for column in _counts(question.candidates))
    all_right = np.ones_like(passed)
    all_wrong = np.ones_like(passed)
    for further in map(np.float32, range(question.spec.group_size)):
        total = passed + failed + further
        all_right *= (passed + further) / total
        all_wrong *= (failed + further) / total
    score: Singles = np.maximum(1 - all_right - all_wrong, 0)
    return score


def mopps(question: Question) -> Singles:
    """MoPPS (arXiv 2507.04632): r ~ Beta posterior; the smallest (r - 1/2)^2 are taken. Score: 1 - 4 (r - 1/2)^2."""
    passed, failed = (1 + column for column in _counts(question.candidates))
    rate = thompson.beta(passed, failed, question.draws)
    score: Singles = 1 - 4 * (rate - np.float32(0.5)) ** 2
    return score


def irt(question: Question) -> Singles:
    """What a group is worth by the item-response model (`difficulty`), less for a prompt that was seen a moment ago.

    After s steps s / (s + rest_steps) of it is left: the model is still much as it was when it learnt from the prompt,
    and prompts that take turns teach more than the few of the highest value again and again.
    """
    candidates, rest = question.candidates, np.float32(question.spec.rest_steps)
    steps = np.maximum(question.step - candidates.column("last_step"), 0)
    variance = difficulty.aged(candidates.column("variance"), steps)
    hopeless = difficulty.hopeless(candidates.column("hopeless"))
    mean = candidates.column("difficulty")
    value = difficulty.value(mean, variance, hopeless, question.ability.value, question.spec.group_size)
    drawn = candidates.column("drawn")  # ahead of its report
    since = np.maximum(np.minimum(steps, np.where(drawn > 0, question.step + 1 - drawn, steps)), 1).astype(np.float32)
    met = (candidates.column("visits") > 0) | (drawn > 0)
    rested: Singles = np.where(met, since / (since + rest), np.float32(1))
    return value * rested


def _counts(candidates: PromptView) -> tuple[Singles, Singles]:
    return candidates.column("passed"), candidates.column("failed")


RANKINGS: dict[str, Ranking] = {"mopps": mopps, "p_mixed": p_mixed, "irt": irt}
