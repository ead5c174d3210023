"""Snapshots of runs, made in the background now and then; and, where the operator asks for it, trimming behind them."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Protocol

from greso_service import retention
from greso_service.core.mark import Mark
from greso_service.core.state import RunState
from greso_service.errors import Unavailable
from greso_service.history import snapshot
from greso_service.history.base import History, RunKey
from greso_service.history.codec import CodecError
from greso_service.placing import placed
from greso_service.retention import Cutting
from greso_service.telemetry.logs import SELDOM

log = logging.getLogger(__name__)


class Saved(Protocol):
    """What is saved of a run: `state` folded up to `mark`. `unsaved`: what has come since the last snapshot was due;
    `saved`: the number of the newest event that one holds; `lost_snapshots`: in a row.
    """

    state: RunState | None
    mark: Mark
    written_ms: int
    unsaved: int
    saved: int
    saving: asyncio.Task[None] | None
    lost_snapshots: int


class Saver:
    """Saves runs every so many events, and keeps so many steps of them (None: all)."""

    def __init__(self, history: History, *, every: int, keep_steps: int | None) -> None:
        self._history = history
        self.every = every
        self._keep_steps = keep_steps

    async def save_if_due(self, key: RunKey, live: Saved) -> None:
        """Begin to save, if it is time and nothing is under way."""
        if live.unsaved < self.every or (live.saving is not None and not live.saving.done()):
            return
        if live.state is None:
            return
        live.unsaved = 0
        frozen = await placed(live.state.table.size, partial(snapshot.Frozen, live.state, live.written_ms))
        cutting = None if self._keep_steps is None else retention.due(live.state, live.mark, self._keep_steps)
        live.saving = asyncio.create_task(self._save(key, live, live.mark, frozen, cutting))

    async def _save(
        self, key: RunKey, live: Saved, mark: Mark, frozen: snapshot.Frozen, cutting: Cutting | None
    ) -> None:
        try:
            await self._history.save(key, mark, await asyncio.to_thread(frozen.encode))
            live.lost_snapshots, live.saved = 0, mark.number
            if cutting is not None:
                await retention.trim(self._history, key, cutting)
        except Unavailable as error:
            live.lost_snapshots += 1
            # The first goes with an outage, in which no second becomes due. A second is trouble of its own.
            if live.lost_snapshots > 1:
                log.warning("snapshot not kept (the history is whole): %s", error, extra=_named(key))
        except CodecError as error:
            log.error("run %s is not trimmed: %s", key.run, error, extra=_named(key))
        except Exception:  # a snapshot only shortens starts: whatever is wrong with one must not stop the run
            log.exception("snapshot not made; starts will take longer (the history is whole)", extra=_named(key))


def _named(key: RunKey) -> dict[str, object]:
    # Of all runs at once, when the store is in trouble: said of one.
    return {"tenant": key.tenant, "run": key.run, **SELDOM}
