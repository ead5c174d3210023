"""Real training through the trainer's loop and a real service, sampled by vLLM: it learns, and stays in step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from greso_client import Client
from greso_client.trainer.engine import Sampling
from greso_client.trainer.grpo import Learner
from greso_client.trainer.loop import train
from greso_client.trainer.model import load_model, prompt_encoder
from greso_client.trainer.task import Problem, Task
from greso_client.trainer.vllm_engine import VllmEngine
from greso_client.trainer.vllm_http import VllmHttpEngine

from .models import Policy, difference

if TYPE_CHECKING:
    from tests.servers import Service

    from greso_client.trainer.engine import Completion, Engine

    from .conftest import Server

STEPS = 6
CLOSE = 1e-4
GREEDY = Sampling(max_tokens=8, temperature=0.0)


def begins_with_a_digit(problem: Problem, completion: Completion) -> float:
    """A reward that a random model earns now and then, and soon learns to earn."""
    return float(completion.text[:1].isdigit())


@pytest.mark.parametrize("place", ["in process", "behind a server"])
def test_it_learns_and_the_engine_has_the_learners_weights_after_each_step(
    place: str, service: Service, servers: dict[str, Server], tied: Policy, run_name: str
) -> None:
    policy = Policy(tied.folder, load_model(tied.folder, device="cpu"), tied.tokenizer)
    engine: Engine
    if place == "in process":
        engine = VllmEngine(policy.folder, policy.tokenizer, policy.ends, max_model_len=128)
    else:
        engine = VllmHttpEngine(servers["trainer"].ready().url, policy.tokenizer, policy.ends)
    engine.sync_weights(policy.model.state_dict())
    pool = [Problem(f"{left}+{right}", f"{left}+{right}=", "") for left in range(8) for right in range(4)]
    task = Task("digits", pool, [], begins_with_a_digit)
    learner = Learner(policy.model, learning_rate=3e-3)
    shares = []
    with Client(service.url, run=f"vllm-{run_name}") as client:
        client.create_run(group_size=8, train_batch_size=12, rollout_batch_size=16, seed=1)
        client.add_prompts([problem.id for problem in pool])
        for step in train(
            client,
            engine,
            learner,
            task,
            prompt_encoder(policy.tokenizer),
            group_size=8,
            train_batch_size=12,
            sampling=Sampling(max_tokens=8, seed=1),
            steps=range(1, STEPS + 1),
            max_rounds=2,
        ):
            rewards = [reward for group in step.collected.groups for reward in group.rewards]
            shares.append(sum(rewards) / len(rewards))
            assert step.update is not None
            # What vLLM says of a token's chance is what the learner finds: the ratio of the first update is 1.
            assert step.update.clipped == 0
            after = difference(engine, policy, GREEDY)
            assert after is not None
            assert after < CLOSE
    engine.close()
    assert shares[-1] > shares[0] + 0.1, shares
