"""`greso demo` as a newcomer runs it: it really trains, tells what happened, and leaves no process behind."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest
from tests.servers import GRESO, eventually

from greso_client.trainer.compare.configuration import Configuration, Stop
from greso_client.trainer.demo import options
from greso_client.trainer.demo.command import main

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers import Service

pytestmark = pytest.mark.slow

ENDED_SECONDS = 60.0


def processes_of(folder: Path) -> list[str]:
    """The command lines of running processes that mention a folder."""
    listed = subprocess.run(["ps", "-A", "-ww", "-o", "args"], check=True, capture_output=True, text=True)
    return [line for line in listed.stdout.splitlines() if str(folder) in line]


def test_the_quick_demo_trains_both_arms_and_tells_what_happened(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = subprocess.run(
        [str(GRESO), "demo", "--quick", "--out", str(out)], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert processes_of(out) == []

    summary = json.loads((out / "summary.json").read_text())
    assert set(summary["arms"]) == {"dynamic", "greso"}
    with (out / "steps.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for arm, told in summary["arms"].items():
        steps = [row for row in rows if row["arm"] == arm]
        assert len(steps) == told["steps"] > 10
        assert int(steps[-1]["rollouts"]) == told["rollouts"] >= summary["rollouts"]
        assert all(row["loss"] for row in steps)
        # It learnt: the standard error of an accuracy is 0.022 here.
        assert told["accuracy_after"] > told["accuracy_before"] + 0.05
        assert 0 < told["share_in_service_calls"] < 0.5
        assert told["curve"][0] == [0, 0, told["accuracy_before"]]
        for figure in (f"{told['steps']:,}", f"{told['rollouts']:,}", f"{told['accuracy_after']:.3f}"):
            assert figure in done.stdout
    starts = {told["accuracy_before"] for told in summary["arms"].values()}
    assert len(starts) == 1
    skipped = {arm: sum(int(row["skipped_hard"]) for row in rows if row["arm"] == arm) for arm in summary["arms"]}
    assert skipped["dynamic"] == 0 < skipped["greso"]
    assert {row["p_hard"] for row in rows if row["arm"] == "greso"} != {"0.5"}
    assert (out / "demo.png").read_bytes().startswith(b"\x89PNG")

    for said in ("Next:", str(out / "demo.png"), f"greso show {summary['arms']['greso']['run']}", "client.collect"):
        assert said in done.stdout


def test_the_runs_can_be_looked_at_afterwards_as_the_demo_says(
    tmp_path: Path, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = Configuration(
        pool_digits=(1.0,), warm_digits=(1.0,), pool=60, held_out=20, samples=1, evaluate_every=200, hidden=32,
        warm_batch=32, warm_learning_rate=5e-3, warm_limit=60, start_accuracy=0.15, train_batch_size=8,
        rollout_batch_size=12, stop=Stop(rollouts=400),
    )  # fmt: skip
    monkeypatch.setattr(options, "QUICK", tiny)
    assert main(["--quick", "--url", service.url, "--arms", "greso", "--out", str(tmp_path)]) == 0
    assert service.ready()  # it is not the demo's to stop
    (told,) = json.loads((tmp_path / "summary.json").read_text())["arms"].values()
    state = service.json("GET", f"/v1/runs/{told['run']}")
    assert state["totals"]["rollouts"] == told["rollouts"] >= 400
    assert state["step"] == told["steps"]
    shown = subprocess.run(
        [str(GRESO), "show", told["run"], "--url", service.url], capture_output=True, text=True, check=False
    )
    assert shown.returncode == 0, shown.stderr
    assert told["run"] in shown.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing_running(tmp_path: Path, number: signal.Signals) -> None:
    out = tmp_path / "out"
    said = (tmp_path / "said").open("w+b")
    with said, subprocess.Popen([str(GRESO), "demo", "--out", str(out)], stdout=said, stderr=said) as demo:
        try:
            # The warm start has begun: the service runs beside it.
            eventually(lambda: b"service at" in (tmp_path / "said").read_bytes(), ENDED_SECONDS)
            assert processes_of(out / "service")
            demo.send_signal(number)
            assert demo.wait(ENDED_SECONDS) == 130
        finally:
            demo.terminate()  # not kill: if this test fails, the service is to be stopped nevertheless
    assert (tmp_path / "said").read_text().splitlines()[-1] == "stopped; nothing is left running"
    assert processes_of(out) == []
