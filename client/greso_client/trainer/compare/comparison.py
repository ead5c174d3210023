"""What the trials say: each arm's figures over the seeds, and how arms compare, seed by seed.

Where a noisy curve first passes one accuracy is luck when it is nearly flat there. So the figure that decides is, in
each seed, the geometric mean of the ratio over all accuracies, a hundredth apart, that every arm of the seed passed.
"""

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from greso_client.trainer.compare.intervals import Interval, mean_interval, ratio_interval
from greso_client.trainer.compare.measure import Trial, common_accuracy, passed, smoothed

FIRST_LEVEL = 0.1  # above the start, where the curves have left its noise


@dataclass(frozen=True, slots=True)
class Measure:
    """What an arm spent in its first steps, of which there may be a fraction: `until(trial, steps)`."""

    name: str
    title: str
    until: Callable[[Trial, float], float]


ROLLOUTS = Measure("rollouts", "rollouts", Trial.rollouts_until)
STEPS = Measure("steps", "optimiser steps", Trial.updates_until)
PER_STEP = Measure(
    "rollouts_per_step",
    "rollouts per optimiser step",
    lambda trial, step: trial.rollouts_until(step) / max(1.0, trial.updates_until(step)),
)
ROLLOUT_SECONDS = Measure(
    "rollout_seconds", "rollout seconds", lambda trial, step: trial.until(step, "rollout_seconds")
)
SECONDS = Measure("seconds", "training seconds", lambda trial, step: trial.until(step, "seconds"))
BUDGETS = (ROLLOUTS, STEPS, SECONDS)
MEASURES = (ROLLOUTS, STEPS, PER_STEP, ROLLOUT_SECONDS, SECONDS)


@dataclass(frozen=True, slots=True)
class Comparison:
    """How many times more the baseline spent than the other arm; above 1, the other saved.

    `at`: where it was compared, in words. `ratios`: one a seed. `interval`: over the seeds; None when a seed has no
    ratio, as one of its arms did not get there: without it, the rest would be a choice of the seeds that went well.
    """

    measure: Measure
    baseline: str
    other: str
    at: str
    ratios: Mapping[int, float]
    missing: Sequence[int]
    interval: Interval | None


@dataclass(frozen=True, slots=True)
class Difference:
    """By how much the other arm's accuracy is above the baseline's when both have spent `amount` of the measure."""

    measure: Measure
    baseline: str
    other: str
    amount: float
    differences: Mapping[int, float]
    interval: Interval


class Trials:
    """The finished trials, of which a seed counts in a comparison when all its arms are finished."""

    def __init__(self, trials: Iterable[Trial]) -> None:
        """Raises ValueError without a trial."""
        self.all = list(trials)
        if not self.all:
            raise ValueError("no trial is finished")
        self.arms = list(dict.fromkeys(trial.arm for trial in self.all))
        self._of = {(trial.arm, trial.seed): trial for trial in self.all}
        self._curves = {(trial.arm, trial.seed): smoothed(trial.curve) for trial in self.all}
        seeds = sorted({trial.seed for trial in self.all})
        self.seeds = [seed for seed in seeds if all((arm, seed) in self._of for arm in self.arms)]

    def of(self, arm: str) -> list[Trial]:
        """Return an arm's trials, in the order of their seeds; of the seeds that count if there are any."""
        return [trial for trial in self.all if trial.arm == arm and (not self.seeds or trial.seed in self.seeds)]

    def level(self) -> float | None:
        """Return the highest accuracy that every arm reached in every seed; None when they hardly rose."""
        return common_accuracy([trial.curve for trial in self.all if trial.seed in self.seeds]) if self.seeds else None

    def levels(self, seed: int) -> list[float]:
        """Return the accuracies over which the arms of a seed are compared; none when an arm hardly rose."""
        curves = [self._curves[arm, seed] for arm in self.arms]
        highest = min(max(point.accuracy for point in curve) for curve in curves)
        lowest = max(curve[0].accuracy for curve in curves) + FIRST_LEVEL
        return [hundredth / 100 for hundredth in range(math.ceil(lowest * 100), math.floor(highest * 100 + 1e-9) + 1)]

    def compare(self, measure: Measure, baseline: str, other: str, level: float | None = None) -> Comparison:
        """Compare two arms at one accuracy, or over all `levels` of each seed."""
        ratios: dict[int, float] = {}
        for seed in self.seeds:
            levels = self.levels(seed) if level is None else [level]
            logs = [self._log_ratio(measure, self._of[baseline, seed], self._of[other, seed], each) for each in levels]
            known = [log for log in logs if log is not None]
            if known and len(known) == len(logs):
                ratios[seed] = math.exp(statistics.fmean(known))
        missing = [seed for seed in self.seeds if seed not in ratios]
        interval = ratio_interval(list(ratios.values())) if ratios and not missing else None
        at = "equal accuracy" if level is None else f"accuracy {level:.2f}"
        return Comparison(measure, baseline, other, at, ratios, missing, interval)

    def compare_ends(self, measure: Measure, baseline: str, other: str) -> Comparison:
        """Compare what two arms spent in all, whatever accuracy it bought: for what is spent per step."""
        ratios = {}
        for seed in self.seeds:
            spent, against = (
                measure.until(trial, len(trial.steps)) for trial in (self._of[baseline, seed], self._of[other, seed])
            )
            ratios[seed] = spent / against
        interval = ratio_interval(list(ratios.values())) if ratios else None
        return Comparison(measure, baseline, other, "the end", ratios, [], interval)

    def differ(self, measure: Measure, baseline: str, other: str) -> Difference:
        """Compare the accuracies that two arms have when both spent as much as every trial did. Needs a seed."""
        amount = min(measure.until(trial, len(trial.steps)) for trial in self.all if trial.seed in self.seeds)

        def accuracy(arm: str, seed: int) -> float:
            return accuracy_at(self._of[arm, seed], measure, amount)

        differences = {seed: accuracy(other, seed) - accuracy(baseline, seed) for seed in self.seeds}
        return Difference(measure, baseline, other, amount, differences, mean_interval(list(differences.values())))

    def _log_ratio(self, measure: Measure, baseline: Trial, other: Trial, level: float) -> float | None:
        spent, against = (self._spent(measure, trial, level) for trial in (baseline, other))
        if spent is None or against is None:
            return None
        # At a level below the start nothing was spent: no ratio.
        return math.log(spent / against) if spent > 0 and against > 0 else None

    def _spent(self, measure: Measure, trial: Trial, level: float) -> float | None:
        goal = passed(self._curves[trial.arm, trial.seed], level)
        return None if goal is None else measure.until(trial, goal.step)


def accuracy_at(trial: Trial, measure: Measure, amount: float) -> float:
    """Return the smoothed held-out accuracy when so much was spent, between two evaluations interpolated."""
    line = smoothed(trial.curve)
    return float(np.interp(amount, [measure.until(trial, at.step) for at in line], [at.accuracy for at in line]))


def verdict(comparison: Comparison) -> str:
    """Say in one sentence what a comparison showed."""
    if comparison.missing:
        seeds = ", ".join(map(str, comparison.missing))
        return f"{comparison.measure.title}: not comparable, in seed {seeds} an arm did not get there."
    found = comparison.interval
    if found is None:
        return f"{comparison.measure.title}: nothing to compare."
    return _judged(
        f"{comparison.measure.title}: {found.mean:.2f}x", found, ".2f", 1,
        above=f"{comparison.other} needs fewer than {comparison.baseline}",
        below=f"{comparison.other} needs MORE than {comparison.baseline}",
    )  # fmt: skip


def verdict_of_difference(difference: Difference) -> str:
    """Say in one sentence what equal rollouts bought."""
    found = difference.interval
    return _judged(
        f"accuracy after {difference.amount:,.0f} {difference.measure.title}: {found.mean:+.3f}", found, "+.3f", 0,
        above=f"{difference.other} is better than {difference.baseline}",
        below=f"{difference.other} is WORSE than {difference.baseline}",
    )  # fmt: skip


def _judged(told: str, found: Interval, form: str, nothing: float, *, above: str, below: str) -> str:
    """Add the interval, and what follows from where it lies to `nothing`, the value of no difference."""
    if found.interval is None:
        return f"{told} with one seed, which has no interval: no gain shown."
    low, high = found.interval
    told += f", 95 % interval {low:{form}} to {high:{form}}, {found.n} seeds"
    if found.above(nothing):
        return f"{told}: {above}."
    if found.below(nothing):
        return f"{told}: {below}."
    return f"{told}: no gain shown."


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Return mean and standard deviation over seeds (n - 1 below; NaN with a single one)."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else math.nan
