"""The policy model of the demo: a small GPT-2 with random weights, warm-started on the spot."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

from greso_client.trainer.task import (
    ANSWER_TOKENS,
    END,
    PROMPT_TOKENS,
    VOCABULARY_SIZE,
    Problem,
    draw_warm_start,
    encode,
)

IGNORED = -100  # the label that cross_entropy leaves out


def build_model(seed: int) -> GPT2LMHeadModel:
    """Build a 0.4 M parameter GPT-2 with random weights; a seed always gives the same ones.

    GPT-2 rather than Llama or Qwen: its learnt positions suit operands written in fixed columns, and it learns the
    task in fewer warm-start steps than with rotary positions at this size; so it does with untied embeddings. Dropout
    is off: sampling and training must see the same policy, or the importance ratio means nothing.
    """
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=VOCABULARY_SIZE,
        n_positions=PROMPT_TOKENS + ANSWER_TOKENS,
        n_embd=128,
        n_layer=2,
        n_head=4,
        initializer_range=0.05,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=END,
        eos_token_id=END,
        tie_word_embeddings=False,
    )
    return GPT2LMHeadModel(config)


def warm_start(
    model: GPT2LMHeadModel, *, avoid: Sequence[Problem], seed: int, batch_size: int = 256, learning_rate: float = 1e-3
) -> Iterator[float]:
    """Teach the model the task roughly, on right answers of mostly short problems, one optimiser step per loss yielded.

    Endless: the caller stops when the model is good enough. Problems in `avoid` (the held-out ones) are never shown.
    """
    rng = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: min(1.0, (done + 1) / 50))
    while True:
        tokens, labels = _supervised_batch(draw_warm_start(rng, batch_size, avoid=avoid))
        logits = model(input_ids=tokens[:, :-1], use_cache=False).logits
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        yield loss.item()


def _supervised_batch(problems: Sequence[Problem]) -> tuple[Tensor, Tensor]:
    rows, labels = [], []
    for problem in problems:
        question, answer = encode(problem.question), [*encode(problem.answer), END]
        padding = ANSWER_TOKENS - len(answer)
        rows.append([*question, *answer, *[END] * padding])
        labels.append([*[IGNORED] * PROMPT_TOKENS, *answer, *[IGNORED] * padding])
    return torch.tensor(rows), torch.tensor(labels)
