"""The demo's picture."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from greso_client.trainer.compare.measure import Trial, reached, smoothed
from greso_client.trainer.compare.plot import COLOURS, accuracy_axes

EASY, HARD = "#56B4E9", "#332288"
STEPS_AVERAGED = 9  # in the lines over steps, which jump from step to step


def save_plot(path: Path, results: Sequence[Trial], level: float | None) -> None:
    """Draw accuracy over rollouts, exploration, skips and effective share over steps, and save them as a PNG."""
    figure = Figure(figsize=(12, 7), layout="constrained")
    grid = figure.add_gridspec(3, 2, width_ratios=(3, 2))
    _accuracy(figure.add_subplot(grid[:, 0]), results, level)
    _exploration(figure.add_subplot(grid[0, 1]), results)
    _skips(figure.add_subplot(grid[1, 1]), results)
    _effective(figure.add_subplot(grid[2, 1]), results)
    figure.savefig(path, dpi=120)


def _accuracy(axes: Axes, results: Sequence[Trial], level: float | None) -> None:
    axes.set_title("What the rollouts bought", loc="left")
    for result in results:
        colour = COLOURS[result.arm]
        curve = result.curve
        axes.plot([p.rollouts for p in curve], [p.accuracy for p in curve], "o", color=colour, alpha=0.3, markersize=4)
        line = smoothed(curve)
        axes.plot([p.rollouts for p in line], [p.accuracy for p in line], color=colour, linewidth=2, label=result.arm)
        goal = None if level is None else reached(curve, level)
        if goal is not None:
            axes.plot([goal.rollouts, goal.rollouts], [0, goal.accuracy], ":", color=colour)
            axes.annotate(
                f"{goal.rollouts:,.0f}",
                (goal.rollouts, 0),
                xytext=(-4, 6 + 14 * results.index(result)),
                textcoords="offset points",
                ha="right",
                color=colour,
            )
    if level is not None:
        axes.axhline(level, color="grey", linewidth=0.8, linestyle="--")
        axes.annotate(f"{level:.2f}", (0, level), xytext=(2, 3), textcoords="offset points", color="grey")
    accuracy_axes(axes, "rollouts (responses generated)")
    axes.legend(loc="upper left")


def _exploration(axes: Axes, results: Sequence[Trial]) -> None:
    axes.set_title("Exploration probabilities", loc="left")
    for result in _filtering(results):
        steps = [row.step for row in result.steps]
        axes.plot(steps, [row.p_easy for row in result.steps], color=EASY, label="p_easy")
        axes.plot(steps, [row.p_hard for row in result.steps], color=HARD, label="p_hard")
    _over_steps(axes)


def _skips(axes: Axes, results: Sequence[Trial]) -> None:
    axes.set_title("Share of examined prompts that were skipped", loc="left")
    for result in _filtering(results):
        steps = [row.step for row in result.steps]
        easy = _averaged([row.skipped_easy / max(1, row.examined) for row in result.steps])
        hard = _averaged([row.skipped_hard / max(1, row.examined) for row in result.steps])
        axes.plot(steps, easy, color=EASY, label="as easy")
        axes.plot(steps, hard, color=HARD, label="as hard")
    _over_steps(axes)


def _effective(axes: Axes, results: Sequence[Trial]) -> None:
    axes.set_title("Share of rolled-out groups that were effective", loc="left")
    for result in results:
        share = _averaged([row.effective / max(1, row.groups) for row in result.steps])
        axes.plot([row.step for row in result.steps], share, color=COLOURS[result.arm], label=result.arm)
    _over_steps(axes)
    axes.set_xlabel("step")


def _filtering(results: Sequence[Trial]) -> list[Trial]:
    return [result for result in results if result.arm == "greso"]


def _over_steps(axes: Axes) -> None:
    axes.set_ylim(0, 1)
    axes.set_xlim(0, None)
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="upper right", ncols=2, fontsize="small")


def _averaged(values: Sequence[float]) -> list[float]:
    half = STEPS_AVERAGED // 2
    windows = [values[max(0, i - half) : i + half + 1] for i in range(len(values))]
    return [sum(window) / len(window) for window in windows]
