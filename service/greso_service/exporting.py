"""The use case that gives a run's whole history out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from greso_service import bases, replay
from greso_service.errors import Conflict
from greso_service.history.base import History, RunKey
from greso_service.history.exported import Writer
from greso_service.live import LiveRuns
from greso_service.replay import HistoryGone


class Exporting:
    """Exports the runs of a History that `live` holds."""

    def __init__(self, history: History, live: LiveRuns) -> None:
        self._history = history
        self._live = live

    async def export(self, key: RunKey) -> AsyncIterator[bytes]:
        """The run's history as it is now, in pieces; what is written meanwhile is not in it.

        Raises `NotFound`, `Conflict` if its oldest events were trimmed, and `Unavailable` before the first piece comes.
        A piece raises `Conflict` if the run is deleted or trimmed meanwhile, and `Unavailable`.
        """
        async with self._live.held(key) as live:
            await self._live.current(key, live)
            until = live.mark
        if (begun := await bases.begun(self._history, key)) is not None:
            raise Conflict(
                f"{bases.too_far(key, 'the whole history', begun.floor)}; an export holds whole histories only"
            )
        return self._pieces(Writer(key.run, until), replay.history(self._history, key, until))

    async def _pieces(self, writer: Writer, pages: AsyncIterator[list[bytes]]) -> AsyncIterator[bytes]:
        yield writer.begin()
        try:
            async for page in pages:
                yield await asyncio.to_thread(writer.lines, page)
        except HistoryGone as error:
            raise Conflict("the run was deleted or trimmed while it was exported") from error
        yield writer.end()
