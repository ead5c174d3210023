"""Reading logs: the export of a run, or plain JSON Lines of a trainer; from files, a folder, or standard input."""

from __future__ import annotations

import gzip
import re
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import IO, Final, cast

import orjson

from greso_service.history import exported as history_file
from greso_service.whatif import exported, plain
from greso_service.whatif.log import Log, LogError

SUFFIXES: Final = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")
"""Names of files that are read of a folder."""

STDIN: Final = "-"

_GZIP, _PARQUET = b"\x1f\x8b", b"PAR1"
_TELL_EVERY: Final = 4096  # lines

Read = Callable[[int, int | None], None]
"""Is told of bytes read, and of how many there are if that is known, for a progress bar."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a log, with its line feed if it has one, and where it stands."""

    source: str
    number: int
    text: bytes

    @property
    def place(self) -> str:
        """For messages."""
        return f"{self.source}, line {self.number}"


def read(
    paths: Sequence[str], fields: plain.Fields = plain.KNOWN, *, sort: bool = False, told: Read | None = None
) -> Log:
    """The log in these files. `sort`: the lines' steps may come in any order.

    Raises:
        LogError: not readable, or nothing in it that can be judged; names the line.
    """
    files = _files(paths)
    with closing(_lines(files, told or (lambda _done, _size: None))) as lines:
        first = next(lines, None)
        if first is None:
            raise LogError(f"{', '.join(files)}: nothing in it; a log has a line for each group or response")
        source = first.source if len(files) == 1 else f"{len(files)} files, {files[0]} to {files[-1]}"
        if _begins_export(first):
            if len(files) > 1:
                raise LogError(f"{first.source} is the export of a run, which is read alone")
            return exported.log(_together(first, lines), source)
        return plain.log(_together(first, lines), source, fields, sort=sort)


def _files(paths: Sequence[str]) -> list[str]:
    """The files meant, those of folders included, in natural order: 9.jsonl comes before 10.jsonl."""
    files = []
    for path in paths:
        if path != STDIN and Path(path).is_dir():
            inside = [str(file) for file in Path(path).iterdir() if file.name.endswith(SUFFIXES)]
            if not inside:
                raise LogError(f"{path}: no {' or '.join(SUFFIXES[:2])} in this folder")
            files += inside
        else:
            files.append(path)
    return sorted(files, key=_natural)


def _natural(name: str) -> list[tuple[int, str]]:
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def _begins_export(line: Line) -> bool:
    try:
        return history_file.is_manifest(orjson.loads(line.text))
    except orjson.JSONDecodeError:
        return False


def _together(first: Line, others: Iterator[Line]) -> Iterator[Line]:
    yield first
    yield from others


def _lines(files: Sequence[str], told: Read) -> Generator[Line]:
    """The lines that are not blank."""
    before, size = 0, _size(files)
    for name in files:
        with _opened(name) as (raw, text):
            try:
                for number, line in enumerate(text, start=1):
                    if number % _TELL_EVERY == 0 and name != STDIN:
                        told(before + raw.tell(), size)
                    if line.strip():
                        yield Line("standard input" if name == STDIN else name, number, line)
            except (OSError, EOFError, gzip.BadGzipFile) as error:
                raise LogError(f"{name}: {error}") from None
            before += 0 if name == STDIN else raw.tell()


def _size(files: Sequence[str]) -> int | None:
    try:
        return None if STDIN in files else sum(Path(name).stat().st_size for name in files)
    except OSError:
        return None  # what is wrong is said when it is opened


@contextmanager
def _opened(name: str) -> Iterator[tuple[BufferedReader, IO[bytes]]]:
    """The file as it is, and its text, unpacked."""
    try:
        raw = cast("BufferedReader", sys.stdin.buffer) if name == STDIN else Path(name).open("rb")  # noqa: SIM115
        begins = raw.peek(4)
    except OSError as error:
        raise LogError(f"{name}: {error.strerror or error}") from None
    try:
        if begins.startswith(_PARQUET):
            raise LogError(
                f"{name} is Parquet; write it as JSON Lines first, in Python:"
                f" pandas.read_parquet({name!r}).to_json('log.jsonl', orient='records', lines=True)"
            )
        yield raw, cast("IO[bytes]", gzip.GzipFile(fileobj=raw)) if begins.startswith(_GZIP) else raw
    finally:
        if name != STDIN:
            raw.close()
