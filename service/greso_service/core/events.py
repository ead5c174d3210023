"""The event types of a run's history. The state is their fold; nothing else is ever stored as truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greso_service.core.mark import Mark
from greso_service.core.outcome import Rewards
from greso_service.core.pool import Cursor, Walk
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
class Joined:
    """Prompts of the pool that had no domain got one. `new` names get the next numbers, the first of all 1.

    `index`: int64[n], distinct; `domain`: uint8[n], their domains' numbers.
    """

    new: tuple[str, ...]
    index: Index
    domain: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Priors:
    """What is known of prompts before their first group. `index`: int64[n], distinct; `passed`, `tried`: float64[n].

    It counts as if `tried` responses (more than 0) of the model as it is now had been seen, `passed` of which earned
    their reward, and nothing else. For a prompt that has rewards it says nothing.
    """

    index: Index
    passed: NDArray[np.float64]
    tried: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Ranked:
    """A draw by rank took these prompts, the best first; the last `walked` of them came from the walk of the pool.

    `owed`: what is left of the share of the draws so far that the walk is to bring, in prompts.
    """

    index: tuple[int, ...]
    walked: int
    owed: float


@dataclass(frozen=True, slots=True)
class Audited:
    """Known prompts that were selected although the policy would have skipped them, as easy and as hard."""

    easy: tuple[int, ...]
    hard: tuple[int, ...]

    @classmethod
    def of(cls, index: Index, easy: NDArray[np.bool_]) -> Audited:
        """From int64[n] and whether each would have been skipped as easy, bool[n]."""
        return cls(tuple(index[easy].tolist()), tuple(index[~easy].tolist()))

    @property
    def any(self) -> bool:
        """Whether there are any."""
        return bool(self.easy or self.hard)


@dataclass(frozen=True, slots=True)
class Part:
    """What a selection did in one domain, by its number. `walk`: where a draw with quotas left it."""

    domain: int
    examined: int
    selected: int
    skipped_easy: int
    skipped_hard: int
    walk: Walk | None = None


@dataclass(frozen=True, slots=True)
class Selected:
    """Candidates of a step were judged. `cursor`: where a draw left the walk of the pool; None for others.

    `skipped`: the prompts of the run's sample among those that were skipped, in order. `parts`: of a run with domains,
    those that had a part in it; together they are the whole.
    """

    step: int
    examined: int
    selected: int
    skipped_easy: int
    skipped_hard: int
    cursor: Cursor | None = None
    skipped: tuple[int, ...] = ()
    ranked: Ranked | None = None
    audited: Audited | None = None
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True, slots=True)
class Seconds:
    """What a trainer spent: on the rollouts of a report, and on updates since the report before."""

    rollout: float
    update: float


@dataclass(frozen=True, slots=True)
class Reported:
    """Groups of a step were rolled out. `new` ids get the next indices; `index` int64[n] and `rewards` are by group.

    `seconds`: what the rollouts and the update before them took, where the trainer says.
    """

    step: int
    final: bool
    new: list[bytes]
    index: Index
    rewards: Rewards
    seconds: Seconds | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a history that still counts: the events behind `after`, up to and with `until`.

    Of these, selections of steps later than `step` do not count, and at its end `step` completes, as by an empty final
    report. None: all of them count, and nothing completes.
    """

    after: Mark
    until: Mark
    step: int | None

    def counts(self, event: Event) -> bool:
        """Whether an event of this stretch still counts."""
        return self.step is None or not isinstance(event, Selected) or event.step <= self.step


@dataclass(frozen=True, slots=True)
class Rewound:
    """The state is again as it was when `step` completed: what `kept`, spans of the history before, makes it."""

    step: int
    generation: int
    kept: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Forked:
    """The events before this one are those of another run, as of the completion of `step` (None: of that moment)."""

    run: str
    step: int | None


Event = Created | Patched | Pooled | Joined | Priors | Selected | Reported | Rewound | Forked


def completion(step: int) -> Reported:
    """The empty final report that completes a step; without effect on one that is complete."""
    return Reported(step, final=True, new=[], index=np.zeros(0, np.int64), rewards=Rewards.of([]))
