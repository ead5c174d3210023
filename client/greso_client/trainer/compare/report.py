"""What an experiment tells: tables for the terminal and as Markdown, and verdicts in words."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.table import Table

from greso_client.trainer.compare.arms import ARMS
from greso_client.trainer.compare.comparison import (
    BUDGETS,
    FIRST_LEVEL,
    MEASURES,
    PER_STEP,
    Comparison,
    Difference,
    Trials,
    spread,
    verdict,
    verdict_of_difference,
)
from greso_client.trainer.compare.configuration import Configuration
from greso_client.trainer.compare.measure import Trial, reached, smoothed

BUSY = 1.5  # times as long for the same rollouts; on an idle machine seeds differ by a few percent
# Plain GRPO, dynamic sampling and the published filter are what each rule has to beat.
PAIRS = (
    ("dynamic", "greso"), ("grpo", "greso"), ("adaptive", "greso"), ("grpo", "greso-1"), ("dynamic", "grpo"),
    *((baseline, arm) for arm in ("irt", "mopps", "p_mixed", "band") for baseline in ("dynamic", "greso", "grpo")),
    *((baseline, "irt-1") for baseline in ("dynamic", "greso", "grpo", "greso-1")),
    *((arm, "irt") for arm in ("mopps", "p_mixed", "band")),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Pair:
    """How two arms compare: over all accuracies, at the report's level (if it has one), in all, at equal cost."""

    baseline: str
    other: str
    equal: list[Comparison]
    at_level: list[Comparison]
    ends: Comparison
    differences: list[Difference]

    @property
    def comparisons(self) -> list[Comparison]:
        """All but the difference."""
        return [*self.equal, *self.at_level, self.ends]


@dataclass(frozen=True, slots=True)
class Report:
    """All that is told. `level`: the accuracy that the tables name; `given`: it was asked for, not found."""

    trials: Trials
    level: float | None
    given: bool
    pairs: list[Pair]


def make_report(trials: Trials, level: float | None = None) -> Report:
    """Compare the pairs of arms that were trained, at `level` or the highest accuracy that all of them reached."""
    pairs = [pair for pair in PAIRS if set(pair) <= set(trials.arms)] if trials.seeds else []
    named = trials.level() if level is None else level
    return Report(trials, named, level is not None, [_pair(trials, *pair, named) for pair in pairs])


def _pair(trials: Trials, baseline: str, other: str, level: float | None) -> Pair:
    return Pair(
        baseline,
        other,
        equal=[trials.compare(measure, baseline, other) for measure in MEASURES],
        at_level=[] if level is None else [trials.compare(measure, baseline, other, level) for measure in MEASURES],
        ends=trials.compare_ends(PER_STEP, baseline, other),
        differences=[trials.differ(measure, baseline, other) for measure in BUDGETS],
    )


@dataclass(frozen=True, slots=True)
class Grid:
    """A table of texts; the first column names the rows."""

    title: str
    header: list[str]
    rows: list[list[str]]

    def for_terminal(self) -> Table:
        """Return it as rich draws it."""
        table = Table(title=self.title)
        for number, name in enumerate(self.header):
            table.add_column(name, justify="right" if number else "left")
        for row in self.rows:
            table.add_row(*row)
        return table

    def as_markdown(self) -> str:
        """Return it as Markdown."""
        lines = [self.header, ["---", *["---:"] * (len(self.header) - 1)], *self.rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def arms_grid(report: Report) -> Grid:
    """Return a column an arm: mean and standard deviation over seeds."""
    trials = report.trials
    rows: list[list[str]] = []

    def row(name: str, form: str, value: Callable[[Trial], float]) -> None:
        cells = [_mean(form, [value(trial) for trial in trials.of(arm)]) for arm in trials.arms]
        rows.append([name, *cells])

    row("steps", ",.0f", lambda t: len(t.steps))
    row("rollouts (responses)", ",.0f", lambda t: t.rollouts)
    row("rollouts per optimiser step", ",.0f", lambda t: t.rollouts / max(1, t.updates))
    row("effective groups", ".1%", lambda t: t.effective_share)
    row("groups learnt from", ".1%", lambda t: t.learnt_share)
    row("held-out accuracy before", ".3f", lambda t: t.before)
    row("held-out accuracy at the end", ".3f", lambda t: smoothed(t.curve)[-1].accuracy)
    if report.level is not None:
        for measure in MEASURES:
            cells = [_goals(trials.of(arm), report.level, measure.until) for arm in trials.arms]
            rows.append([f"{measure.title} to {report.level:.2f}", *cells])
    row("ms a step: rollout", ",.1f", lambda t: 1000 * t.total("rollout_seconds") / max(1, len(t.steps)))
    row("ms a step: update", ",.1f", lambda t: 1000 * t.total("update_seconds") / max(1, len(t.steps)))
    row("ms a step: service's calls", ",.1f", lambda t: 1000 * t.total("service_seconds") / max(1, len(t.steps)))
    row("service's share of a step", ".2%", lambda t: t.service_share)
    row("training seconds", ",.1f", lambda t: t.total("seconds"))
    seeds = len(trials.of(trials.arms[0]))
    title = f"mean ± standard deviation over {seeds} seeds" if seeds > 1 else "one seed"
    return Grid(title, ["", *trials.arms], rows)


def _mean(form: str, values: Sequence[float]) -> str:
    mean, deviation = spread(values)
    return f"{mean:{form}}" if math.isnan(deviation) else f"{mean:{form}} ± {deviation:{form}}"


def _goals(trials: Sequence[Trial], level: float, until: Callable[[Trial, float], float]) -> str:
    goals = [(trial, reached(trial.curve, level)) for trial in trials]
    found = [until(trial, goal.step) for trial, goal in goals if goal is not None]
    if len(found) < len(goals):
        return f"reached by {len(found)} of {len(goals)}"
    return _mean(",.1f" if max(found) < 100 else ",.0f", found)


def ratios_grid(report: Report) -> Grid:
    """Return two rows a pair of arms, a column a measure: ratio and 95 % interval, over all accuracies and at one."""
    rows = []
    for pair in report.pairs:
        for comparisons in (pair.equal, pair.at_level):
            if comparisons:
                name = f"{pair.baseline} / {pair.other}, to {comparisons[0].at}"
                rows.append([name, *map(_ratio, comparisons)])
    return Grid(
        "how many times more the first arm needed than the second (95 % interval)",
        ["", *(measure.title for measure in MEASURES)],
        rows,
    )


def _ratio(comparison: Comparison) -> str:
    found = comparison.interval
    if found is None:
        return "-"
    if found.interval is None:
        return f"{found.mean:.2f}"
    return f"{found.mean:.2f} ({found.interval[0]:.2f}-{found.interval[1]:.2f})"


def verdicts(report: Report) -> dict[str, list[str]]:
    """Return one sentence a comparison, under a heading a pair of arms."""
    return {f"{pair.other} against {pair.baseline}": _verdicts(pair, report) for pair in report.pairs}


def _verdicts(pair: Pair, report: Report) -> list[str]:
    lines = []
    for comparisons in (pair.equal, pair.at_level if report.given else []):
        # The arms got there or they did not: that is one sentence, not one a measure.
        told = comparisons[:1] if comparisons and comparisons[0].missing else comparisons
        lines += [f"to {each.at}, {verdict(each)}" for each in told]
    lines.append(f"over the whole training, {verdict(pair.ends)}")
    return [*lines, *map(verdict_of_difference, pair.differences)]


def cautions(report: Report, configuration: Configuration) -> list[str]:
    """Return what a reader must know to judge the figures."""
    lines = [
        f"Accuracy: {configuration.held_out:,} problems that no arm trains on, {configuration.samples} answers each at "
        f"T = 1 (standard error at most {0.5 / configuration.held_out**0.5:.3f}), mean of three evaluations.",
        f"To equal accuracy: geometric mean over all accuracies, 0.01 apart, from {FIRST_LEVEL} above the start to the "
        "highest that every arm of the seed reached. Intervals: paired over seeds, Student's t on log-ratios.",
    ]
    if (slowest := _slowdown(report.trials)) > BUSY:
        lines.append(
            f"The same work took {slowest:.1f} times as long in one seed as in another: the machine did other things "
            "besides. Take no seconds from this; run it again on an idle machine, with --jobs 1."
        )
    if (skipped := len({trial.seed for trial in report.trials.all}) - len(report.trials.seeds)) > 0:
        lines.append(f"{skipped} seeds are left out: not all of their arms are finished.")
    for arm in report.trials.arms:
        rows = [row for trial in report.trials.of(arm) for row in trial.steps]
        short = sum(row.reason != "complete" for row in rows)
        if short and ARMS[arm].refill:
            lines.append(f"{short} of {len(rows)} steps of {arm} ended without a full batch.")
    return lines


def _slowdown(trials: Trials) -> float:
    """Return how many times as long a rollout took in an arm's slowest seed as in its fastest."""

    def ratio(arm: str) -> float:
        each = [trial.total("rollout_seconds") / trial.rollouts for trial in trials.of(arm) if trial.rollouts]
        return max(each) / max(1e-12, min(each)) if each else 1.0

    return max(ratio(arm) for arm in trials.arms)


def as_markdown(report: Report) -> str:
    """Return both tables and the verdicts."""
    said = "\n\n".join(
        "\n".join([f"{pair}:", "", *(f"- {line}" for line in lines)]) for pair, lines in verdicts(report).items()
    )
    parts = [f"{grid.title}:\n\n{grid.as_markdown()}" for grid in (arms_grid(report), ratios_grid(report)) if grid.rows]
    return "\n\n".join([*parts, said]) + "\n"
