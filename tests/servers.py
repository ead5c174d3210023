"""Real processes for tests: `greso serve` and a plain redis-server, each stopped, frozen or killed at will."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import httpx
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

if TYPE_CHECKING:
    from collections.abc import Callable

GRESO = Path(sys.executable).with_name("greso")
# Generous for a cold start on a loaded two-core machine: numpy, FastAPI and the embedded server's start take seconds.
START_SECONDS = 60.0
STOP_SECONDS = 20.0


def eventually(condition: Callable[[], bool], seconds: float = 10.0, why: Callable[[], str] = str) -> None:
    """Return as soon as the condition holds; fail with `why()` when it does not within `seconds`."""
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, f"did not come true within {seconds:g} s {why()}"
        time.sleep(0.01)


def free_port() -> int:
    """A port of the loopback interface that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def redis_server() -> str:
    """The redis-server of this machine."""
    return tool("redis-server", "install Redis 7 to run this on it too")


def certificate(folder: Path, days: int = 30) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1, signed by itself, and its key. It ends in `days`; -1 is a day ago."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    openssl = tool("openssl", "it makes a certificate")
    command = [openssl, "req", "-x509", "-newkey", "ec", "-nodes", "-days", str(abs(days))]
    command += ["-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", "/CN=greso"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    if days < 0:  # `req` makes none that is over
        again = [openssl, "x509", "-in", str(cert), "-signkey", str(key), "-days", str(days), "-out", str(cert)]
        subprocess.run(again, check=True, capture_output=True)
    return cert, key


def tool(name: str, why: str) -> str:
    """A program of this machine; skips the test where it is missing, except on CI, which must have it."""
    found = shutil.which(name)
    if found is None:
        reason = f"no {name} on PATH; {why}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


class Process:
    """A child in a process group of its own."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None

    def run(self, command: list[str], cwd: Path) -> None:
        """Start it; its output goes to the log."""
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self.process is not None
        return self.process.pid

    def ended(self) -> bool:
        """Whether it has exited."""
        assert self.process is not None
        return self.process.poll() is not None

    def signal(self, number: int) -> None:
        """Send a signal to the process itself."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        assert self.process is not None
        self.process.wait(STOP_SECONDS)

    def close(self) -> None:
        """Stop it if it runs, and make sure that nothing of its group is left."""
        if self.process is None:
            return
        if not self.ended():
            self.signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    def said(self) -> str:
        """What it wrote."""
        return self.log.read_text(errors="replace")


class RedisServer(Process):
    """A redis-server on a TCP port with an append-only file in `folder`; may be started again on the same files."""

    def __init__(self, folder: Path, *options: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(folder / "redis.log")
        self.folder = folder
        self.port = free_port()
        self.options = options

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> Self:
        """Start it and wait until it answers."""
        command = [redis_server(), "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        self.run([*command, "--appendonly", "yes", "--appendfsync", "always", *self.options], self.folder)
        eventually(self._answers, START_SECONDS, self.said)
        return self

    def _answers(self) -> bool:
        assert not self.ended(), self.said()
        with redis.Redis(port=self.port, retry=Retry(NoBackoff(), 0)) as client:
            try:
                return bool(client.ping())
            except (redis.ConnectionError, redis.BusyLoadingError):
                return False

    def client(self) -> redis.Redis:
        """A client that takes and gives bytes; close it."""
        return redis.Redis(port=self.port)


class Service(Process):
    """`greso serve` as its users start it, and an HTTP client for it."""

    def __init__(self, folder: Path, *options: str, port: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(folder / "service.log")
        self.folder = folder
        self.port = port or free_port()
        self.options = ["--data-dir", str(folder / "data"), *options]
        self.http = httpx.Client(base_url=self.url, timeout=30.0, trust_env=False)

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Self:
        """Start it and wait until it says that it is ready."""
        self.run([str(GRESO), "serve", "--port", str(self.port), *self.options], self.folder)
        eventually(self.ready, START_SECONDS, self.said)
        return self

    def ready(self) -> bool:
        """Whether /readyz answers 200."""
        assert not self.ended(), self.said()
        try:
            return self.http.get("/readyz", timeout=2.0).status_code == 200
        except httpx.TransportError:
            return False

    def close(self) -> None:
        """Stop it."""
        self.http.close()
        super().close()

    def call(self, method: str, path: str, body: Any = None, key: str | None = None) -> httpx.Response:
        """One request; `key` is the Idempotency-Key."""
        headers = {} if key is None else {"Idempotency-Key": key}
        return self.http.request(method, path, json=body, headers=headers)

    def json(self, method: str, path: str, body: Any = None, key: str | None = None) -> Any:
        """The JSON of a request that must succeed."""
        answer = self.call(method, path, body, key)
        assert answer.is_success, f"{method} {path} answered {answer.status_code}: {answer.text[:2000]}"
        return answer.json()
