"""How many requests are worked on at once: as many as are answered in time, and no more than the operator allows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

AHEAD: Final = 0.4
"""Seconds within which all requests taken on should be answered. Clients wait for 2 s by default; and a reply of Redis,
which waits its turn as well, must come within `redis_timeout`, 0.5 s by default, or an overload is taken for an outage.
"""

FEW: Final = 16
"""Requests are taken on however long they take: so many trainers at once are no overload, on a slow machine neither."""

BEHIND: Final = 0.003
"""Seconds that what is ready to go on waits for its turn, from which on the process is what requests wait for."""

_TICK: Final = 0.01  # seconds; a look at the time costs some microseconds
_LOOK_EVERY: Final = 0.25  # seconds
_ENOUGH: Final = 8  # answers, to tell how fast they come
_PATIENTLY: Final = 4  # looks' time, when answers are fewer
_WEIGHT: Final = 0.5  # of the newest look


class Room:
    """Counts the requests that are worked on. `places`: how many may be at once; `most` at most.

    What is taken on beyond what can be done in time only waits, each for all before it, until nobody waits for its
    answer any more; a service that is asked for too much would then work for nothing but that. So while the process is
    behind with its work there are as many places as it answers requests within `AHEAD`. While it is not, requests wait
    for Redis or a slow client: turning others away would not help them, and all places are there.
    """

    def __init__(self, most: int, now: Callable[[], float] = time.monotonic) -> None:
        self._most, self._now = most, now
        self.places, self.taken = most, 0
        self._spell = 0.0  # seconds of an answer, while behind; 0 while not
        self._ticks = False  # whether it is looked at the time
        self._ticked = self._looked = 0.0  # when that was last
        self._busy = 0.0  # seconds since the last look, with nothing but work as far as can be seen
        self._answers, self._waits, self._waited = 0, 0, 0.0  # since the last look

    @property
    def full(self) -> bool:
        """Whether there is no place left."""
        return self.taken >= self.places

    def enter(self) -> None:
        """Take a place."""
        self.taken += 1
        if not self._ticks:
            self._ticks, self._ticked = True, self._now()
            self._begin(self._ticked)
            asyncio.get_running_loop().call_later(_TICK, self._tick)

    def leave(self) -> None:
        """Give it back."""
        self.taken -= 1
        self._answers += 1
        asyncio.get_running_loop().call_soon(self._waits_since, self._now())

    def _waits_since(self, moment: float) -> None:
        self._waits += 1
        self._waited += self._now() - moment

    def _tick(self) -> None:
        """Called again and again, also when nothing is left to do, until all places are there."""
        now = self._now()
        if now - self._ticked >= _TICK + BEHIND:  # an idle process would have been here in time
            self._busy += now - self._ticked
        self._ticked = now
        if now - self._looked >= _LOOK_EVERY * (1 if self._answers >= _ENOUGH else _PATIENTLY):
            self._look()
            self._begin(now)
        self._ticks = self.taken > 0 or self._spell > 0 or self.places < self._most
        if self._ticks:
            asyncio.get_running_loop().call_later(_TICK, self._tick)

    def _begin(self, now: float) -> None:
        self._looked, self._busy, self._answers, self._waits, self._waited = now, 0.0, 0, 0, 0.0

    def _look(self) -> None:
        if self._waited >= BEHIND * self._waits > 0:
            spell = self._busy / self._answers if self._answers else self._spell
            if self._spell:
                spell = (1 - _WEIGHT) * self._spell + _WEIGHT * spell
                self.places = max(min(FEW, self._most), min(self._most, int(AHEAD / max(spell, 1e-6))))
            self._spell = spell  # seen for the first time it may be a burst, which is over soon
        else:
            self._spell = 0.0
            self.places = min(self._most, 2 * self.places)
