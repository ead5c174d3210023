"""The training loop against a real service: what is rewarded, what is learnt from, and that a seed fixes it all."""

from __future__ import annotations

import copy
import itertools
import math
from typing import TYPE_CHECKING

import pytest
import torch

from greso_client import Client
from greso_client.trainer.addition import FOUR_DIGITS, make_model, make_task, make_tokenizer, warm_start
from greso_client.trainer.engine import Completion, EngineError, Sampling
from greso_client.trainer.grpo import Learner
from greso_client.trainer.loop import RollOut, TrainingStep, round_seed, score, train
from greso_client.trainer.model import prompt_encoder
from greso_client.trainer.task import Problem, Reward, Task, TaskError
from greso_client.trainer.torch_engine import TorchEngine

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.servers import Service
    from torch import Tensor
    from transformers import PreTrainedModel

torch.set_num_threads(1)  # these tensors are small, and waiting threads would take the cores from others

TOKENIZER = make_tokenizer()
ENCODE = prompt_encoder(TOKENIZER)
DRAWN = make_task(5, pool=60, held_out=20)
PROBLEM = Problem("add/0", "   1+   2=", "3")
START = make_model(1)
for _ in itertools.islice(warm_start(START, avoid=DRAWN.held_out, seed=1, batch_size=64), 3):
    pass


def short(problem: Problem, completion: Completion) -> float:
    """Rewards ending within two tokens, which even a model that was barely taught does now and then."""
    return float(completion.ended and len(completion.tokens) <= 2)


class SpyEngine(TorchEngine):
    """Remembers with which seeds it sampled and which weights it got; dies at the sampling that `dies_at` names."""

    dies_at: int | None = None

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__(model, TOKENIZER)
        self.seeds: list[int | None] = []
        self.synced: list[Tensor] = []

    def generate(self, prompts: Sequence[Sequence[int]], n: int, sampling: Sampling) -> list[list[Completion]]:
        self.seeds.append(sampling.seed)
        if len(self.seeds) == self.dies_at:
            raise EngineError("the engine died: signal 9")
        return super().generate(prompts, n, sampling)

    def sync_weights(self, weights: Mapping[str, Tensor]) -> None:
        self.synced.append(next(iter(weights.values())).clone())
        super().sync_weights(weights)


def steps(
    service: Service,
    run: str,
    seed: int,
    count: int,
    *,
    policy: str = "greso",
    reward: Reward = short,
    engine: SpyEngine | None = None,
    max_rounds: int = 6,
) -> list[TrainingStep]:
    """Train for some steps in a new run."""
    engine = engine or SpyEngine(copy.deepcopy(START))
    task = Task("short", DRAWN.pool, DRAWN.held_out, reward)
    learner = Learner(engine._model, learning_rate=3e-4)
    with Client(service.url, run=run, strict=True, budget=30.0) as client:
        client.create_run(policy=policy, group_size=8, train_batch_size=4, rollout_batch_size=6, seed=seed)
        client.add_prompts(problem.id for problem in task.pool)
        sampling = Sampling(FOUR_DIGITS.answer_tokens, seed=seed)
        done = list(
            train(
                client, engine, learner, task, ENCODE,
                group_size=8, train_batch_size=4, sampling=sampling, steps=range(1, count + 1), max_rounds=max_rounds,
            )
        )  # fmt: skip
        assert client.state().totals.rollouts == sum(step.collected.rollouts for step in done)
        assert [row.step for row in client.steps()] == [step.number for step in done]
    return done


def told(done: Sequence[TrainingStep]) -> list[object]:
    return [(step.update, [(group.prompt, list(group.rewards)) for group in step.collected.groups]) for step in done]


def test_two_runs_with_one_seed_are_identical_and_another_seed_is_not(service: Service) -> None:
    first = told(steps(service, "loop-first", 1, 3))
    assert told(steps(service, "loop-again", 1, 3)) == first
    assert told(steps(service, "loop-other", 2, 3)) != first


def test_a_step_learns_from_a_train_batch_of_effective_groups(service: Service) -> None:
    engine = SpyEngine(copy.deepcopy(START))
    done = steps(service, "loop-effective", 1, 3, policy="uniform", engine=engine)
    for step in done:
        assert step.update is not None
        assert step.learned == min(4, len(step.collected.effective))
        assert all(len(set(group.rewards)) == 2 for group in step.collected.effective)
        assert all(len(group.rewards) == 8 for group in step.collected.groups)
        assert step.failed_rewards == 0
        assert min(step.seconds.rollout, step.seconds.reward, step.seconds.update, step.seconds.service) > 0
        assert math.isfinite(step.update.loss)
        assert step.update.gradient_norm > 0
    # The engine gets each step's new weights, and no two rounds sample with one seed.
    assert len(engine.synced) == 3
    assert not any(one.equal(other) for one, other in itertools.pairwise(engine.synced))
    assert len(set(engine.seeds)) == len(engine.seeds) == sum(step.collected.rounds for step in done)


def test_a_step_without_an_effective_group_updates_nothing(service: Service) -> None:
    engine = SpyEngine(copy.deepcopy(START))
    done = steps(service, "loop-hopeless", 1, 2, reward=lambda *_: 0.0, engine=engine, max_rounds=2)
    assert [(step.update, step.learned, step.collected.reason, step.collected.rollouts) for step in done] == [
        (None, 0, "max_rounds", 96)
    ] * 2
    assert all(engine._model.state_dict()[name].equal(weights) for name, weights in START.state_dict().items())
    assert engine.synced == []


def test_a_reward_that_fails_now_and_then_stops_nothing_and_is_counted(service: Service) -> None:
    def moody(problem: Problem, completion: Completion) -> float:
        if completion.tokens[0] == 3:
            raise RuntimeError("no verdict")
        return math.nan if completion.tokens[0] == 4 else short(problem, completion)

    done = steps(service, "loop-moody", 1, 2, reward=moody)
    for step in done:
        assert step.failed_rewards > 0
        # A group is reported whole or not at all: the rest of it would look easier, or harder, than the prompt is.
        assert 0 < step.collected.failed <= step.failed_rewards
        assert all(len(group.rewards) == 8 for group in step.collected.groups)
        assert step.update is not None
        assert math.isfinite(step.update.loss)
        assert not any(
            completion.tokens[0] in {3, 4} for group in step.collected.groups for completion in group.data.completions
        )


def test_a_hard_prompt_whose_wrong_answers_break_the_reward_does_not_look_solved(service: Service) -> None:
    def breaks_on_wrong(problem: Problem, completion: Completion) -> float:
        if short(problem, completion) == 0.0:
            raise ValueError("invalid literal for int()")
        return 1.0

    (step,) = steps(service, "loop-breaks-on-wrong", 1, 1, reward=breaks_on_wrong, max_rounds=2)
    assert step.collected.failed == 12
    with Client(service.url, run="loop-breaks-on-wrong", strict=True, budget=30.0) as client:
        assert client.steps()[0].zero_variance.easy == 0
        assert client.state().totals.rollouts == 0


def test_a_prompt_that_the_service_drew_and_nobody_knows_ends_it_in_words(service: Service) -> None:
    roll_out = RollOut(SpyEngine(START), {PROBLEM.id: PROBLEM}, ENCODE, short, 2, Sampling(2, seed=1), 1)
    with pytest.raises(TaskError, match="the service drew the prompt 'stray', which is not among the problems"):
        roll_out([PROBLEM.id, "stray"])


def test_a_reward_that_always_fails_ends_each_step_without_an_update(service: Service) -> None:
    done = steps(service, "loop-broken", 1, 2, reward=lambda *_: math.nan, max_rounds=2)
    assert [(step.update, step.collected.failed, step.failed_rewards) for step in done] == [(None, 12, 96)] * 2


def test_an_engine_that_dies_ends_the_training_with_its_own_words(service: Service) -> None:
    engine = SpyEngine(copy.deepcopy(START))
    engine.dies_at = 2
    with pytest.raises(EngineError, match="the engine died: signal 9"):
        steps(service, "loop-dead", 1, 3, engine=engine)


def completions(*texts: str) -> list[Completion]:
    return [Completion([i], [0.0], text, ended=True) for i, text in enumerate(texts)]


def test_completions_are_rewarded_in_their_order() -> None:
    given = completions("3", "33", "4", "3")
    scored = score(PROBLEM, [1], given, DRAWN.reward)
    assert (scored.prompt, scored.completions, scored.rewards) == ([1], given, [1.0, 0.0, 0.0, 1.0])


def test_a_completion_whose_reward_fails_or_is_not_finite_is_left_out() -> None:
    def reward(_: Problem, completion: Completion) -> float:
        return {"1": math.nan, "2": math.inf, "3": 1.0, "4": 0.5}[completion.text]  # KeyError for others

    given = completions("1", "2", "3", "4", "5")
    scored = score(PROBLEM, [1], given, reward)
    assert (scored.completions, scored.rewards) == (given[2:4], [1.0, 0.5])
    assert scored.failures == [
        "the reward of add/0 is nan",
        "the reward of add/0 is inf",
        "the reward of add/0 raised KeyError('5')",
    ]


def test_round_seeds_are_pure_differ_everywhere_and_fit_63_bits() -> None:
    places = list(itertools.product((0, 1), range(3), range(3), range(3)))
    seeds = [round_seed(*place) for place in places]
    assert seeds == [round_seed(*place) for place in places]
    assert len(set(seeds)) == len(seeds)
    assert all(seed is not None and 0 <= seed < 2**63 for seed in seeds)
    assert round_seed(None, 1, 1, 0) is None
