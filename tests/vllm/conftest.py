"""vLLM itself, in this process and as a server, with tiny models made on the spot.

Run by `make test-vllm` in an environment of its own; `make test` does not look into this folder.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Self

import httpx
import pytest
import torch
from tests.servers import Process, eventually, free_port

from .documented import server_command
from .models import Policy, make_policy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# What keeps vLLM on a CPU small and on any core: the tests share two of them with a service and a second vLLM.
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
}
START_SECONDS = 600.0  # 22 s on two idle cores; one that ends before it answers is noticed at once


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "vllm: runs vLLM; by `make test-vllm`, in .venv-vllm")
    os.environ |= ENVIRONMENT
    torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker("vllm")
        # Its dependencies warn of each other's future; only what this project does must be without warnings.
        item.add_marker(pytest.mark.filterwarnings("default"))


class Server(Process):
    """The OpenAI server of vLLM, started as docs/vllm.md says, by default as one that takes weights."""

    def __init__(self, folder: Path, policy: Policy, *, for_trainers: bool = True) -> None:
        super().__init__(folder / f"vllm-{'trainer' if for_trainers else 'plain'}.log")
        self.folder = folder
        self.policy = policy
        self.for_trainers = for_trainers
        self.port = free_port()

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def launch(self) -> Self:
        """Start it; `ready` waits for it."""
        words = server_command()
        options = words[words.index("--host") :]
        options[options.index("--port") + 1] = str(self.port)
        dev_mode = words[: words.index("vllm")]
        if not self.for_trainers:
            dev_mode, options = [], options[: options.index("--worker-extension-cls")]
        options += ["--model", str(self.policy.folder)]
        options += ["--dtype", "float32", "--enforce-eager", "--max-model-len", "128"]
        module = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]  # the CPU build has no command
        self.run(["env", *dev_mode, *module, *options], self.folder)
        return self

    def ready(self) -> Self:
        """Wait until it answers; start it first where it does not run."""
        if self.process is None or self.ended():
            self.launch()
        eventually(self._answers, START_SECONDS, self.said)
        return self

    def _answers(self) -> bool:
        assert not self.ended(), self.said()
        try:
            return httpx.get(f"{self.url}/health", timeout=2.0, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def running(self) -> bool:
        """Whether it works on a request at this moment."""
        metrics = httpx.get(f"{self.url}/metrics", timeout=60.0, trust_env=False).text
        lines = [line for line in metrics.splitlines() if line.startswith("vllm:num_requests_running")]
        return any(float(line.rpartition(" ")[2]) > 0 for line in lines)


@pytest.fixture(scope="session")
def tied(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    """A model whose embedding is its output layer too, as in most small models."""
    return make_policy(tmp_path_factory.mktemp("tied"), tied=True)


@pytest.fixture(scope="session")
def untied(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    """A model with an output layer of its own."""
    return make_policy(tmp_path_factory.mktemp("untied"), tied=False)


@pytest.fixture(scope="session", autouse=True)
def servers(tmp_path_factory: pytest.TempPathFactory, tied: Policy) -> Iterator[dict[str, Server]]:
    """One server that takes weights, started at once: it comes up while other tests run; and one that does not."""
    folder = tmp_path_factory.mktemp("servers")
    started = {
        "trainer": Server(folder, tied).launch(),
        "plain": Server(folder, tied, for_trainers=False),
    }
    yield started
    for each in started.values():
        each.close()


@pytest.fixture
def server(servers: dict[str, Server]) -> Server:
    """A server that takes weights. A test may kill it: the next one gets it started anew."""
    return servers["trainer"].ready()
