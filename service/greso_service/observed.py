"""What a replica lets others see of its runs: each write as it happens, and how the active runs stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from greso_service.core.events import Event
from greso_service.core.figures import Figures
from greso_service.core.spec import RunSpec
from greso_service.core.totals import Totals
from greso_service.history.base import RunKey

ACTIVE = 3600.0
"""Seconds since its newest event for which a run counts as active: it is then kept caught up, and has metrics."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A run as this replica holds it. `events`: in its history; `lag`: others' events found at the last look;
    `unsaved`: events behind the snapshot; `written`: time of the newest event, Unix seconds.
    """

    key: RunKey
    figures: Figures
    events: int
    lag: int
    unsaved: int
    written: float


class Observer(Protocol):
    """Told what each write through this replica did to a run: its events and what they added to the totals."""

    def __call__(self, key: RunKey, events: Sequence[Event], added: Totals, spec: RunSpec, /) -> None:
        """Called after the events are in the history and folded."""
        ...


def nobody(_key: RunKey, _events: Sequence[Event], _added: Totals, _spec: RunSpec) -> None:
    """The observer that does not care."""
