"""Audits: what was learnt of skips from prompts that were rolled out although the policy would have skipped them.

A share of these (`audit_share`), all of them (`shadow`), or what the walk brings to draws by rank. A selection notes
each such prompt with its step; the first judged group that is reported of it for this step tells. One step is noted: of
a prompt that is audited again before its group came, only the later audit counts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from greso_service.core.events import Audited, Reported
from greso_service.core.outcome import EFFECTIVE, UNDETERMINED
from greso_service.core.prompt_arrays import PromptArrays

Bools = NDArray[np.bool_]
Numbers = NDArray[np.int64]

_Z: Final = 1.959963984540054
"""The normal quantile of a two-sided interval of 95 %."""


RESTARTS: Final = (
    "policy",
    "shadow",
    "reward_tolerance",
    "target_zero_variance",
    "min_keep_probability",
    "pass_rate_band",
    "domains",
)
"""Fields of a spec with which audits begin anew when they change: what was found is of another policy or measure."""


@dataclass(slots=True)
class Found:
    """Judged groups, how many of them were effective, and the responses that they cost."""

    groups: int = 0
    effective: int = 0
    rollouts: int = 0

    @property
    def rate(self) -> float | None:
        """The share of effective groups; None before any group."""
        return self.effective / self.groups if self.groups else None

    def interval(self) -> tuple[float, float]:
        """Wilson's interval (1927) of the rate, at 95 %; all of [0, 1] before any group."""
        return wilson(self.effective, self.groups)

    def add(self, effective: Bools, rollouts: Numbers) -> None:
        """Count groups: bool[n] effective, and their responses."""
        self.groups += effective.size
        self.effective += int(np.count_nonzero(effective))
        self.rollouts += int(rollouts.sum(dtype=np.int64))

    def __add__(self, other: Found) -> Found:
        return Found(self.groups + other.groups, self.effective + other.effective, self.rollouts + other.rollouts)


def wilson(hits: int, tries: int) -> tuple[float, float]:
    """Wilson's score interval of a share, at 95 %."""
    if not tries:
        return 0.0, 1.0
    share, square = hits / tries, _Z**2 / tries
    middle = share + square / 2
    side = _Z * math.sqrt((share * (1 - share) + square / 4) / tries)
    return max((middle - side) / (1 + square), 0.0), min((middle + side) / (1 + square), 1.0)


@dataclass(slots=True)
class AuditCounts:
    """What audits found, in groups of prompts of which something was known: of others no skip is a guess.

    `easy`, `hard`: of prompts that the policy would have skipped so; an effective group among them is a false skip.
    `kept`: of prompts that it kept itself meanwhile.
    """

    easy: Found = field(default_factory=Found)
    hard: Found = field(default_factory=Found)
    kept: Found = field(default_factory=Found)

    @property
    def left_out(self) -> Found:
        """Of prompts that the policy would have skipped."""
        return self.easy + self.hard

    @property
    def all(self) -> Found:
        """Of all: in a shadow run what came without the policy."""
        return self.left_out + self.kept

    def __add__(self, other: AuditCounts) -> AuditCounts:
        return AuditCounts(self.easy + other.easy, self.hard + other.hard, self.kept + other.kept)

    @property
    def lost(self) -> float | None:
        """Of a shadow run: the share of the effective groups among `all` that the policy would have skipped."""
        return self.left_out.effective / self.all.effective if self.all.effective else None

    @property
    def saved(self) -> int | None:
        """Of a shadow run: by how many responses its effective groups would have come cheaper with the policy.

        It would have rolled out others in place of those that it loses, at the cost of those that it keeps. Below 0 if
        they cost more. None while it keeps none that is effective.
        """
        if not self.kept.effective:
            return None
        return round(self.all.rollouts - self.all.effective * self.kept.rollouts / self.kept.effective)


def note(prompts: PromptArrays, audited: Audited, step: int) -> None:
    """Note who is audited in a step."""
    easy, hard = list(audited.easy), list(audited.hard)
    prompts.audited[easy], prompts.audited[hard] = step + 1, -step - 1
    prompts.heard[easy + hard] = False


def lapse(prompts: PromptArrays) -> None:
    """Count none of the audits whose groups have not come yet; those groups still are what audits brought."""
    prompts.heard |= prompts.audited != 0


def brought(noted: Numbers, step: int) -> Bools:
    """bool[n]: whether groups of a step are what its audits brought; `noted`: `audited` of their prompts."""
    due: Bools = np.abs(noted) == step + 1
    return due


def told(prompts: PromptArrays, event: Reported, outcome: NDArray[np.int8], informed: Bools) -> AuditCounts:
    """What a report adds to the audits, once for each of them.

    `outcome`: int8[n], of its groups; `informed`: bool[n], whether something was known of their prompts before it.
    """
    noted, judged, effective = (
        prompts.audited[event.index],
        outcome != UNDETERMINED,
        outcome == EFFECTIVE,
    )
    rollouts = event.rewards.lengths.astype(np.int64)
    due = np.flatnonzero(judged & brought(noted, event.step) & ~prompts.heard[event.index])
    if due.size:
        due = due[np.unique(event.index[due], return_index=True)[1]]
        prompts.heard[event.index[due]] = True
    # Whether a group of a step before the last audit was one itself is no longer known.
    kept = np.flatnonzero(judged & informed & (np.abs(noted) <= event.step))
    found = AuditCounts()
    for kind, rows in ((found.easy, due[noted[due] > 0]), (found.hard, due[noted[due] < 0]), (found.kept, kept)):
        kind.add(effective[rows], rollouts[rows])
    return found
