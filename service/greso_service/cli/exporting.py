"""`greso export`: a run's history into a file."""

from __future__ import annotations

import gzip
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

import typer

from greso_service.cli.service import Service, ServiceError
from greso_service.history.exported import Checker, ExportError


def export(service: Service, run: str, output: Path | None, *, force: bool = False) -> None:
    """Write the export of a run, checked on its way. A file is written whole or not at all. Raises `ServiceError`.

    `force`: a file that is there is replaced.
    """
    if output is not None and not force and output.is_file():
        raise ServiceError(f"{output} is there already; give --force to replace it, or another name")
    checker = Checker()
    try:
        with _opened(output) as file:
            for line in service.lines("v1", "runs", run, "export"):
                checker.take(line)
                file.write(line)
            checker.finish()
    except ExportError as error:
        raise ServiceError(f"the export of {run} is damaged: {error}") from None
    except OSError as error:
        raise ServiceError(f"{output or 'standard output'}: {error.strerror or error}") from None
    if output is not None:
        typer.echo(f"{output}: {checker.manifest['events']:,} events, {output.stat().st_size:,} bytes", err=True)


@contextmanager
def _opened(output: Path | None) -> Iterator[IO[bytes]]:
    if output is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    draft = output.with_name(f".{os.getpid()}-{output.name}")
    try:
        with draft.open("wb") as file:
            if output.suffix == ".gz":
                # Without name and time in its head: the same history makes the same file.
                with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
                    yield cast("IO[bytes]", packed)
            else:
                yield file
        draft.replace(output)
    finally:
        draft.unlink(missing_ok=True)
