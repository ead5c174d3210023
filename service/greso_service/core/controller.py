"""A step's progress, its completion, and the steering that follows: algorithm.md, sections 3 and 4. Pure functions."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from greso_service.core.spec import RunSpec

NO_STEP = -1


@dataclass(frozen=True, slots=True)
class Exploration:
    """p_easy and p_hard, the bases of the keep probabilities."""

    easy: float
    hard: float


@dataclass(frozen=True, slots=True)
class Counts:
    """What one report adds to its step: judged groups by outcome, and how many of their prompts were seen before.

    `aside_...`: those of them that steer nothing, as a shadow run's policy would have skipped their prompts.
    """

    effective: int = 0
    easy: int = 0
    hard: int = 0
    seen_before: int = 0
    aside_effective: int = 0
    aside_easy: int = 0
    aside_hard: int = 0

    @property
    def groups(self) -> int:
        """Judged groups."""
        return self.effective + self.easy + self.hard

    @property
    def steering(self) -> int:
        """Judged groups but for those set aside."""
        return self.groups - self.aside_effective - self.aside_easy - self.aside_hard

    def __add__(self, more: Counts) -> Counts:
        return Counts(*(getattr(self, name) + getattr(more, name) for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class Progress:
    """The newest reported step and the exploration in force. `step` is `NO_STEP` before any report."""

    exploration: Exploration
    step: int = NO_STEP
    complete: bool = True
    counts: Counts = Counts()

    def is_complete(self, step: int) -> bool:
        """Whether `step` takes no more counts: it is below the newest reported step, or that one and complete."""
        return step < self.step or (step == self.step and self.complete)


def observe(
    progress: Progress, spec: RunSpec, step: int, added: Counts, *, final: bool
) -> tuple[Progress, Exploration]:
    """Progress after a report for `step`, and the exploration that the step before it was closed with.

    A report for a complete step changes nothing. The first report of a later step completes the one before.
    """
    if progress.is_complete(step):
        return progress, progress.exploration
    closed = progress
    if step > progress.step and not progress.complete:
        closed = _completed(progress, spec)
    counts = (progress.counts if step == progress.step else Counts()) + added
    now = Progress(closed.exploration, step, complete=False, counts=counts)
    if final or counts.effective >= spec.train_batch_size:
        now = _completed(now, spec)
    return now, closed.exploration


def _completed(progress: Progress, spec: RunSpec) -> Progress:
    return replace(progress, complete=True, exploration=_steered(progress, spec))


def _steered(progress: Progress, spec: RunSpec) -> Exploration:
    counts, now = progress.counts, progress.exploration
    if (
        not counts.seen_before or not counts.steering
    ):  # nothing could have been filtered yet, so nothing is learnt about the filter
        return now
    target = targets(spec)
    return Exploration(
        _moved(now.easy, (counts.easy - counts.aside_easy) / counts.steering >= target.easy, spec),
        _moved(now.hard, (counts.hard - counts.aside_hard) / counts.steering >= target.hard, spec),
    )


def targets(spec: RunSpec) -> Exploration:
    """The share of easy and of hard groups among a step's groups that p_easy and p_hard are steered to."""
    easy = spec.easy_share * spec.target_zero_variance
    return Exploration(easy, spec.target_zero_variance - easy)


def _moved(p: float, too_many: bool, spec: RunSpec) -> float:
    low, high = spec.exploration_bounds
    moved = p - spec.exploration_step if too_many else p + spec.exploration_step
    # Rounding keeps hundreds of steps of 0.01 on the grid that a reader expects: 0.48, not 0.48000000000000004.
    return min(max(round(moved, 12), low), high)


def missing(progress: Progress, spec: RunSpec) -> int:
    """Effective groups that the newest step still lacks; 0 at least."""
    return max(spec.train_batch_size - progress.counts.effective, 0)


def next_rollout_batch_size(progress: Progress, spec: RunSpec, step: int) -> int:
    """Prompts to roll out in the next round of `step`: `rollout_batch_size` unless it is the incomplete newest step."""
    counts = progress.counts
    if step != progress.step or progress.complete or not counts.effective:
        return spec.rollout_batch_size
    # missing / (1 - a) with 1 - a = effective / groups, multiplied out so that whole results stay whole in floats.
    wanted = math.ceil(spec.safety_factor * missing(progress, spec) * counts.groups / counts.effective)
    return min(max(wanted, spec.min_rollout_batch_size), spec.rollout_batch_size)
