"""What is learnt: problems with their reference answers, and a reward that judges a completion."""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from greso_client.trainer.engine import Completion

ID_DIGITS = 16  # of the hash: 64 bits, so that two of a billion questions share one with a chance of 3 %
SHOWN = 3  # examples in a message

Encode = Callable[[str], list[int]]
"""Turns a question into the prompt's token ids, chat template included; `model.prompt_encoder` makes one."""


class TaskError(Exception):
    """The problems can't be trained on. The message is one line and says what to do."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One question with its reference answer, both as text. `id`: the same in every epoch and after a restart."""

    id: str
    question: str
    answer: str


Reward = Callable[[Problem, Completion], float]
"""Judges one completion: 1.0 for right, 0.0 for wrong. Not a reward shaped by length or format: see docs/trainer.md."""


@dataclass(frozen=True, slots=True)
class Task:
    """Problems to train on (`pool`), others to measure by (`held_out`, may be empty), and the reward."""

    name: str
    pool: list[Problem]
    held_out: list[Problem]
    reward: Reward

    def __post_init__(self) -> None:
        """Raises `TaskError` when nothing is to train on, an id stands twice or a held-out question is in the pool."""
        if not self.pool:
            raise TaskError(f"{self.name}: there is no problem to train on")
        _require_distinct_ids(self)
        _require_unseen(self)


def content_id(question: str) -> str:
    """Return an id that depends on the question alone: the beginning of its SHA-256."""
    return hashlib.sha256(question.encode()).hexdigest()[:ID_DIGITS]


def hold_out(problems: Sequence[Problem], count: int) -> tuple[list[Problem], list[Problem]]:
    """Split into the rest and `count` held-out problems: the same ones each time, whatever their order in the file."""
    chosen = set(sorted((problem.id for problem in problems), key=content_id)[:count])
    return [p for p in problems if p.id not in chosen], [p for p in problems if p.id in chosen]


def without_long_prompts(task: Task, encode: Encode, longest: int) -> tuple[Task, int]:
    """Leave out problems whose prompt has more than `longest` tokens; return the rest, and how many of the pool went.

    Raises `TaskError` when none of the pool is left.
    """

    def fitting(problems: Sequence[Problem]) -> list[Problem]:
        return [problem for problem in problems if len(encode(problem.question)) <= longest]

    pool = fitting(task.pool)
    if not pool:
        raise TaskError(
            f"{task.name}: each of the {len(task.pool)} prompts is longer than the {longest} tokens that the context "
            "leaves beside a completion; lower --max-tokens or take a model with a longer context"
        )
    return replace(task, pool=pool, held_out=fitting(task.held_out)), len(task.pool) - len(pool)


def _require_distinct_ids(task: Task) -> None:
    counts = Counter(problem.id for problem in task.pool)
    if len(task.pool) > 1 and len(counts) == 1:
        raise TaskError(
            f"{task.name}: all {len(task.pool)} problems have the id {task.pool[0].id!r}; name a field that tells them "
            "apart with --id-field, or leave the ids out: they are then made from the questions"
        )
    twice = [problem for problem, count in counts.items() if count > 1]
    if twice:
        raise TaskError(
            f"{task.name}: {len(twice)} ids stand more than once ({_some(twice)}); the history of a prompt is kept "
            "under its id, so each problem needs its own"
        )


def _require_unseen(task: Task) -> None:
    """Questions are compared and not ids: files of a train and a test set often count from 0, each of them."""
    questions = {problem.question.strip() for problem in task.pool}
    both = [problem.id for problem in task.held_out if problem.question.strip() in questions]
    if both:
        raise TaskError(f"{task.name}: {len(both)} held-out problems are in the pool too ({_some(both)})")


def _some(ids: Sequence[str]) -> str:
    return ", ".join(ids[:SHOWN]) + (", ..." if len(ids) > SHOWN else "")
