"""A step's progress, its completion, and the steering that follows: algorithm.md, sections 3 and 4. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from greso_service.core import target
from greso_service.core.spec import AUTO, RunSpec
from greso_service.core.target import NOTHING, Tried, Tuning

NO_STEP = -1


@dataclass(frozen=True, slots=True)
class Exploration:
    """p_easy and p_hard, the bases of the keep probabilities."""

    easy: float
    hard: float


@dataclass(frozen=True, slots=True)
class Counts:
    """What one report adds to its step: judged groups by outcome, and how many of their prompts were seen before.

    `aside_...`: those of them that steer nothing, as the policy would have skipped their prompts and only an audit or a
    shadow run brought them; these don't count as seen before.
    `tried`: what a target that tunes itself goes by; nothing in a run whose target is a number.
    """

    effective: int = 0
    easy: int = 0
    hard: int = 0
    seen_before: int = 0
    aside_effective: int = 0
    aside_easy: int = 0
    aside_hard: int = 0
    tried: Tried = NOTHING

    @property
    def groups(self) -> int:
        """Judged groups."""
        return self.effective + self.easy + self.hard

    @property
    def steering(self) -> tuple[int, int, int]:
        """Judged groups but for those set aside: effective, easy and hard ones."""
        return self.effective - self.aside_effective, self.easy - self.aside_easy, self.hard - self.aside_hard

    def plus(self, other: Counts) -> Counts:
        """The sum."""
        return Counts(
            self.effective + other.effective,
            self.easy + other.easy,
            self.hard + other.hard,
            self.seen_before + other.seen_before,
            self.aside_effective + other.aside_effective,
            self.aside_easy + other.aside_easy,
            self.aside_hard + other.aside_hard,
            self.tried.plus(other.tried),
        )


@dataclass(frozen=True, slots=True)
class Progress:
    """The newest reported step and the exploration in force. `step` is `NO_STEP` before any report.

    `tuning`: of a target that tunes itself; None while the target is a number.
    """

    exploration: Exploration
    step: int = NO_STEP
    complete: bool = True
    counts: Counts = Counts()
    tuning: Tuning | None = None

    def is_complete(self, step: int) -> bool:
        """Whether `step` takes no more counts: it is below the newest reported step, or that one and complete."""
        return step < self.step or (step == self.step and self.complete)


def observe(
    progress: Progress,
    spec: RunSpec,
    step: int,
    added: Counts,
    *,
    final: bool,
    stock: int = 0,
    wanted: Exploration | None = None,
) -> tuple[Progress, Exploration]:
    """Progress after a report for `step`, and the exploration that the step before it was closed with.

    A report for a complete step changes nothing. The first report of a later step completes the one before.
    `stock`: prompts of the run with streak 0; `wanted`: what is steered to, if not the run's own targets.
    """
    if progress.is_complete(step):
        return progress, progress.exploration
    closed = progress
    if step > progress.step and not progress.complete:
        closed = _completed(progress, spec, stock, wanted)
    counts = progress.counts if step == progress.step else Counts()
    counts = counts.plus(added)
    now = Progress(closed.exploration, step, complete=False, counts=counts, tuning=closed.tuning)
    if final or counts.effective >= spec.train_batch_size:
        now = _completed(now, spec, stock, wanted)
    return now, closed.exploration


def _completed(progress: Progress, spec: RunSpec, stock: int, wanted: Exploration | None) -> Progress:
    tuning, counts = progress.tuning, progress.counts
    if tuning is not None and counts.seen_before:
        effective, easy, hard = counts.steering
        tuning = target.tuned(tuning, spec, counts.tried, easy=easy, hard=hard, effective=effective, stock=stock)
    exploration = _steered(progress, spec, wanted or targets(spec, progress.tuning))
    return replace(progress, complete=True, exploration=exploration, tuning=tuning)


def _steered(progress: Progress, spec: RunSpec, wanted: Exploration) -> Exploration:
    counts, now = progress.counts, progress.exploration
    if not counts.seen_before:  # nothing could have been filtered, so nothing is learnt of it
        return now
    effective, easy, hard = counts.steering
    groups = effective + easy + hard
    return Exploration(
        _nudged(now.easy, easy / groups >= wanted.easy, spec),
        _nudged(now.hard, hard / groups >= wanted.hard, spec),
    )


def targets(spec: RunSpec, tuning: Tuning | None) -> Exploration:
    """The share of easy and of hard groups among a step's groups that p_easy and p_hard are steered to."""
    if isinstance(spec.target_zero_variance, str):
        tuning = tuning or target.begun(spec)
        return Exploration(tuning.target_easy, tuning.target_hard)
    easy = spec.easy_share * spec.target_zero_variance
    return Exploration(easy, spec.target_zero_variance - easy)


def moved(progress: Progress, spec: RunSpec, changes: Mapping[str, Any]) -> Progress:
    """Progress after a change of the spec, which `spec` has: p_easy and p_hard as given, or kept inside new bounds."""
    low, high = spec.exploration_bounds
    easy, hard = changes.get("p_easy", progress.exploration.easy), changes.get("p_hard", progress.exploration.hard)
    return replace(progress, exploration=Exploration(min(max(easy, low), high), min(max(hard, low), high)))


def retuned(progress: Progress, before: RunSpec, spec: RunSpec) -> Tuning | None:
    """The tuning after a change of the spec: begun where the target was, kept inside new bounds, or given up."""
    if spec.target_zero_variance != AUTO:
        return None
    if progress.tuning is not None:
        return target.bounded(progress.tuning, spec)
    now = targets(before, None)
    return target.begun(spec, now.easy + now.hard)


def _nudged(p: float, too_many: bool, spec: RunSpec) -> float:
    low, high = spec.exploration_bounds
    moved = p - spec.exploration_step if too_many else p + spec.exploration_step
    # Rounding keeps hundreds of steps of 0.01 on the grid that a reader expects: 0.48, not 0.48000000000000004.
    return min(max(round(moved, 12), low), high)


def missing(progress: Progress, spec: RunSpec) -> int:
    """Effective groups that the newest step still lacks; 0 at least."""
    return max(spec.train_batch_size - progress.counts.effective, 0)


def first_batch_size(spec: RunSpec, groups: int, effective: int) -> int:
    """Prompts of which `train_batch_size` would be effective, if as many of them were as of these groups lately."""
    if not effective:
        return spec.rollout_batch_size
    wanted = -(-spec.train_batch_size * groups // effective)
    return min(max(wanted, spec.min_rollout_batch_size), spec.rollout_batch_size)


def next_rollout_batch_size(progress: Progress, spec: RunSpec, step: int) -> int:
    """Prompts to roll out in the next round of `step`: `rollout_batch_size` unless it is the incomplete newest step."""
    counts = progress.counts
    if step != progress.step or progress.complete or not counts.effective:
        return spec.rollout_batch_size
    # missing / (1 - a) with 1 - a = effective / groups, multiplied out so that whole results stay whole in floats.
    wanted = math.ceil(spec.safety_factor * missing(progress, spec) * counts.groups / counts.effective)
    return min(max(wanted, spec.min_rollout_batch_size), spec.rollout_batch_size)
