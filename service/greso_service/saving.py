"""Snapshots of runs, made in the background now and then; and, where the operator asks for it, trimming behind them."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Final, Protocol

from greso_service import retention
from greso_service.core.mark import Mark
from greso_service.core.state import RunState
from greso_service.errors import Unavailable, Unreadable
from greso_service.history import snapshot
from greso_service.history.base import History, RunKey
from greso_service.history.codec import CodecError
from greso_service.placing import placed
from greso_service.retention import Cutting
from greso_service.telemetry.logs import SELDOM

log = logging.getLogger(__name__)

PATIENCE: Final = 5.0
"""Seconds that a service which stops waits for trims. The next one begins them again."""


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
        self._trims: dict[RunKey, asyncio.Task[None]] = {}
        self._turn = asyncio.Semaphore(1)  # a trim folds much, and requests need the threads, too

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
            if cutting is not None and key not in self._trims:
                self._trims[key] = asyncio.create_task(self._trim(key, cutting))
        except Unavailable as error:
            live.lost_snapshots += 1
            # The first goes with an outage, in which no second becomes due. A second is trouble of its own.
            if live.lost_snapshots > 1:
                log.warning("snapshot not kept (the history is whole): %s", error, extra=_named(key))
        except Exception:  # a snapshot only shortens starts: whatever is wrong with one must not stop the run
            log.exception("snapshot not made; starts will take longer (the history is whole)", extra=_named(key))

    async def _trim(self, key: RunKey, cutting: Cutting) -> None:
        try:
            async with self._turn:
                while await retention.trim(self._history, key, cutting):
                    pass  # a long history piece by piece
        except Unavailable as error:
            log.warning("run %s is not trimmed now: %s", key.run, error, extra=_named(key))
        except (CodecError, Unreadable) as error:
            log.error("run %s is not trimmed: %s", key.run, error, extra=_named(key))
        except Exception:
            log.exception("run %s is not trimmed", key.run, extra=_named(key))
        finally:
            self._trims.pop(key, None)

    def stop(self, key: RunKey) -> None:
        """Give up trimming a run: whatever was done so far has changed nothing."""
        if task := self._trims.get(key):
            task.cancel()

    async def close(self) -> None:
        """Wait for trims that are nearly done, and give up the others."""
        if self._trims:
            await asyncio.wait(list(self._trims.values()), timeout=PATIENCE)
        if left := list(self._trims.values()):
            for task in left:
                task.cancel()
            await asyncio.wait(left)


def _named(key: RunKey) -> dict[str, object]:
    # Of all runs at once, when the store is in trouble: said of one.
    return {"tenant": key.tenant, "run": key.run, **SELDOM}
