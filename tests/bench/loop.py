"""What a trainer does without a service: a dictionary of reward histories and a loop over the candidates.

Written anew after what the reference implementation does for each candidate (Infini-AI-Lab/GRESO at caf63f4,
DataProfiler.filter_examples_all_probabilistic in verl/trainer/ttis/presampling_selector.py): two decisions one after
the other, of an easy and of a hard prompt, each of which walks back over the prompt's groups for as long as they are of
its kind and takes a random tensor of its own; an id made from the source and the number in it; and a line of the log of
what was skipped. Without torch `random` stands in, which is faster.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from statistics import fmean

try:
    import torch

    def _uniform() -> float:
        return torch.rand(1).item()

    NAME = "in-process loop"
except ModuleNotFoundError:

    def _uniform() -> float:
        return random.random()

    NAME = "in-process loop (no torch)"

# Of means of groups; and the least probability of being kept. The reference's.
_EASY, _HARD, _LEAST = 0.98, 0.11, 0.01
_SKIPPED_EASY, _SKIPPED_HARD, _KEPT = range(3)

Place = tuple[str, int]
"""Of a prompt: its source, and its number in that."""


class Loop:
    """The history of a training: of each prompt (epoch, mean reward) of its groups, oldest first."""

    def __init__(self, base: float = 0.5) -> None:
        self._groups: dict[str, list[tuple[int, float]]] = {}
        self._base = base

    def report(self, at: Place, rewards: Sequence[float]) -> None:
        """Note a group."""
        self._groups.setdefault(_name(at), []).append((0, fmean(rewards)))

    def select(self, prompts: Sequence[Place]) -> tuple[list[int], list[tuple[str, int]]]:
        """Indices of the candidates to roll out, and what became of each."""
        kept: list[int] = []
        log: list[tuple[str, int]] = []
        for index, name in enumerate([_name(at) for at in prompts]):
            if self._is_skipped_as_easy(name):
                log.append((name, _SKIPPED_EASY))
            elif self._is_skipped_as_hard(name):
                log.append((name, _SKIPPED_HARD))
            else:
                kept.append(index)
                log.append((name, _KEPT))
        return kept, log

    def _is_skipped_as_easy(self, name: str) -> bool:
        groups = self._groups.get(name)
        if not groups:
            return False
        streak = 0
        for _, mean in reversed(groups):
            if mean < _EASY:
                break
            streak += 1
        return self._is_skipped(streak)  # a streak of 0 takes a random number, too

    def _is_skipped_as_hard(self, name: str) -> bool:
        groups = self._groups.get(name)
        if not groups or groups[-1][1] > _HARD:
            return False
        streak = 0
        for _, mean in reversed(groups):
            if mean > _HARD:
                break
            streak += 1
        return self._is_skipped(streak)

    def _is_skipped(self, streak: int) -> bool:
        return _uniform() < 1 - max(self._base**streak, _LEAST)


def _name(at: Place) -> str:
    source, number = at
    return f"{source}_{number}"
