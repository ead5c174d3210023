"""What an experiment tells: tables, Markdown, files, picture."""

from __future__ import annotations

import csv
import dataclasses
import functools
import io
import json
import math
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from greso_client.trainer.compare.command import bench
from greso_client.trainer.compare.comparison import Trials
from greso_client.trainer.compare.configuration import CPU
from greso_client.trainer.compare.options import Options
from greso_client.trainer.compare.plot import save_plot
from greso_client.trainer.compare.report import (
    Report,
    arms_grid,
    as_markdown,
    cautions,
    make_report,
    ratios_grid,
    verdicts,
)
from greso_client.trainer.compare.results import Results
from greso_client.trainer.compare.saving import machine, save_report

from .synthetic_trials import learning

if TYPE_CHECKING:
    from pathlib import Path

SPEEDS = {"grpo": 1.4, "dynamic": 1.0, "greso": 1.6, "greso-1": 1.4, "adaptive": 1.3, "irt": 2.0, "irt-1": 1.6}
PAIRS = {
    "greso against dynamic", "greso against grpo", "greso against adaptive", "greso-1 against grpo",
    "grpo against dynamic", "irt against dynamic", "irt against greso", "irt against grpo", "irt-1 against grpo",
    "irt-1 against greso-1", "irt-1 against dynamic", "irt-1 against greso",
}  # fmt: skip


def trials(seeds: range = range(1, 4), arms: tuple[str, ...] = tuple(SPEEDS)) -> Trials:
    return Trials(learning(arm, seed, SPEEDS[arm]) for seed in seeds for arm in arms)


@functools.cache
def report(seeds: int = 3, level: float | None = None) -> Report:
    """All arms, so many seeds."""
    return make_report(trials(range(1, seeds + 1)), level)


def test_the_arms_table_holds_mean_and_spread_of_every_arm() -> None:
    grid = arms_grid(report())
    assert grid.header == ["", *SPEEDS]
    rows = {row[0]: row[1:] for row in grid.rows}
    assert rows["rollouts (responses)"] == ["40,000 ± 0"] * len(SPEEDS)
    assert rows["effective groups"] == ["32.0% ± 0.0%"] * len(SPEEDS)
    assert rows["service's share of a step"] == ["5.00% ± 0.00%"] * len(SPEEDS)
    assert rows["ms a step: rollout"] == ["1,000.0 ± 0.0"] * len(SPEEDS)
    to_level = next(cells for name, cells in rows.items() if name.startswith("rollouts to 0."))
    mean = {arm: float(cell.split(" ± ")[0].replace(",", "")) for arm, cell in zip(SPEEDS, to_level, strict=True)}
    assert min(mean, key=mean.__getitem__) == "irt"
    assert max(mean, key=mean.__getitem__) == "dynamic"


def test_an_accuracy_that_not_every_seed_reached_has_no_mean() -> None:
    grid = arms_grid(report(3, 0.93))
    row = next(row for row in grid.rows if row[0] == "rollouts to 0.93")
    assert "reached by 0 of 3" in row


def test_every_pair_has_its_verdicts_and_ratios() -> None:
    told = verdicts(report())
    assert set(told) == PAIRS
    assert any(
        "rollouts: 1." in line and "greso needs fewer than dynamic" in line for line in told["greso against dynamic"]
    )
    assert len(ratios_grid(report()).rows) == 2 * len(PAIRS)
    assert [len(lines) for lines in told.values()] == [9] * len(PAIRS)


def test_an_accuracy_that_was_asked_for_is_told_of_too() -> None:
    (lines,) = verdicts(make_report(trials(arms=("grpo", "greso")), 0.7)).values()
    assert sum(line.startswith("to accuracy 0.70, ") for line in lines) == 5


def test_one_seed_is_told_without_spread_and_without_a_gain() -> None:
    assert "±" not in as_markdown(report(1))
    lines = [line for lines in verdicts(report(1)).values() for line in lines]
    assert all(line.endswith("no gain shown.") for line in lines)


def test_arms_of_which_no_seed_is_whole_are_told_without_a_comparison() -> None:
    split = make_report(Trials([learning("grpo", 1, 1.0), learning("greso", 2, 1.0)]))
    assert (split.pairs, split.level, verdicts(split)) == ([], None, {})
    assert "2 seeds are left out" in " ".join(cautions(split, CPU))
    assert arms_grid(split).rows


def test_seconds_from_a_busy_machine_are_not_to_be_believed() -> None:
    assert "idle machine" not in " ".join(cautions(report(), CPU))
    slow = learning("grpo", 2, 1.0)
    slow.steps = [dataclasses.replace(row, rollout_seconds=3 * row.rollout_seconds) for row in slow.steps]
    busy = make_report(Trials([learning("grpo", 1, 1.0), slow]))
    assert "3.0 times as long" in " ".join(cautions(busy, CPU))


def test_the_tables_fit_a_log() -> None:
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(arms_grid(report()).for_terminal())
    console.print(ratios_grid(report()).for_terminal())
    assert "…" not in console.export_text()


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_files_hold_what_was_measured(tmp_path: Path, seeds: int) -> None:
    results = Results(tmp_path)
    results.open(CPU)
    save_report(results, report(seeds), machine(2))
    with (tmp_path / "steps.csv").open(newline="") as file:
        steps = list(csv.DictReader(file))
    assert len(steps) == seeds * len(SPEEDS) * 40
    assert (steps[-1]["arm"], steps[-1]["seed"], steps[-1]["rollouts"]) == ("irt-1", str(seeds), "40000")
    with (tmp_path / "curves.csv").open(newline="") as file:
        curves = list(csv.DictReader(file))
    assert len(curves) == seeds * len(SPEEDS) * 41
    assert (curves[0]["rollouts"], float(curves[40]["training_seconds"])) == ("0", 80)

    text = (tmp_path / "summary.json").read_text()
    summary = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert summary["configuration"]["stop"]["rollouts"] == CPU.stop.rollouts
    assert summary["machine"]["jobs_at_once"] == 2
    assert len(summary["trials"]) == seeds * len(SPEEDS)
    compared = next(c for c in summary["comparisons"] if (c["baseline"], c["other"]) == ("dynamic", "greso"))
    ratios = [math.log(ratio) for ratio in compared["ratios"].values()]
    assert compared["interval"]["mean"] == pytest.approx(math.exp(sum(ratios) / seeds))
    assert (tmp_path / "report.md").read_text() == as_markdown(report(seeds))


@pytest.mark.parametrize("arms", [tuple(SPEEDS), ("grpo",)])
def test_the_picture_is_a_png(tmp_path: Path, arms: tuple[str, ...]) -> None:
    save_plot(tmp_path / "plot.png", report() if len(arms) > 1 else make_report(trials(range(1, 2), arms)))
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_a_finished_experiment_is_told_again_without_a_service(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = Results(tmp_path)
    results.open(CPU)
    for each in trials(range(1, 4), ("grpo", "dynamic", "greso", "greso-1")).all:
        results.save(each)
    # Nothing answers at this URL: whoever asked it would fail.
    assert bench(Options(out=tmp_path, url="http://127.0.0.1:9", accuracy=0.6)) == 0
    told = capsys.readouterr().out
    assert "12 trials" in told
    assert "12 finished before" in told
    assert "greso against dynamic:" in told
    assert (tmp_path / "bench.png").exists()
