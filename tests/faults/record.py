"""What trainers asked and what they were told, and what a run's history says happened: the evidence for the checker."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Told:
    """One answer: when it came (monotonic seconds), its status and body, whether it was a first answer given again.

    `sent`: when the try that it answers was made.
    """

    at: float
    status: int
    body: bytes
    replayed: bool = False
    sent: float = 0.0

    @property
    def done(self) -> bool:
        """Whether it acknowledges: a success that was not made up while the store was away."""
        return 200 <= self.status < 300 and not self.stale

    @property
    def stale(self) -> bool:
        """Whether it is a selection of the last state known, which stands nowhere."""
        return self.status == 200 and b'"stale":true' in self.body

    @property
    def refused(self) -> bool:
        """Whether it says that nothing was done and nothing will be."""
        return 400 <= self.status < 500


@dataclass(slots=True)
class Asked:
    """A request under one idempotency key, with all its tries.

    `whole`: whether all of it was ever sent; one that never was must have no effect.
    """

    id: str
    kind: str
    body: dict[str, Any]
    whole: bool = False
    sent: list[float] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)

    @property
    def first(self) -> Told | None:
        """The first answer that acknowledges it."""
        return next((told for told in self.told if told.done), None)

    def fields(self, name: str) -> Any:
        """A field of the first acknowledgement."""
        return None if self.first is None else json.loads(self.first.body)[name]


@dataclass(frozen=True, slots=True)
class Happened:
    """An event of the history, in its place. `id`: of the request that it belongs to, empty if nobody asked for it.

    `whole`: whether it says all that was asked and nothing else; `answer`: what the history before it makes of the
    request, None where that is not looked at.
    """

    id: str
    whole: bool = True
    answer: bytes | None = None


@dataclass(frozen=True, slots=True)
class Cut:
    """A loss of the store's last writes, when it was `killed`: what was acknowledged before `flushed` must be there.

    `back`: when it was started again. What was sent before may have been done before the loss, and answered later.
    """

    flushed: float
    killed: float
    back: float
