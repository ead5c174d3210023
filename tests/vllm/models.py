"""Tiny models with random weights and a tokenizer of their own: nothing is downloaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from tokenizers import Regex, Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from greso_client.trainer.model import end_tokens, load_model, load_tokenizer, prompt_encoder
from greso_client.trainer.torch_engine import TorchEngine

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from greso_client.trainer.engine import Engine, Sampling

CHARACTERS = "0123456789+-= abcdefgh"
END, PADDING = "<end>", "<pad>"
QUESTIONS = ["12+3=", "a b", "7", " 777+1111= ", "h", "12+3="]  # of several lengths, and one of them twice


@dataclass(frozen=True, slots=True)
class Policy:
    """A model as a trainer has it: in a folder, and loaded by torch."""

    folder: Path
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    @property
    def ends(self) -> list[int]:
        """The tokens that end a completion."""
        return end_tokens(self.model, self.tokenizer)

    def prompts(self) -> list[list[int]]:
        """The token ids of `QUESTIONS`."""
        return [prompt_encoder(self.tokenizer)(question) for question in QUESTIONS]

    def change(self, seed: int, *, only: str = "") -> None:
        """Change all weights, or those with `only` in their names."""
        torch.manual_seed(seed)
        with torch.no_grad():
            for name, value in self.model.named_parameters():
                if only in name:
                    value.add_(torch.randn_like(value) * 0.3)


def make_policy(folder: Path, *, tied: bool) -> Policy:
    """Make a Qwen3 of 100,000 parameters, sure enough of its tokens to be told from another by what it says."""
    vocabulary = {token: number for number, token in enumerate([*CHARACTERS, END, PADDING])}
    tokens = Tokenizer(WordLevel(vocabulary, unk_token=PADDING))
    tokens.pre_tokenizer = Split(Regex("."), "isolated")
    tokens.decoder = Fuse()
    fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # transformers leaves it unannotated
        tokenizer_object=tokens, eos_token=END, pad_token=PADDING
    )
    config = Qwen3Config(
        vocab_size=len(vocabulary),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=128,
        initializer_range=0.5,
        tie_word_embeddings=tied,
        bos_token_id=None,
        eos_token_id=fast.eos_token_id,
        pad_token_id=fast.pad_token_id,
    )
    torch.manual_seed(1)
    Qwen3ForCausalLM(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return Policy(folder, load_model(folder, device="cpu"), load_tokenizer(folder))


def difference(engine: Engine, policy: Policy, sampling: Sampling) -> float | None:
    """Return the largest difference of a log-probability from torch's, greedily; None when any token differs."""
    prompts = policy.prompts()
    told = engine.generate(prompts, 2, sampling)
    wanted = TorchEngine(policy.model, policy.tokenizer).generate(prompts, 2, sampling)
    pairs = [pair for groups in zip(told, wanted, strict=True) for pair in zip(*groups, strict=True)]
    if any((one.tokens, one.text, one.ended) != (other.tokens, other.text, other.ended) for one, other in pairs):
        return None
    return max(
        abs(left - right) for one, other in pairs for left, right in zip(one.logprobs, other.logprobs, strict=True)
    )


@torch.inference_mode()
def scored(policy: Policy, prompt: list[int], tokens: list[int], temperature: float) -> list[float]:
    """Return torch's log-probabilities of a completion's tokens after a prompt."""
    logits = policy.model(input_ids=torch.tensor([[*prompt, *tokens]])).logits[0, len(prompt) - 1 : -1]
    chances = (logits / temperature).log_softmax(dim=-1)
    return [float(value) for value in chances.gather(1, torch.tensor(tokens)[:, None])[:, 0]]
