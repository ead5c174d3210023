"""Readiness: whether this replica should be sent requests."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from greso_service.errors import GresoError
from greso_service.history.base import History
from greso_service.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

PING_EVERY = 1.0
"""Seconds between pings of the store."""

LATELY = 3.5
"""Seconds that an answered ping counts: three may be lost before readiness goes red."""


class Health:
    """Pings the store while it runs, and says whether all is well. `draining` is set when the service is to stop."""

    def __init__(self, history: History, metrics: Metrics, clock: Callable[[], float] = time.monotonic) -> None:
        self._history = history
        self._metrics = metrics
        self._clock = clock
        self._answered = float("-inf")
        self._failure = "not asked yet"
        self.draining = False

    def components(self) -> dict[str, dict[str, str | bool]]:
        """Each thing readiness depends on: `ok` and a `detail` for people."""
        redis = self._clock() - self._answered <= LATELY
        return {
            "redis": {"ok": redis, "detail": "answers" if redis else self._failure},
            "service": {"ok": not self.draining, "detail": "draining" if self.draining else "started"},
        }

    async def watch(self) -> None:
        """Ping until cancelled; an outage is logged once, and its end."""
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
            if self._failure and self._answered > 0:
                log.warning("Redis answers again")
            self._answered, self._failure = self._clock(), ""
            self._metrics.store_up.set(1)
