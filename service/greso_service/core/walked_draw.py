"""Drawing from the pool by a filter: walk it in epochs, and take what the filter keeps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from greso_service.core import policy
from greso_service.core.events import Audited
from greso_service.core.policy import PromptView, Selection
from greso_service.core.prompts import UNKNOWN, Index
from greso_service.core.quotas import Scope
from greso_service.core.state import RunState

_CHUNK = 65_536  # places examined at a time by a long draw

Tally = NDArray[np.int64]
"""int64[domains, 4]: examined, selected, skipped as easy and as hard of each domain; one row in a run without any."""


class Walker:
    """One draw's walk over a scope: at most its length, so that it ends."""

    def __init__(self, state: RunState, step: int, scope: Scope) -> None:
        self._state, self._step, self._scope = state, step, scope
        self._left = scope.size
        self.cursor = scope.walk.cursor
        self.taken = np.zeros(0, np.int64)
        self.tally = np.zeros((max(len(state.domains), 1), 4), np.int64)
        self.sampled: tuple[int, ...] = ()
        self.audited = Audited((), ())

    def take(self, count: int) -> None:
        """Walk on until `count` more are taken, or the scope's length is examined."""
        state, wanted = self._state, self.taken.size + count
        chunk = min(max(2 * count, 64), _CHUNK)
        while self.taken.size < wanted and self._left:
            self.cursor = self.cursor.ready(self._scope.size)
            index = state.places(state.members(self._scope.number), self.cursor, min(chunk, self._left))
            selection = policy.select(state.question(self._step, index), limit=wanted - self.taken.size)
            self.taken = np.concatenate([self.taken, index[: selection.examined][selection.keep]])
            self.tally += tally(state, index, selection)
            self.sampled += sampled(state, index, selection)
            if (more := audited(index, selection)) is not None:
                self.audited = Audited(self.audited.easy + more.easy, self.audited.hard + more.hard)
            self.cursor = self.cursor.moved(selection.examined)
            self._left -= selection.examined
            chunk = min(2 * chunk, _CHUNK)

    @property
    def done(self) -> bool:
        """Whether there is nothing left to examine."""
        return not self._left


def tally(state: RunState, index: Index, selection: Selection) -> Tally:
    """What was selected and skipped of the examined candidates, by domain."""
    if not state.domains:
        row = (selection.examined, selection.selected, selection.skipped_easy, selection.skipped_hard)
        return np.array([row], np.int64)
    skipped = ~selection.keep
    easy, hard = skipped & selection.easy, skipped & ~selection.easy
    rows = (np.ones(selection.examined, np.bool_), selection.keep, easy, hard)
    number = PromptView(state.prompts, index[: selection.examined]).column("domain")
    return np.stack([np.bincount(number[row], minlength=len(state.domains)) for row in rows], axis=1)


def sampled(state: RunState, index: Index, selection: Selection) -> tuple[int, ...]:
    """The sampled prompts among the skipped candidates."""
    skipped = index[: selection.examined][~selection.keep]
    known = skipped[skipped != UNKNOWN]
    return tuple(known[state.sampled(known)].tolist())


def audited(index: Index, selection: Selection) -> Audited | None:
    """The audited candidates by what they would have been skipped as; None if there are none."""
    [rows] = selection.audited.nonzero()
    return Audited.of(index[rows], selection.easy[rows]) if rows.size else None
