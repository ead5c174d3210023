"""`greso bench-rl` as one runs it: it trains, goes on after an interruption, and leaves no process behind."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from tests.servers import GRESO, eventually

from .test_demo import processes_of

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

SECONDS = 300.0  # for what takes 20 on an idle core
ROLLOUTS = 1_600
THREE = ("--seeds", "1", "--arms", "dynamic", "greso")  # plain grpo stands beside everything
TINY = {
    "pool_digits": [0, 1],
    "warm_digits": [0.5, 0.5],
    "pool": 200,
    "held_out": 60,
    "samples": 2,
    "evaluate_every": 600,
    "hidden": 64,
    "warm_batch": 64,
    "warm_learning_rate": 0.003,
    "start_accuracy": 0.15,
    "train_batch_size": 8,
    "rollout_batch_size": 12,
}


def command(out: Path, *options: str) -> list[str]:
    changes = [f"--set={name}={json.dumps(value)}" for name, value in TINY.items()]
    return [str(GRESO), "bench-rl", *changes, "--rollouts", str(ROLLOUTS), "--out", str(out), *options]


def run(out: Path, *options: str) -> str:
    done = subprocess.run(command(out, *options), capture_output=True, text=True, check=False, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert processes_of(out) == []
    return done.stdout


def steps(out: Path) -> list[dict[str, Any]]:
    """Every step of every trial, without its seconds, which differ from run to run."""
    with (out / "steps.csv").open(newline="") as file:
        return [{name: row[name] for name in row if "seconds" not in name} for row in csv.DictReader(file)]


def finished(out: Path) -> dict[str, int]:
    """The finished trials, and when each was written."""
    return {path.name: path.stat().st_mtime_ns for path in (out / "trials").glob("[!.]*.json")}


@pytest.fixture(scope="module")
def one_by_one(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A finished experiment of three arms, not to be touched, and what was said."""
    out = tmp_path_factory.mktemp("one-by-one")
    return out, run(out, *THREE, "--jobs", "1")


def test_results_are_the_same_however_many_jobs_run_at_once_and_are_kept(
    one_by_one: tuple[Path, str], tmp_path: Path
) -> None:
    one, told = one_by_one
    rows = steps(one)
    assert {(row["arm"], row["seed"]) for row in rows} == {(a, s) for a in ("grpo", "dynamic", "greso") for s in "1"}

    for said in ("3 trials", "0 finished before", "grpo seed 1: done", "greso against dynamic:", "greso against grpo:"):
        assert said in told
    summary = json.loads((one / "summary.json").read_text())
    for trial in summary["trials"]:
        assert trial["rollouts"] >= ROLLOUTS
        assert trial["optimiser_steps"] > 5
        parts = sum(trial[f"seconds_in_{part}"] for part in ("rollout", "update", "service_calls"))
        assert 0.5 * trial["seconds"] < parts <= trial["seconds"]
    assert {trial["accuracy_before"] for trial in summary["trials"]} == {summary["trials"][0]["accuracy_before"]}
    # So few rollouts teach too little to be told from noise on every machine; that there were updates is certain.
    assert all(row["loss"] for row in rows if int(row["effective"]) > 0)
    assert sum(int(row["effective"]) for row in rows) > 0
    assert sum(int(row["skipped_easy"]) + int(row["skipped_hard"]) for row in rows if row["arm"] == "greso") > 0
    assert (one / "bench.png").read_bytes().startswith(b"\x89PNG")

    run(tmp_path, "--seeds", "1", "--arms", "greso", "--jobs", "2")
    before = finished(tmp_path)
    told = run(tmp_path, *THREE, "--jobs", "2")
    assert "3 trials" in told
    assert "2 finished before" in told
    after = finished(tmp_path)
    assert len(after) == 3
    assert {name: after[name] for name in before} == before
    assert steps(tmp_path) == rows


def test_a_trial_that_fails_is_told_and_tried_again(one_by_one: tuple[Path, str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(one_by_one[0], out)
    (out / "trials" / "greso-seed-1.json").unlink()
    start = out / "trials" / "start-seed-1.pt"
    kept = start.read_bytes()
    start.write_bytes(b"no weights")
    done = subprocess.run(command(out, *THREE), capture_output=True, text=True, check=False, timeout=SECONDS)
    assert done.returncode == 1
    assert "greso bench-rl: greso seed 1 failed: " in done.stderr
    assert len(done.stderr.splitlines()) == 1
    start.write_bytes(kept)
    assert "2 finished before" in run(out, *THREE)
    assert steps(out) == steps(one_by_one[0])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_experiment_leaves_nothing_running_and_goes_on(tmp_path: Path, number: signal.Signals) -> None:
    out = tmp_path / "out"
    options = ("--seeds", "1", "--arms", "greso", "--jobs", "1")
    with (tmp_path / "said").open("w+b") as said:
        bench = subprocess.Popen(command(out, *options), stdout=said, stderr=said)
        try:
            eventually(lambda: len(finished(out)) == 1, SECONDS)  # plain grpo is done, greso under way
            assert any("greso_service" in line for line in processes_of(out))
            os.kill(bench.pid, number)
            assert bench.wait(60) == (130 if number != signal.SIGKILL else -signal.SIGKILL)
        finally:
            bench.terminate()
    eventually(lambda: processes_of(out) == [], 30)  # also those of an experiment that was killed
    if number != signal.SIGKILL:
        told = (tmp_path / "said").read_text()
        assert "FAILED" not in told
        assert told.splitlines()[-1].startswith("stopped; nothing is left running")

    kept = finished(out)
    told = run(out, *options)
    assert "1 finished before" in told
    assert finished(out)["grpo-seed-1.json"] == kept["grpo-seed-1.json"]
    assert len(finished(out)) == 2
