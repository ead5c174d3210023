"""Judging: a policy is asked about each step's prompts before it learns what came of those that it keeps.

Each policy is replayed as if it ran: its state is the fold of the groups that it would have kept, and its exploration
is steered by these, so it knows no more than it would have known. What it skips, the log still tells the outcome of.
The prompts offered are those that the log's run rolled out, in each step, and a prompt's first group is kept by every
policy: nothing is known of it yet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from greso_service.core.controller import Exploration
from greso_service.core.events import Created, Reported
from greso_service.core.fold import fold
from greso_service.core.policy import RANKINGS, as_easy, best, decide
from greso_service.core.prompts import Index
from greso_service.core.spec import RunSpec
from greso_service.core.state import RunState
from greso_service.whatif.log import Bools, Log, Seen, part

PARTS: Final = 50
"""Points of a ranking's curve: the prompts of a step, in the order of their scores, in so many parts."""

Told = Callable[[int], None]
"""Is told of groups that were judged, for a progress bar."""


class Quota(Protocol):
    """How many of a step's prompts seen before a ranking keeps."""

    def __call__(self, step: int, offered: int, /) -> int:
        """For the `step`-th step of the log, from 0."""
        ...


@dataclass(slots=True)
class Share:
    """The same share of each step; what rounding leaves is carried on."""

    share: float
    _owed: float = 0.5

    def __call__(self, _step: int, offered: int, /) -> int:
        """See `Quota`."""
        self._owed += self.share * offered
        count = min(int(self._owed), offered)
        self._owed -= count
        return count


@dataclass(frozen=True, slots=True)
class AsMany:
    """As many as another policy kept there."""

    kept: Sequence[int]

    def __call__(self, step: int, offered: int, /) -> int:
        """See `Quota`."""
        return min(self.kept[step], offered)


@dataclass(slots=True)
class Judged:
    """What a policy would have done with a log.

    Counts are of groups; `lost` of effective ones that it would have skipped. `again`: groups of prompts seen before
    that it kept, a number a step. `ranked`: int64[PARTS, 2], rollouts and effective groups of prompts seen before, by
    their place in the order of its scores within their step, best first; None for a filter.
    """

    spec: RunSpec
    exploration: Exploration
    kept: int = 0
    rollouts: int = 0
    effective: int = 0
    lost: int = 0
    skipped_easy: int = 0
    skipped_hard: int = 0
    again: list[int] = field(default_factory=list)
    ranked: NDArray[np.int64] | None = None

    @property
    def skipped(self) -> int:
        """Groups that it would have skipped."""
        return self.skipped_easy + self.skipped_hard

    def add(self, seen: Seen, keep: Bools, easy: Bools) -> None:
        """Count a step."""
        self.kept += int(np.count_nonzero(keep))
        self.rollouts += int(seen.rollouts[keep].sum())
        self.effective += int(np.count_nonzero(seen.effective & keep))
        self.lost += int(np.count_nonzero(seen.effective & ~keep))
        self.skipped_easy += int(np.count_nonzero(~keep & easy))
        self.skipped_hard += int(np.count_nonzero(~keep & ~easy))
        self.again.append(int(np.count_nonzero(keep & seen.again)))


def replayed(log: Log, seen: Sequence[Seen], spec: RunSpec, quota: Quota, told: Told = lambda _groups: None) -> Judged:
    """Replay a log under a policy; `quota` is asked if it is a ranking."""
    state = RunState(Created(spec.to_dict()))
    judged = Judged(spec, state.progress.exploration)
    if spec.policy in RANKINGS:
        judged.ranked = np.zeros((PARTS, 2), np.int64)
    number = 0
    for entry in log.entries:
        if not isinstance(entry, Reported):
            fold(state, entry)
            continue
        keep, easy = _decided(state, entry, seen[number], partial(quota, number), judged)
        judged.add(seen[number], keep, easy)
        fold(state, part(entry, keep))
        number += 1
        told(entry.index.size)
    judged.exploration = state.progress.exploration
    return judged


def _decided(
    state: RunState, step: Reported, seen: Seen, quota: Callable[[int], int], judged: Judged
) -> tuple[Bools, Bools]:
    """bool[n]: whether a group is kept, and whether it is skipped as easy if it is skipped."""
    keep, easy = np.ones(step.index.size, np.bool_), np.zeros(step.index.size, np.bool_)
    rows = np.flatnonzero(seen.again)
    if not rows.size:
        return keep, easy
    question = state.question(step.step, step.index[rows])
    decisions = decide(question)
    easy[rows] = as_easy(state.spec, question.candidates)
    if judged.ranked is None:
        keep[rows] = decisions.keep
        return keep, easy
    order = rows[best(decisions.keep_probability, rows.size, lambda places: question.draws[places])]
    keep[order[quota(rows.size) :]] = False
    _count_ranked(judged.ranked, order, seen)
    return keep, easy


def _count_ranked(ranked: NDArray[np.int64], order: Index, seen: Seen) -> None:
    places: NDArray[Any] = (2 * np.arange(order.size) + 1) * PARTS // (2 * order.size)
    ranked[:, 0] += np.bincount(places, weights=seen.rollouts[order], minlength=PARTS).astype(np.int64)
    ranked[:, 1] += np.bincount(places, weights=seen.effective[order], minlength=PARTS).astype(np.int64)
