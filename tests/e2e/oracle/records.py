"""What the oracle writes down of a run, and the law's classes of one group."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["easy", "hard"]
Outcome = Literal["effective", "easy", "hard", "undetermined"]


@dataclass(frozen=True)
class Spec:
    """The parameters of a run with the defaults of the law's table."""

    policy: str = "greso"
    streak_rule: str = "zero_variance"
    group_size: int = 8
    train_batch_size: int = 256
    rollout_batch_size: int = 384
    min_rollout_batch_size: int = 1
    safety_factor: float = 1.25
    target_zero_variance: float = 0.25
    easy_share: float = 1 / 3
    exploration_step: float = 0.01
    exploration_bounds: tuple[float, float] = (0.05, 0.95)
    min_keep_probability: float = 0.01
    reward_tolerance: float = 1e-6
    solved_reward: float = 1.0
    easy_min_mean: float | None = None
    hard_max_mean: float | None = None
    seed: int | None = None

    def json(self) -> dict[str, Any]:
        """Only what differs from the defaults: every field of a RunSpec is optional."""
        changed = {name: value for name, value in vars(self).items() if value != getattr(Spec(), name)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in changed.items()}


@dataclass(frozen=True)
class Group:
    """One judged or undetermined group in a prompt's history."""

    step: int
    rewards: tuple[float, ...]
    outcome: Outcome


@dataclass
class Prompt:
    """What the run knows of one prompt."""

    groups: list[Group] = field(default_factory=list)
    streak: int = 0
    kind: Kind | None = None

    @property
    def judged(self) -> list[Group]:
        return [group for group in self.groups if group.outcome != "undetermined"]

    @property
    def shown_kind(self) -> str:
        if not self.judged:
            return "new"
        return self.kind if self.streak > 0 and self.kind is not None else "effective"


@dataclass
class Step:
    """The counts of one step; they move only while the step is open."""

    groups: int = 0
    effective: int = 0
    easy: int = 0
    hard: int = 0
    undetermined: int = 0
    rollouts: int = 0
    reports: int = 0
    reports_with_groups: int = 0
    reported: bool = False
    complete: bool = False
    anything_seen_before: bool = False
    examined: int = 0
    selected: int = 0
    skipped_easy: int = 0
    skipped_hard: int = 0
    asked_after_completion: bool = False
    asks: int = 0
    exploration: list[tuple[float, float]] = field(default_factory=list)


@dataclass
class Totals:
    """Run-wide counts, which late reports move as well."""

    examined: int = 0
    selected: int = 0
    skipped_easy: int = 0
    skipped_hard: int = 0
    effective: int = 0
    easy: int = 0
    hard: int = 0
    undetermined: int = 0
    rollouts: int = 0


def outcome_of(spec: Spec, rewards: tuple[float, ...]) -> Outcome:
    """Whether the group taught something, and if not, why."""
    if len(rewards) < 2:
        return "undetermined"
    if max(rewards) - min(rewards) > spec.reward_tolerance:
        return "effective"
    return "easy" if mean(rewards) >= spec.solved_reward - spec.reward_tolerance else "hard"


def streak_kind_of(spec: Spec, rewards: tuple[float, ...]) -> Kind | None:
    """The kind under which a group of two or more rewards extends the streak; None when it ends it."""
    outcome = outcome_of(spec, rewards)
    if outcome == "easy" or (spec.easy_min_mean is not None and mean(rewards) >= spec.easy_min_mean):
        return "easy"
    if outcome == "hard" or (spec.hard_max_mean is not None and mean(rewards) <= spec.hard_max_mean):
        return "hard"
    return None


def mean(rewards: tuple[float, ...]) -> float:
    """The arithmetic mean, rounded once."""
    return math.fsum(rewards) / len(rewards)
