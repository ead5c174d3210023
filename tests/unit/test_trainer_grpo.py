"""GRPO: advantages, the clipped loss against values worked out by hand, and the update."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from greso_client.trainer.grpo import Batch, Learner, clipped_loss, group_advantages, make_batch, token_logprobs
from greso_client.trainer.model import build_model
from greso_client.trainer.rollout import TorchEngine
from greso_client.trainer.task import ANSWER_TOKENS, END, encode, make_dataset

torch.set_num_threads(1)  # these tensors are small, and waiting threads would take the cores from others

PROMPTS = [encode(problem.question) for problem in make_dataset(3, pool=4, held_out=1).pool]


def batch_of(ratios: list[list[float]], advantages: list[float], mask: list[list[bool]]) -> tuple[torch.Tensor, Batch]:
    """Log-probabilities now, and a batch sampled when they were such that now / then gives these ratios."""
    now = torch.full((len(ratios), len(ratios[0])), -1.0)
    tokens = torch.zeros(now.shape, dtype=torch.long)
    then = now - torch.tensor(ratios).log()
    return now, Batch(tokens, tokens, torch.tensor(mask), then, torch.tensor(advantages))


def test_advantages_are_rewards_less_their_mean_over_their_deviation() -> None:
    # mean 1/4, standard deviation sqrt(3)/4
    expected = [math.sqrt(3), *[-1 / math.sqrt(3)] * 3]
    assert group_advantages([1, 0, 0, 0]).tolist() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("reward", [0.0, 0.1, 1.0])
def test_a_group_without_variance_has_no_advantage(reward: float) -> None:
    assert group_advantages([reward] * 8).abs().max().item() < 0.05


@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=2, max_size=16))
def test_advantages_sum_to_nothing_and_follow_the_rewards(rewards: list[float]) -> None:
    advantages = group_advantages(rewards)
    assert abs(advantages.sum().item()) < 1e-3
    if len(set(rewards)) == 2:
        assert (advantages > 0).tolist() == [reward == 1.0 for reward in rewards]
        assert advantages.square().mean().item() == pytest.approx(1.0, abs=1e-3)


def test_the_loss_of_an_unchanged_policy_is_minus_the_mean_advantage_per_token() -> None:
    now, batch = batch_of([[1.0, 1.0], [1.0, 1.0]], [2.0, -1.0], [[True, True], [True, False]])
    loss, clipped = clipped_loss(now, batch)
    assert loss.item() == pytest.approx(-(2.0 + 2.0 - 1.0) / 3)
    assert clipped.item() == 0.0


@pytest.mark.parametrize(
    ("ratio", "advantage", "objective", "clipped"),
    [
        (1.5, 1.0, 1.28, True),  # up far enough: no more gain beyond 1.28
        (1.27, 1.0, 1.27, False),
        (0.5, 1.0, 0.5, False),  # a good token that became rarer: full pull back
        (0.5, -1.0, -0.8, True),  # down far enough: no more gain below 0.8
        (0.81, -1.0, -0.81, False),
        (1.5, -1.0, -1.5, False),  # a bad token that became likelier: full push down
    ],
)
def test_the_clip(ratio: float, advantage: float, objective: float, clipped: bool) -> None:
    now, batch = batch_of([[ratio]], [advantage], [[True]])
    now.requires_grad_()
    loss, share = clipped_loss(now, batch)
    assert loss.item() == pytest.approx(-objective)
    assert share.item() == float(clipped)
    (gradient,) = torch.autograd.grad(loss, now)
    assert gradient.item() == pytest.approx(0.0 if clipped else -objective)


def test_long_completions_weigh_by_their_tokens_and_masked_tokens_nothing() -> None:
    now, batch = batch_of([[1.5, 1.1, 1.1], [0.9, 9.0, 9.0]], [1.0, -1.0], [[True] * 3, [True, False, False]])
    loss, clipped = clipped_loss(now, batch)
    assert loss.item() == pytest.approx(-(1.28 + 1.1 + 1.1 - 0.9) / 4)
    assert clipped.item() == pytest.approx(1 / 4)


def test_groups_of_different_size_make_one_batch() -> None:
    engine = TorchEngine(build_model(3), max_tokens=ANSWER_TOKENS, end=END, seed=0)
    first, second = engine.generate(PROMPTS[:2], 4)
    batch = make_batch([(first, [1, 0, 0, 0]), (second.keep([0, 2]), [0, 1])])
    assert batch.prompts.shape == (6, len(PROMPTS[0]))
    assert batch.tokens.shape == batch.mask.shape == batch.logprobs.shape == (6, ANSWER_TOKENS)
    assert batch.prompts[:4].eq(first.prompt).all()
    assert batch.tokens[4:].equal(second.tokens[[0, 2]])
    assert batch.advantages.tolist() == pytest.approx([3**0.5, *[-(3**-0.5)] * 3, -1, 1], abs=1e-4)


def test_updates_make_rewarded_completions_likelier_and_clip_once_they_are() -> None:
    model = build_model(3)
    groups = TorchEngine(model, max_tokens=ANSWER_TOKENS, end=END, seed=0).generate(PROMPTS, 4)
    batch = make_batch([(group, [1, 0, 0, 0]) for group in groups])
    learner = Learner(model, learning_rate=1e-3, warm_up_steps=1)
    updates = [learner.update(batch) for _ in range(8)]
    assert updates[0].clipped == 0.0  # nothing has changed since the sampling
    assert updates[-1].clipped > 0.0
    with torch.no_grad():
        change = token_logprobs(model, batch.prompts, batch.tokens) - batch.logprobs
    good = batch.advantages > 0
    assert change[good][batch.mask[good]].mean() > 0 > change[~good][batch.mask[~good]].mean()


def test_the_learning_rate_rises_over_the_first_updates() -> None:
    moved = []
    for warm_up_steps in (1, 10):
        model = build_model(3)
        groups = TorchEngine(model, max_tokens=ANSWER_TOKENS, end=END, seed=0).generate(PROMPTS, 4)
        before = model.transformer.wpe.weight.detach().clone()
        learner = Learner(model, learning_rate=1e-3, warm_up_steps=warm_up_steps)
        learner.update(make_batch([(group, [1, 0, 0, 0]) for group in groups]))
        moved.append((model.transformer.wpe.weight.detach() - before).abs().max().item())
    assert moved[1] == pytest.approx(moved[0] / 10, rel=0.05)


def test_a_batch_without_advantage_has_no_gradient() -> None:
    now, batch = batch_of([[1.0, 1.2]], [1.0], [[True, True]])
    now.requires_grad_()
    loss, _ = clipped_loss(now, replace(batch, advantages=torch.zeros(1)))
    (gradient,) = torch.autograd.grad(loss, now)
    assert not gradient.any()
