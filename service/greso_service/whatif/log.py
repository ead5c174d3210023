"""Log: the groups of a training in the order in which they were rolled out, as events that a RunState folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from greso_service.core.events import Joined, Pooled, Priors, Reported
from greso_service.core.outcome import Outcome, Rewards, classify
from greso_service.core.spec import RunSpec
from greso_service.errors import GresoError

Bools = NDArray[np.bool_]

Entry: TypeAlias = Pooled | Joined | Priors | Reported


class LogError(GresoError):
    """A log can't be read, or nothing can be told from it; the message names the place and says what to do."""


@dataclass(frozen=True, slots=True)
class Log:
    """A training's groups: a `Reported` a step, each final, with what was known of prompts before.

    `source`: what it was read from, for people. `spec`: fields of the run that it is of, empty where there is none.
    `notes`: what a reader of the results should know about it.
    """

    source: str
    entries: Sequence[Entry]
    spec: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    @property
    def steps(self) -> list[Reported]:
        """The entries that are groups."""
        return [entry for entry in self.entries if isinstance(entry, Reported)]

    def group_size(self) -> int:
        """The number of rewards that most groups have; 1 at least."""
        counts = np.zeros(1, np.int64)
        for step in self.steps:
            more = np.bincount(step.rewards.lengths, minlength=counts.size)
            more[: counts.size] += counts
            counts = more
        return max(int(counts.argmax()), 1)


@dataclass(frozen=True, slots=True)
class Seen:
    """What a step's groups were, by the measure that all policies are judged with; arrays have a row a group.

    `again`: of a prompt with an earlier group. `effective`: trains. `rollouts`: responses, int64.
    """

    outcome: NDArray[np.int8]
    again: Bools
    rollouts: NDArray[np.int64]

    @property
    def effective(self) -> Bools:
        """bool[n]: whether a group trains."""
        effective: Bools = self.outcome == Outcome.EFFECTIVE
        return effective


@dataclass(frozen=True, slots=True)
class Sums:
    """Groups of a log: how many, of which outcome, and their rollouts."""

    groups: int = 0
    effective: int = 0
    easy: int = 0
    hard: int = 0
    undetermined: int = 0
    rollouts: int = 0

    @classmethod
    def of(cls, seen: Sequence[Seen], *, again: bool = False) -> Sums:
        """All groups, or only those of prompts seen before."""
        number = np.zeros(len(Outcome), np.int64)
        rollouts = 0
        for step in seen:
            rows = step.again if again else slice(None)
            number += np.bincount(step.outcome[rows], minlength=len(Outcome))
            rollouts += int(step.rollouts[rows].sum())
        undetermined, effective, easy, hard = (
            int(number[kind]) for kind in (Outcome.UNDETERMINED, Outcome.EFFECTIVE, Outcome.EASY, Outcome.HARD)
        )
        return cls(int(number.sum()), effective, easy, hard, undetermined, rollouts)


def observe(log: Log, spec: RunSpec) -> list[Seen]:
    """What each step's groups were, by `spec`."""
    size = 1 + max((int(entry.index.max(initial=-1)) for entry in log.entries), default=0)
    visited = np.zeros(size, np.bool_)
    seen = []
    for step in log.steps:
        outcome = classify(step.rewards, spec).outcome
        seen.append(Seen(outcome, visited[step.index], step.rewards.lengths.astype(np.int64)))
        visited[step.index] = True
    return seen


def part(step: Reported, keep: Bools) -> Reported:
    """The step with only those groups; all that are new to the run must be among them."""
    lengths = step.rewards.lengths
    rewards = Rewards(lengths[keep], step.rewards.values[np.repeat(keep, lengths)])
    return Reported(step.step, step.final, step.new, step.index[keep], rewards)
