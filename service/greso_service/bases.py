"""What a run's history begins with when its oldest events were trimmed, and how far back that lets a run go."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from greso_service.core.events import Span
from greso_service.core.mark import Mark
from greso_service.core.state import RunState
from greso_service.errors import Conflict, Unreadable
from greso_service.history import snapshot
from greso_service.history.base import Readable, RunKey
from greso_service.history.codec import CodecError


class Floor(NamedTuple):
    """How far back a run can go: to step `oldest`, since what came up to `mark` lives on in a snapshot only."""

    mark: Mark
    oldest: int


@dataclass(frozen=True, slots=True)
class Begun:
    """The state that the trimmed events make, as of `mark`; it is the reader's own. `written_ms`: of the newest one."""

    mark: Mark
    state: RunState
    written_ms: int = 0

    @property
    def oldest(self) -> int:
        """The first step that the run can go back to: the state knows nothing of later ones, and has not completed it.

        What came of earlier steps after they completed can't be told any more from what came before.
        """
        progress = self.state.progress
        return max(self._newest, progress.step + progress.complete, 0)

    @property
    def floor(self) -> Floor:
        """How far back the run can go."""
        return Floor(self.mark, self.oldest)

    @property
    def _newest(self) -> int:
        """The newest step that the state knows anything of."""
        rows = self.state.steps.rows
        return int(rows["step"][-1]) if len(rows) else 0

    def stands_in(self, kept: Sequence[Span]) -> int | None:
        """The place of the span of `kept` that the state reaches into, all of those before being in it.

        None if it has something that `kept` has not.
        """
        *whole, last = spans(self.state, self.mark)
        place = len(whole)
        if list(kept[:place]) != whole or len(kept) <= place:
            return None
        span = kept[place]
        within = span.after == last.after and span.until.number >= self.mark.number
        return place if within and (span.step is None or self._newest <= span.step) else None


def spans(state: RunState, mark: Mark) -> tuple[Span, ...]:
    """What a state that is folded up to `mark` is made of."""
    return (*state.past, Span(state.since, mark, None))


async def begun(history: Readable, key: RunKey) -> Begun | None:
    """What the run's history begins with; None for a whole one.

    Raises `Unreadable` if it can't be read: without it there is no state.
    """
    base = await history.base(key)
    if base is None:
        return None
    try:
        state, written_ms = await asyncio.to_thread(snapshot.read, base.snapshot)
    except CodecError as error:
        raise Unreadable(
            f"the history of run {key.run} ({history.where(key)}) can't be read: it begins with another event than"
            f" the first, and the snapshot in the place of the older ones is lost: {error}. Restore a backup, or delete"
            " the run and import an export of it"
        ) from error
    return Begun(base.mark, state, written_ms)


def too_far(key: RunKey, wanted: str, floor: Floor) -> Conflict:
    """The error for what would need events that were trimmed."""
    return Conflict(
        f"{wanted} is not there any more: the events of run {key.run} up to number {floor.mark.number} live on in a"
        f" snapshot only; step {floor.oldest} is the oldest that it can go back to"
    )
