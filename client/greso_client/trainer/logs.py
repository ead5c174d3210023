"""What a training shows and keeps: a line a step, ``metrics.jsonl``, TensorBoard, and Weights & Biases when asked for.

The names are those of the service's metrics where they mean the same; the trainer's own begin with ``greso_trainer_``.
Base units: seconds, tokens. What ends in ``_total`` counts from the beginning of the run, over restarts.
"""

import importlib
import importlib.util
import json
import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from greso_client.trainer.loop import TrainingStep

TOTAL = "_total"
OUTCOMES = ("effective", "easy", "hard", "undetermined")
SOLVED_REWARD, REWARD_TOLERANCE = 1.0, 1e-6  # defaults of docs/algorithm.md


class LogError(Exception):
    """A log that was asked for can't be kept. The message is one line and says what to do."""


def measurements(step: TrainingStep) -> dict[str, float]:
    """Return a step's figures by metric name, as rank 0 knows them; totals are what the step adds to them."""
    collected = step.collected
    effective = set(map(id, collected.effective))
    outcomes = Counter("effective" if id(group) in effective else outcome(group.rewards) for group in collected.groups)
    completions = [completion for group in collected.groups for completion in group.data.completions]
    rewards = [reward for group in collected.groups for reward in group.rewards]
    figures = {
        "greso_prompts_examined_total": collected.examined,
        "greso_prompts_selected_total": collected.examined - collected.skipped.easy - collected.skipped.hard,
        'greso_prompts_skipped_total{kind="easy"}': collected.skipped.easy,
        'greso_prompts_skipped_total{kind="hard"}': collected.skipped.hard,
        **{f'greso_groups_total{{outcome="{name}"}}': outcomes[name] for name in OUTCOMES},
        "greso_rollouts_total": collected.rollouts,
        "greso_trainer_failed_groups_total": collected.failed,
        "greso_trainer_failed_rewards_total": step.failed_rewards,
        "greso_trainer_tokens_total": sum(len(completion.tokens) for completion in completions),
        "greso_trainer_rounds": collected.rounds,
        "greso_trainer_learned_groups": step.learned,
        "greso_trainer_reward": _mean(rewards),
        "greso_trainer_completion_tokens": _mean([len(completion.tokens) for completion in completions]),
        "greso_trainer_cut_completions_ratio": _mean([not completion.ended for completion in completions]),
        "greso_trainer_rollout_seconds": step.seconds.rollout,
        "greso_trainer_reward_seconds": step.seconds.reward,
        "greso_trainer_update_seconds": step.seconds.update,
        "greso_trainer_service_seconds": step.seconds.service,
    }
    if step.update is not None:
        figures |= {
            "greso_trainer_loss": step.update.loss,
            "greso_trainer_gradient_norm": step.update.gradient_norm,
            "greso_trainer_clipped_ratio": step.update.clipped,
            "greso_trainer_divergence": step.update.kl,
        }
    return figures


def outcome(rewards: Sequence[float]) -> str:
    """Return what a group that is not effective counts as, by the service's default parameters."""
    if len(rewards) < 2:
        return "undetermined"
    return "easy" if sum(rewards) / len(rewards) >= SOLVED_REWARD - REWARD_TOLERANCE else "hard"


def require_packages(*, tensorboard: bool, wandb: bool) -> None:
    """Raise `LogError` when a package of these logs is missing."""
    if tensorboard:
        _require("tensorboard", "leave it out with --no-tensorboard")
    if wandb:
        _require("wandb", "or leave --wandb out")


class Logs:
    """Writes a run's figures to wherever they were asked for; use it with ``with``."""

    def __init__(
        self, folder: Path, run: str, *, after: int, tensorboard: bool = True, wandb: bool = False, groups: bool = False
    ) -> None:
        """Go on in `folder` after step `after`: what is recorded of later steps, which will be done again, is dropped.

        `groups`: write each group's rewards to ``groups.jsonl``, which ``greso replay`` reads.
        Raises `LogError` when a package is missing, `OSError`.
        """
        self._writers: list[Any] = []
        require_packages(tensorboard=tensorboard, wandb=wandb)
        if tensorboard:
            summary = importlib.import_module("torch.utils.tensorboard")
            self._writers.append(summary.SummaryWriter(str(folder / "tensorboard"), purge_step=after + 1))
        self._wandb: Any = None
        if wandb:
            self._wandb = importlib.import_module("wandb").init(
                project="greso", name=run, id=run, resume="allow", dir=str(folder)
            )
        self._totals: Counter[str] = Counter()
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "metrics.jsonl"
        for row in _resumed(path, after):
            self._totals = Counter({name: value for name, value in row.items() if TOTAL in name})
        self._file = path.open("a")
        self._groups: TextIO | None = None
        if groups:
            for _ in _resumed(folder / "groups.jsonl", after):
                pass
            self._groups = (folder / "groups.jsonl").open("a")

    def write(self, step: TrainingStep, accuracy: float | None = None) -> dict[str, float]:
        """Record a step, and the held-out accuracy after it when that was measured; return the figures as recorded."""
        figures = measurements(step)
        for name in figures:
            if TOTAL in name:
                self._totals[name] += int(figures[name])
                figures[name] = self._totals[name]
        if accuracy is not None:
            figures["greso_trainer_accuracy"] = accuracy
        figures = {name: value for name, value in figures.items() if math.isfinite(value)}
        self._file.write(json.dumps({"step": step.number, "time": time.time(), **figures}) + "\n")
        self._file.flush()
        if self._groups is not None:
            rows = [
                {"step": step.number, "prompt": group.prompt, "rewards": list(group.rewards)}
                for group in step.collected.groups
            ]
            self._groups.writelines(json.dumps(row) + "\n" for row in rows)
            self._groups.flush()
        for writer in self._writers:
            for name, value in figures.items():
                writer.add_scalar(_plain(name), value, step.number)
        if self._wandb is not None:
            self._wandb.log(figures, step=step.number)
        return figures

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if self._groups is not None:
            self._groups.close()
        for writer in self._writers:
            writer.close()
        if self._wandb is not None:
            self._wandb.finish(exit_code=0 if error is None else 1)


def _resumed(path: Path, after: int) -> Iterator[Any]:
    """Drop the rows of later steps from a log, which may not be there yet; yield the others as they are kept."""
    rewritten = path.with_suffix(".partial")
    path.touch()
    with path.open() as lines, rewritten.open("w") as kept:
        for line in lines:
            try:
                row = json.loads(line)
            except ValueError:  # the last line of a process that was killed
                continue
            if row["step"] <= after:
                kept.write(line.rstrip("\n") + "\n")
                yield row
    rewritten.replace(path)


class Screen:
    """A bar and a line on a terminal; in a log, one line a step."""

    def __init__(self, console: Console, first: int, last: int) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(bar_width=12),
            TextColumn("{task.description}"),
            TimeRemainingColumn(compact=True),
            console=console,
        )
        self._task = self._progress.add_task("", total=last, completed=first - 1)

    def show(self, step: TrainingStep, accuracy: float | None) -> None:
        """Show a finished step."""
        line = describe(step, accuracy)
        self._progress.update(self._task, completed=step.number, description=line)
        if accuracy is not None or not self._console.is_terminal:
            self._console.print(f"step {step.number}: {line}", markup=False, highlight=False, soft_wrap=True)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._progress.stop()


def describe(step: TrainingStep, accuracy: float | None = None) -> str:
    """Return a step in a line."""
    collected, seconds = step.collected, step.seconds
    parts = [f"{len(collected.effective)}/{len(collected.groups)} groups effective"]
    if skipped := collected.skipped.easy + collected.skipped.hard:
        parts.append(f"{skipped} skipped")
    parts.append("no update" if step.update is None else f"loss {step.update.loss:+.4f}")
    if collected.failed:
        parts.append(f"{collected.failed} groups failed ({step.failed_rewards} rewards)")
    if collected.degraded:
        parts.append("service away")
    if accuracy is not None:
        parts.append(f"accuracy {accuracy:.3f}")
    parts.append(f"rollout {seconds.rollout:.1f} s, update {seconds.update:.1f} s")
    return ", ".join(parts)


def _mean(values: list[Any]) -> float:
    return float(sum(values) / len(values)) if values else math.nan


def _plain(name: str) -> str:
    """Return a name that TensorBoard takes: labels become parts of it."""
    return name.replace('{kind="', "/").replace('{outcome="', "/").replace('"}', "")


def _require(package: str, otherwise: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise LogError(f"{package} is not installed; run: pip install {package}, {otherwise}")
