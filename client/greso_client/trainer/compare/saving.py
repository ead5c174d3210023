"""The files with an experiment's figures: CSV for other tools, a summary in JSON, a report in Markdown."""

import csv
import dataclasses
import json
import os
import platform
from importlib.metadata import version
from typing import Any

from greso_client.trainer.compare.comparison import MEASURES, Comparison, Difference
from greso_client.trainer.compare.measure import StepRow, Trial, reached, smoothed
from greso_client.trainer.compare.report import Report, as_markdown, verdicts
from greso_client.trainer.compare.results import Results, write_whole


def machine(jobs: int) -> dict[str, Any]:
    """Return on what and with what this was measured."""
    return {
        "python": platform.python_version(),
        "torch": version("torch"),
        "transformers": version("transformers"),
        "greso": version("greso"),
        "system": platform.system(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "jobs_at_once": jobs,
    }


def save_report(results: Results, report: Report, machine: dict[str, Any]) -> None:
    """Write steps.csv, curves.csv, summary.json and report.md into the experiment's folder."""
    trials = report.trials.all
    columns = [column.name for column in dataclasses.fields(StepRow)]
    _write_csv(
        results,
        "steps.csv",
        ["arm", "seed", *columns],
        [[trial.arm, trial.seed, *dataclasses.astuple(row)] for trial in trials for row in trial.steps],
    )
    _write_csv(
        results,
        "curves.csv",
        ["arm", "seed", "step", "rollouts", "training_seconds", "accuracy", "smoothed_accuracy"],
        [
            [
                trial.arm,
                trial.seed,
                point.step,
                point.rollouts,
                trial.until(point.step, "seconds"),
                point.accuracy,
                mean,
            ]
            for trial in trials
            for point, mean in zip(trial.curve, [p.accuracy for p in smoothed(trial.curve)], strict=True)
        ],
    )
    write_whole(results.folder / "summary.json", json.dumps(_summary(results, report, machine), indent=2) + "\n")
    write_whole(results.folder / "report.md", as_markdown(report))


def _write_csv(results: Results, name: str, header: list[str], rows: list[list[Any]]) -> None:
    with (results.folder / name).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def _summary(results: Results, report: Report, machine: dict[str, Any]) -> dict[str, Any]:
    return {
        "configuration": results.configuration().as_json(),
        "machine": machine,
        "seeds": report.trials.seeds,
        "common_accuracy": report.level,
        "trials": [_told(trial, report.level) for trial in report.trials.all],
        "comparisons": [_compared(each) for pair in report.pairs for each in pair.comparisons],
        "accuracy_at_equal_cost": [_compared(each) for pair in report.pairs for each in pair.differences],
        "verdicts": verdicts(report),
    }


def _told(trial: Trial, level: float | None) -> dict[str, Any]:
    goal = None if level is None else reached(trial.curve, level)
    return {
        "arm": trial.arm,
        "seed": trial.seed,
        "run": trial.run,
        "steps": len(trial.steps),
        "optimiser_steps": trial.updates,
        "rollouts": trial.rollouts,
        "effective_share": trial.effective_share,
        "learnt_share": trial.learnt_share,
        "accuracy_before": trial.before,
        "accuracy_after": trial.after,
        "to_common_accuracy": goal and {measure.name: measure.until(trial, goal.step) for measure in MEASURES},
        "seconds": trial.total("seconds"),
        "seconds_in_rollout": trial.total("rollout_seconds"),
        "seconds_in_update": trial.total("update_seconds"),
        "seconds_in_service_calls": trial.total("service_seconds"),
        "share_in_service_calls": trial.service_share,
    }


def _compared(comparison: Comparison | Difference) -> dict[str, Any]:
    told = {field.name: getattr(comparison, field.name) for field in dataclasses.fields(comparison)}
    return {
        **told,
        "measure": comparison.measure.name,
        "interval": comparison.interval and dataclasses.asdict(comparison.interval),
    }
