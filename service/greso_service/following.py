"""The use case that follows a run's history: what is in it from some place on, then what anybody writes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from greso_service.core.mark import START, Mark
from greso_service.errors import Conflict, Unavailable, no_run
from greso_service.history.base import History, RunKey
from greso_service.replay import PAGE

POLL: Final = 0.5
"""Seconds between looks for more: one HGET a look, whoever writes."""

Page = list[tuple[Mark, bytes]]
"""Payloads of events with their marks."""


@dataclass(frozen=True, slots=True)
class Last:
    """The place before the last `count` events."""

    count: int


Place = Mark | int | Last
"""A place in a history: a mark, the number of an event to stand behind, or one before the end."""


class Following:
    """Follows the runs of a History."""

    def __init__(self, history: History) -> None:
        self._history = history

    async def mark(self, key: RunKey, place: Place) -> Mark:
        """The mark of a place. Raises `NotFound`, `Conflict` if the history lacks the place, and `Unavailable`."""
        if isinstance(place, Mark) and place != START:
            if await self._history.read(key, place, 1) is not None:
                return place
            if await self._history.read(key, START, 1):
                raise Conflict(
                    f"the history of run {key.run} has no event {place}: it was made anew, or its store has lost its"
                    " newest events; begin without Last-Event-ID"
                )
            raise no_run(key.run)
        wanted = place.number if isinstance(place, Mark) else place
        mark, before = START, deque([START], maxlen=wanted.count + 1 if isinstance(wanted, Last) else 1)
        while page := await self._history.read(key, mark, PAGE if isinstance(wanted, Last) or wanted else 1):
            for payload in page:
                if mark.number == wanted:
                    return mark
                mark = mark.then(payload)
                before.append(mark)
        if mark == START:
            raise no_run(key.run)
        if isinstance(wanted, Last) or mark.number == wanted:
            return before[0]
        raise Conflict(f"the history of run {key.run} has {mark.number} events; there is none of number {wanted}")

    async def pages(self, key: RunKey, after: Mark, *, on: bool) -> AsyncIterator[Page]:
        """What the history holds behind `after`, and then, if it is to go `on`, what is written, as it is written.

        An empty page comes whenever there is no more. It ends there or, when it is to go on, when the run is gone: the
        history lacks what it held. While the store is away it goes on waiting; else `Unavailable` is raised.
        """
        mark = after
        while True:
            try:
                payloads = await self._history.read(key, mark, PAGE)
            except Unavailable:
                if not on:
                    raise
                payloads = []
            if payloads is None:
                return
            page: Page = []
            for payload in payloads:
                mark = mark.then(payload)
                page.append((mark, payload))
            yield page
            if not page:
                if not on:
                    return
                await asyncio.sleep(POLL)
