"""Policies that judge every candidate on its own merits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from greso_service.core import exact
from greso_service.core.outcome import EASY
from greso_service.core.question import Bases, Bools, Floats, Question, beta_mean, known
from greso_service.core.spec import RunSpec


@dataclass(frozen=True, slots=True)
class Decisions:
    """A policy's answer for n candidates: `keep` bool[n], `keep_probability` float64[n].

    `keep_probability` of a ranking is its score.
    """

    keep: Bools
    keep_probability: Floats


class Filter(Protocol):
    """A rule that decides for every candidate on its own merits, whatever the others are."""

    def __call__(self, question: Question) -> Decisions:
        """Decide."""
        ...


def greso(question: Question) -> Decisions:
    """Keep with probability max(p ** z, min_keep_probability), p by the kind of the latest group (algorithm.md, 1)."""
    kind, streak = question.candidates.kind, question.candidates.streak
    probability = keep_probability(streak, kind, question.exploration, question.spec)
    return Decisions(question.draws < probability, probability)


def uniform(question: Question) -> Decisions:
    """Keep everything: the arm to measure the others against."""
    size = question.candidates.kind.size
    return Decisions(np.ones(size, np.bool_), np.ones(size))


def band(question: Question) -> Decisions:
    """Keep prompts whose estimated pass rate lies inside `pass_rate_band`, others with `min_keep_probability`.

    The estimate is the mean of the Beta posterior. Prompts of which nothing is known are kept.
    """
    rate = beta_mean(question.candidates)
    low, high = question.spec.pass_rate_band
    inside = (low <= rate) & (rate <= high) | ~known(question.candidates)
    probability = np.where(inside, 1.0, question.spec.min_keep_probability)
    return Decisions(question.draws < probability, probability)


def keep_probability(streak: NDArray[np.int32], kind: NDArray[np.int8], exploration: Bases, spec: RunSpec) -> Floats:
    """float64[n]: max(p ** z, min_keep_probability); 1 where z = 0."""
    base = np.where(kind == EASY, exploration.easy, exploration.hard)
    return np.where(streak == 0, 1.0, np.maximum(exact.powers(base, streak), spec.min_keep_probability))


FILTERS: dict[str, Filter] = {"greso": greso, "uniform": uniform, "band": band}
