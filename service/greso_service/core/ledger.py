"""Ledger: what happened in a run, or in one of its domains, step by step, and the steering that followed from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from greso_service.core.controller import Counts, Exploration, Progress
from greso_service.core.steps import StepLog
from greso_service.core.totals import Totals


@dataclass(frozen=True, slots=True)
class Entry:
    """What a report adds to a ledger. `groups`: all of them, those in `counts` were judged; `rollouts`: responses.

    `closed_with`: the exploration that the step before was closed with.
    """

    groups: int
    rollouts: int
    counts: Counts
    progress: Progress
    closed_with: Exploration


class Ledger:
    """Steps, sums over them, and how far the newest step is."""

    __slots__ = ("progress", "steps", "totals")

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.steps = StepLog()
        self.totals = Totals()

    def enter_selection(self, step: int, amounts: Mapping[str, int]) -> None:
        """Enter a selection: examined, selected and skipped prompts, by the names of the columns."""
        self.totals.add(**amounts)
        first = step not in self.steps
        self.steps.add(step, **amounts)
        if first or not self.progress.is_complete(step):
            self.note(step, self.progress.exploration)

    def enter_report(self, step: int, entry: Entry, *, late: bool) -> None:
        """Enter a report. One that is `late`, for a complete step, only adds to the totals."""
        counts = entry.counts
        self.totals.add_report(entry.groups, entry.rollouts, counts)
        if not late:
            if step > self.progress.step and not self.progress.complete:
                self.note(self.progress.step, entry.closed_with)
            self.steps.add(
                step,
                groups=counts.groups,
                effective=counts.effective,
                easy=counts.easy,
                hard=counts.hard,
                rollouts=entry.rollouts,
                rounds=int(entry.groups > 0),
            )
            self.note(step, entry.progress.exploration)
        self.progress = entry.progress

    def note(self, step: int, exploration: Exploration) -> None:
        """Note the exploration that a step has left behind so far."""
        self.steps.set_exploration(step, exploration.easy, exploration.hard)
