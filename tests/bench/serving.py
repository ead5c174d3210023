"""What the benchmarks share: a server under measurement, prompt ids, and figures with their spread."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np


@contextmanager
def served() -> Iterator[str]:
    """The URL of a server that runs meanwhile."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as data:
        server = Path(__file__).with_name("server.py")
        process = subprocess.Popen([sys.executable, server, data, str(port)])
        try:
            url = f"http://127.0.0.1:{port}"
            while not _ready(url):
                if process.poll() is not None:
                    sys.exit("the server under measurement did not start")
                time.sleep(0.05)
            yield url
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
