"""The use case that follows a run's history: what is in it from some place on, then what anybody writes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from greso_service import bases
from greso_service.core.mark import START, Mark
from greso_service.errors import Conflict, Unavailable, busy, no_run
from greso_service.history.base import History, RunKey
from greso_service.replay import PAGE

POLL: Final = 0.5
"""Seconds between looks for more: one HGET a look, whoever writes."""

Page = list[tuple[Mark, bytes]]
"""Payloads of events with their marks."""


@dataclass(frozen=True, slots=True)
class Last:
    """The place before the last `count` events, of those that are there."""

    count: int


OLDEST: Final = Last(2**62)
"""The place before all events that are there."""

Place = Mark | int | Last
"""A place in a history: a mark, the number of an event to stand behind, or one before the end."""


class Following:
    """Follows the runs of a History."""

    def __init__(self, history: History) -> None:
        self._history = history

    async def mark(self, key: RunKey, place: Place) -> Mark:
        """The mark of a place. Raises `NotFound`, `Conflict` if the history lacks the place, and `Unavailable`."""
        if isinstance(place, Mark) and place != START and await self._history.read(key, place, 1) is not None:
            return place
        extent = await self._history.extent(key)
        if extent is None:
            raise no_run(key.run)
        base, end = extent
        if isinstance(place, Last):
            number = max(end.number - place.count, base.number)
        else:
            number = place.number if isinstance(place, Mark) else place
        if number < base.number and (begun := await bases.begun(self._history, key)) is not None:
            raise Conflict(
                f"{bases.too_far(key, f'event {number + 1}', begun.floor)}, and event {base.number} to begin behind"
            )
        if isinstance(place, Mark) and place != START:
            raise Conflict(
                f"the history of run {key.run} has no event {place}: it was made anew, or its store has lost its"
                " newest events; begin without Last-Event-ID"
            )
        if number > end.number:
            raise Conflict(f"the history of run {key.run} has {end.number} events; there is none of number {number}")
        mark = START if number == 0 else await self._history.mark_at(key, number)
        if mark is None:  # trimmed or made anew between two looks
            raise busy(key.run)
        return mark

    async def pages(self, key: RunKey, after: Mark, *, on: bool) -> AsyncIterator[Page]:
        """What the history holds behind `after`, and then, if it is to go `on`, what is written, as it is written.

        An empty page comes whenever there is no more. It ends there or, when it is to go on, when the history lacks
        what was told: the run is gone, or trimmed to beyond that. While the store is away it goes on waiting. Else
        `Conflict` and `Unavailable` are raised, since what ends must be whole.
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
                if on:
                    return
                raise Conflict(f"the history of run {key.run} was trimmed or made anew while it was read")
            page: Page = []
            for payload in payloads:
                mark = mark.then(payload)
                page.append((mark, payload))
            yield page
            if not page:
                if not on:
                    return
                await asyncio.sleep(POLL)
