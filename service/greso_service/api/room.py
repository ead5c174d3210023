"""How many requests are worked on at once: as many as are answered in time, and no more than the operator allows."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

AHEAD: Final = 0.5
"""Seconds of the process' time that the requests taken on may need together. Clients wait for 2 s by default."""

FEW: Final = 16
"""Requests are taken on whatever they cost: most may wait for Redis, or for what somebody else does."""

_LOOK_EVERY: Final = 0.25  # seconds
_ENOUGH: Final = 8  # answers, to tell what one costs
_WEIGHT: Final = 0.5  # of the newest look


class Room:
    """Counts the requests that are worked on. `places`: how many may be at once.

    What is taken on beyond that would only wait, each for all before it, until nobody waits for its answer any more;
    a service that is asked for too much would then work for nothing but that. So there are as many places as can be
    answered within `AHEAD`, by what a request has lately cost. Requests that wait for others and use no time of this
    process cost next to nothing, and are limited by `most` alone.
    """

    def __init__(
        self, most: int, now: Callable[[], float] = time.monotonic, used: Callable[[], float] = time.process_time
    ) -> None:
        self._most, self._now, self._used = most, now, used
        self.places, self.taken = most, 0
        self._cost = 0.0  # seconds of an answer
        self._answers = 0  # since the last look
        self._spent = self._began = 0.0  # seconds used since then, and where they are counted from
        self._looked = self._since = now()  # when that was; since when there is work

    @property
    def full(self) -> bool:
        """Whether there is no place left."""
        return self.taken >= self.places

    def enter(self) -> None:
        """Take a place."""
        if not self.taken:
            self._began, self._since = self._used(), self._now()
        self.taken += 1

    def leave(self) -> None:
        """Give it back."""
        self.taken -= 1
        self._answers += 1
        now = self._now()
        if not self.taken or now >= self._looked + _LOOK_EVERY:
            used = self._used()
            self._spent, self._began = self._spent + used - self._began, used
            # When answers are few and far between, eight of them say what one costs; of a busy time fewer do, too.
            if self._answers >= _ENOUGH or (self.taken and now >= max(self._looked, self._since) + 4 * _LOOK_EVERY):
                self._look(now)

    def _look(self, now: float) -> None:
        cost = self._spent / self._answers
        self._cost = cost if not self._cost else (1 - _WEIGHT) * self._cost + _WEIGHT * cost
        self._spent, self._answers, self._looked = 0.0, 0, now
        self.places = max(min(FEW, self._most), min(self._most, int(AHEAD / max(self._cost, 1e-6))))
