"""Snapshots of runs, made in the background now and then; and, where the operator asks for it, trimming behind them."""

from __future__ import annotations

import asyncio
import logging
from typing import Final, Protocol

from greso_service import retention
from greso_service.core.mark import Mark
from greso_service.core.state import RunState
from greso_service.errors import Unavailable, Unreadable
from greso_service.history import snapshot
from greso_service.history.base import History, RunKey
from greso_service.history.codec import CodecError
from greso_service.retention import Cutting
from greso_service.telemetry.logs import SELDOM

log = logging.getLogger(__name__)

_MANY: Final = 65_536
"""Groups that are a reason for a snapshot of a small run, however few events they came with; they fold in 0.2 s."""

_SHARE: Final = 8
"""Of a larger run it is one for this part of its prompts: folding those takes as long as reading the snapshot does, and
making snapshots hardly longer than folding what they hold."""

_LIGHTER: Final = 4
"""Prompts of the pool that fold as fast as one group."""

PATIENCE: Final = 5.0
"""Seconds that a service which stops waits for trims. The next one begins them again."""


class Saved(Protocol):
    """What is saved of a run: `state` folded up to `mark`. `unsaved`: what has come since the last snapshot was due;
    `covered`: what that one was folded from, as `folded` counts it; `saved`: the number of the newest event that one
    holds; `lost_snapshots`: in a row.
    """

    state: RunState | None
    mark: Mark
    written_ms: int
    unsaved: int
    covered: int
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

    def is_due(self, live: Saved) -> bool:
        """Whether it is time: a start should not fold long what is behind the newest snapshot."""
        if live.state is None:
            return False
        behind = folded(live.state) - live.covered
        return live.unsaved >= self.every or behind >= max(_MANY, live.state.table.size // _SHARE)

    def save_if_due(self, key: RunKey, live: Saved) -> None:
        """Begin to save, if it is time and nothing is under way."""
        if live.state is None or not self.is_due(live) or (live.saving is not None and not live.saving.done()):
            return
        live.unsaved, live.covered = 0, folded(live.state)
        frozen = snapshot.Frozen(live.state, live.written_ms)
        cutting = None if self._keep_steps is None else retention.due(live.state, live.mark, self._keep_steps)
        live.saving = asyncio.create_task(self._save(key, live, live.mark, frozen, cutting))

    async def _save(
        self, key: RunKey, live: Saved, mark: Mark, frozen: snapshot.Frozen, cutting: Cutting | None
    ) -> None:
        try:
            content = await asyncio.to_thread(frozen.encode)
            del frozen  # or it would be kept up to date while the store takes its time
            await self._history.save(key, mark, content)
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
            more = True
            while more:  # a long history piece by piece, and other runs' between them
                async with self._turn:
                    more = await retention.trim(self._history, key, cutting)
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


def folded(state: RunState) -> int:
    """Groups that a state is made of, and prompts as so many groups as fold as fast."""
    return state.totals.groups + state.table.size // _LIGHTER


def _named(key: RunKey) -> dict[str, object]:
    # Of all runs at once, when the store is in trouble: said of one.
    return {"tenant": key.tenant, "run": key.run, **SELDOM}
