"""Policies that give each prompt a score, from 0 to 1: how much a group of it would teach."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from greso_service.core import difficulty, thompson
from greso_service.core.question import Bools, PromptView, Question

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
    total: Singles = passed + failed
    all_right, all_wrong = passed / total, failed / total
    for _ in range(1, question.spec.group_size):
        passed += 1
        failed += 1
        total += 1
        all_right *= passed / total
        all_wrong *= failed / total
    score: Singles = 1 - all_right
    score -= all_wrong
    np.maximum(score, 0, out=score)
    return score


def mopps(question: Question) -> Singles:
    """MoPPS (arXiv 2507.04632): r ~ Beta posterior; the smallest (r - 1/2)^2 are taken. Score: 1 - 4 (r - 1/2)^2."""
    passed, failed = (1 + column for column in _counts(question.candidates))
    rate = thompson.beta(passed, failed, question.draws)
    rate -= np.float32(0.5)
    rate *= rate
    rate *= 4
    score: Singles = np.subtract(1, rate, out=rate)
    return score


def irt(question: Question) -> Singles:
    """What a group is worth by the item-response model (`difficulty`), less for a prompt that was seen a moment ago.

    After s steps s / (s + rest_steps) of it is left: the model is still much as it was when it learnt from the prompt,
    and prompts that take turns teach more than the few of the highest value again and again.
    """
    candidates, last = question.candidates, question.candidates.column("last_step")
    variance = difficulty.aged(candidates.column("variance"), question.step - last)
    hopeless = difficulty.hopeless(candidates.column("hopeless"))
    mean = candidates.column("difficulty")
    value = difficulty.value(mean, variance, hopeless, question.ability.value, question.spec.group_size)
    if question.spec.rest_steps:
        drawn = candidates.column("drawn")  # ahead of its report
        met = (candidates.column("visits") > 0) | (drawn > 0)
        value *= _rested(question.step - np.maximum(last, drawn - 1), met, question.spec.rest_steps)
    return value


def _rested(steps: NDArray[np.int64], met: Bools, rest: float) -> Singles:
    """float32[n]: what is left after so many steps; all of it where a prompt was not `met`."""
    rested: Singles = steps.astype(np.float32)
    np.maximum(rested, 1, out=rested)
    rested /= rested + np.float32(rest)
    rested[~met] = 1
    return rested


def _counts(candidates: PromptView) -> tuple[Singles, Singles]:
    return candidates.column("passed"), candidates.column("failed")


RANKINGS: dict[str, Ranking] = {"mopps": mopps, "p_mixed": p_mixed, "irt": irt}
