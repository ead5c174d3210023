"""What runs inside vLLM's worker processes: it takes over weights, all of them or none.

vLLM mixes `WeightSync` into its worker (`--worker-extension-cls greso_client.trainer.vllm_worker.WeightSync`); the
engines call its methods by `collective_rpc`. Importing this module needs vLLM.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
import vllm  # type: ignore[import-not-found]  # installed where vLLM runs, see docs/vllm.md
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM
from vllm.model_executor.layers import utils as layers  # type: ignore[import-not-found]
from vllm.platforms import current_platform  # type: ignore[import-not-found]

NAMED = 3  # names that an error lists; a wrong model differs in hundreds


class WeightSync:
    """What the worker can do beside vLLM's own methods. Answers are JSON: they also travel over HTTP."""

    model_config: Any  # the worker's own, as vLLM sets it
    greso_model_shapes: dict[str, torch.Size]

    def greso_describe(self) -> dict[str, Any]:
        """Return how the engine was started, as far as a trainer depends on it."""
        config = self.model_config
        return {
            "vllm": vllm.__version__,
            "max_model_len": config.max_model_len,
            "vocab_size": config.get_vocab_size(),
            "logprobs_mode": str(config.logprobs_mode),
            "quantization": config.quantization,
            "dtype": str(config.dtype).removeprefix("torch."),
        }

    def greso_load_weights(self, weights: Mapping[str, Tensor]) -> dict[str, Any]:
        """Take over the `state_dict()` of the Hugging Face model. Returns {"error": one line}, empty when it went well.

        Names and shapes are compared first, against those of the model that the engine was started with: vLLM itself
        stops half-way at a wrong shape and keeps the old value of what is missing without a word.
        """
        config = self.model_config
        try:
            if not hasattr(self, "greso_model_shapes"):
                # Without memory for it: only the names and shapes are wanted.
                with torch.device("meta"):
                    model = AutoModelForCausalLM.from_config(config.hf_config)  # type: ignore[no-untyped-call]
                self.greso_model_shapes = {name: value.shape for name, value in model.state_dict().items()}
            tied = bool(config.hf_config.get_text_config().tie_word_embeddings)
            if wrong := misfits(weights, self.greso_model_shapes, may_miss=("lm_head.weight",) if tied else ()):
                return {"error": f"the weights don't fit the engine's {config.architecture}: {wrong}"}
            return self._greso_take_over(weights)
        except Exception as error:  # noqa: BLE001 - whatever vLLM raises goes to the trainer as one line
            return {"error": f"vLLM could not take the weights: {type(error).__name__}: {error}"}

    def greso_load_file(self, path: str) -> dict[str, Any]:
        """Take over weights from a safetensors file; as `greso_load_weights`."""
        try:
            weights = load_file(path)
        except Exception as error:  # noqa: BLE001 - one line to the trainer, whatever is wrong with the file
            return {
                "error": f"the server can't read the weights in {path}: {error} "
                "(trainer and server must see the same folder; the engine's `folder` names it)"
            }
        return self.greso_load_weights(weights)

    def _greso_take_over(self, weights: Mapping[str, Tensor]) -> dict[str, Any]:
        model: Any = self.get_model()  # type: ignore[attr-defined]  # the worker's
        loaded: Iterable[str] | None = model.load_weights(iter(weights.items()))
        # Most models of vLLM say what they loaded; a parameter that is not among it still has its old value.
        old = {name for name, _ in model.named_parameters()} - set(loaded) if loaded is not None else set()
        return {"error": f"vLLM kept the old values of {_some(old)}"} if old else {}


def misfits(weights: Mapping[str, Tensor], shapes: Mapping[str, torch.Size], may_miss: Iterable[str] = ()) -> str:
    """Say how names and shapes of `weights` differ from those wanted; the empty string when they don't."""
    wrong = {
        f"{name} is {tuple(weights[name].shape)}, not {tuple(shape)}"
        for name, shape in shapes.items()
        if name in weights and weights[name].shape != shape
    }
    parts = {
        "": wrong,
        "missing ": shapes.keys() - weights.keys() - set(may_miss),
        "unknown ": weights.keys() - shapes.keys(),
    }
    return "; ".join(word + _some(names) for word, names in parts.items() if names)


def _some(names: Iterable[str]) -> str:
    names = sorted(names)
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _keep_weights_plain() -> None:
    """Let vLLM compute on a CPU with the weights as they were loaded.

    It would repack each linear layer's weight when the model is loaded and drop the original, after which new weights
    can't be loaded: they raise half-way, or with tied embeddings change nothing without a word. Plain is slower.
    """

    def plain(layer: Any, remove_weight: bool) -> None:  # noqa: ARG001 - vLLM's signature
        layer.cpu_linear = torch.nn.functional.linear

    layers.dispatch_cpu_unquantized_gemm = plain


if current_platform.is_cpu():
    _keep_weights_plain()
