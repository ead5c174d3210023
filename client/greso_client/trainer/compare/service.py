"""A greso service of the experiment's own: started beside it on a free port, stopped with it."""

import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from greso_client import SettingsError
from greso_client import _tls as tls
from greso_client.trainer.compare import tether

READY_SECONDS = 60.0  # a cold start takes 2 s, on a machine that is busy otherwise many times that
ANSWER_SECONDS = 5.0


class ServiceError(Exception):
    """The service could not be started; the message says what to do."""


def require_service(url: str) -> None:
    """Raise `ServiceError` when no service that is ready answers at the URL."""
    try:
        trusted = tls.trusted(httpx.URL(url).scheme)
        answer = httpx.get(url.rstrip("/") + "/readyz", timeout=ANSWER_SECONDS, verify=trusted)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        wrong = tls.mistake(error) if isinstance(error, httpx.HTTPError) else None
        raise ServiceError(
            f"no service answers at {url} ({wrong or error}); start one with: greso serve, or leave --url out"
        ) from None
    except SettingsError as error:
        raise ServiceError(str(error)) from None
    if answer.status_code != httpx.codes.OK:
        raise ServiceError(
            f"what answers at {url} is no service that is ready (status {answer.status_code} at /readyz)"
        )


class OwnService:
    """A service on embedded Redis that keeps its runs in `data_dir` and what it prints in `log`; use it with `with`."""

    def __init__(self, data_dir: Path, log: Path) -> None:
        self.data_dir = data_dir
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def __enter__(self) -> Self:
        """Start the service and wait until it answers. Raises `ServiceError` when it does not."""
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        command = ["greso_service", "serve", "--port", str(port), "--data-dir", str(self.data_dir)]
        with self._log.open("wb") as log:
            self._process = tether.hold(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            self._wait_until_ready(self._process)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop the service, by force when it does not stop in time."""
        if self._process is not None:
            tether.let_go(self._process)

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + READY_SECONDS
        with httpx.Client(base_url=self.url, timeout=1.0, trust_env=False) as client:
            while time.monotonic() < deadline:
                if process.poll() is not None:
                    raise ServiceError(f"the service did not start: {tether.last_words(self._log)}")
                try:
                    if client.get("/readyz").status_code == httpx.codes.OK:
                        return
                except httpx.TransportError:
                    pass
                time.sleep(0.05)
        raise ServiceError(f"the service was not ready after {READY_SECONDS:.0f} s; see {self._log}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
