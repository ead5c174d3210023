"""What each vLLM engine does, against torch: in process with tied and untied embeddings, and behind a server."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import torch

from greso_client.trainer.engine import EngineError, Sampling
from greso_client.trainer.vllm_engine import VllmEngine
from greso_client.trainer.vllm_http import VllmHttpEngine

from .models import QUESTIONS, Policy, difference, scored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from greso_client.trainer.engine import Engine

    from .conftest import Server

CLOSE = 1e-4  # between log-probabilities of vLLM and torch, both in float32
GREEDY = Sampling(max_tokens=20, temperature=0.0)


@dataclass(frozen=True, slots=True)
class Case:
    """An engine, and the model that it samples from."""

    engine: Engine
    policy: Policy

    def sync(self) -> None:
        """Hand the model's weights over."""
        self.engine.sync_weights(self.policy.model.state_dict())


@pytest.fixture(scope="module", params=["tied", "untied", "http"])
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    policy: Policy = request.getfixturevalue("untied" if request.param == "untied" else "tied")
    engine: Engine
    if request.param == "http":
        server: Server = request.getfixturevalue("servers")["trainer"].ready()
        engine = VllmHttpEngine(server.url, policy.tokenizer, policy.ends)
    else:
        engine = VllmEngine(policy.folder, policy.tokenizer, policy.ends, max_model_len=128)
    yield Case(engine, policy)
    engine.close()


def test_the_tokenizer_gives_back_each_question(case: Case) -> None:
    for question, prompt in zip(QUESTIONS, case.policy.prompts(), strict=True):
        assert case.policy.tokenizer.decode(prompt, skip_special_tokens=True) == question
        assert len(prompt) == len(question)


def test_greedy_it_says_what_torch_says_before_and_after_all_weights_change(case: Case) -> None:
    case.sync()
    before = difference(case.engine, case.policy, GREEDY)
    assert before is not None
    assert before < CLOSE

    for seed in (2, 3):
        case.policy.change(seed)
        assert difference(case.engine, case.policy, GREEDY) is None, "the weights did not change what is said"
        case.sync()
        after = difference(case.engine, case.policy, GREEDY)
        assert after is not None
        assert after < CLOSE


@pytest.mark.parametrize("part", ["embed_tokens", "q_proj", "down_proj", "norm"])
def test_a_change_of_one_kind_of_weights_arrives(case: Case, part: str) -> None:
    case.sync()
    case.policy.change(4, only=part)
    old = difference(case.engine, case.policy, GREEDY)
    assert old is None or old > CLOSE
    case.sync()
    new = difference(case.engine, case.policy, GREEDY)
    assert new is not None
    assert new < CLOSE


def test_an_output_layer_of_its_own_arrives(case: Case) -> None:
    case.sync()
    case.policy.change(5, only="lm_head")
    case.sync()
    assert difference(case.engine, case.policy, GREEDY) is not None


@pytest.mark.parametrize("temperature", [1.0, 0.7, 1.3])
def test_logprobs_are_those_of_the_distribution_that_was_sampled_from(case: Case, temperature: float) -> None:
    case.sync()
    prompts = case.policy.prompts()
    groups = case.engine.generate(prompts, 4, Sampling(max_tokens=20, temperature=temperature, seed=1))
    for prompt, group in zip(prompts, groups, strict=True):
        assert len(group) == 4
        for each in group:
            assert each.logprobs == pytest.approx(scored(case.policy, prompt, each.tokens, temperature), abs=CLOSE)


def test_what_is_sampled_follows_the_models_distribution(case: Case) -> None:
    case.sync()
    prompt, draws = case.policy.prompts()[0], 2_000
    [group] = case.engine.generate([prompt], draws, Sampling(max_tokens=1, temperature=1.0, seed=7))
    with torch.inference_mode():
        wanted = case.policy.model(input_ids=torch.tensor([prompt])).logits[0, -1].softmax(dim=-1).tolist()
    seen = Counter(each.tokens[0] for each in group)
    distance = sum(abs(seen[token] / draws - chance) for token, chance in enumerate(wanted)) / 2
    # Over K = 24 tokens the expected distance of 2,000 draws is below sqrt(K / (2 * pi * draws)) = 0.044.
    assert distance < 0.09


def test_a_completion_ends_with_an_end_token_or_at_the_limit(case: Case) -> None:
    case.sync()
    groups = case.engine.generate(case.policy.prompts(), 32, Sampling(max_tokens=12, seed=3))
    completions = [each for group in groups for each in group]
    assert {each.ended for each in completions} == {True, False}, "both kinds are wanted for this test"
    for each in completions:
        assert each.ended == (each.tokens[-1] in case.policy.ends)
        assert each.ended or len(each.tokens) == 12
        assert not set(each.tokens[:-1]) & set(case.policy.ends)
        assert len(each.logprobs) == len(each.tokens)
        assert each.text == case.policy.tokenizer.decode(each.tokens, skip_special_tokens=True)


def test_the_seed_fixes_what_is_sampled(case: Case) -> None:
    def tokens(seed: int | None) -> list[list[list[int]]]:
        groups = case.engine.generate(case.policy.prompts(), 4, Sampling(max_tokens=20, seed=seed))
        return [[each.tokens for each in group] for group in groups]

    case.sync()
    once = tokens(5)
    assert tokens(5) == once
    assert tokens(6) != once
    assert tokens(None) != tokens(None)
    assert len({tuple(each) for each in once[0]}) > 1, "the completions of a prompt differ"
    assert QUESTIONS[0] == QUESTIONS[-1]
    assert once[0] != once[-1], "a prompt that stands twice is sampled twice"


def without(name: str) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda weights: {key: value for key, value in weights.items() if name not in key}


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (
            lambda weights: weights | {"model.norm.weight": torch.zeros(7)},
            r"model\.norm\.weight is \(7,\), not \(64,\)",
        ),
        (without("q_proj"), r"missing model\.layers\.0\.self_attn\.q_proj\.weight"),
        (without("embed_tokens"), r"missing .*embed_tokens"),
        (lambda weights: weights | {"model.more": torch.zeros(1)}, r"unknown model\.more"),
    ],
    ids=["shape", "missing", "missing embedding", "unknown"],
)
def test_weights_that_do_not_fit_are_refused_and_the_old_ones_stay(
    case: Case, spoil: Callable[[dict[str, Tensor]], dict[str, Tensor]], told: str
) -> None:
    case.sync()
    zero = {name: torch.zeros_like(value) for name, value in case.policy.model.state_dict().items()}
    with pytest.raises(EngineError, match=told) as caught:
        case.engine.sync_weights(spoil(zero))
    assert "\n" not in str(caught.value)
    assert difference(case.engine, case.policy, GREEDY) is not None


@pytest.mark.parametrize(
    ("prompt", "told"),
    [([1] * 120, "exceed vLLM's 128"), ([], "one or more token ids"), ([1, 10_000], "token ids below 24")],
)
def test_a_prompt_that_vllm_can_not_take_is_refused(case: Case, prompt: list[int], told: str) -> None:
    with pytest.raises(EngineError, match=told):
        case.engine.generate([prompt], 1, GREEDY)
    assert len(case.engine.generate(case.policy.prompts()[:1], 1, GREEDY)) == 1


def test_nothing_asked_nothing_sampled(case: Case) -> None:
    assert case.engine.generate([], 4, GREEDY) == []
