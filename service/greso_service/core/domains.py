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

from greso_service.core import controller
from greso_service.core.controller import Exploration, Progress
from greso_service.core.ledger import Ledger
from greso_service.core.pool import Walk
from greso_service.core.question import Bases, PerPrompt, PromptView
from greso_service.core.spec import RunSpec
from greso_service.core.steps import StepLog
from greso_service.core.target import Tuning

REST: Final = ""
"""The name of the prompts without a domain."""


class Domain(Ledger):
    """One domain. `pool`: how many of the run's pool are its; `walk`: of these, where draws have quotas.

    `members`: see `RunState.members`, which makes them when they are asked for; None until then.
    """

    __slots__ = ("members", "name", "pool", "walk")

    def __init__(self, name: str, progress: Progress, pool: int = 0) -> None:
        super().__init__(progress)
        self.name = name
        self.pool = pool
        self.walk = Walk()
        self.members: NDArray[np.uint32] | None = None


def rest(run: Ledger, pool: int) -> Domain:
    """The prompts without a domain when the first one comes: all that happened in the run so far was theirs."""
    domain = Domain(REST, run.progress, pool)
    domain.steps = StepLog(run.steps.rows)
    domain.totals = dataclasses.replace(run.totals)
    return domain


def begun(name: str, run: Progress) -> Domain:
    """A domain that begins in the run's present step, with the run's exploration."""
    return Domain(name, Progress(run.exploration, run.step, run.complete))


def spec_of(spec: RunSpec, name: str, tuning: Tuning | None) -> RunSpec:
    """The run's spec as it holds for a domain: with the domain's own target, if it has one.

    A target that tunes itself is the run's; domains without their own are steered to what it says.
    """
    own = spec.domains.get(name, {})
    wanted = controller.targets(spec, tuning)
    total = own.get("target_zero_variance", wanted.easy + wanted.hard)
    easy = own.get("easy_share", spec.easy_share)
    if "easy_share" not in own and isinstance(spec.target_zero_variance, str) and wanted.easy + wanted.hard:
        easy = wanted.easy / (wanted.easy + wanted.hard)
    return dataclasses.replace(spec, target_zero_variance=total, easy_share=easy)


def targets(spec: RunSpec, name: str, tuning: Tuning | None) -> Exploration:
    """The shares of easy and of hard groups that a domain is steered to."""
    return controller.targets(spec_of(spec, name, tuning), None)


def bases(candidates: PromptView, run: Exploration, domains: Sequence[Domain]) -> Bases:
    """p_easy and p_hard in force for each candidate: its domain's."""
    if not domains:
        return run
    number = candidates.column("domain")
    pairs = np.array([(domain.progress.exploration.easy, domain.progress.exploration.hard) for domain in domains])
    return PerPrompt(pairs[number, 0], pairs[number, 1])
