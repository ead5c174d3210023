"""What a trainer does without a service: a dictionary of reward histories and a loop over the candidates.

Written as trainers write it, after the description of the rule: the streak is counted anew from the prompt's groups,
and each decision takes a random tensor of its own. Without torch `random` stands in, which is faster.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

try:
    import torch

    def _uniform() -> float:
        return torch.rand(1).item()

    NAME = "in-process loop"
except ModuleNotFoundError:

    def _uniform() -> float:
        return random.random()

    NAME = "in-process loop (no torch)"


class Loop:
    """The history of a training: of each prompt the rewards of its groups, oldest first."""

    def __init__(self, base: float = 0.5) -> None:
        self._groups: dict[str, list[list[float]]] = {}
        self._base = base

    def report(self, prompt: str, rewards: list[float]) -> None:
        """Note a group."""
        self._groups.setdefault(prompt, []).append(rewards)

    def select(self, prompts: Sequence[str]) -> list[int]:
        """Places of the candidates to roll out."""
        kept = []
        for place, prompt in enumerate(prompts):
            streak = 0
            for rewards in reversed(self._groups.get(prompt, [])):
                if min(rewards) != max(rewards):
                    break
                streak += 1
            if _uniform() < self._base**streak:
                kept.append(place)
        return kept
