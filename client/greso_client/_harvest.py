"""What `collect` has brought in of a step so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

from greso_client._types import Collected, CollectedGroup, Drawn, Reason, Selection, Skipped

T = TypeVar("T")


@dataclass(slots=True)
class Harvest(Generic[T]):
    """A step under way; the fields as in `Collected`. `size`: prompts that the next round takes, None: not known.

    `was_over`: it was complete at the service before it began here.
    """

    step: int
    size: int | None = None
    groups: list[CollectedGroup[T]] = field(default_factory=list)
    effective: list[CollectedGroup[T]] = field(default_factory=list)
    rounds: int = 0
    examined: int = 0
    skipped: Skipped = field(default_factory=Skipped)
    failed: int = 0
    degraded: bool = False
    was_over: bool = False
    service_seconds: float = 0.0

    def count(self, answer: Selection | Drawn) -> None:
        """Add what choosing prompts took."""
        self.examined += answer.examined
        self.skipped = Skipped(self.skipped.easy + answer.skipped.easy, self.skipped.hard + answer.skipped.hard)
        self.degraded |= answer.degraded

    def collected(self, reason: Reason) -> Collected[T]:
        """The result of the step, which ended for a reason."""
        return Collected(
            step=self.step,
            effective=self.effective,
            groups=self.groups,
            rounds=self.rounds,
            rollouts=sum(len(group.rewards) for group in self.groups),
            examined=self.examined,
            skipped=self.skipped,
            failed=self.failed,
            complete=reason == "complete",
            reason=reason,
            degraded=self.degraded,
            service_seconds=self.service_seconds,
        )
