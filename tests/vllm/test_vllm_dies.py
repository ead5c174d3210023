"""An engine that dies, or was never fit for a trainer: one clear line."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.servers import eventually

from greso_client.trainer.engine import EngineError, Sampling
from greso_client.trainer.vllm_engine import VllmEngine
from greso_client.trainer.vllm_http import VllmHttpEngine

if TYPE_CHECKING:
    from .conftest import Server
    from .models import Policy

LONG = Sampling(max_tokens=120, temperature=1.0, seed=1)
MANY = 100  # prompts: about half a minute of work


def engine_of(server: Server) -> int:
    """The process behind the HTTP server that holds the model."""
    for children in Path(f"/proc/{server.pid}/task").glob("*/children"):
        for child in children.read_text().split():
            if "EngineCore" in Path(f"/proc/{child}/cmdline").read_text():
                return int(child)
    raise AssertionError("the server has no process for its engine")


@pytest.mark.parametrize("part", ["server", "engine"])
def test_a_server_killed_in_the_middle_is_one_line(server: Server, tied: Policy, part: str) -> None:
    engine = VllmHttpEngine(server.url, tied.tokenizer, tied.ends)
    with ThreadPoolExecutor(1) as aside:
        answer = aside.submit(engine.generate, [[1, 2, 3]] * MANY, 8, LONG)
        try:
            eventually(lambda: server.running() or answer.done(), 60)
            assert not answer.done()
        finally:
            if part == "server":
                os.killpg(server.pid, signal.SIGKILL)
            else:
                os.kill(engine_of(server), signal.SIGKILL)
        error = answer.exception(timeout=60)
    assert isinstance(error, EngineError)
    assert "\n" not in str(error)
    assert server.url in str(error)
    eventually(server.ended, 60)
    with pytest.raises(EngineError, match="does not answer"):
        engine.sync_weights(tied.model.state_dict())
    with pytest.raises(EngineError, match="does not answer"):
        VllmHttpEngine(server.url, tied.tokenizer, tied.ends)


def test_a_server_without_weight_updates_is_told_how_to_start(servers: dict[str, Server], tied: Policy) -> None:
    plain = servers["plain"].ready()
    with pytest.raises(EngineError, match=r"VLLM_SERVER_DEV_MODE=1 vllm serve .* --worker-extension-cls") as caught:
        VllmHttpEngine(plain.url, tied.tokenizer, tied.ends)
    assert "\n" not in str(caught.value)


def test_a_model_that_is_not_there_is_one_line(tied: Policy) -> None:
    with pytest.raises(EngineError, match="vLLM failed in start") as caught:
        VllmEngine(tied.folder / "nothing", tied.tokenizer, tied.ends)
    assert "\n" not in str(caught.value)


def test_a_vllm_that_failed_is_not_asked_again(tied: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = VllmEngine(tied.folder, tied.tokenizer, tied.ends, max_model_len=128)

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("out of memory\nand more")

    with monkeypatch.context() as patched:
        patched.setattr(engine._llm, "generate", fail)
        with pytest.raises(EngineError, match="vLLM failed in generate: RuntimeError: out of memory and more"):
            engine.generate([[1]], 1, LONG)
    with pytest.raises(EngineError, match="out of memory"):
        engine.generate([[1]], 1, LONG)
    with pytest.raises(EngineError, match="out of memory"):
        engine.sync_weights(tied.model.state_dict())
    engine.close()
