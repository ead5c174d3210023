"""Policies: which candidates to roll out, and why. A policy sees arrays and returns arrays; it keeps no state.

A *filter* judges every candidate on its own merits. A *ranking* gives each a score, and the best are taken: of a list
of candidates here, of the whole pool in `ranked_draw`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greso_service.core.filters import FILTERS, Decisions
from greso_service.core.outcome import EASY, UNDETERMINED
from greso_service.core.prompts import Index
from greso_service.core.question import Bools, Floats, PromptView, Question, beta_mean, known
from greso_service.core.rankings import RANKINGS
from greso_service.core.spec import RunSpec

__all__ = [
    "FILTERS", "RANKINGS", "Decisions", "PromptView", "Question", "Reason", "Selection",
    "as_easy", "best", "decide", "known", "select",
]  # fmt: skip

_EVEN = 0.5
"""The pass rate from which a prompt that a ranking leaves out counts as skipped for being easy."""


class Reason(IntEnum):
    """Why a candidate was kept or skipped; the names in lower case are the HTTP contract's."""

    NEW = 0
    EFFECTIVE = 1
    EXPLORE = 2
    FILL = 3
    SKIP_EASY = 4
    SKIP_HARD = 5


# For arrays, as in `outcome`.
_NEW, _EFFECTIVE, _EXPLORE, _FILL, _SKIP_EASY, _SKIP_HARD = (int(reason) for reason in Reason)


def decide(question: Question) -> Decisions:
    """What the run's policy says of each candidate by itself; a ranking keeps nobody before all are known."""
    name = question.spec.policy
    if name in FILTERS:
        return FILTERS[name](question)
    scores = RANKINGS[name](question).astype(np.float64)
    return Decisions(np.zeros(scores.size, np.bool_), scores)


def as_easy(spec: RunSpec, candidates: PromptView) -> Bools:
    """bool[n]: whether a candidate that is skipped is skipped as easy; else it is as hard.

    By the kind of the latest group where streaks decide, by the estimated pass rate where that does.
    """
    if spec.policy in RANKINGS:
        return beta_mean(candidates) >= _EVEN
    if spec.policy == "band":
        return beta_mean(candidates) > spec.pass_rate_band[1]
    easy: Bools = candidates.kind == EASY
    return easy


@dataclass(frozen=True, slots=True)
class Selection:
    """The outcome for the candidates that were examined, in order; every array has `examined` rows.

    `easy`: to be skipped as easy, if at all, else as hard; `audited`: kept although the policy would skip them;
    `filled`: the rows of those kept so that there are enough.
    """

    keep: Bools
    keep_probability: Floats
    streak: NDArray[np.int32]
    kind: NDArray[np.int8]
    easy: Bools
    audited: Bools
    filled: Index

    @property
    def examined(self) -> int:
        """Candidates judged."""
        return self.keep.size

    @property
    def selected(self) -> int:
        """Candidates kept."""
        return int(np.count_nonzero(self.keep))

    @property
    def skipped_easy(self) -> int:
        """Candidates skipped as easy."""
        return int(np.count_nonzero(self.easy & ~self.keep))

    @property
    def skipped_hard(self) -> int:
        """Candidates skipped as hard."""
        return self.examined - self.selected - self.skipped_easy

    @property
    def reason(self) -> NDArray[np.int8]:
        """int8[examined]: the `Reason` of each."""
        kept = np.where(self.streak > 0, _EXPLORE, np.where(self.kind == UNDETERMINED, _NEW, _EFFECTIVE))
        reason = np.where(self.keep, kept, np.where(self.easy, _SKIP_EASY, _SKIP_HARD)).astype(np.int8)
        reason[self.audited], reason[self.filled] = _EXPLORE, _FILL
        return reason


def select(question: Question, *, limit: int | None = None, at_least: int = 0) -> Selection:
    """Judge candidates.

    A filter judges them in order until `limit` are kept, and fills up to `at_least` with the skipped that came closest.
    A ranking judges all and keeps the best `limit`; without one, as many as a round takes now. Audited candidates are
    among those kept. In a shadow run all are kept in order until `limit`; audited are those that would be skipped.
    """
    decisions = decide(question)
    ranking, shadow = question.spec.policy in RANKINGS, question.spec.shadow
    wanted = max(question.batch, at_least) if limit is None else limit
    top = best(decisions.keep_probability, wanted, lambda rows: question.draws[rows]) if ranking else None
    own = decisions.keep
    if top is not None:
        own[top] = True
    audited = ~own & _audit(question)
    keep = own | audited | shadow
    if top is not None and not shadow:
        room = wanted - _limit_audits(question, audited, wanted)
        keep = audited.copy()
        keep[top[:room]] = True
        examined = keep.size if wanted else 0
    else:
        examined = keep.size if limit is None else _examined(keep, limit)
    keep, audited = keep[:examined], audited[:examined]
    easy = as_easy(question.spec, question.candidates)[:examined]
    probability = decisions.keep_probability[:examined]
    streak, kind = question.candidates.streak[:examined], question.candidates.kind[:examined]
    filled = np.zeros(0, np.int64)
    if (lacking := min(at_least, examined) - int(np.count_nonzero(keep))) > 0:
        skipped = np.flatnonzero(~keep)
        distance = question.draws[skipped] / np.maximum(probability[skipped], np.finfo(np.float64).tiny)
        filled = skipped[np.argsort(distance, kind="stable")[:lacking]]
        keep[filled] = True
    return Selection(keep, probability, streak, kind, easy, audited, filled)


def _audit(question: Question) -> Bools:
    """bool[n]: whether a candidate is rolled out even if it is to be skipped; one that nothing is known of is not."""
    if not question.spec.shadow and not question.spec.audit_share:
        return np.zeros(question.candidates.kind.size, np.bool_)
    informed = known(question.candidates)
    if question.spec.shadow:
        return informed
    return informed & (question.audits() < question.spec.audit_share)


def _limit_audits(question: Question, audited: Bools, limit: int) -> int:
    """Leave `limit` audited candidates at most, those of the smallest draws; returns how many there are."""
    rows = np.flatnonzero(audited)
    if rows.size > limit:
        audited[rows[np.argsort(question.audits()[rows], kind="stable")[limit:]]] = False
    return min(rows.size, limit)


def _examined(keep: Bools, limit: int) -> int:
    if limit == 0:
        return 0
    kept = np.flatnonzero(keep)
    return int(kept[limit - 1]) + 1 if kept.size >= limit else keep.size


def best(scores: NDArray[Any], count: int, draws: Callable[[Index], Floats]) -> Index:
    """int64: the rows of the `count` highest scores, highest first, or of all that are not negative if these are fewer.

    `draws` of rows: the smallest go first among equal scores.
    """
    count = min(count, int(np.count_nonzero(scores >= 0)))
    if not count:
        return np.zeros(0, np.int64)
    # Values, unlike places, come out of a partition the same whatever its algorithm is.
    bound = np.partition(scores, scores.size - count)[scores.size - count]
    rows, even = np.flatnonzero(scores > bound), np.flatnonzero(scores == bound)
    lacking = count - rows.size
    if lacking < even.size:
        drawn = draws(even)
        low = drawn <= np.partition(drawn, lacking - 1)[lacking - 1]
        even = even[low][np.argsort(drawn[low], kind="stable")[:lacking]]
    rows = np.concatenate([rows, even])
    ordered: Index = rows[np.lexsort((draws(rows), -scores[rows]))]
    return ordered
