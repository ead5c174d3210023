"""A real `greso serve` in a process of its own, and a plain HTTP hand to talk to it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import httpx

GRESO = Path(sys.executable).with_name("greso")
# Generous for a cold start on a loaded two-core machine: numpy, FastAPI and the embedded server's start take seconds.
START_SECONDS = 60.0
STOP_SECONDS = 20.0


class Service:
    """One service on one data directory; it can be stopped, killed and started again."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.options = options
        self.data = folder / "data"
        self.log = folder / "service.log"
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None
        self.groups: list[int] = []
        self.http = httpx.Client(timeout=30.0)

    def start(self) -> Service:
        """Start on a free port and wait until it says that it is ready."""
        self.port = free_port()
        self.process = serve(self.port, self.data, self.log.open("ab"), *self.options)
        self.groups.append(self.process.pid)
        self.http.base_url = httpx.URL(f"http://127.0.0.1:{self.port}")
        deadline = time.monotonic() + START_SECONDS
        while not self._ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"greso serve is not ready (exit {self.process.poll()}):\n{self.log.read_text()}")
            time.sleep(0.05)
        return self

    def _ready(self) -> bool:
        try:
            return self.http.get("/readyz", timeout=2.0).status_code == 200
        except httpx.TransportError:
            return False

    def stop(self) -> int:
        """End it as an operator would; returns the exit status."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(STOP_SECONDS)

    def kill(self) -> None:
        """SIGKILL to the service's own process, its embedded server is left to find out for itself."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(STOP_SECONDS)

    def close(self) -> None:
        """Stop, and make sure that nothing of any process group started here is left."""
        self.http.close()
        if self.process is not None and self.process.poll() is None:
            self.stop()
        for group in self.groups:
            try:
                os.killpg(group, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def call(
        self, method: str, path: str, body: Any = None, key: str | None = None, generation: int | str | None = None
    ) -> httpx.Response:
        """One request; `key` is the Idempotency-Key, `generation` the fencing token Greso-Generation."""
        headers = {} if key is None else {"Idempotency-Key": key}
        if generation is not None:
            headers["Greso-Generation"] = str(generation)
        return self.http.request(method, path, json=body, headers=headers)

    def json(
        self, method: str, path: str, body: Any = None, key: str | None = None, generation: int | str | None = None
    ) -> Any:
        """The JSON of a request that must succeed."""
        answer = self.call(method, path, body, key, generation)
        assert answer.is_success, f"{method} {path} answered {answer.status_code}: {answer.text[:2000]}"
        return answer.json() if answer.content else None

    def create(self, run: str, **spec: Any) -> str:
        """Create a run; returns its path."""
        self.json("PUT", f"/v1/runs/{run}", spec)
        return f"/v1/runs/{run}"


def serve(port: int, data: Path, output: IO[bytes], *options: str) -> subprocess.Popen[bytes]:
    """`greso serve` as its users start it, in a process group of its own."""
    command = [str(GRESO), "serve", "--port", str(port), "--data-dir", str(data), *options]
    with output:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )


def free_port() -> int:
    """A port of the loopback interface that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def segment(prompt: str) -> str:
    """A prompt as one percent-encoded path segment; dots too, so that no client takes `..` for a parent."""
    return quote(prompt, safe="").replace(".", "%2E")


def beside(service: Service, folder: Path) -> Service:
    """Another service on the embedded Redis of this one."""
    sockets = [path for path in service.data.rglob("*") if path.is_socket()]
    assert len(sockets) == 1, f"the embedded Redis listens on one unix socket in {service.data}"
    return Service(folder, "--redis-url", f"unix://{sockets[0]}").start()
