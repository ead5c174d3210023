"""Tasks: ids that tell problems apart, prompts that fit; and the built-in task, its tokenizer and its warm start."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, Qwen3Config

from greso_client.trainer.addition import (
    ALPHABET,
    END,
    FOUR_DIGITS,
    Addition,
    make_model,
    make_task,
    make_tokenizer,
    right_and_ended,
    tiny_gpt2,
    warm_start,
)
from greso_client.trainer.engine import Completion
from greso_client.trainer.model import prompt_encoder
from greso_client.trainer.task import Problem, Task, TaskError, content_id, without_long_prompts

torch.set_num_threads(1)  # these tensors are small, and waiting threads would take the cores from others

TOKENIZER = make_tokenizer()


def task_of(*ids: str, held_out: tuple[str, ...] = ()) -> Task:
    def problems(names: tuple[str, ...]) -> list[Problem]:
        return [Problem(name, f"question {name}", "1") for name in names]

    return Task("some", problems(ids), problems(held_out), right_and_ended)


@pytest.mark.parametrize(
    ("ids", "held_out", "said"),
    [
        ((), (), "no problem to train on"),
        (("a", "b", "a"), (), r"1 ids stand more than once \(a\)"),
        (("0", "0", "0"), (), "all 3 problems have the id '0'.*--id-field"),
        (("a", "b"), ("c", "b"), r"1 held-out problems are in the pool too \(b\)"),
    ],
)
def test_ids_that_cannot_serve_are_refused_in_one_line(
    ids: tuple[str, ...], held_out: tuple[str, ...], said: str
) -> None:
    with pytest.raises(TaskError, match=said) as refusal:
        task_of(*ids, held_out=held_out)
    assert "\n" not in str(refusal.value)


def test_the_held_out_problems_are_told_from_the_pool_by_their_questions() -> None:
    def task(question: str) -> Task:
        return Task("some", [Problem("0", "1+1?", "2")], [Problem("0", question, "2")], right_and_ended)

    assert task("1+2?").held_out[0].id == "0"  # each file counts from 0: as verl writes its train and test sets
    with pytest.raises(TaskError, match=r"1 held-out problems are in the pool too \(0\)"):
        task(" 1+1?\n")


def test_content_ids_depend_on_the_question_alone() -> None:
    assert content_id("1+1?") == content_id("1+1?") != content_id("1+2?")
    # Written down, since a run's history is kept under them: the first 16 hex digits of sha256("1+1?").
    assert content_id("1+1?") == "cfe29f43bcc21dd4"


def test_prompts_longer_than_the_context_are_left_out_and_counted() -> None:
    task = Task("t", [Problem(str(n), "x" * n, "") for n in range(1, 6)], [Problem("h", "x" * 9, "")], right_and_ended)
    kept, left_out = without_long_prompts(task, lambda text: [0] * len(text), 3)
    assert ([problem.id for problem in kept.pool], kept.held_out, left_out) == (["1", "2", "3"], [], 2)
    with pytest.raises(TaskError, match="each of the 5 prompts is longer than the 0 tokens"):
        without_long_prompts(task, lambda text: [0] * len(text), 0)


def test_a_seed_always_gives_the_same_problems_and_no_question_twice() -> None:
    task = make_task(7, pool=200, held_out=100)
    assert task == make_task(7, pool=200, held_out=100) != make_task(8, pool=200, held_out=100)
    assert len({problem.question for problem in [*task.pool, *task.held_out]}) == 300


@pytest.mark.parametrize("digits", [3, 6])
def test_problems_follow_the_number_of_digits(digits: int) -> None:
    shares = (0.0, *[1 / (digits - 1)] * (digits - 1))
    addition = Addition(pool=shares, warm_start=shares, broken=0.5)
    task = make_task(1, addition, pool=200, held_out=50)
    encode = prompt_encoder(TOKENIZER)
    right = 0
    for problem in [*task.pool, *task.held_out]:
        assert len(encode(problem.question)) == addition.prompt_tokens
        a, b = map(int, problem.question[:-1].split("+"))
        right += problem.answer == str(a + b)[::-1]
        # A right answer and its end fit into a completion; a broken one doesn't, so that luck can't hit it.
        fits = len(problem.answer) + 1 <= addition.answer_tokens
        assert fits == (problem.answer == str(a + b)[::-1])
    assert 125 <= right <= 175


def test_shares_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(ValueError, match="pool has 2 shares and warm_start 1"):
        Addition(pool=(0.5, 0.5), warm_start=(1.0,))


@pytest.mark.parametrize(
    ("text", "ended", "reward"), [("302", True, 1.0), ("302", False, 0.0), ("30", True, 0.0), (" 302", True, 0.0)]
)
def test_the_reward_wants_the_exact_answer_and_its_end(text: str, ended: bool, reward: float) -> None:
    problem = Problem("add/0", "  47+ 156=", "302")
    assert right_and_ended(problem, Completion([], [], text, ended)) == reward


@given(st.text(ALPHABET))
def test_the_tokenizer_takes_characters_and_gives_them_back(text: str) -> None:
    tokens = TOKENIZER(text)["input_ids"]
    assert tokens == [ALPHABET.index(character) for character in text]
    assert TOKENIZER.decode(tokens) == text
    assert TOKENIZER.decode([*tokens, END], skip_special_tokens=True) == text


def test_the_tokenizer_survives_being_saved(tmp_path: object) -> None:
    TOKENIZER.save_pretrained(str(tmp_path))
    again = AutoTokenizer.from_pretrained(str(tmp_path))
    text = "  47+ 156="
    assert again(text)["input_ids"] == TOKENIZER(text)["input_ids"]
    assert again.decode(again(text)["input_ids"]) == text
    assert (again.eos_token_id, again.pad_token_id) == (END, END)


def test_a_seed_always_gives_the_same_model() -> None:
    weights = [make_model(seed).state_dict() for seed in (1, 1, 2)]
    assert all(weights[1][name].equal(value) for name, value in weights[0].items())
    assert not all(weights[2][name].equal(value) for name, value in weights[0].items())


@pytest.mark.parametrize("name", ["gpt2", "qwen3"])
def test_the_warm_start_teaches_models_of_any_kind(name: str) -> None:
    qwen3 = Qwen3Config(
        vocab_size=END + 1,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        bos_token_id=END,
        eos_token_id=END,
        pad_token_id=END,
    )
    model = make_model(1, {"gpt2": tiny_gpt2(), "qwen3": qwen3}[name])
    losses = list(itertools.islice(warm_start(model, avoid=[], seed=1, batch_size=32), 20))
    assert losses[-1] < 0.95 * losses[0]


def test_the_warm_start_never_shows_held_out_problems(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    model = make_model(1)
    forward = model.forward

    def spy(input_ids: torch.Tensor, **given: object) -> object:
        shown.extend(TOKENIZER.batch_decode(input_ids[:, : FOUR_DIGITS.prompt_tokens].tolist()))
        return forward(input_ids=input_ids, **given)

    monkeypatch.setattr(model, "forward", spy)
    next(warm_start(model, avoid=[], seed=1, batch_size=64))
    avoid = [Problem("", question, "") for question in set(shown[:40])]
    unrestrained = set(shown)
    shown.clear()
    next(warm_start(model, avoid=avoid, seed=1, batch_size=64))
    assert set(shown) == unrestrained - {problem.question for problem in avoid}
