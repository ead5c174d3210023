"""Clocks of clients that a test puts forward, so that an hour takes no time."""

from __future__ import annotations

import time

from greso_client import AsyncClient, Client
from greso_client._io import Clock


class Skipping:
    """Time as it passes, and what is skipped."""

    def __init__(self, client: Client | AsyncClient) -> None:
        self._ahead = 0.0
        client._io.clock = Clock(lambda: time.monotonic() + self._ahead, lambda: time.time() + self._ahead)

    def skip(self, seconds: float) -> None:
        """Put both clocks of the client forward."""
        self._ahead += seconds
