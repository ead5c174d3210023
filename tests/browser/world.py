"""Runs for the page to show: a simulated policy that learns, trained through the HTTP API of a real service.

The world is that of tests/e2e/test_simulated_run.py, vectorised: prompts with a difficulty each, a policy with one
number, its skill; a rollout succeeds with probability sigmoid(2 * (skill - difficulty)); three prompts in ten can't be
learnt.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tests.servers import Service

GROUP = 8
HOSTILE = [
    "<script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    "a/b/../c?d=e#f&g=h",
    "100%25 of %2F",
    "\u202eright to left\u202c",
    "\u6570\u5b66 \U0001f9ee e\u0301",
    "two\nlines\tand a tab",
    "' OR 1=1; --",
    "w" * 256,
    "javascript:alert(1)",
    " leading and trailing ",
]


@dataclass
class World:
    """One run: its prompts and the policy that learns from them."""

    service: Service
    run: str
    names: list[str]
    seed: int = 1
    skill: float = 0.0
    step: int = 0
    learning: float = 0.03
    bonus: float = 0.0
    """Shapes the reward: every response gets up to so much more, by chance."""
    difficulty: dict[str, float] = field(default_factory=dict)

    def create(self, **spec: Any) -> World:
        """Create the run with its pool."""
        self.rng = np.random.default_rng(self.seed)
        drawn = self.rng.normal(1.5, 2.5, len(self.names))
        drawn[self.rng.random(len(self.names)) < 0.3] = np.inf
        self.difficulty = dict(zip(self.names, drawn.tolist(), strict=True))
        self.service.json("PUT", f"/v1/runs/{self.run}", {"group_size": GROUP, "seed": self.seed, **spec})
        lines = "\n".join(map(json.dumps, self.names)).encode()
        uploaded = self.service.http.put(
            f"/v1/runs/{self.run}/pool", content=lines, headers={"Content-Type": "application/x-ndjson"}, timeout=120
        )
        assert uploaded.is_success, uploaded.text[:500]
        return self

    def train(self, steps: int, rounds: int = 8) -> None:
        """So many optimiser steps, each of as many rounds as it takes."""
        for _ in range(steps):
            self.step += 1
            complete, means = False, np.zeros(0)
            for _ in range(rounds):
                prompts = self.service.json("POST", f"/v1/runs/{self.run}/draw", {"step": self.step})["prompts"]
                rewards = self.rewards(prompts)
                groups = zip(prompts, rewards.tolist(), strict=True)
                results = [{"prompt": prompt, "rewards": row} for prompt, row in groups]
                body = {"step": self.step, "results": results}
                told = self.service.json("POST", f"/v1/runs/{self.run}/report", body)
                means = np.append(means, rewards.mean(axis=1)[told["effective"]])
                complete = told["step"]["complete"]
                if complete:
                    break
            if not complete:
                body = {"step": self.step, "results": [], "final": True}
                self.service.json("POST", f"/v1/runs/{self.run}/report", body)
            self.skill += self.learning * float(np.mean(4 * means * (1 - means))) if means.size else 0.0

    def rewards(self, prompts: list[str]) -> NDArray[np.float64]:
        """A group of each prompt: (prompts, GROUP) of 0 and 1, plus the bonus."""
        away = np.array([self.difficulty[prompt] for prompt in prompts]) - self.skill
        chance = 1 / (1 + np.exp(np.minimum(2.0 * away, 700.0)))
        shape = (len(prompts), GROUP)
        return (self.rng.random(shape) < chance[:, None]) + self.bonus * self.rng.random(shape)


def questions(count: int) -> list[str]:
    """Ids as data sets have them."""
    return [f"dapo-math/{number:07d}" for number in range(count)]


def report_only(service: Service, run: str, steps: int) -> None:
    """A run that is only told of its groups, one effective and one hard in each step."""
    service.json("PUT", f"/v1/runs/{run}", {"train_batch_size": 1})
    groups = [{"prompt": "a", "rewards": [0, 1]}, {"prompt": "b", "rewards": [0, 0]}]
    for step in range(steps):
        service.json("POST", f"/v1/runs/{run}/report", {"step": step, "results": groups})
