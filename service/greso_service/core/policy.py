"""Policies: which candidates to roll out, and why. A policy sees arrays and returns arrays; it keeps no state.

A *filter* judges every candidate on its own merits. A *ranking* gives each a score, and the best are taken: of a list
of candidates here, of the whole pool in `ranked_draw`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from greso_service.core import difficulty, exact, thompson
from greso_service.core.controller import Exploration
from greso_service.core.difficulty import Ability
from greso_service.core.outcome import Outcome
from greso_service.core.prompt_arrays import PromptArrays
from greso_service.core.prompts import UNKNOWN, Index
from greso_service.core.spec import RunSpec

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
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
    """What a policy may know of some prompts of a run: the columns of `PromptArrays`, gathered when asked for.

    `index`: int64[n] or a slice of rows; prompts never seen (`UNKNOWN`) read as 0 in every column.
    """

    rows: PromptArrays
    index: Index | slice

    def column(self, name: str) -> NDArray[Any]:
        """A column of `PromptArrays` at `index`."""
        column: NDArray[Any] = getattr(self.rows, name)
        if isinstance(self.index, slice):
            return column[self.index]
        if not column.size:
            return np.zeros(self.index.size, column.dtype)
        gathered: NDArray[Any] = column[self.index]
        gathered[self.index == UNKNOWN] = 0
        return gathered

    def of(self, index: Index) -> PromptView:
        """The same for other prompts of the run."""
        return PromptView(self.rows, index)

    @property
    def streak(self) -> NDArray[np.int32]:
        """int32[n]: z."""
        return self.column("streak")

    @property
    def kind(self) -> NDArray[np.int8]:
        """int8[n]: the `Outcome` of the latest judged group, 0 before any."""
        return self.column("kind")


@dataclass(frozen=True, slots=True)
class Question:
    """A decision to make in a step about n candidates.

    `batch`: prompts that a round takes now. `keyed`, `audits`: make the candidates' draws for decisions and for audits,
    float64[n], uniform in [0, 1).
    """

    spec: RunSpec
    exploration: Exploration
    ability: Ability
    step: int
    batch: int
    candidates: PromptView
    keyed: Callable[[], Floats]
    audits: Callable[[], Floats]
    _drawn: list[Floats] = field(default_factory=list)

    @property
    def draws(self) -> Floats:
        """The candidates' draws; made once."""
        if not self._drawn:
            self._drawn.append(self.keyed())
        return self._drawn[0]


@dataclass(frozen=True, slots=True)
class Decisions:
    """A policy's answer for n candidates: `keep` bool[n], `keep_probability` float64[n].

    `easy` bool[n]: whether the candidate, if it is skipped, is skipped as easy; else it is as hard.
    `keep_probability` of a ranking is its score.
    """

    keep: Bools
    keep_probability: Floats
    easy: Bools


class Filter(Protocol):
    """A rule that decides for every candidate on its own merits, whatever the others are."""

    def __call__(self, question: Question) -> Decisions:
        """Decide."""
        ...


class Ranking(Protocol):
    """A rule that says how much each candidate would teach."""

    def __call__(self, question: Question) -> Singles:
        """float32[n]: scores in [0, 1]; the highest are rolled out."""
        ...


def greso(question: Question) -> Decisions:
    """Keep with probability max(p ** z, min_keep_probability), p by the kind of the latest group (algorithm.md, 1)."""
    kind, streak = question.candidates.kind, question.candidates.streak
    probability = keep_probability(streak, kind, question.exploration, question.spec)
    return Decisions(question.draws < probability, probability, as_easy(question.spec, question.candidates))


def uniform(question: Question) -> Decisions:
    """Keep everything: the arm to measure the others against."""
    easy = as_easy(question.spec, question.candidates)
    return Decisions(np.ones(easy.size, np.bool_), np.ones(easy.size), easy)


def band(question: Question) -> Decisions:
    """Keep prompts whose estimated pass rate lies inside `pass_rate_band`, others with `min_keep_probability`.

    The estimate is the mean of the Beta posterior. Prompts of which nothing is known are kept.
    """
    rate = beta_mean(question.candidates)
    low, high = question.spec.pass_rate_band
    inside = (low <= rate) & (rate <= high) | ~known(question.candidates)
    probability = np.where(inside, 1.0, question.spec.min_keep_probability)
    return Decisions(question.draws < probability, probability, as_easy(question.spec, question.candidates))


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


FILTERS: dict[str, Filter] = {"greso": greso, "uniform": uniform, "band": band}
RANKINGS: dict[str, Ranking] = {"mopps": mopps, "p_mixed": p_mixed, "irt": irt}


def decide(question: Question) -> Decisions:
    """What the run's policy says of each candidate by itself; a ranking keeps nobody before all are known."""
    name = question.spec.policy
    if name in FILTERS:
        return FILTERS[name](question)
    scores = RANKINGS[name](question).astype(np.float64)
    return Decisions(np.zeros(scores.size, np.bool_), scores, as_easy(question.spec, question.candidates))


EVEN = 0.5
"""The pass rate from which a prompt that a ranking leaves out counts as skipped for being easy."""


def as_easy(spec: RunSpec, candidates: PromptView) -> Bools:
    """bool[n]: whether a candidate that is skipped is skipped as easy; else it is as hard.

    By the kind of the latest group where streaks decide, by the estimated pass rate where that does.
    """
    if spec.policy in RANKINGS:
        return beta_mean(candidates) >= EVEN
    if spec.policy == "band":
        return beta_mean(candidates) > spec.pass_rate_band[1]
    easy: Bools = candidates.kind == Outcome.EASY
    return easy


def beta_mean(candidates: PromptView) -> Floats:
    """float64[n]: the mean of the Beta posterior over each prompt's pass rate; 1/2 where nothing is known."""
    passed, failed = (column.astype(np.float64) for column in _counts(candidates))
    mean: Floats = (1 + passed) / (2 + passed + failed)
    return mean


def known(candidates: PromptView) -> Bools:
    """bool[n]: whether there was a reward of the prompt, or a prior."""
    return candidates.column("variance") > 0


def _counts(candidates: PromptView) -> tuple[Singles, Singles]:
    return candidates.column("passed"), candidates.column("failed")


def keep_probability(
    streak: NDArray[np.int32], kind: NDArray[np.int8], exploration: Exploration, spec: RunSpec
) -> Floats:
    """float64[n]: max(p ** z, min_keep_probability); 1 where z = 0."""
    base = np.where(kind == Outcome.EASY, exploration.easy, exploration.hard)
    return np.where(streak == 0, 1.0, np.maximum(exact.powers(base, streak), spec.min_keep_probability))


@dataclass(frozen=True, slots=True)
class Selection:
    """The outcome for the candidates that were examined, in order; every array has `examined` rows.

    `audited`: kept although the policy would skip them.
    """

    keep: Bools
    reason: NDArray[np.int8]
    keep_probability: Floats
    streak: NDArray[np.int32]
    easy: Bools
    audited: Bools

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
    keep, audited, easy = keep[:examined], audited[:examined], decisions.easy[:examined]
    probability = decisions.keep_probability[:examined]
    streak, kind = question.candidates.streak[:examined], question.candidates.kind[:examined]
    reason = _reasons(keep, streak, kind, easy)
    reason[audited] = Reason.EXPLORE
    lacking = min(at_least, examined) - int(np.count_nonzero(keep))
    if lacking > 0:
        skipped = np.flatnonzero(~keep)
        distance = question.draws[skipped] / np.maximum(probability[skipped], np.finfo(np.float64).tiny)
        filled = skipped[np.argsort(distance, kind="stable")[:lacking]]
        keep[filled], reason[filled] = True, Reason.FILL
    return Selection(keep, reason, probability, streak, easy, audited)


def _audit(question: Question) -> Bools:
    """bool[n]: whether a candidate is rolled out even if it is to be skipped; one that nothing is known of is not."""
    informed = known(question.candidates)
    if question.spec.shadow:
        return informed
    if not question.spec.audit_share:
        return np.zeros(informed.size, np.bool_)
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


def _reasons(keep: Bools, streak: NDArray[np.int32], kind: NDArray[np.int8], easy: Bools) -> NDArray[np.int8]:
    kept = np.where(streak > 0, Reason.EXPLORE, np.where(kind == Outcome.UNDETERMINED, Reason.NEW, Reason.EFFECTIVE))
    skipped = np.where(easy, Reason.SKIP_EASY, Reason.SKIP_HARD)
    return np.where(keep, kept, skipped).astype(np.int8)


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
