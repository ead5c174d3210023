"""The training loop: ask the service, roll out, report, learn; one step after the other, nothing hidden.

The lines that matter to a trainer of your own: `RollOut` is what happens to the prompts that the service chose, and
`collect` calls it, round after round, until the step has its effective groups.
"""

import hashlib
import logging
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from greso_client import Client, Collected, Rollout
from greso_client.trainer.engine import Completion, Engine, Sampling
from greso_client.trainer.grpo import Learner, ScoredGroup, Update
from greso_client.trainer.ranks import ALONE, Ranks
from greso_client.trainer.task import Encode, Problem, Reward, Task, TaskError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Seconds:
    """Where a step's wall-clock time went. `update` includes handing the new weights to the engine."""

    rollout: float
    reward: float
    update: float
    service: float


@dataclass(frozen=True, slots=True)
class TrainingStep:
    """A finished step.

    `collected`: what was rolled out for it. `update`: None without an effective group. `learned`: groups that went
    into the update. `failed_rewards`: completions whose reward raised or was not finite; each costs its whole group,
    and `collected.failed` counts those. `seconds`: of this rank.
    """

    number: int
    collected: Collected[ScoredGroup]
    update: Update | None
    learned: int
    failed_rewards: int
    seconds: Seconds


def train(
    client: Client,
    engine: Engine,
    learner: Learner,
    task: Task,
    encode: Encode,
    *,
    group_size: int,
    train_batch_size: int,
    sampling: Sampling,
    steps: Iterable[int],
    max_rounds: int = 10,
    ranks: Ranks = ALONE,
) -> Iterator[TrainingStep]:
    """Train on the prompts that the service draws from its pool, the ids of `task.pool`; yield each step when done.

    A step rolls out `group_size` completions a prompt, for at most `max_rounds` rounds until `train_batch_size` groups
    are effective, and learns from that many of them. `steps`: their numbers, ascending; endless if you like.
    `sampling.seed` fixes all rollouts: each round's seed follows from it, the step, the round and the rank.

    Raises `EngineError`, `TaskError` when the service draws a prompt that is not in `task.pool`, and what
    `Client.collect` raises.
    """
    problems = {problem.id: problem for problem in task.pool}
    updating = 0.0
    for number in steps:
        roll_out = RollOut(engine, problems, encode, task.reward, group_size, sampling, number, ranks.rank)
        collected = ranks.collect(client, number, roll_out, max_rounds=max_rounds, update_seconds=updating)

        started = time.perf_counter()
        groups = [group.data for group in collected.effective[:train_batch_size]]
        update = None
        if groups:
            update = learner.update(groups)
            engine.sync_weights(learner.model.state_dict())
        seconds = Seconds(
            rollout=roll_out.generating,
            reward=roll_out.rewarding,
            update=time.perf_counter() - started,
            service=collected.service_seconds,
        )
        updating = seconds.update
        failures = [failure for each in ranks.gather(roll_out.failures) for failure in each]
        if failures:
            logger.warning(
                "%d groups failed, %d completions of them could not be rewarded; the first: %s",
                collected.failed, len(failures), failures[0],
            )  # fmt: skip
        yield TrainingStep(number, collected, update, len(groups), len(failures), seconds)


@dataclass(slots=True)
class RollOut:
    """What happens to the prompts that the service chose for one step, round after round: sampled, then rewarded.

    `generating`, `rewarding`: seconds so far. `failures`: of each completion that could not be rewarded, why.
    """

    engine: Engine
    problems: Mapping[str, Problem]
    encode: Encode
    reward: Reward
    group_size: int
    sampling: Sampling
    step: int
    rank: int = 0
    rounds: int = 0
    generating: float = 0.0
    rewarding: float = 0.0
    failures: list[str] = field(default_factory=list)

    def __call__(self, prompts: Sequence[str]) -> list[Rollout[ScoredGroup] | None]:
        """Roll out one round; one item a prompt, None where a completion could not be rewarded: that group failed.

        Rewarding the rest of such a group would show the service another prompt: where wrong answers are what breaks
        the reward, a hard one would look solved.
        """
        asked = [self._problem(prompt) for prompt in prompts]
        tokens = [self.encode(problem.question) for problem in asked]
        self.rounds += 1
        sampling = replace(self.sampling, seed=round_seed(self.sampling.seed, self.step, self.rounds, self.rank))

        started = time.perf_counter()
        groups = self.engine.generate(tokens, self.group_size, sampling)
        generated = time.perf_counter()
        scored = [score(*each, self.reward) for each in zip(asked, tokens, groups, strict=True)]
        self.generating += generated - started
        self.rewarding += time.perf_counter() - generated

        self.failures += [failure for group in scored for failure in group.failures]
        return [None if group.failures else Rollout(group.rewards, group) for group in scored]

    def _problem(self, prompt: str) -> Problem:
        if prompt not in self.problems:
            raise TaskError(
                f"the service drew the prompt {prompt!r}, which is not among the problems; its pool holds prompts that "
                "were added by somebody else: give another --run, or the problems with it"
            )
        return self.problems[prompt]


def score(problem: Problem, prompt: list[int], completions: Sequence[Completion], reward: Reward) -> ScoredGroup:
    """Reward each completion; leave out those whose reward raises or is not finite, and say so in `failures`."""
    group = ScoredGroup(prompt, [], [], [])
    for completion in completions:
        try:
            value = float(reward(problem, completion))
        except Exception as error:  # noqa: BLE001 - the reward is the user's; one answer that breaks it must not end all
            group.failures.append(f"the reward of {problem.id} raised {error!r}")
            continue
        if math.isfinite(value):
            group.completions.append(completion)
            group.rewards.append(value)
        else:
            group.failures.append(f"the reward of {problem.id} is {value}")
    return group


def round_seed(seed: int | None, step: int, round_number: int, rank: int) -> int | None:
    """Return the seed of one round's sampling on one rank: the same after a restart, so nothing is to be saved."""
    if seed is None:
        return None
    digest = hashlib.sha256(f"{seed}/{step}/{round_number}/{rank}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1  # 63 bits: torch and vLLM take signed 64-bit seeds
