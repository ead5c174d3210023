"""The built-in task: addition, answered with the digits reversed, and a small model that can do a little of it.

A prompt is ``"  47+ 156="``; the right completion is ``"302"`` (203 backwards) followed by the end token. Backwards,
each digit depends only on the two above it and one carry; forwards, RL hardly lifts a model this small.

The pool is made to look like a data set one really meets: some prompts that soon become easy, some to learn from, some
far too hard for the start, and a share whose reference answer is broken, which no training will ever solve.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, GPT2Config, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

from greso_client.trainer.engine import Completion
from greso_client.trainer.model import autocast
from greso_client.trainer.task import Problem, Task

ALPHABET = "0123456789+= "
END = len(ALPHABET)  # the end token comes after the characters
IGNORED = -100  # the label that cross_entropy leaves out


@dataclass(frozen=True, slots=True)
class Addition:
    """Which sums are drawn. `pool` and `warm_start`: shares of problems whose operands are below 10, 100, 1,000, ...

    The longest operands have as many digits as `pool` has shares. The warm start hardly sees the longer ones, which
    are left to RL; the pool leaves out the shortest, of which there are only a hundred. `broken`: the share of the
    pool's prompts whose reference answer is broken: noise, as in real data sets.
    """

    pool: tuple[float, ...] = (0.0, 0.2, 0.4, 0.4)
    warm_start: tuple[float, ...] = (0.5, 0.35, 0.12, 0.03)
    broken: float = 0.3

    def __post_init__(self) -> None:
        """Raises ValueError when the shares don't fit together."""
        if len(self.pool) != len(self.warm_start):
            raise ValueError(f"pool has {len(self.pool)} shares and warm_start {len(self.warm_start)}; make them equal")

    @property
    def digits(self) -> int:
        """Of the longest operands."""
        return len(self.pool)

    @property
    def prompt_tokens(self) -> int:
        """Of every prompt: two operands, "+" and "="."""
        return 2 * self.digits + 2

    @property
    def answer_tokens(self) -> int:
        """At most: a sum can be one digit longer than its operands; then the end token."""
        return self.digits + 2


FOUR_DIGITS = Addition()


def make_task(seed: int, addition: Addition = FOUR_DIGITS, *, pool: int = 3_000, held_out: int = 1_000) -> Task:
    """Draw `pool` + `held_out` problems of which no two share a question; a seed always gives the same ones.

    The held-out ones are all answered rightly.
    """
    rng = np.random.default_rng(seed)
    operands = _draw_distinct_operands(rng, pool + held_out, addition.pool)
    answers = operands.sum(axis=1)
    # A broken answer is longer than any completion: a short wrong one would now and then be hit by luck and rewarded.
    broken = np.flatnonzero(rng.random(pool) < addition.broken)
    longest = addition.answer_tokens
    answers[broken] = rng.integers(10 ** (longest - 1), 10**longest, size=len(broken))
    problems = [
        _problem(i, a, b, answer, addition) for i, ((a, b), answer) in enumerate(zip(operands, answers, strict=True))
    ]
    return Task("addition", problems[:pool], problems[pool:], right_and_ended)


def right_and_ended(problem: Problem, completion: Completion) -> float:
    """Return 1.0 when the completion is exactly the reference answer and then ends, else 0.0."""
    return float(completion.ended and completion.text == problem.answer)


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Make the tokenizer: one token a character, and the end token."""
    vocabulary = {character: token for token, character in enumerate([*ALPHABET, "<end>"])}
    characters = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))  # BPE without merges leaves single characters
    characters.decoder = decoders.Fuse()
    special = dict.fromkeys(("eos_token", "pad_token"), "<end>")
    return PreTrainedTokenizerFast(tokenizer_object=characters, **special)  # type: ignore[no-untyped-call]


def tiny_gpt2(addition: Addition = FOUR_DIGITS) -> GPT2Config:
    """Return the configuration of a 0.4 M parameter GPT-2.

    GPT-2 rather than Llama or Qwen: its learnt positions suit operands written in fixed columns, and it learns the
    task in fewer warm-start steps than with rotary positions at this size; so it does with untied embeddings. Dropout
    is off: sampling and training must see the same policy, or the importance ratio means nothing.
    """
    return GPT2Config(
        vocab_size=END + 1,
        n_positions=addition.prompt_tokens + addition.answer_tokens,
        n_embd=128,
        n_layer=2,
        n_head=4,
        initializer_range=0.05,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=END,
        eos_token_id=END,
        pad_token_id=END,
        tie_word_embeddings=False,
    )


def make_model(seed: int, config: PreTrainedConfig | None = None) -> PreTrainedModel:
    """Make a model of this configuration (default: `tiny_gpt2()`) with random weights; a seed gives the same ones.

    Its vocabulary must be the tokenizer's: `END` + 1 tokens, of which `END` ends.
    """
    torch.manual_seed(seed)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config or tiny_gpt2())  # type: ignore[no-untyped-call]
    model.eval()  # type: ignore[no-untyped-call]
    return model


def warm_start(
    model: PreTrainedModel,
    addition: Addition = FOUR_DIGITS,
    *,
    avoid: Sequence[Problem],
    seed: int,
    batch_size: int = 256,
    learning_rate: float = 1e-3,
) -> Iterator[float]:
    """Teach the model the task roughly, on right answers of mostly short problems, one optimiser step per loss yielded.

    Endless: the caller stops when the model is good enough. Problems in `avoid` (the held-out ones) are never shown.
    """
    rng = np.random.default_rng(seed)
    avoided = {problem.question for problem in avoid}
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: min(1.0, (done + 1) / 50))
    while True:
        operands = _draw_operands(rng, batch_size, addition.warm_start)
        drawn = [_problem(i, a, b, a + b, addition) for i, (a, b) in enumerate(operands)]
        tokens, labels = _supervised([problem for problem in drawn if problem.question not in avoided], addition)
        inputs, targets = tokens[:, :-1].to(model.device), labels[:, 1:].to(model.device)
        with autocast(model):
            logits = model(input_ids=inputs, attention_mask=torch.ones_like(inputs), use_cache=False).logits
        loss = nn.functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        yield loss.item()


def _supervised(problems: Sequence[Problem], addition: Addition) -> tuple[Tensor, Tensor]:
    rows, labels = [], []
    for problem in problems:
        question, answer = _tokens(problem.question), [*_tokens(problem.answer), END]
        padding = addition.answer_tokens - len(answer)
        rows.append([*question, *answer, *[END] * padding])
        labels.append([*[IGNORED] * len(question), *answer, *[IGNORED] * padding])
    return torch.tensor(rows), torch.tensor(labels)


def _tokens(text: str) -> list[int]:
    return [ALPHABET.index(character) for character in text]


def _problem(number: int, a: int, b: int, answer: int, addition: Addition) -> Problem:
    question = f"{a:>{addition.digits}}+{b:>{addition.digits}}="
    return Problem(id=f"add/{number}", question=question, answer=str(answer)[::-1])


def _draw_operands(rng: np.random.Generator, count: int, shares: Sequence[float]) -> NDArray[np.int64]:
    most = rng.choice(len(shares), size=(count, 1), p=shares) + 1
    return rng.integers(0, 10**most, size=(count, 2))


def _draw_distinct_operands(rng: np.random.Generator, count: int, shares: Sequence[float]) -> NDArray[np.int64]:
    distinct = np.empty((0, 2), dtype=np.int64)
    while len(distinct) < count:
        distinct = np.unique(np.concatenate([distinct, _draw_operands(rng, count, shares)]), axis=0)
    return rng.permutation(distinct)[:count]
