"""Counting what happened, safe between threads."""

from __future__ import annotations

import dataclasses
import threading

from greso_client._types import Counters


class Counts:
    """The running `Counters`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counters = Counters()

    def add(self, **more: int) -> None:
        """Add to the named counters."""
        with self._lock:
            now = {name: getattr(self._counters, name) + by for name, by in more.items()}
            self._counters = dataclasses.replace(self._counters, **now)

    def snapshot(self) -> Counters:
        """The counters as they are now."""
        return self._counters
