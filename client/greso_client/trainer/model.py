"""The policy: any causal language model of the Hugging Face libraries, by path or name, and its tokenizer."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from greso_client.trainer.task import Encode

UNLIMITED = 2**20  # tokens; no model's context is that long, and one that names no limit counts as having this one


class ModelError(Exception):
    """The model can't be loaded or used. The message is one line and says what to do."""


def load_model(name: str | Path, *, device: str | torch.device | None = None) -> PreTrainedModel:
    """Load a causal language model from a folder or a name on the hub, onto the device (default: `best_device()`).

    The weights are float32 on every device: optimiser steps of 1e-6 vanish in bfloat16. On a GPU it computes in
    bfloat16 nevertheless, see `autocast`. Raises `ModelError`.
    """
    _require_folder(name)
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32)
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(f"no causal language model can be loaded from {name}: {_first_line(error)}") from error
    model.eval()  # type: ignore[no-untyped-call]  # no dropout in training either: sampling and learning see one policy
    return model.to(device or best_device())  # type: ignore[arg-type,no-any-return]  # a decorator hides the signature


def load_tokenizer(name: str | Path) -> PreTrainedTokenizerBase:
    """Load a tokenizer from a folder or a name on the hub. Raises `ModelError`, also when it has no end token."""
    _require_folder(name)
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise ModelError(f"no tokenizer can be loaded from {name}: {_first_line(error)}") from error
    if tokenizer.eos_token_id is None:
        raise ModelError(f"the tokenizer of {name} has no end-of-sequence token; set eos_token in its configuration")
    return tokenizer


def _require_folder(name: str | Path) -> None:
    """A name that can only be a folder is not looked up on the hub, whose complaint would be about something else."""
    if (isinstance(name, Path) or str(name).startswith((".", "/", "~"))) and not Path(name).is_dir():
        raise ModelError(f"there is no folder {name}; --model takes a folder or a name on the hub")


def prompt_encoder(tokenizer: PreTrainedTokenizerBase, *, chat: bool | None = None) -> Encode:
    """Return the function that turns a question into token ids.

    `chat`: as a user's message in the tokenizer's chat template (True), as plain text (False), or as a message when
    there is a template (None). Raises `ModelError` when a template is asked for that is not there.
    """
    if chat and tokenizer.chat_template is None:
        raise ModelError("the tokenizer has no chat template; leave --chat out to send the questions as plain text")

    def as_text(question: str) -> list[int]:
        tokens: list[int] = tokenizer(question)["input_ids"]
        return tokens

    def as_message(question: str) -> list[int]:
        messages = [{"role": "user", "content": question}]
        text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        # The template writes the special tokens itself; adding them again would double the first one.
        tokens: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        return tokens

    wanted = tokenizer.chat_template is not None if chat is None else chat
    return as_message if wanted else as_text


def end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the ids of all tokens that end a completion: chat models have several."""
    config: list[int] | int | None = getattr(model.generation_config, "eos_token_id", None)
    named = config if isinstance(config, list) else [config]
    return sorted({token for token in [*named, tokenizer.eos_token_id] if token is not None})


def context_length(model: PreTrainedModel) -> int:
    """Return how many tokens prompt and completion may have together."""
    return getattr(model.config, "max_position_embeddings", None) or UNLIMITED


def best_device() -> torch.device:
    """Return the GPU when there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@contextlib.contextmanager
def autocast(model: PreTrainedModel) -> Iterator[None]:
    """Compute in bfloat16 where the model is on a GPU, its float32 weights untouched; on a CPU do nothing."""
    with torch.autocast(model.device.type, torch.bfloat16, enabled=model.device.type == "cuda"):
        yield


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
