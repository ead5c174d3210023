"""Domains: parts of a run's prompts with a controller of their own and, if the spec says so, a share of the draws.

What is easy differs from domain to domain: one pair of p_easy and p_hard lets the domain with most zero-variance groups
decide for all. So each domain counts its own groups and steers its own pair, to its own target. It moves with the run:
a step of the run is a step of each domain.

Domains are numbered in the order in which they came; 0 are the prompts without one, as long as there are others.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from greso_service.core.controller import Exploration, Progress
from greso_service.core.ledger import Entry, Ledger
from greso_service.core.pool import Walk
from greso_service.core.question import Bases, PerPrompt, PromptView
from greso_service.core.spec import RunSpec
from greso_service.core.steps import StepLog
from greso_service.core.target import NOTHING

_NOTHING: Final = 2**11
"""Bytes of a domain without steps."""

REST: Final = ""
"""The name of the prompts without a domain."""


class Domain(Ledger):
    """One domain. `pooled`: how many prompts of the pool are its; `walk`: of these, where draws have quotas.

    `members`: see `RunState.members`, which makes them when they are asked for; None until then.
    """

    __slots__ = ("members", "name", "pooled", "walk")

    def __init__(self, name: str, progress: Progress, pooled: int = 0) -> None:
        super().__init__(progress)
        self.name = name
        self.pooled = pooled
        self.walk = Walk()
        self.members: NDArray[np.uint32] | None = None

    @property
    def nbytes(self) -> int:
        """Memory of its steps and members."""
        return _NOTHING + self.steps.nbytes + (0 if self.members is None else self.members.nbytes)

    @property
    def told(self) -> bool:
        """Whether there is anything to tell of it."""
        return bool(self.pooled or self.totals.examined or self.totals.groups)

    def enter_report(self, step: int, entry: Entry, *, late: bool) -> None:
        """As a run does, but a step in which nothing was of the domain gets no row."""
        if entry.groups or step in self.steps:
            super().enter_report(step, entry, late=late)
            return
        if self.progress.step in self.steps and not late:
            self.note(self.progress.step, entry.closed_with)
        self.progress = entry.progress


def rest(run: Ledger, pooled: int) -> Domain:
    """The prompts without a domain when the first one comes: all that happened in the run so far was theirs."""
    counts = dataclasses.replace(run.progress.counts, tried=NOTHING)
    domain = Domain(REST, dataclasses.replace(run.progress, counts=counts, tuning=None), pooled)
    domain.steps = StepLog(run.steps.rows)
    domain.steps.rows["rollout_s"] = domain.steps.rows["update_s"] = 0.0
    domain.totals = run.totals.copy()
    return domain


def begun(name: str, run: Progress) -> Domain:
    """A domain that begins in the run's present step, with the run's exploration."""
    return Domain(name, Progress(run.exploration, run.step, run.complete))


def targets(spec: RunSpec, name: str, run: Exploration) -> Exploration:
    """The shares of easy and of hard groups that a domain is steered to; `run`: those of the run.

    What it has not of its own is the run's, also where the run tunes its target by itself.
    """
    own = spec.domains.get(name, {})
    if not {"target_zero_variance", "easy_share"} & own.keys():
        return run
    total = own.get("target_zero_variance", run.easy + run.hard)
    share = own.get("easy_share", run.easy / (run.easy + run.hard) if run.easy + run.hard else spec.easy_share)
    easy = share * total
    return Exploration(easy, total - easy)


def bases(candidates: PromptView, run: Exploration, domains: Sequence[Domain]) -> Bases:
    """p_easy and p_hard in force for each candidate: its domain's."""
    if not domains:
        return run
    number = candidates.column("domain")
    pairs = np.array([(domain.progress.exploration.easy, domain.progress.exploration.hard) for domain in domains])
    return PerPrompt(pairs[number, 0], pairs[number, 1])
