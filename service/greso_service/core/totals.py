"""Totals: what a run has come to, in numbers."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter, sub

from greso_service.core.audit import AuditCounts
from greso_service.core.controller import Counts
from greso_service.core.events import Seconds


@dataclass(slots=True)
class Totals:
    """Sums over the run, in prompts and groups; `rollouts` in responses.

    `audited_...`: audited groups, whatever `audits` has begun anew since; `false_...`: the effective ones of them.
    `rollout_seconds`, `update_seconds`: as far as the trainer reports them; `timed_effective`: effective groups of the
    reports that said how long their rollouts took.
    """

    examined: int = 0
    selected: int = 0
    skipped_easy: int = 0
    skipped_hard: int = 0
    groups: int = 0
    effective: int = 0
    easy: int = 0
    hard: int = 0
    undetermined: int = 0
    rollouts: int = 0
    audited_easy: int = 0
    audited_hard: int = 0
    false_easy: int = 0
    false_hard: int = 0
    rollout_seconds: float = 0.0
    update_seconds: float = 0.0
    timed_effective: int = 0

    def since(self, before: Totals) -> Totals:
        """What was added since `before`."""
        return Totals(*map(sub, _values(self), _values(before)))

    def copy(self) -> Totals:
        """The same, which what is added to this does not change."""
        return Totals(*_values(self))

    def add(self, **amounts: int) -> None:
        """Add amounts, by their names."""
        for name, amount in amounts.items():
            setattr(self, name, getattr(self, name) + amount)

    def add_report(self, groups: int, rollouts: int, counts: Counts) -> None:
        """Add a report of so many groups, judged ones by `counts`, and responses."""
        self.add(
            groups=groups,
            effective=counts.effective,
            easy=counts.easy,
            hard=counts.hard,
            undetermined=groups - counts.groups,
            rollouts=rollouts,
        )

    def add_seconds(self, seconds: Seconds, effective: int) -> None:
        """Add what a report with so many effective groups says of time."""
        self.rollout_seconds += seconds.rollout
        self.update_seconds += seconds.update
        self.timed_effective += effective if seconds.rollout else 0

    def add_audits(self, found: AuditCounts) -> None:
        """Add what a report said of audits."""
        self.add(audited_easy=found.easy.groups, audited_hard=found.hard.groups)
        self.add(false_easy=found.easy.effective, false_hard=found.hard.effective)


_values = attrgetter(*Totals.__slots__)
