"""Logs: names as the service's, totals over restarts, a line a step."""

from __future__ import annotations

import importlib
import io
import json
import math
import sys
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from greso_client import Collected, CollectedGroup, Skipped
from greso_client.trainer.engine import Completion
from greso_client.trainer.grpo import ScoredGroup, Update
from greso_client.trainer.logs import LogError, Logs, Screen, describe, measurements
from greso_client.trainer.loop import Seconds, TrainingStep
from greso_service.core.totals import Totals
from greso_service.history.base import RunKey
from greso_service.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from pathlib import Path


def step(number: int = 1, *, update: bool = True, failed: int = 0) -> TrainingStep:
    """Four groups, one of each outcome, and `failed` failed ones of three rewards each; two prompts skipped."""

    def group(*rewards: float) -> CollectedGroup[ScoredGroup]:
        completions = [Completion([1, 2], [-1.0, -1.0], "", ended=reward > 0) for reward in rewards]
        return CollectedGroup("p", list(rewards), ScoredGroup([1], completions, list(rewards)))

    groups = [group(1, 0), group(1, 1), group(0, 0), group(1)]
    collected = Collected(
        step=number, effective=groups[:1], groups=groups, rounds=2, rollouts=7, examined=6, skipped=Skipped(1, 1),
        failed=failed, complete=False, reason="max_rounds", degraded=False, service_seconds=0.25,
    )  # fmt: skip
    return TrainingStep(
        number,
        collected,
        Update(loss=0.5, gradient_norm=2.0, clipped=0.125, kl=0.0, tokens=4) if update else None,
        1,
        3 * failed,
        Seconds(rollout=2.0, reward=0.5, update=1.0, service=0.25),
    )


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_steps_figures() -> None:
    figures = measurements(step(failed=1))
    assert figures.pop("greso_trainer_reward") == pytest.approx(4 / 7)
    assert figures.pop("greso_trainer_cut_completions_ratio") == pytest.approx(3 / 7)
    assert figures == {
        "greso_prompts_examined_total": 6,
        "greso_prompts_selected_total": 4,
        'greso_prompts_skipped_total{kind="easy"}': 1,
        'greso_prompts_skipped_total{kind="hard"}': 1,
        'greso_groups_total{outcome="effective"}': 1,
        'greso_groups_total{outcome="easy"}': 1,
        'greso_groups_total{outcome="hard"}': 1,
        'greso_groups_total{outcome="undetermined"}': 1,
        "greso_rollouts_total": 7,
        "greso_trainer_failed_groups_total": 1,
        "greso_trainer_failed_rewards_total": 3,
        "greso_trainer_tokens_total": 14,
        "greso_trainer_rounds": 2,
        "greso_trainer_learned_groups": 1,
        "greso_trainer_completion_tokens": 2,
        "greso_trainer_rollout_seconds": 2.0,
        "greso_trainer_reward_seconds": 0.5,
        "greso_trainer_update_seconds": 1.0,
        "greso_trainer_service_seconds": 0.25,
        "greso_trainer_loss": 0.5,
        "greso_trainer_gradient_norm": 2.0,
        "greso_trainer_clipped_ratio": 0.125,
        "greso_trainer_divergence": 0.0,
    }


def test_names_are_those_of_the_services_metrics() -> None:
    service = Metrics("test", in_flight_limit=1, most_runs=1, snapshot_every=1, seen=list)
    service.runs.wrote(
        RunKey("default", "r"), [], Totals(examined=1, selected=1, skipped_easy=1, effective=1, rollouts=1), 8
    )
    text = service.exposition().decode().replace(',run="r"', "").replace('{run="r"}', "")
    shared = [name for name in measurements(step()) if not name.startswith("greso_trainer_")]
    assert len(shared) == 9
    for name in shared:
        assert f"\n{name} " in text, name


def test_totals_count_on_and_figures_that_are_not_there_are_left_out(tmp_path: Path) -> None:
    with Logs(tmp_path, "r", after=0, tensorboard=False) as logs:
        logs.write(step(1))
        logs.write(step(2, update=False), accuracy=0.75)
        logs.write(step(3), accuracy=math.nan)
    assert [row["step"] for row in rows(tmp_path)] == [1, 2, 3]
    assert [row["greso_rollouts_total"] for row in rows(tmp_path)] == [7, 14, 21]
    assert [row["greso_trainer_rounds"] for row in rows(tmp_path)] == [2, 2, 2]
    assert ["greso_trainer_loss" in row for row in rows(tmp_path)] == [True, False, True]
    assert [row.get("greso_trainer_accuracy") for row in rows(tmp_path)] == [None, 0.75, None]


def test_after_a_restart_later_steps_are_forgotten_and_totals_go_on(tmp_path: Path) -> None:
    with Logs(tmp_path, "r", after=0, tensorboard=False) as logs:
        for number in (1, 2, 3):
            logs.write(step(number))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "greso_rol')  # killed while it wrote
    with Logs(tmp_path, "r", after=2, tensorboard=False) as logs:
        assert [row["step"] for row in rows(tmp_path)] == [1, 2]
        logs.write(step(3))
    assert [(row["step"], row["greso_rollouts_total"]) for row in rows(tmp_path)] == [(1, 7), (2, 14), (3, 21)]


def test_groups_are_logged_when_asked_for_and_forgotten_like_figures(tmp_path: Path) -> None:
    for after in (0, 2):
        with Logs(tmp_path, "r", after=after, tensorboard=False, groups=True) as logs:
            for number in range(after + 1, 4):
                logs.write(step(number))
    lines = [json.loads(line) for line in (tmp_path / "groups.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1] * 4 + [2] * 4 + [3] * 4
    assert lines[:2] == [
        {"step": 1, "prompt": "p", "rewards": [1, 0]},
        {"step": 1, "prompt": "p", "rewards": [1, 1]},
    ]
    assert not (tmp_path / "groups.partial").exists()


def test_tensorboard_gets_the_same(tmp_path: Path) -> None:
    with Logs(tmp_path, "r", after=0) as logs:
        logs.write(step(1))
        logs.write(step(2), accuracy=0.5)
    reader = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")  # it has no types
    events = reader.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("greso_rollouts_total")] == [(1, 7.0), (2, 14.0)]
    assert [(e.step, e.value) for e in events.Scalars("greso_prompts_skipped_total/easy")] == [(1, 1.0), (2, 2.0)]
    assert [(e.step, e.value) for e in events.Scalars("greso_trainer_accuracy")] == [(2, 0.5)]


def test_a_log_whose_package_is_missing_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(LogError, match=r"^wandb is not installed; run: pip install wandb, or leave --wandb out$"):
        Logs(tmp_path, "r", after=0, tensorboard=False, wandb=True)


def test_wandb_gets_the_same_and_goes_on_with_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "wandb.py"  # a package of that name which writes down what it is told
    package.write_text(
        "told = []\n"
        "def init(**given): told.append(given); return __import__('wandb')\n"
        "def log(figures, step): told.append((step, figures))\n"
        "def finish(exit_code): told.append(exit_code)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        with Logs(tmp_path / "out", "r", after=0, tensorboard=False, wandb=True) as logs:
            figures = logs.write(step(1))
        begun, logged, ended = importlib.import_module("wandb").told
    finally:
        sys.modules.pop("wandb", None)
    assert (begun["id"], begun["resume"]) == ("r", "allow")
    assert logged == (1, figures)
    assert ended == 0


def test_a_step_in_a_line() -> None:
    line = "1/4 groups effective, 2 skipped, loss +0.5000, rollout 2.0 s, update 1.0 s"
    assert describe(step()) == line
    assert "no update" in describe(step(update=False))
    assert "2 groups failed (6 rewards)" in describe(step(failed=2))
    assert "accuracy 0.250" in describe(step(), 0.25)


@pytest.mark.parametrize("terminal", [True, False])
def test_the_screen_shows_each_step(terminal: bool) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=120)
    with Screen(console, first=3, last=4) as screen:
        screen.show(step(3), None)
        screen.show(step(4), 0.5)
    assert "step 4: 1/4 groups effective" in out.getvalue()
    assert ("step 3: 1/4 groups effective" in out.getvalue()) == (not terminal)
    assert ("4/4" in out.getvalue()) == terminal
