"""`greso` commands in this process: as in one of their own, but for the second that it takes to start."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Mapping
from typing import Any
from unittest import mock

from typer.testing import CliRunner

from greso_service.cli import run


def greso(
    *arguments: object, stdin: bytes = b"", env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """What the command with these arguments says, and its exit code; `env` is on top of the environment.

    Not for `serve`, which takes the process: it catches signals and writes its log.
    """
    words, code = ["greso", *map(str, arguments)], 0
    given: Any = io.BufferedReader(io.BytesIO(stdin))  # can be peeked into, as a pipe can
    with CliRunner().isolation(env=env) as (out, err, *_), mock.patch.object(sys, "argv", words):
        sys.stdin = io.TextIOWrapper(given)
        try:
            run()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        sys.stdout.flush()
        sys.stderr.flush()
        said, complained = out.getvalue().decode(), err.getvalue().decode()
    return subprocess.CompletedProcess(words, code, said, complained)
