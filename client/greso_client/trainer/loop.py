"""The training loop: ask the service, roll out, report, learn; one step after the other, nothing hidden."""

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from greso_client import Client, Collected, Rollout
from greso_client.trainer.grpo import Learner, Update, make_batch
from greso_client.trainer.rollout import Completions, TorchEngine
from greso_client.trainer.task import Problem, encode, reward

logger = logging.getLogger(__name__)

Reward = Callable[[Problem, Sequence[int]], float]


@dataclass(frozen=True, slots=True)
class TrainingStep:
    """A finished step: what was collected for it, the update (None without an effective group), seconds in rollout."""

    number: int
    collected: Collected[Completions]
    update: Update | None
    rollout_seconds: float


def train(
    client: Client,
    engine: TorchEngine,
    learner: Learner,
    problems: Mapping[str, Problem],
    *,
    steps: int,
    group_size: int,
    train_batch_size: int,
    max_rounds: int,
) -> Iterator[TrainingStep]:
    """Train for at most `steps` steps on the prompts that the service draws from its pool; yield each when it is done.

    `problems` names every prompt of the pool. A step rolls out `group_size` completions a prompt, for at most
    `max_rounds` rounds until `train_batch_size` groups are effective, and learns from that many of them.
    """
    for number in range(1, steps + 1):
        rollout_seconds = 0.0

        def rollout(prompts: list[str]) -> list[Rollout[Completions] | None]:
            nonlocal rollout_seconds
            started = time.perf_counter()
            asked = [problems[prompt] for prompt in prompts]
            groups = engine.generate([encode(problem.question) for problem in asked], group_size)
            scored = [score(problem, group) for problem, group in zip(asked, groups, strict=True)]
            rollout_seconds += time.perf_counter() - started
            return scored

        collected = client.collect(number, rollout, max_rounds=max_rounds)
        groups = [(group.data, group.rewards) for group in collected.effective[:train_batch_size]]
        update = learner.update(make_batch(groups)) if groups else None
        yield TrainingStep(number, collected, update, rollout_seconds)


def score(problem: Problem, completions: Completions, reward: Reward = reward) -> Rollout[Completions] | None:
    """Reward each completion; leave out those whose reward raises or is not finite. None when nothing is left."""
    rewards: list[float] = []
    rows: list[int] = []
    for row, answer in enumerate(completions.answers()):
        try:
            value = reward(problem, answer)
        except Exception:
            logger.exception("the reward of %s failed; its completion is left out", problem.id)
            continue
        if math.isfinite(value):
            rewards.append(value)
            rows.append(row)
        else:
            logger.warning("the reward of %s is %s; its completion is left out", problem.id, value)
    return Rollout(rewards=rewards, data=completions.keep(rows)) if rows else None
