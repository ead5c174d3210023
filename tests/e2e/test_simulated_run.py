"""A simulated training run through select and report: how many rollouts the same skill costs.

The world: a policy with one number, its skill; prompts with a difficulty each; a rollout succeeds with probability
sigmoid(SLOPE * (skill - difficulty)); three prompts in ten can't be learnt at all (their answers are wrong). At the
start about 72 % of the groups are all wrong, 7 % all right and 21 % mixed, at the target 43, 32 and 25 %. A step
trains on its first B_t effective groups and raises the skill in proportion to their mean reward variance, in all arms
alike: a group with as many right as wrong teaches most, so an arm that skipped its way to cheap groups would pay for
it in steps.

What the ratio depends on, so that nobody reads it as a promise: at equal steps it can't exceed (effective share with
the filter) / (effective share without) times what full batches waste on a step that lacks a few groups. So it grows
with the useless part of the pool and with the epochs (the first one filters nothing, and p_easy and p_hard move 0.01
a step). In a milder world (a fifth unlearnable, SLOPE 1.6, deviation 2.4, target 2.0: 63 % wrong and 30 % mixed at
first) it is 2.0 to 2.2 only. The arm `uniform, adaptive` shows how much of it the batch size brings alone.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .oracle.service import Service

POOL, GROUP, TRAIN, ROLLOUT = 1600, 8, 64, 96
SLOPE, LEARNING_RATE, TARGET_SKILL, MOST_STEPS = 2.0, 0.028, 3.0, 400
WANTED_RATIO = 2.5


class Asked(Protocol):
    """The two calls that a trainer needs; the service over HTTP, or anything that answers like it."""

    def __call__(self, verb: str, body: dict[str, Any]) -> Any: ...


@dataclass
class World:
    """One pool of prompts and one policy that learns from them."""

    seed: int
    skill: float = 0.0
    difficulty: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rng = Random(self.seed)
        for at in range(POOL):
            unlearnable = rng.random() < 0.3
            self.difficulty[f"task/{at}"] = math.inf if unlearnable else rng.gauss(2.0, 2.5)
        self.rng = Random(self.seed + 1)

    def candidates(self) -> Iterator[str]:
        """Shuffled epochs without an end."""
        names = list(self.difficulty)
        while True:
            self.rng.shuffle(names)
            yield from names

    def rollout(self, prompt: str) -> list[int]:
        """The rewards of one group."""
        chance = 1 / (1 + math.exp(min(700.0, SLOPE * (self.difficulty[prompt] - self.skill))))
        return [int(self.rng.random() < chance) for _ in range(GROUP)]

    def train(self, groups: list[list[int]]) -> None:
        """One optimiser step on effective groups."""
        means = [sum(rewards) / len(rewards) for rewards in groups]
        self.skill += LEARNING_RATE * sum(4 * mean * (1 - mean) for mean in means) / len(means)


@dataclass
class Cost:
    """What an arm paid for the target skill."""

    steps: int
    rollouts: int
    effective_share: float


def run_arm(ask: Asked, world: World, *, adaptive: bool) -> Cost:
    """Train to the target skill; a step is rounds of select, rollout, report until the service calls it complete."""
    stream, offered = world.candidates(), list[str]()
    groups = effective = 0
    for step in range(1, MOST_STEPS):
        batch, useful, complete = ROLLOUT, list[list[int]](), False
        while not complete:
            offered += [next(stream) for _ in range(max(ROLLOUT, 3 * batch) - len(offered))]
            told = ask("select", {"step": step, "prompts": offered, "limit": batch})
            chosen = [offered[at] for at in told["selected"]]
            del offered[: told["examined"]]
            results = [{"prompt": prompt, "rewards": world.rollout(prompt)} for prompt in chosen]
            told = ask("report", {"step": step, "results": results})
            useful += [results[at]["rewards"] for at in told["effective"]]
            complete = told["step"]["complete"]
            groups += len(results)
            batch = told["next_rollout_batch_size"] if adaptive else ROLLOUT
        effective += len(useful)
        world.train(useful[:TRAIN])
        if world.skill >= TARGET_SKILL:
            return Cost(step, groups * GROUP, effective / groups)
    raise AssertionError(f"the skill is {world.skill:.2f} after {MOST_STEPS} steps")


# Policy, and whether rounds have the size that the service proposes; the first is what the others are measured against.
ARMS = {
    "uniform, full batches": ("uniform", False),
    "greso, adaptive": ("greso", True),
    "uniform, adaptive": ("uniform", True),
}


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_the_same_skill_costs_at_least_two_and_a_half_times_fewer_rollouts(
    served: Service, name: str, seed: int
) -> None:
    compare_arms(served, name, seed)


def compare_arms(served: Service, name: str, seed: int) -> None:
    """Run the arms from the same start, print what each cost, and check the ratio."""
    spec = {"group_size": GROUP, "train_batch_size": TRAIN, "rollout_batch_size": ROLLOUT, "seed": seed}
    costs = {}
    for arm, (policy, adaptive) in ARMS.items():
        path = served.create(f"{name}-{policy}-{adaptive}", policy=policy, **spec)

        def ask(verb: str, body: dict[str, Any], path: str = path) -> Any:
            return served.json("POST", f"{path}/{verb}", body)

        costs[arm] = run_arm(ask, World(seed), adaptive=adaptive)
        assert served.json("GET", path)["totals"]["rollouts"] == costs[arm].rollouts
    sys.stdout.write(f"\nseed {seed}: rollouts to skill {TARGET_SKILL} from a pool of {POOL} prompts\n")
    base = costs["uniform, full batches"].rollouts
    for arm, cost in costs.items():
        share, ratio = f"{cost.effective_share:.0%} effective", f"{base / cost.rollouts:.2f}x fewer"
        sys.stdout.write(f"  {arm:22} {cost.steps:4} steps {cost.rollouts:8,} rollouts, {share}, {ratio}\n")
    assert base / costs["greso, adaptive"].rollouts >= WANTED_RATIO
