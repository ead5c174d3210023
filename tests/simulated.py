"""A trainer made of dice, over a RunState without a store: for what is told about runs of any kind."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from greso_service.core.state import RunState

from .folding import draw, pool, report, run, select

Rewarded = Callable[[float, random.Random], float]
Named = Callable[[int, int], str]


def right_or_wrong(solved: float, dice: random.Random) -> float:
    """The reward of one response to a prompt that is solved with this probability."""
    return float(dice.random() < solved)


def plain(prompt: int, _step: int) -> str:
    """A prompt's id, the same in each step."""
    return f"set/{prompt}"


@dataclass
class Trainer:
    """Trains on prompts that are solved with the given probabilities; the run's spec is that of a small training.

    `draws`: the service walks the pool, else the trainer brings candidates; `rounds`: at most, in a step.
    """

    solved: Sequence[float]
    spec: dict[str, Any] = field(default_factory=dict)
    reward: Rewarded = right_or_wrong
    named: Named = plain
    draws: bool = True
    asks: bool = True
    heeds: bool = True
    reports: bool = True
    rounds: int = 8
    state: RunState = field(init=False)
    log: list[tuple[int, str, list[float]]] = field(default_factory=list)  # step, prompt and rewards of each group

    def __post_init__(self) -> None:
        self.dice = random.Random(self.spec.get("seed", 0))
        self.state = run(**{"train_batch_size": 32, "rollout_batch_size": 64, "group_size": 8} | self.spec)
        self.step = 0
        self.offered = self.epochs()
        if self.draws:
            pool(self.state, [plain(prompt, 0) for prompt in range(len(self.solved))])

    def epochs(self) -> Iterable[int]:
        """The prompts in order, again and again."""
        while True:
            yield from self.dice.sample(range(len(self.solved)), len(self.solved))

    def chosen(self, count: int) -> list[int]:
        """So many prompts to roll out, or as many as there are."""
        if self.draws and self.asks:
            return [int(name.rpartition("/")[2]) for name in draw(self.state, self.step, count)["prompts"]]
        kept: list[int] = []
        for _ in range(50):
            candidates = [next(self.offered) for _ in range(count)]  # type: ignore[call-overload]
            if not self.asks:
                return candidates
            names = [self.named(prompt, self.step) for prompt in candidates]
            selected = select(self.state, self.step, names)["selected"]
            kept += candidates if not self.heeds else [candidates[place] for place in selected]
            if len(kept) >= count:
                break
        return kept[:count]

    def train(self, steps: int) -> Trainer:
        """Go on for so many steps."""
        for _ in range(steps):
            count = self.state.spec.rollout_batch_size
            for number in range(self.rounds):
                prompts = self.chosen(count)
                if not self.reports:
                    break
                groups = [(self.named(prompt, self.step), self.group(prompt)) for prompt in prompts]
                self.log += [(self.step, *group) for group in groups]
                answer = report(self.state, self.step, groups, final=number == self.rounds - 1)
                if answer["step"]["complete"]:
                    break
                count = answer["next_rollout_batch_size"]
            self.step += 1
        return self

    def group(self, prompt: int) -> list[float]:
        """The rewards of one group."""
        return [self.reward(self.solved[prompt], self.dice) for _ in range(self.state.spec.group_size)]


def mixture(prompts: int, easy: float, hard: float, middle: float = 0.5) -> list[float]:
    """Solve probabilities of so many prompts, these shares of them always and never solved."""
    sure, never = int(prompts * easy), int(prompts * hard)
    return [1.0] * sure + [0.0] * never + [middle] * (prompts - sure - never)
