"""The vLLM engines where there is no vLLM: what they say of it, and of a server that is not what they need."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest
import torch

from greso_client.trainer.addition import END, make_tokenizer
from greso_client.trainer.engine import EngineError, Sampling
from greso_client.trainer.vllm_engine import VllmEngine, seeds
from greso_client.trainer.vllm_http import VllmHttpEngine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ABOUT = {
    "vllm": "0",
    "max_model_len": 32,
    "vocab_size": 14,
    "logprobs_mode": "processed_logprobs",
    "quantization": None,
    "dtype": "float32",
}
CHOICE = {"index": 0, "token_ids": [1, END], "logprobs": {"token_logprobs": [-0.5, -0.1]}, "finish_reason": "stop"}
SAMPLING = Sampling(max_tokens=6, seed=1)

Answers = dict[str, Any]
Start = Callable[[Answers], str]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a server that answers paths with JSON, or with bytes as they are; others with 404. Returns its URL."""
    servers: list[ThreadingHTTPServer] = []

    def begin(answers: Answers) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                path = self.path.partition("?")[0]
                answer = answers.get(path)
                content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(200 if path in answers else 404)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_POST = do_GET  # noqa: N815 - http.server's name

            def log_message(self, *_: object) -> None:
                pass

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, args=(0.01,), daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield begin
    for each in servers:
        each.shutdown()
        each.server_close()


def good(**about: Any) -> Answers:
    """What a server fit for a trainer answers, in short."""
    return {
        "/collective_rpc": {"results": [ABOUT | about]},
        "/v1/models": {"data": [{"id": "tiny"}]},
        "/v1/completions": {"choices": [CHOICE | {"index": 1, "token_ids": [2, 3]}, CHOICE]},
        "/reset_prefix_cache": {"success": True},
    }


def connect(url: str, **options: Any) -> VllmHttpEngine:
    return VllmHttpEngine(url, make_tokenizer(), [END], **options)


def test_choices_become_completions_in_order(start: Start) -> None:
    [group] = connect(start(good())).generate([[1, 2]], 2, SAMPLING)
    assert [each.tokens for each in group] == [[1, END], [2, 3]]
    assert [each.text for each in group] == ["1", "23"]
    assert group[0].logprobs == [-0.5, -0.1]
    assert group[0].ended


def test_greedy_completions_are_asked_for_once(start: Start) -> None:
    answers = good() | {"/v1/completions": {"choices": [CHOICE]}}
    [group] = connect(start(answers)).generate([[1, 2]], 3, Sampling(max_tokens=6, temperature=0.0))
    assert [each.tokens for each in group] == [[1, END]] * 3


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ({}, "refused /collective_rpc: HTTP 404 .*VLLM_SERVER_DEV_MODE=1 vllm serve"),
        (good() | {"/collective_rpc": b"<html>"}, "is not a vLLM server of a known version"),
        (good() | {"/collective_rpc": {"results": []}}, "is not a vLLM server of a known version"),
        (good() | {"/v1/models": {}}, "is not a vLLM server of a known version"),
        (good(logprobs_mode="raw_logprobs"), "start it with processed_logprobs"),
        (good(quantization="fp8"), "quantised"),
    ],
    ids=["no dev mode", "no JSON", "no worker", "no model", "raw logprobs", "quantised"],
)
def test_a_server_that_can_not_serve_a_trainer_is_refused(start: Start, answers: Answers, told: str) -> None:
    with pytest.raises(EngineError, match=told) as caught:
        connect(start(answers))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        ({"token_ids": None}, "is not a vLLM server of a known version"),
        ({"finish_reason": "abort"}, "gave a completion up: abort"),
    ],
)
def test_a_completion_that_is_none_is_an_error(start: Start, choice: dict[str, Any], told: str) -> None:
    engine = connect(start(good() | {"/v1/completions": {"choices": [CHOICE | choice]}}))
    with pytest.raises(EngineError, match=told):
        engine.generate([[1]], 1, SAMPLING)


def test_no_file_is_left_of_weights_whether_taken_or_not(start: Start, tmp_path: Path) -> None:
    taken = connect(start(good()), folder=tmp_path)
    taken.sync_weights({"a": torch.zeros(2)})
    answers = good()
    refused = connect(start(answers), folder=tmp_path)
    answers["/collective_rpc"] = {"results": [{"error": "a is (2,), not (3,)"}]}
    with pytest.raises(EngineError, match=r"a is \(2,\), not \(3,\)"):
        refused.sync_weights({"a": torch.zeros(2)})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_can_not_be_written_is_one_line(start: Start, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"can't be written to .*nowhere"):
        connect(start(good()), folder=tmp_path / "nowhere").sync_weights({"a": torch.zeros(2)})


def test_a_cache_that_is_not_reset_is_an_error(start: Start) -> None:
    engine = connect(start(good() | {"/reset_prefix_cache": {"success": False}}))
    with pytest.raises(EngineError, match="could not reset its prefix cache"):
        engine.sync_weights({"a": torch.zeros(2)})


def test_no_server_is_one_line() -> None:
    with pytest.raises(EngineError, match=r"does not answer .*; is it running"):
        connect("http://127.0.0.1:1")


def test_each_prompt_gets_a_seed_of_its_own_with_room_for_its_completions() -> None:
    drawn = seeds(5, 1000)
    assert drawn == seeds(5, 1000)
    assert len(set(drawn)) == 1000
    assert all(seed is not None and 0 <= seed < 2**62 for seed in drawn)
    assert set(drawn).isdisjoint(seeds(6, 1000))
    assert seeds(None, 2) == [None, None]


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is installed here")
def test_without_vllm_the_engine_names_the_page_that_says_how_to_install_it() -> None:
    with pytest.raises(EngineError, match=r"docs/vllm\.md"):
        VllmEngine("nothing", make_tokenizer(), [END])
