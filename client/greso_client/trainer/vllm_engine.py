"""Rollouts with vLLM in this process, on the trainer's own device; the weights are handed over after each step.

Tried with vLLM 0.32; see docs/vllm.md for the installation. `vllm_http` does the same with a running server.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from greso_client.trainer.engine import Completion, EngineError, Sampling

EXTENSION = "greso_client.trainer.vllm_worker.WeightSync"
CPU_CACHE = 2**30  # bytes of key-value cache on a CPU, where vLLM would otherwise take most of the memory


class VllmEngine:
    """vLLM in this process. One process only: under torchrun use a server and `VllmHttpEngine`."""

    def __init__(
        self,
        model: str | Path,
        tokenizer: PreTrainedTokenizerBase,
        ends: Sequence[int],
        *,
        max_model_len: int | None = None,
        gpu_memory_utilization: float = 0.4,
        dtype: str | None = None,
        **options: Any,
    ) -> None:
        """Load the model, a folder or a name on the hub, into vLLM beside the one that is trained.

        `ends`: the tokens that end a completion. `max_model_len`: most tokens of prompt and completion together (None:
        what the model can). `gpu_memory_utilization`: vLLM's share of the GPU's memory, its weights included. `dtype`:
        what it computes in; None is bfloat16 on a GPU and float32 on a CPU. `options`: more of `vllm.LLM`'s arguments.
        Raises `EngineError`.
        """
        self._tokenizer = tokenizer
        self._ends = list(ends)
        self._failure = ""
        if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
            raise EngineError("vLLM in process serves one process; with several ranks start a server (docs/vllm.md)")
        # The engine is to run in this very process, where weights are handed over by reference.
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        try:
            # Here, for it takes 15 seconds and reads the environment.
            from vllm import LLM, SamplingParams  # type: ignore[import-not-found]  # noqa: PLC0415
            from vllm.platforms import current_platform  # type: ignore[import-not-found]  # noqa: PLC0415
        except ImportError as error:
            raise EngineError(f"vLLM can't be imported ({error}); docs/vllm.md says how to install it") from error
        on_cpu = current_platform.is_cpu()
        self._params = SamplingParams
        with self._errors("start"), _trainer_state():
            self._llm = LLM(
                str(model),
                skip_tokenizer_init=True,  # token ids in and out
                dtype=dtype or ("float32" if on_cpu else "bfloat16"),
                max_model_len=max_model_len,
                gpu_memory_utilization=gpu_memory_utilization,
                logprobs_mode="processed_logprobs",
                generation_config="vllm",  # no sampling options from the model's folder
                worker_extension_cls=EXTENSION,
                **({"enforce_eager": True, "kv_cache_memory_bytes": CPU_CACHE} if on_cpu else {}) | options,
            )
            self._about = self._llm.collective_rpc("greso_describe")[0]
        refuse_unfit(self._about)

    def generate(self, prompts: Sequence[Sequence[int]], n: int, sampling: Sampling) -> list[list[Completion]]:
        """Sample `n` completions of each prompt; see `Engine.generate`."""
        refuse_prompts(prompts, sampling, self._about)
        greedy = sampling.temperature == 0  # then all completions of a prompt are the same, and vLLM refuses n > 1
        params = [
            self._params(
                n=1 if greedy else n,
                seed=seed,
                temperature=sampling.temperature,
                max_tokens=sampling.max_tokens,
                logprobs=0,
                stop_token_ids=self._ends,
                ignore_eos=True,  # `ends` alone ends a completion
                detokenize=False,
            )
            for seed in seeds(sampling.seed, len(prompts))
        ]
        with self._errors("generate"):
            # What an earlier call left in the cache would change the last bits of this one.
            self._llm.reset_prefix_cache()
            asked = [{"prompt_token_ids": list(prompt)} for prompt in prompts]
            answers = self._llm.generate(asked, params, use_tqdm=False)
        return [
            [
                completion(
                    self._tokenizer,
                    list(output.token_ids),
                    [chances[token].logprob for token, chances in zip(output.token_ids, output.logprobs, strict=True)],
                    output.finish_reason,
                )
                for output in answer.outputs
            ]
            * (n if greedy else 1)
            for answer in answers
        ]

    def sync_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Hand the weights over; see `Engine.sync_weights`."""
        with self._errors("sync_weights"):
            refuse_answers(self._llm.collective_rpc("greso_load_weights", args=(weights,)))
            self._llm.reset_prefix_cache()

    def close(self) -> None:
        """End vLLM and free its memory."""
        from vllm.distributed import (  # type: ignore[import-not-found]  # noqa: PLC0415 - as above
            cleanup_dist_env_and_memory,
        )

        self._llm.llm_engine.engine_core.shutdown()
        del self._llm
        cleanup_dist_env_and_memory()

    @contextlib.contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        """Raise whatever vLLM raises as an `EngineError`, now and at every later call: a failed vLLM may hang."""
        if self._failure:
            raise EngineError(self._failure)
        try:
            yield
        except EngineError:
            raise
        except Exception as error:
            self._failure = one_line(f"vLLM failed in {doing}: {type(error).__name__}: {error}")
            raise EngineError(self._failure) from error


def seeds(seed: int | None, count: int) -> list[int | None]:
    """Return a seed for each of `count` prompts. vLLM adds 0, 1, ... to it for the completions of one prompt."""
    if seed is None:
        return [None] * count
    # Below 2**62, so that it stays a signed 64-bit number with what is added.
    drawn = np.random.SeedSequence(seed % 2**64).generate_state(count, np.uint64) >> np.uint64(2)
    return [int(value) for value in drawn]


def completion(
    tokenizer: PreTrainedTokenizerBase, tokens: list[int], logprobs: list[float], finish_reason: str | None
) -> Completion:
    """Make a completion of what vLLM answered. Raises `EngineError` when vLLM gave it up."""
    if finish_reason not in {"stop", "length"}:
        raise EngineError(f"vLLM gave a completion up: {finish_reason}")
    text = tokenizer.decode(tokens, skip_special_tokens=True)
    return Completion(tokens=tokens, logprobs=logprobs, text=str(text), ended=finish_reason == "stop")


def refuse_unfit(about: Mapping[str, Any]) -> None:
    """Raise `EngineError` for an engine that can't serve a trainer, as `WeightSync.greso_describe` describes it."""
    if about["logprobs_mode"] != "processed_logprobs":
        raise EngineError(
            f"vLLM was started with --logprobs-mode {about['logprobs_mode']}; start it with processed_logprobs: "
            "the update needs the chances under the distribution that was sampled from"
        )
    if about["quantization"]:
        raise EngineError(f"vLLM runs the model quantised ({about['quantization']}): it can't take weights over")


def refuse_prompts(prompts: Sequence[Sequence[int]], sampling: Sampling, about: Mapping[str, Any]) -> None:
    """Raise `EngineError` for prompts that vLLM would cut completions short for, or fail at."""
    longest, room = max(map(len, prompts), default=0), about["max_model_len"]
    if longest + sampling.max_tokens > room:
        raise EngineError(
            f"a prompt of {longest} tokens and {sampling.max_tokens} of its completion exceed vLLM's "
            f"{room} (max_model_len): leave it out, ask for fewer, or start vLLM with more"
        )
    size = about["vocab_size"]
    for prompt in prompts:
        if not prompt or not all(0 <= token < size for token in prompt):
            raise EngineError(f"a prompt must be one or more token ids below {size}, not {one_line(str(prompt))}")


def refuse_answers(answers: Sequence[Mapping[str, Any]]) -> None:
    """Raise `EngineError` when a worker did not take the weights over."""
    for answer in answers:
        if "error" in answer:
            raise EngineError(one_line(answer["error"]))


def one_line(text: str) -> str:
    """Return the text without line ends and at most 400 characters of it."""
    words = " ".join(text.split())
    return words if len(words) <= 400 else words[:400] + " ..."


@contextlib.contextmanager
def _trainer_state() -> Iterator[None]:
    """Give the trainer back what vLLM's start changes in this process: torch's random state and `set_num_threads`."""
    set_num_threads = torch.set_num_threads
    with torch.random.fork_rng():
        yield
    torch.set_num_threads = set_num_threads
