"""What the benchmarks share: servers under measurement, prompt ids, and figures with their spread."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
from tests.servers import free_port

from greso_service.history.embedded import EmbeddedRedis


@dataclass(frozen=True)
class Served:
    """Replicas that run, and the Redis that they share."""

    urls: Sequence[str]
    pids: Sequence[int]
    redis_url: str

    @property
    def url(self) -> str:
        """Of the first replica."""
        return self.urls[0]

    def http(self) -> httpx.Client:
        """A client of the first replica."""
        return httpx.Client(base_url=self.url, timeout=600, trust_env=False)


@contextmanager
def served(replicas: int = 1) -> Iterator[Served]:
    """Servers that run meanwhile."""
    with ExitStack() as stack:
        redis = stack.enter_context(EmbeddedRedis(Path(stack.enter_context(tempfile.TemporaryDirectory()))))
        started = [stack.enter_context(_server(redis.url)) for _ in range(replicas)]
        yield Served([url for url, _ in started], [pid for _, pid in started], redis.url)


@contextmanager
def _server(redis_url: str) -> Iterator[tuple[str, int]]:
    port = free_port()
    command = [sys.executable, "-m", "tests.bench.server", redis_url, str(port)]
    environment = {**os.environ, "GRESO_MAX_BODY_BYTES": str(2**30)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        while not _ready(url):
            if process.poll() is not None:
                sys.exit("the server under measurement did not start")
            time.sleep(0.05)
        yield url, process.pid
    finally:
        process.terminate()
        process.wait()


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def prompt_id(number: int) -> str:
    """An id of 20 characters, as data sets have them."""
    return f"dapo-math/{number:010d}"


def figures(times: np.ndarray) -> tuple[str, str]:
    """The median, and the 10th to the 90th percentile."""
    low, high = np.percentile(times, (10, 90))
    return f"{np.median(times):.2f}", f"{low:.2f} - {high:.2f}"
