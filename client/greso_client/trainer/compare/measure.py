"""What is measured of one arm and seed, and where it reached an accuracy: arms are compared at equal accuracy."""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

SMOOTHED_OVER = 3  # evaluations; a single one can be lucky
LEAST_RISE = 0.05  # of the accuracy, for a comparison; less is not told from noise


@dataclass(frozen=True, slots=True)
class StepRow:
    """One step. `rollouts`: responses generated so far; all else is this step's own, times in seconds.

    `accuracy`: held-out, None where it was not evaluated. `loss`: None when no group was effective, and so nothing was
    updated. `seconds`: all of the step but evaluations; `rollout_seconds`: generating and rewarding. `p_easy` and
    `p_hard`: as the service recorded them, NaN until it was asked.
    """

    step: int
    rollouts: int
    rounds: int
    groups: int
    effective: int
    learnt_from: int
    examined: int
    skipped_easy: int
    skipped_hard: int
    reason: str
    loss: float | None
    accuracy: float | None
    seconds: float
    rollout_seconds: float
    update_seconds: float
    service_seconds: float
    p_easy: float = math.nan
    p_hard: float = math.nan


@dataclass(frozen=True, slots=True)
class Point:
    """An evaluation: after so many steps and rollouts (responses), such a held-out accuracy."""

    step: float
    rollouts: float
    accuracy: float


@dataclass(slots=True)
class Trial:
    """All that was measured of one arm and seed; `before` is the held-out accuracy of the seed's common start.

    `run`: the run's name at the service.
    """

    arm: str
    seed: int
    run: str
    before: float
    steps: list[StepRow] = field(default_factory=list)

    @property
    def rollouts(self) -> int:
        """Responses generated in all."""
        return self.steps[-1].rollouts if self.steps else 0

    @property
    def after(self) -> float:
        """The held-out accuracy at the end."""
        return self.curve[-1].accuracy

    @property
    def effective_share(self) -> float:
        """The share of the rolled-out groups whose rewards differed."""
        return self.total("effective") / max(1.0, self.total("groups"))

    @property
    def learnt_share(self) -> float:
        """The share of the rolled-out groups that went into an update: effective, and not beyond the train batch."""
        return self.total("learnt_from") / max(1.0, self.total("groups"))

    @property
    def updates(self) -> int:
        """Optimiser steps: the steps that had something to learn from."""
        return sum(row.loss is not None for row in self.steps)

    @property
    def service_share(self) -> float:
        """The share of the training time that was spent in the service's calls."""
        return self.total("service_seconds") / max(1e-9, self.total("seconds"))

    @property
    def curve(self) -> list[Point]:
        """The evaluations, the start first."""
        evaluated = [Point(r.step, r.rollouts, r.accuracy) for r in self.steps if r.accuracy is not None]
        return [Point(0, 0, self.before), *evaluated]

    def total(self, column: str) -> float:
        """Return the sum of one column over the steps."""
        return float(sum(getattr(row, column) for row in self.steps))

    def until(self, step: float, column: str) -> float:
        """Return the sum of one column over the first `step` steps, of which there may be a fraction."""
        whole = int(step)
        done = sum(getattr(row, column) for row in self.steps[:whole])
        rest = sum(getattr(row, column) for row in self.steps[whole : whole + 1])
        return float(done + (step - whole) * rest)

    def rollouts_until(self, step: float) -> float:
        """Return the responses generated in the first `step` steps, of which there may be a fraction."""
        whole = int(step)
        done = self.steps[whole - 1].rollouts if whole else 0
        following = self.steps[whole].rollouts if whole < len(self.steps) else done
        return done + (step - whole) * (following - done)

    def updates_until(self, step: float) -> float:
        """Return the optimiser steps among the first `step` steps, of which there may be a fraction."""
        whole = int(step)
        done = sum(row.loss is not None for row in self.steps[:whole])
        rest = sum(row.loss is not None for row in self.steps[whole : whole + 1])
        return done + (step - whole) * rest


def smoothed(curve: Sequence[Point]) -> list[Point]:
    """Replace each accuracy by the mean of it and of the evaluations just before, `SMOOTHED_OVER` in all.

    The start is left as it is and not averaged in: it was measured before the first update, not on the way.
    """
    return [
        *curve[:1],
        *(Point(p.step, p.rollouts, mean) for p, mean in zip(curve[1:], _means(curve[1:]), strict=True)),
    ]


def _means(points: Sequence[Point]) -> Iterator[float]:
    for end in range(1, len(points) + 1):
        window = points[max(0, end - SMOOTHED_OVER) : end]
        yield sum(point.accuracy for point in window) / len(window)


def reached(curve: Sequence[Point], accuracy: float) -> Point | None:
    """Where the smoothed curve first reaches an accuracy, interpolated between evaluations; None when it never does."""
    return passed(smoothed(curve), accuracy)


def passed(points: Sequence[Point], accuracy: float) -> Point | None:
    """Where a curve, taken as it is, first reaches an accuracy; see `reached`."""
    if points[0].accuracy >= accuracy:
        return points[0]
    for before, after in itertools.pairwise(points):
        if after.accuracy >= accuracy:
            share = (accuracy - before.accuracy) / (after.accuracy - before.accuracy)
            return Point(
                step=before.step + share * (after.step - before.step),
                rollouts=before.rollouts + share * (after.rollouts - before.rollouts),
                accuracy=accuracy,
            )
    return None


def common_accuracy(curves: Iterable[Sequence[Point]]) -> float | None:
    """Return the highest accuracy that every smoothed curve reaches, rounded down to a hundredth.

    None when that is less than `LEAST_RISE` above where the curves start: then there is nothing to compare.
    """
    curves = list(curves)
    highest = min(max(point.accuracy for point in smoothed(curve)) for curve in curves)
    level = math.floor(highest * 100) / 100
    if level > highest:  # the product was rounded up to a whole number
        level = (math.floor(highest * 100) - 1) / 100
    return level if level >= max(curve[0].accuracy for curve in curves) + LEAST_RISE else None
