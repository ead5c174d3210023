"""Counting what happened, safe between threads, and telling the service what it can't see for itself."""

from __future__ import annotations

import collections
import dataclasses
import threading
from collections.abc import Mapping

from greso_client._types import Counters

# The service is told of these, in this order, under these names (docs/api.md).
_TOLD_AS = {
    "degraded": "degraded",
    "spooled": "spooled",
    "delivered": "delivered",
    "refused": "lost",
    "dropped": "lost",
}


class Counts:
    """The running `Counters`, and of them the news: what the service has not been told yet.

    News are with one attempt at a time: it takes them along and puts them back if it gets no answer. So they are told
    at least once, and twice only if the answer got lost on its way.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counters = Counters()
        self._news = collections.Counter[str]()

    def add(self, **more: int) -> None:
        """Add to the named counters."""
        with self._lock:
            now = {name: getattr(self._counters, name) + by for name, by in more.items()}
            self._counters = dataclasses.replace(self._counters, **now)
            for name, by in more.items():
                if by and name in _TOLD_AS:
                    self._news[_TOLD_AS[name]] += by

    def snapshot(self) -> Counters:
        """The counters as they are now."""
        return self._counters

    def any_news(self) -> bool:
        """Whether there is something to tell that no attempt has taken along."""
        return bool(self._news)

    def take_news(self) -> Mapping[str, int]:
        """The news, which are the caller's from now on: to tell, or to put back."""
        with self._lock:
            taken, self._news = self._news, collections.Counter()
        return taken

    def put_back(self, news: Mapping[str, int]) -> None:
        """These could not be told."""
        with self._lock:
            self._news.update(news)


def header(news: Mapping[str, int]) -> str:
    """News as the value of `Greso-Client`: `degraded=3, spooled=2`."""
    return ", ".join(f"{name}={news[name]}" for name in dict.fromkeys(_TOLD_AS.values()) if name in news)
