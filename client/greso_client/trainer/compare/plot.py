"""The experiment's picture, and what the demo's shares with it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from greso_client.trainer.compare.measure import Point, Trial, smoothed
from greso_client.trainer.compare.report import Report

# Told apart by colour-blind readers too (Okabe and Ito's palette; for more arms, of Paul Tol's).
COLOURS = {
    "dynamic": "#0072B2", "greso": "#D55E00", "adaptive": "#CC79A7", "grpo": "#009E73", "greso-1": "#E69F00",
    "irt": "#000000", "irt-1": "#56B4E9", "mopps": "#882255", "p_mixed": "#999933", "band": "#888888",
}  # fmt: skip
PARTS = {"rollout": "#0072B2", "update": "#56B4E9", "service's calls": "#D55E00"}
TICKS = (0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4)  # of ratios
ROW_INCHES = 4.5
RATIO_INCHES = 0.18  # a line of small text
MEAN_POINTS = 200  # of the thick line, which is the mean of lines with points at different places


def save_plot(path: Path, report: Report) -> None:
    """Draw accuracy over rollouts and steps, the ratios with their intervals, and where the time went, as a PNG."""
    upper, lower = ROW_INCHES, max(ROW_INCHES, RATIO_INCHES * sum(len(pair.equal) for pair in report.pairs))
    figure = Figure(figsize=(13, upper + lower), layout="constrained")
    over_rollouts, over_steps, ratios, parts = figure.subplots(2, 2, height_ratios=(upper, lower)).flat
    for axes, column, label in (
        (over_rollouts, "rollouts", "rollouts (responses generated)"),
        (over_steps, "step", "steps"),
    ):
        for arm in report.trials.arms:
            _curves(axes, arm, report.trials.of(arm), column)
        accuracy_axes(axes, label)
        if report.level is not None:
            axes.axhline(report.level, color="grey", linewidth=0.8, linestyle="--")
    over_rollouts.set_title("What the rollouts bought (thin: seeds, thick: their mean)", loc="left")
    over_rollouts.legend(loc="lower right")
    over_steps.set_title("What the steps bought", loc="left")
    _ratios(ratios, report)
    _parts(parts, report)
    figure.savefig(path, dpi=120)


def accuracy_axes(axes: Axes, label: str) -> None:
    """Label axes that show held-out accuracy over rollouts or steps."""
    axes.set(xlabel=label, ylabel="held-out accuracy, sampled at T = 1", xlim=(0, None), ylim=(0, 1))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.grid(alpha=0.3)


def _curves(axes: Axes, arm: str, trials: Sequence[Trial], column: str) -> None:
    lines = [_line(smoothed(trial.curve), column) for trial in trials]
    for x, y in lines:
        axes.plot(x, y, color=COLOURS[arm], linewidth=0.7, alpha=0.5)
    at = np.linspace(0, min(x[-1] for x, _ in lines), MEAN_POINTS)
    mean = np.mean([np.interp(at, x, y) for x, y in lines], axis=0)
    axes.plot(at, mean, color=COLOURS[arm], linewidth=2.5, label=arm)


def _line(curve: Sequence[Point], column: str) -> tuple[list[float], list[float]]:
    return [getattr(point, column) for point in curve], [point.accuracy for point in curve]


def _ratios(axes: Axes, report: Report) -> None:
    axes.set_title("To equal accuracy, times more than the second arm (line: 95 %)", loc="left")
    equal = [each for pair in report.pairs for each in pair.equal]
    shown = [(each, each.interval) for each in reversed(equal) if each.interval is not None]
    for row, (each, found) in enumerate(shown):
        colour = COLOURS[each.baseline]
        axes.plot(list(each.ratios.values()), [row] * len(each.ratios), "o", color=colour, alpha=0.35, markersize=4)
        axes.plot([found.mean], [row], "D", color=colour)
        if found.interval is not None:
            axes.plot(found.interval, [row, row], color=colour, linewidth=2)
    axes.axvline(1, color="black", linewidth=0.8)
    names = [f"{each.baseline} / {each.other}: {each.measure.title}" for each, _ in shown]
    axes.set_yticks(range(len(shown)), names, fontsize="small")
    axes.set_xscale("log")
    axes.set_xticks(TICKS, [f"{tick:g}" for tick in TICKS])
    axes.minorticks_off()
    axes.set_xlim(*_around([end for each, found in shown for end in (*each.ratios.values(), *(found.interval or ()))]))
    axes.grid(alpha=0.3, axis="x")


def _around(values: Sequence[float]) -> tuple[float, float]:
    """The limits of a logarithmic axis that shows 0.5 to 2, and these values as far as it has ticks for them."""
    return max(TICKS[0], min([0.5, *values])) / 1.1, min(TICKS[-1], max([2, *values])) * 1.1


def _parts(axes: Axes, report: Report) -> None:
    axes.set_title("Seconds of training, all steps (mean over seeds)", loc="left")
    arms = report.trials.arms
    left = np.zeros(len(arms))
    for (name, colour), column in zip(
        PARTS.items(), ("rollout_seconds", "update_seconds", "service_seconds"), strict=True
    ):
        width = np.array([np.mean([trial.total(column) for trial in report.trials.of(arm)]) for arm in arms])
        axes.barh(arms, width, left=left, color=colour, label=name)
        left += width
    axes.invert_yaxis()
    axes.set_xlabel("seconds")
    axes.set_xlim(0, 1.5 * left.max())  # room for the legend
    axes.legend(loc="lower right")
