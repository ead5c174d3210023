"""Sampling groups of completions from the model, with a key-value cache."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True)
class Completions:
    """Completions of one prompt of L tokens: n of them, each of at most T tokens.

    `prompt` (L,) and `tokens` (n, T) are token ids, `mask` (n, T) is true up to and with the end token, and `logprobs`
    (n, T) are what the model gave the tokens when they were sampled (natural logarithm).
    """

    prompt: Tensor
    tokens: Tensor
    mask: Tensor
    logprobs: Tensor

    def answers(self) -> list[list[int]]:
        """Return each completion's tokens up to and with the end token."""
        lengths = self.mask.sum(dim=1).tolist()
        return [row[:length] for row, length in zip(self.tokens.tolist(), lengths, strict=True)]

    def keep(self, rows: Sequence[int]) -> "Completions":
        """Return these completions only, in this order."""
        return Completions(self.prompt, self.tokens[rows], self.mask[rows], self.logprobs[rows])


class TorchEngine:
    """Samples from a model that lives in this process, and so needs no weight transfer after an update."""

    def __init__(self, model: PreTrainedModel, *, max_tokens: int, end: int, seed: int) -> None:
        """Take at most `max_tokens` tokens a completion, `end` ends one; `seed` fixes everything sampled later."""
        self._model = model
        self._max_tokens = max_tokens
        self._end = end
        self._generator = torch.Generator().manual_seed(seed)

    @torch.inference_mode()
    def generate(self, prompts: Sequence[Sequence[int]], n: int, *, greedy: bool = False) -> list[Completions]:
        """Sample `n` completions of each prompt at temperature 1, or take the likeliest tokens when `greedy`.

        The prompts must be of one length. Returns one item a prompt, in order.
        """
        if not prompts:
            return []
        prompt_tokens = torch.tensor(prompts)
        # The prompts are read once; what the cache holds of them then serves all n completions.
        output = self._model(input_ids=prompt_tokens, use_cache=True)
        cache = output.past_key_values
        cache.batch_repeat_interleave(n)
        logits = output.logits[:, -1].repeat_interleave(n, dim=0)

        tokens, mask, logprobs = [], [], []
        running = torch.ones(len(logits), dtype=torch.bool)
        while True:
            distribution = logits.float().log_softmax(dim=-1)
            token = distribution.argmax(dim=-1) if greedy else self._sample(distribution)
            token = torch.where(running, token, self._end)
            tokens.append(token)
            mask.append(running)
            logprobs.append(distribution.gather(1, token[:, None])[:, 0])
            running = running & (token != self._end)
            if len(tokens) == self._max_tokens:
                break
            logits = self._model(input_ids=token[:, None], past_key_values=cache, use_cache=True).logits[:, -1]

        shape = (len(prompts), n, self._max_tokens)
        return [
            Completions(*parts)
            for parts in zip(
                prompt_tokens,
                torch.stack(tokens, dim=1).view(shape),
                torch.stack(mask, dim=1).view(shape),
                torch.stack(logprobs, dim=1).view(shape),
                strict=True,
            )
        ]

    def _sample(self, distribution: Tensor) -> Tensor:
        return torch.multinomial(distribution.exp(), 1, generator=self._generator)[:, 0]
