"""A tiny model and its problems on disk, and `greso train` on them: everything made here, nothing downloaded."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from greso_client.trainer.__main__ import main
from greso_client.trainer.addition import Addition, make_model, make_task, make_tokenizer, tiny_gpt2, warm_start

from .servers import Process

if TYPE_CHECKING:
    import pytest
    from transformers import PreTrainedModel

GRESO = Path(sys.executable).with_name("greso")
SUMS = Addition(pool=(0.3, 0.7), warm_start=(0.7, 0.3))
TOKENIZER = make_tokenizer()


def tiny_model(seed: int = 1) -> PreTrainedModel:
    """A GPT-2 of 30,000 parameters with random weights, for sums of two digits."""
    config = tiny_gpt2(SUMS)
    config.n_embd, config.n_layer = 48, 1
    return make_model(seed, config)


def write_problems(path: Path, problems: list[Any]) -> Path:
    """The problems in the plain layout."""
    rows = [{"id": problem.id, "prompt": problem.question, "answer": problem.answer} for problem in problems]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_tiny(folder: Path, *, taught: int = 200) -> Path:
    """Write `model/` (taught so many steps: after 200 every tenth answer is right), `pool.jsonl` and `held.jsonl`."""
    torch.set_num_threads(1)
    task = make_task(1, SUMS, pool=30, held_out=10)
    model = tiny_model()
    lessons = warm_start(model, SUMS, avoid=task.held_out, seed=1, batch_size=64, learning_rate=3e-3)
    for _ in itertools.islice(lessons, taught):
        pass
    model.save_pretrained(folder / "model")
    TOKENIZER.save_pretrained(folder / "model")
    write_problems(folder / "pool.jsonl", task.pool)
    write_problems(folder / "held.jsonl", task.held_out)
    return folder


def train_arguments(tiny: Path, out: Path, url: str, run: str, *more: str) -> list[str]:
    """Arguments of `greso train` on what `write_tiny` wrote: small steps, several epochs within twenty of them."""
    return [
        *("--model", str(tiny / "model"), "--data", str(tiny / "pool.jsonl"), "--reward", "exact"),
        *("--url", url, "--run", run, "--out", str(out), "--strict", "--no-tensorboard"),
        *("--train-batch-size", "4", "--rollout-batch-size", "8", "--max-rounds", "3"),
        *("--learning-rate", "1e-3", "--max-tokens", str(SUMS.answer_tokens), "--seed", "5"),
        *more,
    ]  # fmt: skip


def complaint(capsys: pytest.CaptureFixture[str], arguments: list[str], code: int = 1) -> str:
    """What a training that can't go on says: one line."""
    assert main(arguments) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("greso train: ")
    return str(line)


class Training(Process):
    """`greso train` in a process of its own, on one thread so that its sums come out the same each time."""

    def __init__(self, folder: Path, arguments: list[str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(folder / "train.log")
        self.folder = folder
        self.arguments = arguments

    def start(self, *prefix: str) -> Training:
        """Start it, behind `prefix` if one is given."""
        command = [*prefix, "env", "OMP_NUM_THREADS=1", "HF_HUB_OFFLINE=1", str(GRESO), "train", *self.arguments]
        self.run(command, self.folder)
        return self

    def wait(self, seconds: float = 300.0) -> int:
        """Its exit code."""
        assert self.process is not None
        return self.process.wait(seconds)


def metrics(out: Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl, whole ones only."""
    path = out / "metrics.jsonl"
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def steps_done(out: Path) -> int:
    """The newest recorded step."""
    rows = metrics(out)
    return int(rows[-1]["step"]) if rows else 0
