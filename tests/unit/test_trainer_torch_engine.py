"""Sampling in torch: the cached, padded way against the naive one, log-probabilities, ends, seeds, weights."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from transformers import PreTrainedModel, Qwen3Config

from greso_client.trainer.addition import END, FOUR_DIGITS, make_model, make_task, make_tokenizer
from greso_client.trainer.engine import Completion, EngineError, Sampling
from greso_client.trainer.evaluate import accuracy
from greso_client.trainer.grpo import token_logprobs
from greso_client.trainer.model import prompt_encoder
from greso_client.trainer.task import Problem
from greso_client.trainer.torch_engine import TorchEngine

torch.set_num_threads(1)  # these tensors are small, and waiting threads would take the cores from others

LONGEST = FOUR_DIGITS.answer_tokens
TOKENIZER = make_tokenizer()
ENCODE = prompt_encoder(TOKENIZER)
QWEN3 = Qwen3Config(
    vocab_size=END + 1,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    initializer_range=0.2,
    max_position_embeddings=64,
    bos_token_id=END,
    eos_token_id=END,
    pad_token_id=END,
)
MODELS = {"gpt2": make_model(3), "qwen3": make_model(3, QWEN3)}  # learnt positions, and rotary ones
MODEL = MODELS["gpt2"]
# Prompts of every length from 1 to 10 tokens, so that all but the longest are padded.
PROMPTS = [ENCODE("  47+ 156="[-length:]) for length in range(1, 11)]


def sampling(seed: int | None = 0, temperature: float = 1.0) -> Sampling:
    return Sampling(LONGEST, temperature, seed)


@torch.inference_mode()
def naive_greedy(model: PreTrainedModel, prompt: list[int]) -> list[int]:
    """The likeliest token after the whole text so far, again and again, without cache or padding."""
    text = list(prompt)
    for _ in range(LONGEST):
        text.append(int(model(input_ids=torch.tensor([text]), use_cache=False).logits[0, -1].argmax()))
        if text[-1] == END:
            break
    return text[len(prompt) :]


@pytest.mark.parametrize("name", MODELS)
def test_greedy_with_cache_and_padding_equals_greedy_without(name: str) -> None:
    model = MODELS[name]
    groups = TorchEngine(model, TOKENIZER).generate(PROMPTS, 2, sampling(temperature=0))
    for prompt, group in zip(PROMPTS, groups, strict=True):
        assert [completion.tokens for completion in group] == [naive_greedy(model, prompt)] * 2


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("name", MODELS)
def test_recorded_logprobs_are_those_of_a_forward_pass_over_the_whole_text(name: str, temperature: float) -> None:
    model = MODELS[name]
    for prompt, group in zip(
        PROMPTS, TorchEngine(model, TOKENIZER).generate(PROMPTS, 4, sampling(temperature=temperature)), strict=True
    ):
        for completion in group:
            text = torch.tensor([prompt + completion.tokens])
            with torch.no_grad():
                expected = token_logprobs(model, text, temperature or 1.0)[0, len(prompt) - 1 :]
            assert completion.logprobs == pytest.approx(expected.tolist(), abs=1e-4)


def test_completions_stop_at_their_end_and_at_the_limit() -> None:
    completions = [c for group in TorchEngine(MODEL, TOKENIZER).generate(PROMPTS, 64, sampling()) for c in group]
    for completion in completions:
        assert len(completion.logprobs) == len(completion.tokens) <= LONGEST
        assert completion.ended == (completion.tokens[-1] == END)
        assert END not in completion.tokens[:-1]
        assert completion.ended or len(completion.tokens) == LONGEST
        assert completion.text == TOKENIZER.decode([token for token in completion.tokens if token != END])
    assert {completion.ended for completion in completions} == {True, False}  # else this test has seen nothing


def test_every_end_token_of_a_chat_model_ends_a_completion() -> None:
    model = copy.deepcopy(MODEL)
    assert model.generation_config is not None
    model.generation_config.eos_token_id = [4, 7]
    completions = TorchEngine(model, TOKENIZER).generate(PROMPTS, 64, sampling())
    last = {completion.tokens[-1] for group in completions for completion in group if completion.ended}
    assert last == {4, 7, END}


def test_samples_follow_the_models_distribution() -> None:
    count = 1_500
    (group,) = TorchEngine(MODEL, TOKENIZER).generate(PROMPTS[-1:], count, sampling())
    seen = torch.bincount(torch.tensor([completion.tokens[0] for completion in group]), minlength=END + 1) / count
    with torch.no_grad():
        expected = MODEL(input_ids=torch.tensor(PROMPTS[-1:])).logits[0, -1].softmax(dim=-1)
    deviation = (expected * (1 - expected) / count).sqrt()
    assert ((seen - expected).abs() < 5 * deviation).all()


def test_a_seed_fixes_the_samples_whatever_was_sampled_before() -> None:
    engine = TorchEngine(MODEL, TOKENIZER)
    first = engine.generate(PROMPTS, 8, sampling(1))
    assert engine.generate(PROMPTS, 8, sampling(2)) != first
    assert engine.generate(PROMPTS, 8, sampling(1)) == first
    assert engine.generate(PROMPTS, 8, sampling(None)) != engine.generate(PROMPTS, 8, sampling(None))


def test_many_prompts_are_sampled_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    forward = MODEL.forward

    def spy(input_ids: torch.Tensor, **given: object) -> object:
        sizes.append(len(input_ids))
        return forward(input_ids=input_ids, **given)

    monkeypatch.setattr(MODEL, "forward", spy)
    groups = TorchEngine(MODEL, TOKENIZER, max_sequences=8).generate(PROMPTS, 3, sampling(temperature=0))
    assert max(sizes) == 6  # two prompts of three completions
    assert [group[0].tokens for group in groups] == [naive_greedy(MODEL, prompt) for prompt in PROMPTS]


def test_no_prompts_give_no_groups() -> None:
    assert TorchEngine(MODEL, TOKENIZER).generate([], 8, sampling()) == []


def test_weights_of_another_model_are_taken_over_and_its_own_left_alone() -> None:
    engine = TorchEngine(copy.deepcopy(MODEL), TOKENIZER)
    other = make_model(4)
    before = engine.generate(PROMPTS, 1, sampling())
    engine.sync_weights(other.state_dict())
    assert engine.generate(PROMPTS, 1, sampling()) == TorchEngine(other, TOKENIZER).generate(PROMPTS, 1, sampling())
    engine.sync_weights(MODEL.state_dict())
    assert engine.generate(PROMPTS, 1, sampling()) == before
    shared = TorchEngine(MODEL, TOKENIZER)
    versions = [parameter._version for parameter in MODEL.parameters()]
    shared.sync_weights(MODEL.state_dict())
    assert [parameter._version for parameter in MODEL.parameters()] == versions  # nothing was copied


def test_weights_that_do_not_fit_are_refused_whole() -> None:
    engine = TorchEngine(copy.deepcopy(MODEL), TOKENIZER)
    before = engine.generate(PROMPTS, 1, sampling())
    weights = dict(make_model(4).state_dict())
    weights.popitem()
    with pytest.raises(EngineError, match="names or shapes differ"):
        engine.sync_weights(weights)
    assert engine.generate(PROMPTS, 1, sampling()) == before


def test_memory_that_runs_out_is_an_engine_error_of_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nSee documentation")

    engine = TorchEngine(MODEL, TOKENIZER)
    monkeypatch.setattr(engine, "_sample", full)
    with pytest.raises(EngineError, match=r"lower --max-sequences \(CUDA out of memory\.") as said:
        engine.generate(PROMPTS, 2, sampling())
    assert "\n" not in str(said.value)


def test_accuracy_is_the_share_of_right_samples_and_the_same_every_time() -> None:
    # An untrained model can't add, but with the empty answer it is right whenever it ends at once.
    pool = make_task(3, pool=12, held_out=1).pool
    problems = [Problem(problem.id, problem.question, "") for problem in pool]
    engine = TorchEngine(MODEL, TOKENIZER)
    with torch.no_grad():
        prompts = torch.tensor([ENCODE(problem.question) for problem in problems])
        ends = MODEL(input_ids=prompts).logits[:, -1].softmax(dim=-1)[:, END].mean().item()

    def reward(problem: Problem, completion: Completion) -> float:
        return float(completion.text == problem.answer and completion.ended)

    found = accuracy(engine, problems, ENCODE, reward, Sampling(LONGEST), samples=80)
    assert found == pytest.approx(ends, abs=5 * (ends / (12 * 80)) ** 0.5)
    assert accuracy(engine, problems, ENCODE, reward, Sampling(LONGEST), samples=80) == found
    assert math.isnan(accuracy(engine, [], ENCODE, reward, Sampling(LONGEST)))
