"""Policies: which candidates to roll out, and why. A policy sees arrays and returns arrays; it keeps no state."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from greso_service.core.controller import Exploration
from greso_service.core.outcome import Outcome
from greso_service.core.prompts import UNKNOWN, Index
from greso_service.core.spec import RunSpec

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


class Reason(IntEnum):
    """Why a candidate was kept or skipped; the names in lower case are the HTTP contract's."""

    NEW = 0
    EFFECTIVE = 1
    EXPLORE = 2
    FILL = 3
    SKIP_EASY = 4
    SKIP_HARD = 5


@dataclass(frozen=True, slots=True)
class PromptView:
    """What a policy may know of all prompts of a run, by index: `streak` int32[prompts] and `kind` int8[prompts]."""

    streak: NDArray[np.int32]
    kind: NDArray[np.int8]

    def of(self, index: Index) -> PromptView:
        """The same for some prompts; those never seen (`UNKNOWN`) read as new."""
        if not self.streak.size:
            return PromptView(np.zeros(index.size, np.int32), np.zeros(index.size, np.int8))
        known = index != UNKNOWN
        return PromptView(np.where(known, self.streak[index], 0), np.where(known, self.kind[index], 0))


@dataclass(frozen=True, slots=True)
class Question:
    """A decision to make: the run's spec and exploration, its prompts, which of them are candidates, and their draws.

    `index`: int64[n] into the view, `UNKNOWN` for prompts never seen. `candidates`: the view's rows at `index`.
    `draws`: float64[n], uniform in [0, 1). A policy that ranks the whole pool gets the whole pool as candidates; the
    view holds every prompt of the run in any case.
    """

    spec: RunSpec
    exploration: Exploration
    prompts: PromptView
    index: Index
    candidates: PromptView
    draws: Floats


@dataclass(frozen=True, slots=True)
class Decisions:
    """A policy's answer for n candidates: `keep` bool[n], `keep_probability` float64[n]."""

    keep: Bools
    keep_probability: Floats


class Policy(Protocol):
    """A rule that decides which candidates to roll out."""

    def __call__(self, question: Question) -> Decisions:
        """Decide for every candidate on its own merits, whatever the others are."""
        ...


def greso(question: Question) -> Decisions:
    """Keep with probability max(p ** z, min_keep_probability), p by the kind of the latest group (algorithm.md, 1)."""
    probability = keep_probability(question.candidates, question.exploration, question.spec)
    return Decisions(question.draws < probability, probability)


def uniform(question: Question) -> Decisions:
    """Keep everything: the arm to measure the others against."""
    return Decisions(np.ones(question.index.size, dtype=np.bool_), np.ones(question.index.size))


POLICIES: dict[str, Policy] = {"greso": greso, "uniform": uniform}


def keep_probability(prompts: PromptView, exploration: Exploration, spec: RunSpec) -> Floats:
    """float64[n]: max(p ** z, min_keep_probability) for every prompt of the view; 1 where z = 0."""
    base = np.where(prompts.kind == Outcome.EASY, exploration.easy, exploration.hard)
    return np.where(prompts.streak == 0, 1.0, np.maximum(_power(base, prompts.streak), spec.min_keep_probability))


def _power(base: Floats, exponent: NDArray[np.int32]) -> Floats:
    """base ** exponent by repeated squaring: unlike numpy's power, the same bits on every processor."""
    power = np.ones(base.size)
    for bit in range(int(exponent.max(initial=0)).bit_length()):
        power = np.where(exponent >> bit & 1, power * base, power)
        base = base * base
    return power


@dataclass(frozen=True, slots=True)
class Selection:
    """The outcome for the candidates that were examined, in order; every array has `examined` rows."""

    keep: Bools
    reason: NDArray[np.int8]
    keep_probability: Floats
    streak: NDArray[np.int32]

    @property
    def examined(self) -> int:
        """Candidates judged."""
        return self.keep.size

    @property
    def selected(self) -> int:
        """Candidates kept."""
        return int(np.count_nonzero(self.keep))

    def skipped(self, reason: Reason) -> int:
        """Candidates skipped as easy or as hard."""
        return int(np.count_nonzero(self.reason == reason))


def select(question: Question, *, limit: int | None = None, at_least: int = 0) -> Selection:
    """Judge candidates in order until `limit` are kept; fill up to `at_least` with the skipped that came closest."""
    decisions = POLICIES[question.spec.policy](question)
    examined = question.index.size if limit is None else _examined(decisions.keep, limit)
    keep, probability = decisions.keep[:examined].copy(), decisions.keep_probability[:examined]
    prompts = PromptView(question.candidates.streak[:examined], question.candidates.kind[:examined])
    reason = _reasons(keep, prompts)
    lacking = min(at_least, examined) - int(np.count_nonzero(keep))
    if lacking > 0:
        skipped = np.flatnonzero(~keep)
        distance = question.draws[skipped] / np.maximum(probability[skipped], np.finfo(np.float64).tiny)
        filled = skipped[np.argsort(distance, kind="stable")[:lacking]]
        keep[filled], reason[filled] = True, Reason.FILL
    return Selection(keep, reason, probability, prompts.streak)


def _examined(keep: Bools, limit: int) -> int:
    if limit == 0:
        return 0
    kept = np.flatnonzero(keep)
    return int(kept[limit - 1]) + 1 if kept.size >= limit else keep.size


def _reasons(keep: Bools, prompts: PromptView) -> NDArray[np.int8]:
    kept = np.where(
        prompts.streak > 0,
        Reason.EXPLORE,
        np.where(prompts.kind == Outcome.UNDETERMINED, Reason.NEW, Reason.EFFECTIVE),
    )
    skipped = np.where(prompts.kind == Outcome.EASY, Reason.SKIP_EASY, Reason.SKIP_HARD)
    return np.where(keep, kept, skipped).astype(np.int8)
