"""The training loop against a real service: what is rewarded, what is learnt from, and that a seed fixes it all."""

from __future__ import annotations

import copy
import itertools
import math
from typing import TYPE_CHECKING

import torch

from greso_client import Client
from greso_client.trainer.grpo import Learner
from greso_client.trainer.loop import TrainingStep, score, train
from greso_client.trainer.model import build_model, warm_start
from greso_client.trainer.rollout import Completions, TorchEngine
from greso_client.trainer.task import ANSWER_TOKENS, END, Problem, encode, make_dataset

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.servers import Service

PROBLEM = Problem("add/0", "   1+   2=", "3")
DATA = make_dataset(5, pool=60, held_out=20)

torch.set_num_threads(1)  # these tensors are small, and waiting threads would take the cores from others


def completions(*answers: list[int]) -> Completions:
    """Completions of `PROBLEM` with these tokens."""
    rows = [answer + [END] * (ANSWER_TOKENS - len(answer)) for answer in answers]
    mask = [[position < len(answer) for position in range(ANSWER_TOKENS)] for answer in answers]
    prompt = torch.tensor(encode(PROBLEM.question))
    return Completions(prompt, torch.tensor(rows), torch.tensor(mask), torch.zeros(len(rows), ANSWER_TOKENS))


def steps(service: Service, run: str, seed: int, count: int, policy: str = "greso") -> list[TrainingStep]:
    """Train a barely taught model for some steps in a new run."""
    model = build_model(seed)
    for _ in itertools.islice(warm_start(model, avoid=DATA.held_out, seed=seed, batch_size=64), 3):
        pass
    engine = TorchEngine(model, max_tokens=ANSWER_TOKENS, end=END, seed=seed)
    # Rewarded for ending within two tokens, which even this model does now and then.
    problems = {problem.id: Problem(problem.id, problem.question, str(i % 10)) for i, problem in enumerate(DATA.pool)}
    with Client(service.url, run=run, strict=True, budget=30.0) as client:
        client.create_run(policy=policy, group_size=8, train_batch_size=4, rollout_batch_size=6, seed=seed)
        client.add_prompts(problems)
        learner = Learner(model, learning_rate=3e-4)
        done = list(
            train(client, engine, learner, problems, steps=count, group_size=8, train_batch_size=4, max_rounds=6)
        )
        assert client.state().totals.rollouts == sum(step.collected.rollouts for step in done)
        assert [row.step for row in client.steps()] == [step.number for step in done]
    return done


def told(done: Sequence[TrainingStep]) -> list[object]:
    return [(step.update, [(group.prompt, list(group.rewards)) for group in step.collected.groups]) for step in done]


def test_two_runs_with_one_seed_are_identical_and_another_seed_is_not(service: Service) -> None:
    first = told(steps(service, "loop-first", 1, 4))
    assert told(steps(service, "loop-again", 1, 4)) == first
    assert told(steps(service, "loop-other", 2, 4)) != first


def test_a_step_learns_from_a_train_batch_of_effective_groups(service: Service) -> None:
    for step in steps(service, "loop-effective", 1, 3, policy="uniform"):
        assert step.update is not None
        assert all(len(set(group.rewards)) == 2 for group in step.collected.effective)
        assert all(len(group.rewards) == 8 for group in step.collected.groups)
        assert step.rollout_seconds > 0
        assert math.isfinite(step.update.loss)
        assert step.update.gradient_norm > 0


def test_a_step_without_an_effective_group_updates_nothing(service: Service) -> None:
    model = build_model(1)
    start = copy.deepcopy(model.state_dict())
    engine = TorchEngine(model, max_tokens=ANSWER_TOKENS, end=END, seed=1)
    # No completion can be as long as these answers.
    problems = {problem.id: Problem(problem.id, problem.question, "1234567") for problem in DATA.pool}
    with Client(service.url, run="loop-hopeless", strict=True, budget=30.0) as client:
        client.create_run(group_size=8, train_batch_size=4, rollout_batch_size=6, seed=1)
        client.add_prompts(problems)
        done = list(
            train(
                client,
                engine,
                Learner(model, learning_rate=3e-4),
                problems,
                steps=2,
                group_size=8,
                train_batch_size=4,
                max_rounds=2,
            )
        )
    assert [(step.update, step.collected.reason, step.collected.rollouts) for step in done] == [
        (None, "max_rounds", 96)
    ] * 2
    assert all(model.state_dict()[name].equal(weights) for name, weights in start.items())


def test_completions_are_rewarded_in_their_order() -> None:
    scored = score(PROBLEM, completions([3, END], [3, 3, END], [4, END], [3, END]))
    assert scored is not None
    assert scored.rewards == [1.0, 0.0, 0.0, 1.0]
    assert len(scored.data.tokens) == 4


def test_a_completion_whose_reward_fails_or_is_not_finite_is_left_out() -> None:
    def reward(_: Problem, answer: Sequence[int]) -> float:
        return {1: math.nan, 2: math.inf, 3: 1.0, 4: 0.5}[answer[0]]  # KeyError for others

    scored = score(PROBLEM, completions([1, END], [2, END], [3, END], [4, END], [5, END]), reward)
    assert scored is not None
    assert scored.rewards == [1.0, 0.5]
    assert scored.data.answers() == [[3, END], [4, END]]


def test_a_prompt_of_which_nothing_could_be_rewarded_is_a_failed_rollout() -> None:
    assert score(PROBLEM, completions([3, END], [4, END]), lambda *_: math.nan) is None
