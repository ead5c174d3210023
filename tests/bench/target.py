"""`python -m tests.bench.target`: rollouts to the same skill with fixed targets and with one that tunes itself.

A simulated training over the service's own fold. A response to prompt i is right with probability
sigmoid(ability + own_i - difficulty_i). A step learns from its first B_t effective groups: each moves the ability, less
so the more often its prompt was learnt from, and its prompt's own part. What is counted: responses until the ability
has grown so far.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from tests.folding import fold, pool, run

from greso_service import plans
from greso_service.core import controller
from greso_service.core.events import Reported
from greso_service.core.outcome import Rewards
from greso_service.core.spec import AUTO
from greso_service.core.state import RunState

TRAIN, ROLLOUT, GROUP, ROUNDS = 16, 24, 8, 6
RATE = 0.006  # ability for a step's fresh effective groups
OWN = 0.05  # a prompt's own gain for each group learnt from
WEAR = 0.03  # the n-th lesson of a prompt counts 1 / (1 + WEAR * n)
TARGETS: tuple[float | str, ...] = (0.05, 0.1, 0.25, 0.5, AUTO)


@dataclass(frozen=True)
class World:
    """Prompts whose difficulties are normal; shares of them are never or always solved. `goal`: ability to reach."""

    name: str
    prompts: int
    mean: float
    deviation: float
    never: float = 0.0
    always: float = 0.0
    goal: float = 1.5

    def difficulties(self, dice: np.random.Generator) -> NDArray[np.float64]:
        """float64[prompts]."""
        drawn = dice.normal(self.mean, self.deviation, self.prompts)
        chance = dice.random(self.prompts)
        drawn[chance < self.never] = 60
        drawn[chance > 1 - self.always] = -60
        return drawn


WORLDS = (
    World("mixed pool", 600, 0, 3),
    World("easy pool", 600, -4, 2.5, goal=0.6),
    World("hard pool", 600, 5, 2.5),
    World("half unlearnable", 600, 1, 2, never=0.5),
    World("unlearnable and solved, 35 % each", 600, 1, 2, never=0.35, always=0.35, goal=1.2),
    World("large pool, half unlearnable", 3000, 1, 2, never=0.5),
    World("small pool", 120, 1, 2, goal=1.0),
    World("90 % unlearnable, near exhaustion", 1500, 1, 2, never=0.9, goal=1.0),
)


@dataclass
class Training:
    """One training; `rollouts`: responses so far."""

    world: World
    target: float | str
    seed: int
    ability: float = 0.0
    rollouts: int = 0
    steps: int = 0

    def __post_init__(self) -> None:
        self.dice = np.random.default_rng(self.seed)
        self.difficulty = self.world.difficulties(self.dice)
        self.own = np.zeros(self.world.prompts)
        self.learnt = np.zeros(self.world.prompts)
        spec: dict[str, Any] = {"train_batch_size": TRAIN, "rollout_batch_size": ROLLOUT, "group_size": GROUP}
        self.state: RunState = run(seed=self.seed, target_zero_variance=self.target, **spec)
        pool(self.state, [str(number) for number in range(self.world.prompts)])  # a prompt's index is its number

    def finish(self, most_steps: int) -> Training:
        """Train until the goal, or for so many steps."""
        while self.ability < self.world.goal and self.steps < most_steps:
            self.step()
        return self

    def step(self) -> None:
        """One step of at most `ROUNDS` rounds."""
        count, effective = ROLLOUT, 0
        for number in range(ROUNDS):
            plan = plans.draw(self.state, self.steps, count)
            fold(self.state, plan.events)
            index = np.array([int(name) for name in orjson.loads(plan.answer)["prompts"]], np.int64)
            right = self.roll_out(index)
            final = number == ROUNDS - 1 or not index.size
            rewards = Rewards(np.full(index.size, GROUP, np.uint16), right.astype(np.float64).ravel())
            fold(self.state, [Reported(self.steps, final, [], index, rewards)])
            earned = right.sum(1)
            taught = index[(earned > 0) & (earned < GROUP)][: TRAIN - effective]
            effective += taught.size
            for prompt in taught:
                self.learn(prompt)
            if self.state.progress.complete:
                break
            count = controller.next_rollout_batch_size(self.state.progress, self.state.spec, self.steps)
        self.steps += 1

    def roll_out(self, index: NDArray[np.int64]) -> NDArray[np.bool_]:
        """bool[n, GROUP]: which responses are right."""
        solved = 1 / (1 + np.exp(self.difficulty[index] - self.own[index] - self.ability))
        self.rollouts += index.size * GROUP
        right: NDArray[np.bool_] = self.dice.random((index.size, GROUP)) < solved[:, None]
        return right

    def learn(self, prompt: int) -> None:
        """Learn from an effective group."""
        self.ability += RATE / TRAIN / (1 + WEAR * self.learnt[prompt])
        self.learnt[prompt] += 1
        self.own[prompt] += OWN


def rows(worlds: tuple[World, ...], seeds: int, most_steps: int) -> Iterator[tuple[World, list[tuple[float, float]]]]:
    """For each world, mean rollouts to the goal (as if it went on like that, where it is not reached) and steps."""
    for world in worlds:
        found = []
        for target in TARGETS:
            trainings = [Training(world, target, seed).finish(most_steps) for seed in range(seeds)]
            scaled = [each.rollouts * max(world.goal / max(each.ability, 1e-9), 1) for each in trainings]
            found.append((fmean(scaled), fmean(each.steps for each in trainings)))
        yield world, found


def main() -> None:
    """Train and print the table, a world at a time."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.target", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each kind (default %(default)s)")
    parser.add_argument("--steps", type=int, default=800, help="of a training, at most (default %(default)s)")
    asked = parser.parse_args()
    console = Console()
    table = Table(title="rollouts (optimiser steps) to the same ability, thousands", title_justify="left")
    for name in ("world", *map(str, TARGETS), "auto / best", "auto / worst"):
        table.add_column(name, justify="left" if name == "world" else "right")
    for world, found in rows(WORLDS, asked.seeds, asked.steps):
        fixed, tuned = [rollouts for rollouts, _ in found[:-1]], found[-1][0]
        cells = [f"{rollouts / 1000:.1f} ({steps:.0f})" for rollouts, steps in found]
        table.add_row(world.name, *cells, f"{tuned / min(fixed):.2f}", f"{tuned / max(fixed):.2f}")
        console.print(world.name, *cells, f"{tuned / min(fixed):.2f}", f"{tuned / max(fixed):.2f}")
    console.print(table)


if __name__ == "__main__":
    main()
