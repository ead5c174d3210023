"""What ends soon: keys and the certificate, told early enough to be renewed before somebody is shut out."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from greso_service.access import tls

if TYPE_CHECKING:
    from greso_service.access.keys import Key, Keyring
    from greso_service.access.watched import WatchedKeys
    from greso_service.settings import Settings

log = logging.getLogger(__name__)

SOON: Final = timedelta(days=14)
"""Before its end something is worth a warning: two weeks are enough for who looks now and then."""

REMIND_EVERY: Final = 86_400.0
"""Seconds between two lines of the log about the same end."""

NEVER: Final = math.inf


def ending(ring: Keyring, now: datetime) -> list[Key]:
    """The keys that are good and have an end, the first to end first."""
    return sorted(
        (key for key in ring.keys if key.expires is not None and not key.expired(now)),
        key=lambda key: key.expires or now,
    )


def soon(ring: Keyring, now: datetime) -> list[Key]:
    """Those of them that end within `SOON`."""
    return [key for key in ending(ring, now) if key.expires is not None and key.expires <= now + SOON]


def named(key: Key) -> str:
    """A key that ends, in words."""
    return f"{key.id} ({key.name}) of tenant {key.tenant} on {day(key.expires)}"


def day(when: datetime | None) -> str:
    """A time for people."""
    return "no day" if when is None else f"{when.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


class Endings:
    """When what a running service lets in by ends."""

    def __init__(self, settings: Settings, keys: WatchedKeys | None) -> None:
        self._keys = keys
        self._certificate = tls.ends(settings)  # of the one that is served: a new file counts from the next start on

    def key(self) -> float:
        """Unix time at which the first of the good keys ends; infinite if none does."""
        first = ending(self._keys.ring, datetime.now(UTC))[:1] if self._keys else []
        return first[0].expires.timestamp() if first and first[0].expires else NEVER

    def certificate(self) -> float:
        """Unix time at which the certificate ends; infinite without one."""
        return NEVER if self._certificate is None else self._certificate.timestamp()

    def warnings(self, now: datetime) -> Iterator[str]:
        """A line for each thing that ends soon, or for a certificate that is over."""
        for key in soon(self._keys.ring, now) if self._keys else []:
            yield f"the key {named(key)} ends soon; add one with `greso keys add` and give it to who uses it"
        if self._certificate is not None and self._certificate <= now + SOON:
            over = "is over since" if self._certificate <= now else "ends on"
            yield f"the certificate {over} {day(self._certificate)}; renew it and start the service again"

    async def remind(self) -> None:
        """Log what ends soon, once a day, until cancelled."""
        while True:
            for line in self.warnings(datetime.now(UTC)):
                log.warning("%s", line)
            await asyncio.sleep(REMIND_EVERY)
