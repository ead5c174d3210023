"""Rollouts with a running vLLM server, over HTTP; the weights go through a file that both see.

The server must be one for trainers (docs/vllm.md): `START` is its command line. Tried with vLLM 0.32.
"""

import asyncio
import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import torch
from anyio.from_thread import start_blocking_portal
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from greso_client import _tls as tls
from greso_client.trainer.engine import Completion, EngineError, Sampling
from greso_client.trainer.vllm_engine import (
    EXTENSION,
    completion,
    one_line,
    refuse_answers,
    refuse_prompts,
    refuse_unfit,
    seeds,
)

START = (
    f"VLLM_SERVER_DEV_MODE=1 vllm serve MODEL --host 127.0.0.1 --worker-extension-cls {EXTENSION} "
    "--logprobs-mode processed_logprobs --generation-config vllm"
)
CONNECT_SECONDS = 10.0
TOGETHER = 256  # requests at once, each with the n completions of a prompt: vLLM's own default of sequences in a batch


class VllmHttpEngine:
    """A vLLM server, and the one trainer that it works for."""

    def __init__(
        self,
        url: str,
        tokenizer: PreTrainedTokenizerBase,
        ends: Sequence[int],
        *,
        api_key: str | None = None,
        timeout: float = 600.0,
        folder: str | Path | None = None,
    ) -> None:
        """Connect to the server at `url` (such as http://127.0.0.1:8000), which serves the model that is trained.

        `ends`: the tokens that end a completion. `timeout`: seconds that one prompt's completions, or a hand-over of
        weights, may take. `folder`: where the weights are written, seen by the server under the same name (None:
        /dev/shm, else the temporary folder); it needs room for the whole model. Raises `EngineError`.
        """
        self._url = url.rstrip("/")
        self._tokenizer = tokenizer
        self._ends = list(ends)
        memory = Path("/dev/shm")  # noqa: S108 - the file in it is made by mkstemp
        self._folder = Path(folder or (memory if memory.is_dir() else tempfile.gettempdir()))
        host = urlsplit(self._url).hostname or ""
        loopback = host in {"localhost", "::1"} or host.startswith("127.")
        self._http: dict[str, Any] = {
            "base_url": self._url,
            "headers": {"Authorization": f"Bearer {api_key}"} if api_key else {},
            "timeout": httpx.Timeout(timeout, connect=CONNECT_SECONDS, pool=None),
            # vLLM closes idle connections after 5 s, and a request sent at that moment would fail: none is reused.
            "limits": httpx.Limits(max_connections=TOGETHER, max_keepalive_connections=0),
            "verify": tls.trusted(urlsplit(self._url).scheme),  # once: it reads all certificates
            "trust_env": not loopback,  # a proxy of the environment does not lead to this machine's loopback
        }
        workers = self._call("greso_describe")
        with self._understood():
            self._about = workers[0]
            refuse_unfit(self._about)
            self._model = self._ask("GET", "/v1/models")["data"][0]["id"]

    def generate(self, prompts: Sequence[Sequence[int]], n: int, sampling: Sampling) -> list[list[Completion]]:
        """Sample `n` completions of each prompt; see `Engine.generate`."""
        refuse_prompts(prompts, sampling, self._about)
        count = 1 if sampling.temperature == 0 else n  # greedily all are the same, and vLLM refuses more than one
        requests = [
            {
                "model": self._model,
                "prompt": list(prompt),
                "n": count,
                "seed": seed,
                "temperature": sampling.temperature,
                "max_tokens": sampling.max_tokens,
                "logprobs": 0,
                "return_token_ids": True,
                "stop_token_ids": self._ends,
                "ignore_eos": True,  # `ends` alone ends a completion
            }
            for prompt, seed in zip(prompts, seeds(sampling.seed, len(prompts)), strict=True)
        ]
        # In a thread of its own, so that it also works where an event loop runs already, in a notebook for one.
        with start_blocking_portal() as portal:
            answers = portal.start_task_soon(self._complete, requests)
            try:
                choices = answers.result()
            except BaseException:  # Ctrl-C: the requests end with it, and the server aborts them
                answers.cancel()
                raise
        with self._understood():
            return [
                [
                    completion(
                        self._tokenizer,
                        choice["token_ids"],
                        choice["logprobs"]["token_logprobs"],
                        choice["finish_reason"],
                    )
                    for choice in sorted(group, key=lambda choice: int(choice["index"]))
                ]
                * (n // count)
                for group in choices
            ]

    def sync_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Hand the weights over; see `Engine.sync_weights`."""
        name = ""
        try:
            handle, name = tempfile.mkstemp(prefix="greso-weights-", suffix=".safetensors", dir=self._folder)
            os.close(handle)
            save_file(self._to_send(weights), name)
            refuse_answers(self._call("greso_load_file", name))
            self._forget()
        except (OSError, SafetensorError) as error:
            raise EngineError(one_line(f"the weights can't be written to {self._folder}: {error}")) from error
        finally:
            if name:
                Path(name).unlink(missing_ok=True)

    def close(self) -> None:
        """Nothing is held: the server goes on."""

    def _to_send(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights in the server's own precision. Of tensors that share their memory the first is enough."""
        dtype = getattr(torch, self._about["dtype"])
        seen: dict[tuple[int, torch.Size], str] = {}
        for name, value in weights.items():
            seen.setdefault((value.data_ptr(), value.shape), name)
        return {name: weights[name].detach().to("cpu", dtype).contiguous() for name in seen.values()}

    def _call(self, method: str, *args: str) -> list[dict[str, Any]]:
        """Call a method of the worker extension in each of the server's workers."""
        try:
            answer = self._ask("POST", "/collective_rpc", {"method": method, "args": args})
        except _RefusedError as error:
            raise EngineError(f"{error}; it can take weights when it is started so: {START}") from error
        with self._understood():
            results: list[dict[str, Any]] = answer["results"]
        return results

    def _forget(self) -> None:
        """Forget what was computed with older weights. Requests of others that are running are computed anew."""
        answer = self._ask("POST", "/reset_prefix_cache?reset_running_requests=true")
        if answer is not None and not answer.get("success"):
            raise EngineError(f"the vLLM server at {self._url} could not reset its prefix cache; restart it")

    def _ask(self, verb: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Return what the server answers, parsed; None for an empty answer."""
        try:
            with httpx.Client(**self._http) as http:
                return self._checked(http.request(verb, path, json=body))
        except httpx.HTTPError as error:
            raise self._away(error) from error

    async def _complete(self, requests: Sequence[Mapping[str, Any]]) -> list[list[dict[str, Any]]]:
        """Return the choices of each request. The first that fails ends them all."""
        slots = asyncio.Semaphore(TOGETHER)
        async with httpx.AsyncClient(**self._http) as http:

            async def complete(request: Mapping[str, Any]) -> list[dict[str, Any]]:
                try:
                    # httpx would queue them too, in a time that grows with the square of their number.
                    async with slots:
                        answer = self._checked(await http.post("/v1/completions", json=request))
                except httpx.HTTPError as error:
                    raise self._away(error) from error
                with self._understood():
                    choices: list[dict[str, Any]] = answer["choices"]
                return choices

            tasks = [asyncio.create_task(complete(request)) for request in requests]
            try:
                return await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    def _checked(self, answer: httpx.Response) -> Any:
        if not answer.is_success:
            raise _RefusedError(
                one_line(
                    f"the vLLM server at {self._url} refused {answer.request.url.path}: "
                    f"HTTP {answer.status_code} {answer.text}"
                )
            )
        with self._understood():
            return answer.json() if answer.content else None

    @contextlib.contextmanager
    def _understood(self) -> Iterator[None]:
        """Raise an `EngineError` when the answer is not what vLLM's would be."""
        try:
            yield
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise EngineError(
                one_line(f"what answers at {self._url} is not a vLLM server of a known version: {error!r}")
            ) from error

    def _away(self, error: httpx.HTTPError) -> EngineError:
        told = f"{type(error).__name__} {error}".rstrip()
        return EngineError(one_line(f"the vLLM server at {self._url} does not answer ({told}); is it running?"))


class _RefusedError(EngineError):
    """The server answered with an error."""
