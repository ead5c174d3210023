"""Sampling: the cached way against the naive one, masks, log-probabilities, seeds."""

from __future__ import annotations

import pytest
import torch

from greso_client.trainer.evaluate import sampled_accuracy
from greso_client.trainer.grpo import token_logprobs
from greso_client.trainer.model import build_model
from greso_client.trainer.rollout import TorchEngine
from greso_client.trainer.task import ANSWER_TOKENS, END, Problem, encode, make_dataset

MODEL = build_model(3)
torch.set_num_threads(1)  # these tensors are small, and waiting threads would take the cores from others

PROMPTS = [encode(problem.question) for problem in make_dataset(3, pool=12, held_out=1).pool]


def engine(seed: int = 0) -> TorchEngine:
    return TorchEngine(MODEL, max_tokens=ANSWER_TOKENS, end=END, seed=seed)


@torch.inference_mode()
def naive_greedy(prompt: list[int]) -> list[int]:
    """The likeliest token after the whole text so far, again and again, without a cache."""
    text = list(prompt)
    for _ in range(ANSWER_TOKENS):
        text.append(int(MODEL(input_ids=torch.tensor([text]), use_cache=False).logits[0, -1].argmax()))
        if text[-1] == END:
            break
    return text[len(prompt) :]


def test_greedy_with_a_cache_equals_greedy_without() -> None:
    for prompt, group in zip(PROMPTS, engine().generate(PROMPTS, 2, greedy=True), strict=True):
        assert group.answers() == [naive_greedy(prompt)] * 2


def test_recorded_logprobs_are_those_of_a_forward_pass_over_the_whole_text() -> None:
    for group in engine().generate(PROMPTS, 8):
        prompts = group.prompt.expand(8, -1)
        with torch.no_grad():
            expected = token_logprobs(MODEL, prompts, group.tokens)
        torch.testing.assert_close(group.logprobs[group.mask], expected[group.mask], atol=1e-4, rtol=1e-4)


def test_a_completion_is_masked_after_its_end() -> None:
    groups = engine().generate(PROMPTS, 64)
    for group in groups:
        for tokens, mask, answer in zip(group.tokens.tolist(), group.mask.tolist(), group.answers(), strict=True):
            length = tokens.index(END) + 1 if END in tokens else ANSWER_TOKENS
            assert mask == [True] * length + [False] * (ANSWER_TOKENS - length)
            assert answer == tokens[:length]
    lengths = {int(length) for group in groups for length in group.mask.sum(dim=1)}
    assert len(lengths) > 1  # some ended early, else this test has seen nothing


def test_samples_follow_the_models_distribution() -> None:
    count = 8_000
    group = engine().generate(PROMPTS[:1], count)[0]
    seen = torch.bincount(group.tokens[:, 0], minlength=END + 1) / count
    with torch.no_grad():
        expected = MODEL(input_ids=torch.tensor(PROMPTS[:1])).logits[0, -1].softmax(dim=-1)
    deviation = (expected * (1 - expected) / count).sqrt()
    assert ((seen - expected).abs() < 5 * deviation).all()


def test_a_seed_gives_the_same_samples_and_they_go_on_from_call_to_call() -> None:
    first, again, other = (engine(seed) for seed in (1, 1, 2))
    tokens = [torch.stack([group.tokens for group in each.generate(PROMPTS, 8)]) for each in (first, again, other)]
    assert tokens[0].equal(tokens[1])
    assert not tokens[0].equal(tokens[2])
    assert not tokens[0].equal(torch.stack([group.tokens for group in first.generate(PROMPTS, 8)]))


def test_no_prompts_give_no_groups() -> None:
    assert engine().generate([], 8) == []


def test_kept_rows_stay_together() -> None:
    group = engine().generate(PROMPTS[:1], 4)[0]
    kept = group.keep([2, 0])
    assert kept.answers() == [group.answers()[2], group.answers()[0]]
    assert kept.logprobs.equal(group.logprobs[[2, 0]])
    assert kept.prompt.equal(group.prompt)


def test_accuracy_is_the_share_of_right_samples_and_the_same_every_time() -> None:
    # An untrained model can't add, but with the empty answer it is right whenever it ends at once.
    data = make_dataset(3, pool=12, held_out=1)
    problems = [Problem(problem.id, problem.question, "") for problem in data.pool]
    with torch.no_grad():
        ends = MODEL(input_ids=torch.tensor(PROMPTS)).logits[:, -1].softmax(dim=-1)[:, END].mean().item()
    accuracy = sampled_accuracy(MODEL, problems, samples=500)
    assert accuracy == pytest.approx(ends, abs=5 * (ends / (12 * 500)) ** 0.5)
    assert sampled_accuracy(MODEL, problems, samples=500) == accuracy
