"""What a look at a run shows: frozen, slotted values, no behaviour. Words as in docs/algorithm.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from greso_client._types import Exploration, Skipped, ZeroVariance


@dataclass(frozen=True, slots=True)
class DomainTotals:
    """Sums over a run's life, of one domain's prompts. `rollouts`: responses generated."""

    examined: int = 0
    selected: int = 0
    skipped: Skipped = field(default_factory=Skipped)
    groups: int = 0
    effective: int = 0
    zero_variance: ZeroVariance = field(default_factory=ZeroVariance)
    undetermined: int = 0
    rollouts: int = 0


@dataclass(frozen=True, slots=True)
class Totals(DomainTotals):
    """The same of all prompts. `rollouts_avoided`: skips x group size, at most."""

    rollouts_avoided: int = 0


@dataclass(frozen=True, slots=True)
class DomainState:
    """One domain of a run; `domain` is None for the prompts without one.

    `pool`: its registered prompts. `share`: of the prompts that draws take, None without quotas. `target`: shares of
    easy and hard groups that its `exploration` is steered to.
    """

    domain: str | None
    pool: int
    share: float | None
    exploration: Exploration
    target: Exploration
    totals: DomainTotals


@dataclass(frozen=True, slots=True)
class RunState:
    """A run as it is now. `prompts`: seen or registered; `pool`: registered; `spec`: every parameter by name.

    `domains`: together they are the whole; empty while no prompt has one, and from services that know none.
    `degraded`: the service was away; the run will be created with the next call that reaches it.
    """

    run: str
    step: int
    exploration: Exploration
    prompts: int
    pool: int
    epoch: int
    spec: Mapping[str, Any]
    totals: Totals
    generation: int = 0
    degraded: bool = False
    domains: tuple[DomainState, ...] = ()


@dataclass(frozen=True, slots=True)
class StepRow:
    """One step of a run as recorded; `p_easy` and `p_hard` as it left them."""

    step: int
    examined: int
    selected: int
    skipped: Skipped
    groups: int
    effective: int
    zero_variance: ZeroVariance
    rollouts: int
    p_easy: float
    p_hard: float
    rounds: int
    complete: bool


@dataclass(frozen=True, slots=True)
class GroupRow:
    """A recent group of a prompt: `count` rewards, their mean, min and max (None without rewards), and the outcome."""

    step: int
    count: int
    mean: float | None
    min: float | None
    max: float | None
    outcome: str


@dataclass(frozen=True, slots=True)
class PromptState:
    """What the service knows of one prompt. `kind`: new, effective, easy or hard. `mean`, `last_step`: None if new."""

    prompt: str
    streak: int
    kind: str
    keep_probability: float
    visits: int
    mean: float | None
    last_step: int | None
    groups: list[GroupRow]
