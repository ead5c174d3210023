"""What a rollout engine does, behind one small interface: sample groups of completions, take over new weights.

`torch_engine` samples with the model that is trained, in this process; `vllm_engine` with vLLM, in this process or
behind a running server. The loop knows nothing more of them than this page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to sample. `max_tokens`: of a completion, its end token included. `temperature`: 0 takes the likeliest token.

    `seed`: the same prompts, weights and seed give the same completions from the same engine on the same machine; None
    draws anew each time.
    """

    max_tokens: int
    temperature: float = 1.0
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """One response: its token ids up to and with the end token (cut at `max_tokens`), and what each one's chance was.

    `logprobs`: natural logarithms, one a token, under the distribution that was sampled from (at temperature 0: of the
    model itself). `text`: the tokens decoded, special ones left out. `ended`: whether it ended by itself.
    """

    tokens: list[int]
    logprobs: list[float]
    text: str
    ended: bool


class EngineError(Exception):
    """The engine can't go on: it died, can't be reached, or can't take the weights. The message is one line."""


class Engine(Protocol):
    """Samples completions from a copy, or the very object, of the model that is trained."""

    def generate(self, prompts: Sequence[Sequence[int]], n: int, sampling: Sampling) -> list[list[Completion]]:
        """Sample `n` completions of each prompt (token ids, lengths may differ). One list a prompt, in order.

        Raises `EngineError`.
        """
        ...

    def sync_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Sample from these weights from now on: the model's `state_dict()`. All are taken over or none.

        Raises `EngineError`; the engine must not be used after that.
        """
        ...

    def close(self) -> None:
        """Release what the engine holds."""
        ...
