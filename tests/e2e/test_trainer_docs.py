"""Every block of docs/trainer.md is run, in order, in a folder that has the model and the problems it speaks of."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.training import metrics, write_tiny
from tests.unit.test_trainer_logs import step

from greso_client import Client
from greso_client.trainer.logs import OUTCOMES, measurements

if TYPE_CHECKING:
    from tests.servers import Service

PAGE = Path(__file__).parents[2] / "docs" / "trainer.md"
FENCE = re.compile(r"^```(\w+)\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
SECONDS = 600

# What the page leaves to its reader: ten lines of a trainer, whose groups count the prompts that were rolled out.
READER = """
from types import SimpleNamespace
ids, steps, saved, learnt = [f"p/{i}" for i in range(100)], 3, 2, []
def sample(prompts, n): return [SimpleNamespace(rewards=[1.0, 0.0] * (n // 2)) for _ in prompts]
def learn(groups): learnt.append(len(groups))
"""


@pytest.mark.slow
def test_every_block_of_the_page_runs(service: Service, tmp_path: Path) -> None:
    write_tiny(tmp_path, taught=100)
    (tmp_path / "model").rename(tmp_path / "my-model")
    (tmp_path / "pool.jsonl").rename(tmp_path / "problems.jsonl")
    bin_folder = Path(sys.executable).parent
    environment = {
        **os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}", "GRESO_URL": service.url, "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }  # fmt: skip
    found = FENCE.findall(PAGE.read_text())
    assert [language for language, _ in found] == ["sh", "sh", "sh", "python", "python", "python"]
    for language, text in found:
        program = text.replace("--nproc-per-node 8", "--nproc-per-node 2")
        command = ["sh", "-eu"] if language == "sh" else [sys.executable, "-"]
        given = program if language == "sh" else READER + program
        done = subprocess.run(
            command, input=given, capture_output=True, text=True, timeout=SECONDS, cwd=tmp_path, env=environment,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{program}\n{done.stdout}{done.stderr}"
    reached = {}
    for run in ("first", "my-run", "on-gpus", "in-python", "my-trainer"):
        with Client(service.url, run=run, strict=True, budget=30.0) as client:
            reached[run] = (client.state().step, client.state().generation)
    assert reached == {"first": (3, 0), "my-run": (4, 0), "on-gpus": (2, 0), "in-python": (3, 0), "my-trainer": (2, 1)}
    # The first is the built-in task, which needs no options but steps.
    built_in = tmp_path / "train" / "first"
    assert 0.3 < metrics(built_in)[2]["greso_trainer_accuracy"] < 0.6
    assert list((built_in / "tensorboard").iterdir())


def test_every_recorded_name_is_on_the_page() -> None:
    text = PAGE.read_text()
    for name in [*measurements(step()), "greso_trainer_accuracy"]:
        shown = re.sub(r"{(.*)=.*}", r"{\1}", name)
        assert f"`{shown}`" in text, name
    assert all(outcome in text for outcome in OUTCOMES)
