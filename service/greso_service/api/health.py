"""Readiness: whether this replica should be sent requests."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from greso_service.errors import GresoError
from greso_service.history.base import History
from greso_service.telemetry.logs import PAUSE
from greso_service.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

PING_EVERY = 1.0
"""Seconds between pings of the store."""

LATELY = 3.5
"""Seconds that an answered ping counts: three may be lost before readiness goes red."""


class Health:
    """Pings the store while it runs, and says whether all is well. `draining` is set when the service is to stop.

    `refused_writes`: why the store takes no writes, if it does not.
    """

    def __init__(
        self,
        history: History,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
        *,
        refused_writes: Callable[[], str] = str,
    ) -> None:
        self._history = history
        self._refused_writes = refused_writes
        self._metrics = metrics
        self._clock = clock
        self._answered = float("-inf")
        self._failure = "not asked yet"
        # Requests refused for want of the store since that was last said, and why the first was.
        self._refused, self._reason = 0, ""
        self._next_line = float("-inf")
        self.draining = False

    def components(self) -> dict[str, dict[str, str | bool]]:
        """Each thing that was looked at: `ok` and a `detail` for people."""
        redis, refused = self._clock() - self._answered <= LATELY, self._refused_writes()
        return {
            "redis": {"ok": redis, "detail": "answers" if redis else self._failure},
            "service": {"ok": not self.draining, "detail": "draining" if self.draining else "started"},
            "writes": {"ok": not refused, "detail": refused or "none was refused lately"},
        }

    def ready(self) -> bool:
        """Whether requests should be sent here: also while writes are refused, which no other replica could take."""
        components = self.components()
        return all(components[name]["ok"] for name in ("redis", "service"))

    def refused(self, error: GresoError) -> None:
        """A request could not be answered for want of the store."""
        if not self._refused:
            self._reason = str(error)
        self._refused += 1

    async def watch(self) -> None:
        """Ping until cancelled; an outage is logged once, and its end with what it cost."""
        while True:
            await self.ask()
            await asyncio.sleep(PING_EVERY)

    async def ask(self) -> None:
        """Ping once."""
        was_up = not self._failure
        try:
            await self._history.ping()
        except GresoError as error:
            if was_up:
                log.error("%s; reports are refused and selects are stale until it is back", error)
            self._failure = str(error)
            self._metrics.store_up.set(0)
        else:
            now = self._clock()
            if self._failure and self._answered > 0:
                away = now - self._answered
                log.warning("Redis answers again after %.0f s; %d requests were refused meanwhile", away, self._refused)
                self._refused = 0
            elif self._refused and now >= self._next_line:
                # Full, or without the replicas it is to write to: it answers and does not do.
                log.error("Redis answers, but %d requests were refused: %s", self._refused, self._reason)
                self._refused, self._next_line = 0, now + PAUSE
            self._answered, self._failure = now, ""
            self._metrics.store_up.set(1)
