"""`greso serve` that cannot start: one line that says what to do, no traceback, an exit status that is not 0."""

from __future__ import annotations

import socket
import subprocess
from typing import TYPE_CHECKING

from .oracle.service import GRESO, START_SECONDS, free_port

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .oracle.service import Service


def fails(*options: str) -> str:
    """What the command says when it fails."""
    command = [str(GRESO), "serve", *options]
    ended = subprocess.run(
        command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=START_SECONDS
    )
    said = (ended.stdout + ended.stderr).strip()
    assert ended.returncode != 0, said
    assert "Traceback" not in said
    assert said
    return said


def test_a_data_directory_in_use(private: Callable[..., Service]) -> None:
    service = private()
    run = service.create("kept")
    said = fails("--port", str(free_port()), "--data-dir", str(service.data))
    assert str(service.data) in said.replace("\n", "")
    assert service.call("GET", run).status_code == 200, "the first service lives on"


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert str(port) in fails("--port", str(port), "--data-dir", str(tmp_path / "data"))


def test_a_redis_that_does_not_answer() -> None:
    port = free_port()
    assert str(port) in fails("--port", str(free_port()), "--redis-url", f"redis://127.0.0.1:{port}")


def test_a_data_directory_that_cannot_be_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    assert "file" in fails("--port", str(free_port()), "--data-dir", str(tmp_path / "file"))


def test_stopping_it_is_orderly(private: Callable[..., Service]) -> None:
    service = private()
    service.create("kept")
    assert service.stop() == 0
    assert "Traceback" not in service.log.read_text()
    service.start()
    assert service.call("GET", "/v1/runs/kept").status_code == 200
