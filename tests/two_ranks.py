"""What each of two ranks does in tests/unit/test_trainer_ranks.py: ``python -m tests.two_ranks FOLDER``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from greso_client import Collected, CollectedGroup, Rollout, Skipped
from greso_client.trainer.engine import Completion, EngineError, Sampling
from greso_client.trainer.grpo import Learner, Objective, ScoredGroup
from greso_client.trainer.loop import train
from greso_client.trainer.model import prompt_encoder
from greso_client.trainer.ranks import RankError, Ranks
from greso_client.trainer.task import Problem, Task
from greso_client.trainer.torch_engine import TorchEngine

from .training import SUMS, TOKENIZER, tiny_model

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from transformers import PreTrainedModel


class TwoRounds:
    """Plays the client: asks for two rounds, and takes every other group for effective."""

    def collect(
        self,
        step: int,
        roll_out: Callable[[list[str]], Sequence[Rollout[str] | None]],
        *,
        max_rounds: int,
        update_seconds: float,
    ) -> Collected[str]:
        """One step."""
        rolled = [
            (prompt, result)
            for prompts in (["a", "b", "c"], ["d"])
            for prompt, result in zip(prompts, roll_out(prompts), strict=True)
        ]
        found = [CollectedGroup(prompt, result.rewards, result.data) for prompt, result in rolled if result]
        return Collected(
            step=step, effective=found[::2], groups=found, rounds=2, rollouts=8, examined=4, skipped=Skipped(),
            failed=4 - len(found), complete=True, reason="complete", degraded=False, service_seconds=0.0,
        )  # fmt: skip


def groups(model: PreTrainedModel) -> list[ScoredGroup]:
    """Five groups of four completions."""
    encode = prompt_encoder(TOKENIZER)
    prompts = [encode(text) for text in ("12+34=", " 1+ 2=", "99+ 1=", " 7+ 7=", "10+10=")]
    sampled = TorchEngine(model, TOKENIZER).generate(prompts, 4, Sampling(SUMS.answer_tokens, seed=0))
    return [
        ScoredGroup(prompt, completions, [float(i == place % 4) for i in range(4)])
        for place, (prompt, completions) in enumerate(zip(prompts, sampled, strict=True))
    ]


def update(ranks: Ranks) -> dict[str, Any]:
    """Two updates, the second from a single group, of which the second rank gets no share."""
    model = tiny_model(seed=1 + ranks.rank)  # the second one's weights differ until they are shared
    ranks.share_weights(model)
    given = groups(model)
    learner = Learner(
        model, learning_rate=1e-3, warm_up_steps=1, objective=Objective(kl=0.1, clip_low=0.01, clip_high=0.01),
        micro_batch=3, mini_batches=2, ranks=ranks,
    )  # fmt: skip
    updates = [learner.update(given), learner.update(given[:1])]
    return {
        "updates": [[each.loss, each.gradient_norm, each.clipped, each.kl, each.tokens] for each in updates],
        "weights": {name: value.tolist() for name, value in model.state_dict().items()},
    }


def collect(ranks: Ranks) -> dict[str, Any]:
    """One step; the rollout of prompt b fails."""
    asked: list[list[str]] = []

    def roll_out(prompts: list[str]) -> list[Rollout[str] | None]:
        asked.append(prompts)
        return [None if prompt == "b" else Rollout([1.0, 0.0], f"{prompt} by {ranks.rank}") for prompt in prompts]

    collected = ranks.collect(TwoRounds(), 7, roll_out, max_rounds=2)  # type: ignore[arg-type]  # plays a client
    return {
        "asked": asked,
        "step": collected.step,
        "effective": [[group.prompt, group.data] for group in collected.effective],
        "groups": [[group.prompt, group.data] for group in collected.groups],
        "failed": collected.failed,
    }


def fail(ranks: Ranks, bad_rank: int) -> str:
    """One step in which a rank's engine dies; what this rank is told."""

    def roll_out(prompts: list[str]) -> list[Rollout[str] | None]:
        if ranks.rank == bad_rank:
            raise EngineError("the engine died")
        return [Rollout([1.0], "") for _ in prompts]

    try:
        ranks.collect(TwoRounds(), 7, roll_out, max_rounds=2)  # type: ignore[arg-type]  # plays a client
    except RankError as error:
        return str(error)
    return "nothing"


def failures(ranks: Ranks) -> list[int]:
    """One step of the loop in which each rank's rewards fail; groups and rewards that this rank counts as failed."""
    problems = [Problem(name, "12+34=", "") for name in "abcd"]
    model = tiny_model()

    def reward(problem: Problem, completion: Completion) -> float:
        if problem.id in {"b", "c"}:  # one of each rank's share in the first round
            raise ValueError("no verdict")
        return 0.0

    (step,) = train(
        TwoRounds(), TorchEngine(model, TOKENIZER), Learner(model, learning_rate=0.0, ranks=ranks),  # type: ignore[arg-type]
        Task("t", problems, [], reward), prompt_encoder(TOKENIZER),
        group_size=2, train_batch_size=1, sampling=Sampling(SUMS.answer_tokens, seed=1), steps=[7], ranks=ranks,
    )  # fmt: skip
    return [step.collected.failed, step.failed_rewards]


def lonely(ranks: Ranks) -> str:
    """What the first rank is told when the second one ends without a word."""
    if not ranks.first:
        return "nothing"
    try:
        ranks.add(torch.zeros(1))
    except RankError as error:
        return str(error)
    return "nothing"


def main(folder: Path) -> None:
    """Do all of it and write down what came out."""
    torch.set_num_threads(1)
    ranks = Ranks.join()
    told = {
        "update": update(ranks),
        "collect": collect(ranks),
        "fail": [fail(ranks, bad_rank) for bad_rank in (0, 1)],
        "failures": failures(ranks),
        "lonely": lonely(ranks),
    }
    (folder / f"{ranks.rank}.json").write_text(json.dumps(told))
    ranks.leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
