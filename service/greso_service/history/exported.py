"""The file form of a run's history: a manifest, a line for each event, and a last line that proves it whole.

NDJSON, so that it can be looked at, cut and compared with common tools. An event's payload stands in it byte for byte
(in base64): a history that goes out and comes in again is the same history, with the same marks. docs/api.md describes
it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import orjson

from greso_service.core.mark import START, Mark
from greso_service.errors import GresoError
from greso_service.history import codec

FORMAT: Final = "greso-history"
VERSION: Final = 1
MEDIA_TYPE: Final = "application/x-ndjson"


LONGEST_LINE: Final = 2**28
"""Bytes of a line that is read; those of the largest reports and uploads are far from it."""


class ExportError(GresoError):
    """An export is not whole or not to be read; the message names the line, and so does `line`, from 1."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


class Writer:
    """Makes the lines of an export, in order: `begin`, `lines` for all payloads, `end`."""

    def __init__(self, run: str, until: Mark) -> None:
        self._run, self._until = run, until
        self._mark = START
        self._digest = hashlib.sha256()

    def begin(self) -> bytes:
        """The manifest."""
        manifest = {"format": FORMAT, "version": VERSION, "run": self._run, "events": self._until.number}
        return self._counted(_line({**manifest, "mark": str(self._until)}))

    def lines(self, payloads: Sequence[bytes]) -> bytes:
        """A line for each of the next payloads."""
        lines = []
        for payload in payloads:
            self._mark = self._mark.then(payload)
            event = base64.b64encode(payload).decode()
            lines.append(_line({"mark": str(self._mark), "type": codec.type_name(payload), "event": event}))
        return self._counted(b"".join(lines))

    def end(self) -> bytes:
        """The last line: how many events there were, and the SHA-256 of all bytes before this line."""
        return _line({"events": self._mark.number, "sha256": self._digest.hexdigest()})

    def _counted(self, lines: bytes) -> bytes:
        self._digest.update(lines)
        return lines


def is_manifest(content: object) -> bool:
    """Whether a line, parsed, begins an export."""
    return isinstance(content, dict) and content.get("format") == FORMAT


class Lines:
    """Cuts what comes in pieces of any size into lines with their line feeds; the last one may lack it."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._number = 1

    def take(self, piece: bytes) -> list[bytes]:
        """The lines that the piece ends. Raises `ExportError` for one that is too long."""
        *whole, rest = piece.split(b"\n")
        lines = [line + b"\n" for line in whole]
        if lines:
            lines[0] = bytes(self._rest) + lines[0]
            self._rest.clear()
            self._number += len(lines)
        self._rest += rest
        if len(self._rest) > LONGEST_LINE:
            raise ExportError(self._number, f"line {self._number} is longer than {LONGEST_LINE} bytes")
        return lines

    def end(self) -> list[bytes]:
        """What is left, if anything is."""
        return [bytes(self._rest)] if self._rest else []


class Checker:
    """Follows the lines of an export and tells in the end whether it was whole. Lines end with their line feed.

    `mark`: that of the last event so far.
    """

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._number = 0  # of lines
        self._whole = False
        self.mark = START
        self.manifest: dict[str, Any] = {}

    def take(self, line: bytes) -> bytes | None:
        """The event's payload, if the line has one. Raises `ExportError`."""
        self._number += 1
        if self._whole:
            raise self._error("stands behind the end of the export")
        content = self._parsed(line)
        if "sha256" in content:
            self._close(content)
            return None
        self._digest.update(line)
        if self._number == 1:
            self._open(content)
            return None
        return self._payload(content)

    def finish(self) -> None:
        """Raise `ExportError` unless the last line came."""
        if not self._whole:
            raise ExportError(
                self._number + 1,
                f"the export is cut off behind line {self._number}: its last line, with the checksum, is missing;"
                " export the run again",
            )

    def _parsed(self, line: bytes) -> dict[str, Any]:
        try:
            content = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise self._error(f"is not JSON ({error})") from None
        if not isinstance(content, dict):
            raise self._error("is not an object")
        return content

    def _open(self, manifest: dict[str, Any]) -> None:
        if not is_manifest(manifest):
            raise self._error(f"is not the manifest of an export (format {FORMAT!r})")
        if manifest.get("version") != VERSION:
            raise self._error(f"says version {manifest.get('version')!r}; this greso reads version {VERSION}")
        self.manifest = manifest

    def _payload(self, content: dict[str, Any]) -> bytes:
        try:
            payload = base64.b64decode(content["event"], validate=True)
        except (KeyError, TypeError, ValueError, binascii.Error):
            raise self._error("has no event in base64") from None
        self.mark = self.mark.then(payload)
        if content.get("mark") != str(self.mark):
            raise self._error(f"has the mark {content.get('mark')!r}, and its event makes it {str(self.mark)!r}")
        return payload

    def _close(self, content: dict[str, Any]) -> None:
        if self._number == 1:
            raise self._error(f"is not the manifest of an export (format {FORMAT!r})")
        if not content.get("events") == self.manifest.get("events") == self.mark.number:
            raise self._error(f"says {content.get('events')} events, and {self.mark.number} are there")
        if self.manifest.get("mark") != str(self.mark):
            raise self._error(f"ends at the mark {self.mark}, and the manifest says {self.manifest.get('mark')!r}")
        if content["sha256"] != self._digest.hexdigest():
            raise self._error("has another checksum than the lines before it: the export was changed")
        self._whole = True

    def _error(self, detail: str) -> ExportError:
        return ExportError(self._number, f"line {self._number} {detail}")


def read(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The payloads of an export. Raises `ExportError`; that it is whole is known when the last one has come."""
    checker = Checker()
    for line in lines:
        if (payload := checker.take(line)) is not None:
            yield payload
    checker.finish()


def _line(content: dict[str, Any]) -> bytes:
    return orjson.dumps(content, option=orjson.OPT_APPEND_NEWLINE)
