"""GRPO: advantages, the clipped loss and the divergence against values worked out by hand, and the update."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from greso_client.trainer.addition import FOUR_DIGITS, make_model, make_tokenizer
from greso_client.trainer.engine import Completion, Sampling
from greso_client.trainer.grpo import (
    Batch,
    Learner,
    Objective,
    ScoredGroup,
    clipped_losses,
    divergence,
    group_advantages,
    micro_batches,
    token_logprobs,
)
from greso_client.trainer.model import prompt_encoder
from greso_client.trainer.torch_engine import TorchEngine

torch.set_num_threads(1)  # these tensors are small, and waiting threads would take the cores from others

TOKENIZER = make_tokenizer()
ENCODE = prompt_encoder(TOKENIZER)
START = make_model(3)


def sampled_groups(temperature: float = 1.0) -> list[ScoredGroup]:
    """Six groups of four completions of `START`, prompts of different lengths, one completion of each rewarded."""
    prompts = [ENCODE(text) for text in ("  47+ 156=", "7+1=", "  1+   2=", "=", "99+1=", "1+ 156=")]
    sampling = Sampling(FOUR_DIGITS.answer_tokens, temperature, seed=0)
    groups = TorchEngine(START, TOKENIZER).generate(prompts, 4, sampling)
    return [
        ScoredGroup(prompt, group, [float(i == place % 4) for i in range(4)])
        for place, (prompt, group) in enumerate(zip(prompts, groups, strict=True))
    ]


GROUPS = sampled_groups()


def batch_of(ratios: list[list[float]], advantages: list[float], mask: list[list[bool]]) -> tuple[torch.Tensor, Batch]:
    """Log-probabilities now, and a batch sampled when they were such that now / then gives these ratios."""
    now = torch.full((len(ratios), len(ratios[0])), -1.0)
    then = now - torch.tensor(ratios).log()
    tokens = torch.zeros(len(ratios), len(ratios[0]) + 1, dtype=torch.long)
    return now, Batch(tokens, torch.tensor(mask), then, torch.tensor(advantages))


def change_after(learner: Learner, groups: list[ScoredGroup], updates: int = 1) -> dict[str, torch.Tensor]:
    start = copy.deepcopy(learner.model.state_dict())
    for _ in range(updates):
        learner.update(groups)
    return {name: value - start[name] for name, value in learner.model.state_dict().items()}


def test_advantages_are_rewards_less_their_mean_over_their_deviation() -> None:
    # mean 1/4, standard deviation sqrt(3)/4
    expected = [math.sqrt(3), *[-1 / math.sqrt(3)] * 3]
    assert group_advantages([1, 0, 0, 0]).tolist() == pytest.approx(expected, abs=1e-4)
    assert group_advantages([1, 0, 0, 0], scale=False).tolist() == pytest.approx([0.75, -0.25, -0.25, -0.25])


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
    losses, active = clipped_losses(now, batch, Objective())
    assert losses.item() == pytest.approx(-objective)
    assert active.item() is clipped
    (gradient,) = torch.autograd.grad(losses.sum(), now)
    assert gradient.item() == pytest.approx(0.0 if clipped else -objective)


def test_the_clip_range_is_an_option() -> None:
    now, batch = batch_of([[1.5], [0.5]], [1.0, -1.0], [[True], [True]])
    losses, _ = clipped_losses(now, batch, Objective(clip_low=0.4, clip_high=0.1))
    assert losses.flatten().tolist() == pytest.approx([-1.1, 0.6])


@given(st.lists(st.floats(-3, 0), min_size=2, max_size=8))
def test_the_divergence_is_never_negative_and_nothing_for_equal_policies(logprobs: list[float]) -> None:
    now = torch.tensor(logprobs)
    assert (divergence(now, now.flip(0)) >= -1e-6).all()
    assert divergence(now, now).abs().max() == 0


def test_the_divergence_estimates_the_true_one_without_bias() -> None:
    now, reference = torch.tensor([0.2, 0.5, 0.3]), torch.tensor([0.4, 0.4, 0.2])
    expected = (now * (now / reference).log()).sum()
    assert (now * divergence(now.log(), reference.log())).sum().item() == pytest.approx(expected.item())


@pytest.mark.parametrize("size", [1, 7, 24, 100])
def test_micro_batches_hold_every_completion_once_and_no_more_than_their_size(size: int) -> None:
    batches = list(micro_batches(GROUPS, size, scale_advantages=True))
    assert all(len(batch.tokens) <= size for batch in batches)
    learnt = [
        tokens[1:][mask].tolist() for batch in batches for tokens, mask in zip(batch.tokens, batch.mask, strict=True)
    ]
    assert sorted(learnt) == sorted(completion.tokens for group in GROUPS for completion in group.completions)


def test_what_was_just_sampled_has_the_recorded_logprobs() -> None:
    for temperature in (1.0, 0.5):
        for batch in micro_batches(sampled_groups(temperature), 5, scale_advantages=True):
            with torch.no_grad():
                now = token_logprobs(START, batch.tokens, temperature)
            torch.testing.assert_close(now[batch.mask], batch.logprobs[batch.mask], atol=1e-4, rtol=1e-4)


def test_long_completions_weigh_by_their_tokens_and_prompts_and_padding_nothing() -> None:
    """The loss of an unchanged policy is minus the mean advantage over all tokens."""
    groups = [replace(GROUPS[0], completions=GROUPS[0].completions[:2], rewards=[1.0, 0.0])]
    lengths = [len(completion.tokens) for completion in groups[0].completions]
    update = Learner(copy.deepcopy(START), learning_rate=1e-4).update(groups)
    assert update.loss == pytest.approx(-(lengths[0] - lengths[1]) / sum(lengths), abs=1e-4)
    assert (update.tokens, update.clipped, update.kl) == (sum(lengths), 0.0, 0.0)


@pytest.mark.parametrize("size", [1, 5])
def test_accumulated_gradients_are_those_of_the_whole_batch(size: int) -> None:
    whole, cut = (Learner(copy.deepcopy(START), learning_rate=1e-3, micro_batch=limit) for limit in (100, size))
    one, other = whole.update(GROUPS), cut.update(GROUPS)
    assert other.gradient_norm == pytest.approx(one.gradient_norm, rel=1e-4)
    assert other.loss == pytest.approx(one.loss, abs=1e-5)
    for first, second in zip(whole.model.parameters(), cut.model.parameters(), strict=True):
        assert first.grad is not None
        torch.testing.assert_close(second.grad, first.grad, atol=1e-5, rtol=1e-3)


def test_mini_batches_are_optimiser_steps_of_their_own_and_the_later_ones_clip() -> None:
    learner = Learner(copy.deepcopy(START), learning_rate=3e-2, warm_up_steps=1, mini_batches=3)
    update = learner.update(GROUPS)
    assert learner.state_dict()["schedule"]["last_epoch"] == 3
    assert update.clipped > 0.0
    assert Learner(copy.deepcopy(START), learning_rate=3e-2, warm_up_steps=1).update(GROUPS).clipped == 0.0
    assert update.tokens == sum(len(completion.tokens) for group in GROUPS for completion in group.completions)
    assert learner.update(GROUPS[:1]).tokens > 0  # fewer groups than mini-batches: as many steps as groups
    assert learner.state_dict()["schedule"]["last_epoch"] == 4


def test_updates_make_rewarded_completions_likelier_and_clip_once_they_are() -> None:
    learner = Learner(copy.deepcopy(START), learning_rate=1e-3, warm_up_steps=1)
    updates = [learner.update(GROUPS) for _ in range(8)]
    assert updates[0].clipped == 0.0  # nothing has changed since the sampling
    assert updates[-1].clipped > 0.0
    (batch,) = micro_batches(GROUPS, 100, scale_advantages=True)
    with torch.no_grad():
        change = token_logprobs(learner.model, batch.tokens) - batch.logprobs
    good = batch.advantages > 0
    assert change[good][batch.mask[good]].mean() > 0 > change[~good][batch.mask[~good]].mean()


def test_the_divergence_holds_the_policy_near_its_reference() -> None:
    (batch,) = micro_batches(GROUPS, 100, scale_advantages=True)

    def moved(kl: float) -> tuple[float, float]:
        learner = Learner(copy.deepcopy(START), learning_rate=1e-3, warm_up_steps=1, objective=Objective(kl=kl))
        update = [learner.update(GROUPS) for _ in range(8)][-1]
        with torch.no_grad():
            change = token_logprobs(learner.model, batch.tokens) - batch.logprobs
        return change[batch.mask].abs().mean().item(), update.kl

    free, unmeasured = moved(0.0)
    held, measured = moved(10.0)
    assert held < free / 2
    assert unmeasured == 0.0 < measured


def test_the_reference_is_the_one_given() -> None:
    other = make_model(4)
    update = Learner(copy.deepcopy(START), learning_rate=0.0, objective=Objective(kl=1.0), reference=other).update(
        GROUPS
    )
    (batch,) = micro_batches(GROUPS, 100, scale_advantages=True)
    with torch.no_grad():
        expected = divergence(token_logprobs(START, batch.tokens), token_logprobs(other, batch.tokens))[batch.mask]
    assert update.kl == pytest.approx(expected.mean().item(), rel=1e-3)


def test_the_learning_rate_rises_over_the_first_updates() -> None:
    moved = [
        change_after(Learner(copy.deepcopy(START), learning_rate=1e-3, warm_up_steps=steps), GROUPS)[
            "transformer.wpe.weight"
        ]
        .abs()
        .max()
        for steps in (1, 10)
    ]
    assert moved[1].item() == pytest.approx(moved[0].item() / 10, rel=0.05)


def test_a_learner_goes_on_from_its_state_bit_for_bit() -> None:
    straight = Learner(copy.deepcopy(START), learning_rate=1e-3)
    first = Learner(copy.deepcopy(START), learning_rate=1e-3)
    straight.update(GROUPS)
    first.update(GROUPS)
    second = Learner(copy.deepcopy(first.model), learning_rate=1e-3)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert [second.update(GROUPS) for _ in range(3)] == [straight.update(GROUPS) for _ in range(3)]
    for one, other in zip(straight.model.parameters(), second.model.parameters(), strict=True):
        assert one.equal(other)


def test_completions_of_different_number_make_one_update() -> None:
    groups = [GROUPS[0], ScoredGroup(GROUPS[1].prompt, GROUPS[1].completions[:2], [0.0, 1.0])]
    (batch,) = micro_batches(groups, 100, scale_advantages=True)
    assert sorted(batch.advantages.tolist()) == pytest.approx(sorted([3**0.5, *[-(3**-0.5)] * 3, -1, 1]), abs=1e-4)
    assert Learner(copy.deepcopy(START), learning_rate=1e-3).update(groups).gradient_norm > 0


def test_a_completion_keeps_its_own_logprobs() -> None:
    group = ScoredGroup(
        [1, 2], [Completion([3], [-0.5], "3", True), Completion([4, 5, 6], [-1.0, -2.0, -3.0], "", False)], [1, 0]
    )
    (batch,) = micro_batches([group], 8, scale_advantages=False)
    assert batch.tokens.tolist() == [[1, 2, 3, 0, 0], [1, 2, 4, 5, 6]]
    assert batch.mask.tolist() == [[False, True, False, False], [False, True, True, True]]
    assert batch.logprobs.tolist() == [[0.0, -0.5, 0.0, 0.0], [0.0, -1.0, -2.0, -3.0]]
    assert batch.advantages.tolist() == [0.5, -0.5]
