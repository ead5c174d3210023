"""Sampling in plain torch with a key-value cache, from the model that is trained or a copy of it."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from greso_client.trainer.engine import Completion, EngineError, Sampling
from greso_client.trainer.model import autocast, end_tokens


class TorchEngine:
    """Samples from a model in this process. Weights of that very model need no transfer after an update."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, max_sequences: int = 512) -> None:
        """Sample at most `max_sequences` completions at once, or those of one prompt: it bounds the cache's memory."""
        self._model = model
        self._tokenizer = tokenizer
        self._max_sequences = max_sequences
        self._ends = torch.tensor(end_tokens(model, tokenizer), device=model.device)

    @torch.inference_mode()
    def generate(self, prompts: Sequence[Sequence[int]], n: int, sampling: Sampling) -> list[list[Completion]]:
        """Sample `n` completions of each prompt; see `Engine.generate`."""
        generator = torch.Generator(self._model.device)
        if sampling.seed is None:
            generator.seed()
        else:
            generator.manual_seed(sampling.seed)
        size = max(1, self._max_sequences // n)
        chunks = [prompts[start : start + size] for start in range(0, len(prompts), size)]
        try:
            with autocast(self._model):
                return [group for chunk in chunks for group in self._sample(chunk, n, sampling, generator)]
        except torch.OutOfMemoryError as error:
            reason = str(error).partition("\n")[0]
            raise EngineError(f"memory ran out while sampling; lower --max-sequences ({reason})") from error

    def sync_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Take these weights over; nothing is to be done when they are the model's own. See `Engine.sync_weights`."""
        own = self._model.state_dict()
        if {name: tuple(value.shape) for name, value in weights.items()} != {
            name: tuple(value.shape) for name, value in own.items()
        }:
            raise EngineError("the weights are not those of the engine's model: their names or shapes differ")
        for name, value in own.items():
            if value.data_ptr() != weights[name].data_ptr():
                value.copy_(weights[name])

    def close(self) -> None:
        """Nothing is held that the model does not hold."""

    def _sample(
        self, prompts: Sequence[Sequence[int]], n: int, sampling: Sampling, generator: torch.Generator
    ) -> list[list[Completion]]:
        """Sample from prompts that are all processed at once: P of them, B = P * n completions."""
        tokens, mask = self._left_padded(prompts, sampling.max_tokens)
        length = tokens.shape[1]
        positions = (mask[:, :length].cumsum(dim=1) - 1).clamp(min=0)
        # The prompts are read once; what the cache holds of them then serves all n completions.
        output = self._model(
            input_ids=tokens, attention_mask=mask[:, :length], position_ids=positions, use_cache=True
        )  # fmt: skip
        cache = output.past_key_values
        cache.batch_repeat_interleave(n)
        logits = output.logits[:, -1].repeat_interleave(n, dim=0)
        mask, position = mask.repeat_interleave(n, dim=0), positions[:, -1:].repeat_interleave(n, dim=0)

        sampled, logprobs = [], []
        running = torch.ones(len(logits), dtype=torch.bool, device=logits.device)
        for done in range(1, sampling.max_tokens + 1):
            token, logprob = _draw(logits.float(), sampling.temperature, generator)
            sampled.append(token)
            logprobs.append(logprob)
            running = running & ~torch.isin(token, self._ends)
            if done == sampling.max_tokens or not running.any():
                break
            output = self._model(
                input_ids=token[:, None],
                attention_mask=mask[:, : length + done],
                position_ids=position + done,
                past_key_values=cache,
                use_cache=True,
            )
            logits = output.logits[:, -1]
        completions = self._completions(torch.stack(sampled, dim=1), torch.stack(logprobs, dim=1))
        return [completions[start : start + n] for start in range(0, len(completions), n)]

    def _left_padded(self, prompts: Sequence[Sequence[int]], more: int) -> tuple[Tensor, Tensor]:
        """Return the prompts' tokens (P, L), padded on the left, and their mask with `more` ones (P, L + more)."""
        longest = max(map(len, prompts))
        padding = self._tokenizer.pad_token_id if self._tokenizer.pad_token_id is not None else int(self._ends[0])
        tokens = [[padding] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
        mask = [[0] * (longest - len(prompt)) + [1] * (len(prompt) + more) for prompt in prompts]
        device = self._model.device
        return torch.tensor(tokens, device=device), torch.tensor(mask, device=device)

    def _completions(self, tokens: Tensor, logprobs: Tensor) -> list[Completion]:
        """Cut the rows, both (B, T), behind their first end token."""
        ends = torch.isin(tokens, self._ends)
        ended = ends.any(dim=1).tolist()
        lengths = torch.where(ends.any(dim=1), ends.int().argmax(dim=1) + 1, tokens.shape[1]).tolist()
        rows = [row[:length] for row, length in zip(tokens.tolist(), lengths, strict=True)]
        texts = self._tokenizer.batch_decode(rows, skip_special_tokens=True)
        return [
            Completion(tokens=row, logprobs=chances[: len(row)], text=text, ended=whole)
            for row, chances, text, whole in zip(rows, logprobs.tolist(), texts, ended, strict=True)
        ]


def _draw(logits: Tensor, temperature: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw a token from each row of `logits` (B, V); return tokens and log-probabilities, both (B,)."""
    distribution = (logits / temperature if temperature > 0 else logits).log_softmax(dim=-1)
    if temperature > 0:
        token = torch.multinomial(distribution.exp(), 1, generator=generator)[:, 0]
    else:
        token = distribution.argmax(dim=-1)
    return token, distribution.gather(1, token[:, None])[:, 0]
