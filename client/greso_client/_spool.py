"""Reports that could not be delivered yet, on disk: JSON lines, appended and synced, bounded, safe between processes.

The first line names the file's identity; each further line is one request with its idempotency key and fencing token.
A delivered line is marked in place (one byte), a file with nothing left is removed, and only a full one is rewritten.
No file stays open between calls, so a fork or a kill at any moment leaves nothing but, at worst, a torn last line,
which the next append cuts off and every reader passes over: that report was never acknowledged as kept.

Two locks, both `flock` on files beside the spool: a short one around each access, and a long one for whoever delivers.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import math
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

from greso_client._requests import Request
from greso_client._spool_lines import DONE, DUE, FLAG, header, identity_of, request_of, written

# A full spool is cut to this share of its bound, so that not every further report rewrites the file.
_KEEP_SHARE = 0.9
# The longest wait for another process's access to the file, which takes milliseconds. Most callers wait less.
LOCK_SECONDS = 5.0
# How the body of a report begins.
_STEP = re.compile(rb'\{"step":(\d{1,16}),')


@dataclass(frozen=True, slots=True)
class Entry:
    """A spooled request and where it stands: `at` is the wall-clock second it was kept, `size` its bytes.

    `ahead`: it was kept before its run could be created.
    """

    request: Request
    at: float
    file: str
    offset: int
    size: int
    ahead: bool


class Spool:
    """The spool file at `path`, at most `limit` bytes. Every method may raise OSError; all block on the disk.

    `patience`: seconds to wait while another process has the file, at most `LOCK_SECONDS`; then TimeoutError.
    """

    def __init__(self, path: Path, limit: int) -> None:
        self.path = path
        self.refused_path = path.with_name(path.name + ".refused")
        self._limit = limit
        # Lines found damaged and put aside, until whoever delivers has told it.
        self.damaged = 0
        # Where the last settled entry ended, so that delivering n entries reads the file once and not n times.
        self._passed = ("", 0)

    def is_empty(self) -> bool:
        """Whether nothing waits (a file exists only while something does)."""
        return not self.path.exists()

    def append(self, request: Request, at: float, *, ahead: bool = False, patience: float = math.inf) -> int:
        """Keep a request; returns how many older ones were dropped for it. OSError: not kept, nothing else lost.

        `ahead`: its run could not be created yet, so that a run created later is the one that it is meant for.
        """
        line = written(request, at, ahead)
        with self._locked(patience):
            size = self._mend()
            dropped = 0
            if size + len(line) > self._limit:
                dropped = self._make_room(len(line))
                size = self._mend()
            self._write(line, size)
        return dropped

    def head(self, patience: float = math.inf) -> Entry | None:
        """The oldest entry that is due; None (and no file any more) when there is none."""
        with self._locked(patience):
            for entry in self._due():
                return entry
            with contextlib.suppress(FileNotFoundError):
                self._put_damaged_aside()
                self.path.unlink()
            return None

    def settle(self, entry: Entry, refused: str | None = None, patience: float = math.inf) -> None:
        """Mark an entry as done; with a reason for refusal, copy it to the `.refused` file."""
        with self._locked(patience):
            # The file may have been rewritten since `head` by a process that had to make room.
            place = next((now for now in self._due(entry) if now.request.key == entry.request.key), None)
            if place is not None:
                self._settle(place, refused)

    def retire(self, run_path: str, before: float, reason: str, patience: float = math.inf) -> int:
        """Move aside what was kept before a moment for a run, unless ahead of it; returns how many."""
        with self._locked(patience):
            kept = [e for e in self._due() if e.at < before and e.request.path.startswith(f"{run_path}/")]
            old = [entry for entry in kept if not entry.ahead]
            for entry in old:
                self._settle(entry, reason)
            self._passed = ("", 0)  # those between them are still due
        return len(old)

    def newest_step(self, path: str, generation: int, since: float, patience: float = math.inf) -> int | None:
        """The newest step of the reports to a path, kept since a moment under a run's generation; None without any."""
        with self._locked(patience):
            due = [entry.request for entry in self._due() if entry.at >= since and entry.request.path == path]
        steps = [_STEP.match(request.body or b"") for request in due if request.generation in {None, generation}]
        return max((int(step[1]) for step in steps if step), default=None)

    def delivering(self) -> int | None:
        """Take the right to deliver, to be `release`d; None while another thread or process has it."""
        descriptor = self._open_lock(".sending")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    def release(self, descriptor: int) -> None:
        """Give the right to deliver back."""
        # Unlocked and not just closed: a child forked meanwhile holds the same lock through its copy of the descriptor.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)

    # Below, the short lock is held.

    @contextlib.contextmanager
    def _locked(self, patience: float) -> Iterator[None]:
        descriptor = self._open_lock(".lock")
        try:
            _lock(descriptor, self.path, min(patience, LOCK_SECONDS))
            yield
        finally:
            self.release(descriptor)

    def _open_lock(self, suffix: str) -> int:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = self.path.with_name(self.path.name + suffix)
        return os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _write(self, line: bytes, size: int) -> None:
        """Append a line to the file of `size` bytes and be sure that it is on the disk, or leave the file as it was."""
        data = line if size else header() + line
        try:
            with self.path.open("ab", buffering=0) as file:
                _write_all(file, data)
                os.fsync(file.fileno())
        except OSError:
            with contextlib.suppress(OSError):
                os.truncate(self.path, size)
            raise
        if size == 0:
            self._sync_directory()

    def _mend(self) -> int:
        """Cut off a torn last line; returns the size then."""
        try:
            file = self.path.open("r+b")
        except FileNotFoundError:
            return 0
        with file:
            size = file.seek(0, os.SEEK_END)
            end = size
            while end > 0:
                start = max(0, end - 65536)
                file.seek(start)
                newline = file.read(end - start).rfind(b"\n")
                if newline >= 0:
                    end = start + newline + 1
                    break
                end = start
            if end < size:
                file.truncate(end)
            return end

    def _due(self, after: Entry | None = None) -> Iterator[Entry]:
        """The due entries in order, from `after` on when the file is still the one that it was read from."""
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return
        with file:
            identity = identity_of(file.readline())
            start = file.tell()
            if after is not None and after.file == identity:
                start = after.offset
            elif self._passed[0] == identity:
                start = self._passed[1]
            file.seek(start)
            while (line := file.readline()).endswith(b"\n"):
                request = request_of(line) if line.startswith(DUE) else None
                if request is not None:
                    yield Entry(request[0], request[1], identity, start, len(line), request[2])
                start += len(line)

    def _settle(self, entry: Entry, refused: str | None) -> None:
        with self.path.open("r+b") as file:
            if refused is not None:
                file.seek(entry.offset)
                self._put_aside(json.loads(file.read(entry.size)), refused)
            file.seek(entry.offset + FLAG)
            # Not synced: a mark lost with the power only means one more delivery under the same key, which has no
            # effect.
            file.write(b"0")
        self._passed = (entry.file, entry.offset + entry.size)

    def _put_damaged_aside(self) -> None:
        """Before the file goes: whole lines that are no report. (A torn one was never acknowledged as kept.)"""
        with self.path.open("rb") as file:
            file.readline()
            for line in file:
                if line.endswith(b"\n") and not line.startswith(DONE) and request_of(line) is None:
                    self._put_aside({"line": line.decode(errors="replace")}, "damaged on the disk")
                    self.damaged += 1

    def _put_aside(self, record: dict[str, Any], reason: str) -> None:
        """Append to the `.refused` file, which is bounded like the spool: what finds no room is only counted."""
        with self.refused_path.open("ab") as file:
            copy = json.dumps({"refused": reason, **record}, separators=(",", ":")).encode() + b"\n"
            if file.tell() + len(copy) <= self._limit:
                file.write(copy)

    def _make_room(self, wanted: int) -> int:
        """Rewrite the file with the newest due entries, leaving `wanted` bytes; returns how many were left out."""
        entries = list(self._due())
        room = int(self._limit * _KEEP_SHARE) - wanted - len(header())
        if wanted + len(header()) > self._limit:
            raise OSError(f"a report of {wanted} bytes does not fit into a spool of {self._limit}")
        kept = len(entries)
        while kept > 0 and room >= entries[kept - 1].size:
            kept -= 1
            room -= entries[kept].size
        fresh = self.path.with_name(self.path.name + ".new")
        with fresh.open("wb") as new, self.path.open("rb") as old:
            new.write(header())
            for entry in entries[kept:]:
                old.seek(entry.offset)
                new.write(old.read(entry.size))
            new.flush()
            os.fsync(new.fileno())
        fresh.replace(self.path)
        self._sync_directory()
        return kept

    def _sync_directory(self) -> None:
        descriptor = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _lock(descriptor: int, path: Path, seconds: float) -> None:
    """Wait for the short lock. A process frozen while it holds it must not hold up every other: then OSError."""
    give_up = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= give_up:
                raise TimeoutError(errno.ETIMEDOUT, "another process keeps it locked", str(path)) from None
            time.sleep(0.002)
        else:
            return


def _write_all(file: FileIO, data: bytes) -> None:
    # A disk that fills up takes the beginning without complaint.
    if file.write(data) < len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file.name))
