"""The result as a picture: what is lost for what is saved, and how well pass rates are foretold. Needs matplotlib."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from greso_service.whatif.calibrate import BINS, CONSTANT
from greso_service.whatif.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Told apart by colour-blind readers too (Okabe and Ito's palette), and by their marks where there is no colour.
GREY: Final = "#777777"
STYLES: Final = {
    "uniform": (GREY, "X", "-"),
    "greso": ("#000000", "s", "-"),
    "band": ("#E69F00", "D", "-"),
    "mopps": ("#009E73", "^", ":"),
    "p_mixed": ("#0072B2", "v", "--"),
    "irt": ("#D55E00", "o", "-"),
}
"""Colour, mark and line of each policy as it is; the same policy with other parameters takes one of OTHERS."""

OTHERS: Final = (("#CC79A7", "P", "-."), ("#56B4E9", "h", (0, (5, 1))), ("#882255", "<", (0, (3, 1, 1, 1))))
MODELS: Final = {"irt": ("item response (irt)", "#D55E00", "o"), "beta": ("Beta posterior", "#0072B2", "s")}


def available() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def save(path: Path, result: Result) -> None:
    """Draw the picture as a PNG."""
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(13, 6.2), layout="constrained")
    grid = figure.add_gridspec(2, 2, height_ratios=(5, 1), width_ratios=(1, 1), wspace=0.06)
    _trade(figure.add_subplot(grid[:, 0]), result)
    reliability = figure.add_subplot(grid[0, 1])
    _reliability(reliability, result)
    _counts(figure.add_subplot(grid[1, 1], sharex=reliability), result)
    figure.savefig(path, dpi=150, format="png")


def _trade(axes: Axes, result: Result) -> None:
    axes.set_title("Effective groups kept, for the rollouts kept", loc="left", fontweight="bold")
    axes.set(xlabel="rollouts kept, of all in the log", ylabel="effective groups kept, of all in the log")
    first_x = 1 - result.again.rollouts / result.log.rollouts
    first_y = 1 - result.again.effective / result.log.effective if result.log.effective else 1.0
    most = first_x + (1 - first_x) * result.again.effective / result.again.groups
    axes.fill([first_x, most, first_x], [first_y, 1, 1], color="#000000", alpha=0.05, linewidth=0)
    axes.plot([first_x, most], [first_y, 1], color=GREY, linewidth=0.8)
    axes.annotate(
        "out of reach: needs\nthe outcomes beforehand",
        (first_x + 0.02 * (1 - first_x), 1 - 0.015 * (1 - first_y)),
        va="top",
        fontsize="small",
        color=GREY,
    )
    axes.plot([first_x, 1], [first_y, 1], ":", color=GREY, label="chance")
    _policies(axes, result)
    axes.plot([first_x], [first_y], "|", color=GREY, markersize=14)
    axes.annotate(
        "first groups only",
        (first_x, first_y),
        xytext=(8, -2),
        textcoords="offset points",
        fontsize="small",
        color=GREY,
    )
    edge = 0.02 * (1 - first_x)
    axes.set_xlim(first_x - edge, 1 + edge)
    axes.set_ylim(first_y - 0.03 * (1 - first_y or 1), 1 + 0.02 * (1 - first_y or 1))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda share, _place: f"{100 * share:.0f} %")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", frameon=True)


def _policies(axes: Axes, result: Result) -> None:
    """Rankings as curves with a mark where they were replayed, filters as marks."""
    taken, others = set[str](), cycle(OTHERS)
    for name, judged in result.policies.items():
        colour, mark, line = next(others) if judged.spec.policy in taken else STYLES[judged.spec.policy]
        taken.add(judged.spec.policy)
        x = judged.rollouts / result.log.rollouts
        y = judged.effective / result.log.effective if result.log.effective else 1.0
        curve = result.curve(judged)
        if curve:
            axes.plot(*zip(*curve, strict=True), linestyle=line, color=colour, linewidth=1.8)
        # Filters are hollow and larger, so that what lies at the same place is seen through them.
        look: dict[str, Any] = (
            {"linestyle": line, "markersize": 8, "markeredgecolor": "white", "zorder": 5}
            if curve
            else {"linestyle": "none", "markersize": 12, "markeredgewidth": 2.2, "fillstyle": "none", "zorder": 6}
        )
        axes.plot([x], [y], marker=mark, color=colour, label=name.replace(":", ":\n").replace(",", ",\n"), **look)


def _reliability(axes: Axes, result: Result) -> None:
    found = result.calibration
    axes.set_title("Predicted pass rates, on prompts seen before", loc="left", fontweight="bold")
    axes.set(ylabel="pass rate observed", xlim=(0, 1), ylim=(0, 1))
    axes.plot([0, 1], [0, 1], ":", color=GREY, label="as predicted")
    for model, label, colour, mark in _shown():
        score = found.models[model]
        if not score.groups:
            continue
        bins = score.bins[score.bins[:, 0] > 0]
        predicted, observed = bins[:, 1] / bins[:, 0], bins[:, 2] / bins[:, 0]
        told = f"{label}: {score.brier:.4f}"
        axes.plot(predicted, observed, "-", color=colour, alpha=0.6)
        axes.scatter(
            predicted,
            observed,
            marker=mark,
            color=colour,
            s=45,
            edgecolors="white",
            zorder=5,
            label=told,
        )
    constant = found.models[CONSTANT]
    if constant.groups:
        mean = constant.bins[:, 2].sum() / constant.groups
        label = f"their mean, {mean:.2f}: {constant.brier:.4f}"
        axes.axhline(mean, color=GREY, linewidth=0.8, linestyle="--", label=label)
    axes.tick_params(labelbottom=False)
    axes.grid(alpha=0.3)
    title = None if found.luck is None else f"Brier scores; luck alone leaves {found.luck:.4f}"
    legend = axes.legend(loc="best", frameon=True, title=title, alignment="left")
    legend.get_title().set_fontsize("small")


def _counts(axes: Axes, result: Result) -> None:
    axes.set(xlabel="pass rate predicted", ylabel="groups")
    width = 0.4 / BINS
    for number, (model, _, colour, _) in enumerate(_shown()):
        counts = result.calibration.models[model].bins[:, 0]
        places = [(place + 0.5) / BINS + (number - 0.5) * width for place in range(BINS)]
        axes.bar(places, counts, width, color=colour, alpha=0.8)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.locator_params(axis="y", nbins=3)
    axes.grid(alpha=0.3, axis="y")


def _shown() -> Iterator[tuple[str, str, str, str]]:
    for model, (label, colour, mark) in MODELS.items():
        yield model, label, colour, mark
