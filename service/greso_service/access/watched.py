"""The keys in force: those of the file, read again when it changes, so that keys come and go without a restart."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

from greso_service.access import key_file
from greso_service.access.keys import KeysError
from greso_service.errors import StartupError
from greso_service.telemetry.logs import SELDOM

log = logging.getLogger(__name__)

LOOK_EVERY = 1.0
"""Seconds between looks at the file: a revoked key is refused after that time."""


class WatchedKeys:
    """The keys of a file. One that is broken or gone changes nothing: the keys that were read last stay in force.

    Raises `StartupError` when the file can't be read at first.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self.ring, stat = key_file.read(path)
        except KeysError as error:
            raise StartupError(
                f"{error}; make a first key with `greso keys add --keys-file {path} --tenant NAME`, or mend the file"
            ) from None
        self._seen = _identity(stat)
        if not self.ring.keys:
            log.warning("there is no key in %s: nobody can use the service", path)

    async def watch(self) -> None:
        """Look at the file until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            try:
                await asyncio.to_thread(self.look)  # the file may be far away
            except Exception:  # whatever it is: keys that are no longer looked at can't be revoked
                log.exception("the keys file %s can't be looked at; it is tried again", self._path, extra=SELDOM)

    def look(self) -> None:
        """Read the file if it has changed."""
        try:
            if _identity(self._path.stat()) == self._seen:
                return
            ring, stat = key_file.read(self._path)
        except (OSError, KeysError) as error:
            reason = f"the keys file {self._path}: {error.strerror}" if isinstance(error, OSError) else str(error)
            log.error("%s; the %d keys read last stay in force", reason, len(self.ring.keys), extra=SELDOM)
            return
        before, after = ({key.id for key in keys} for keys in (self.ring.keys, ring.keys))
        self.ring, self._seen = ring, _identity(stat)
        log.warning(
            "keys read again: %d in force, added: %s, gone: %s",
            len(ring.keys),
            ", ".join(sorted(after - before)) or "none",
            ", ".join(sorted(before - after)) or "none",
        )


def _identity(stat: os.stat_result) -> tuple[int, ...]:
    """What differs between a file and the one that took its place, or itself written anew."""
    return (stat.st_dev, stat.st_ino, stat.st_mtime_ns, stat.st_size)
