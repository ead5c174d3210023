"""docs/vllm.md: its Python runs, and its command is the one that the other tests start their servers with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from greso_client.trainer.vllm_http import START

from .documented import blocks, server_command

if TYPE_CHECKING:
    from .conftest import Server
    from .models import Policy


def test_the_python_of_the_page_runs(server: Server, tied: Policy) -> None:
    in_process, over_http = blocks("python")
    said: dict[str, Any] = {}
    exec(in_process.replace("path/to/model", str(tied.folder)).replace("2048", "128"), said)
    assert [len(group) for group in said["groups"]] == [8]
    exec(over_http.replace("path/to/model", str(tied.folder)).replace("http://127.0.0.1:8000", server.url), {})


def test_the_command_of_the_page_is_the_one_that_the_engine_tells() -> None:
    assert set(START.split()) - {"MODEL"} <= set(server_command())


def test_the_page_has_no_other_command() -> None:
    assert [block.strip() for block in blocks("sh")[1:]] == ["make test-vllm"]
    assert "test-vllm:" in (Path(__file__).parents[2] / "Makefile").read_text()
