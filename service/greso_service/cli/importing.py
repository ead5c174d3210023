"""`greso import`: a run from the file of an export."""

from __future__ import annotations

import gzip
import io
import json
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

import typer

from greso_service.cli.service import Service, ServiceError
from greso_service.history.exported import LONGEST_LINE, is_manifest

STDIN = "-"
_PIECE = 2**18  # bytes sent at a time
_GZIP = b"\x1f\x8b"


def import_(service: Service, file: str, run: str | None) -> None:
    """Make a run of an export, under its own name unless another is given. Raises `ServiceError`."""
    name = "standard input" if file == STDIN else file
    try:
        with _opened(file) as content:
            manifest = content.readline(LONGEST_LINE)
            run = run or _named(manifest, name)
            made, status = service.put_pieces(_pieces(manifest, content), "v1", "runs", run, "import")
    except (EOFError, zlib.error) as error:
        raise ServiceError(f"{name}: damaged or cut off ({error})") from None
    except OSError as error:
        raise ServiceError(f"{name}: {error.strerror or error}") from None
    if status == 200:
        typer.echo(f"{run} is there already, with this very history")
        return
    typer.echo(
        f"{run} is as {name} has it: step {made['step']:,}, generation {made['generation']},"
        f" {made['totals']['groups']:,} groups, {made['prompts']:,} prompts"
    )


@contextmanager
def _opened(file: str) -> Iterator[IO[bytes]]:
    """The file's bytes, uncompressed if they are compressed."""
    with cast("io.BufferedReader", sys.stdin.buffer if file == STDIN else Path(file).open("rb")) as raw:
        packed = raw.peek(len(_GZIP)).startswith(_GZIP)
        yield cast("IO[bytes]", gzip.GzipFile(fileobj=raw)) if packed else raw


def _named(line: bytes, name: str) -> str:
    """The run's name in the manifest of an export."""
    try:
        manifest = json.loads(line)
    except ValueError:
        manifest = None
    if not is_manifest(manifest):
        raise ServiceError(f"{name} is no export of a run; `greso export RUN -o FILE` writes one")
    return str(manifest.get("run"))


def _pieces(first: bytes, content: IO[bytes]) -> Iterator[bytes]:
    yield first
    while piece := content.read(_PIECE):
        yield piece
