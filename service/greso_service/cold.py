"""Runs that somebody looks at and that are not in memory: read in the background, so that a look waits for none."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from greso_service.errors import GresoError, NotFound, Unreadable
from greso_service.history.base import RunKey
from greso_service.live import LiveRuns
from greso_service.placing import end
from greso_service.telemetry.logs import SELDOM

log = logging.getLogger(__name__)

AGAIN = 60.0
"""Seconds until a run that could not be read is tried again: it may have been mended, or this service upgraded. And one
for which there was no room: others may have left.
"""


class AtHand(NamedTuple):
    """Runs sorted by what can be told of them: in memory; not (yet); not readable."""

    ready: list[RunKey]
    cold: list[RunKey]
    unreadable: list[RunKey]


class Cold:
    """Reads runs into `live` one after another, as long as it has room: nobody's run is pushed out by a look."""

    def __init__(self, live: LiveRuns, clock: Callable[[], float] = time.monotonic) -> None:
        self._live = live
        self._clock = clock
        self._failed: dict[RunKey, float] = {}
        self._left: dict[RunKey, float] = {}  # there was no room for them
        self._reading: asyncio.Task[None] | None = None

    async def sorted(self, keys: Sequence[RunKey], within: float) -> AtHand:
        """Sort runs, after `within` seconds at most for reading those that are not in memory; reading goes on then."""
        wanted = [key for key in keys if not (self._live.holds(key) or self._is_unreadable(key) or self._has_left(key))]
        if wanted and self._reading is None:
            self._reading = asyncio.create_task(self._read(wanted))
        if wanted and self._reading is not None:
            await asyncio.wait([self._reading], timeout=within)
        at_hand = AtHand([], [], [])
        for key in keys:
            place = at_hand.ready if self._live.holds(key) else at_hand.cold
            (at_hand.unreadable if self._is_unreadable(key) else place).append(key)
        return at_hand

    def _is_unreadable(self, key: RunKey) -> bool:
        return key in self._failed and self._clock() - self._failed[key] < AGAIN

    def _has_left(self, key: RunKey) -> bool:
        return key in self._left and self._clock() - self._left[key] < AGAIN

    async def _read(self, keys: Sequence[RunKey]) -> None:
        try:
            for key in keys:
                if self._live.full(key.tenant):
                    return
                await self._read_one(key)
        except GresoError:
            return  # the store is away: whoever asks is told
        finally:
            self._reading = None

    async def _read_one(self, key: RunKey) -> None:
        try:
            async with self._live.held(key, use=False) as live:
                await self._live.current(key, live)
            self._failed.pop(key, None)
            self._left.pop(key, None)
            if not self._live.holds(key):
                self._left[key] = self._clock()
        except NotFound:
            return
        except Unreadable as error:
            self._failed[key] = self._clock()
            log.error(
                "run %s can't be read: %s", key.run, error, extra={"tenant": key.tenant, "run": key.run, **SELDOM}
            )

    async def close(self) -> None:
        """Stop reading."""
        if self._reading is not None:
            await end(self._reading)
