"""The event types of a run's history. The state is their fold; nothing else is ever stored as truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from greso_service.core.outcome import Rewards
from greso_service.core.pool import Cursor
from greso_service.core.prompts import Index


@dataclass(frozen=True, slots=True)
class Created:
    """The run begins, with every field of its spec (`RunSpec.to_dict`)."""

    spec: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Patched:
    """Tunables were changed in the live run: the changed fields only."""

    changes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Pooled:
    """Prompts joined the pool, in this order. `new` ids get the next indices; `index` int64[n] names who joined."""

    new: list[bytes]
    index: Index


@dataclass(frozen=True, slots=True)
class Selected:
    """Candidates of a step were judged. `cursor`: where a draw left the walk of the pool; None for a select."""

    step: int
    examined: int
    selected: int
    skipped_easy: int
    skipped_hard: int
    cursor: Cursor | None = None


@dataclass(frozen=True, slots=True)
class Reported:
    """Groups of a step were rolled out. `new` ids get the next indices; `index` int64[n] and `rewards` are by group."""

    step: int
    final: bool
    new: list[bytes]
    index: Index
    rewards: Rewards


Event = Created | Patched | Pooled | Selected | Reported
