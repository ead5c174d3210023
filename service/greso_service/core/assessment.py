"""Assessment: what a report means for the state that it meets. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from greso_service.core import audit, controller
from greso_service.core.controller import Counts, Exploration, Progress
from greso_service.core.domains import Domain, bases, targets
from greso_service.core.events import Reported
from greso_service.core.ledger import Entry, Ledger
from greso_service.core.outcome import EASY, EFFECTIVE, HARD, UNDETERMINED, Outcome, Outcomes, classify
from greso_service.core.policy import RANKINGS, PromptView
from greso_service.core.prompts import UNKNOWN, Index
from greso_service.core.spec import RunSpec
from greso_service.core.tried import tried


@dataclass(frozen=True, slots=True)
class Assessment:
    """What a report means for the state it meets; nothing of it is applied yet.

    `domains`: the same for each of the run's domains, by number; a domain moves with the run, with groups or without.
    """

    outcomes: Outcomes
    entry: Entry
    domains: tuple[Entry, ...]
    late: bool

    @property
    def counts(self) -> Counts:
        """Of the report's groups."""
        return self.entry.counts

    @property
    def progress(self) -> Progress:
        """Of the run, after the report."""
        return self.entry.progress


def assess(
    report: Reported,
    known: PromptView,
    run: Ledger,
    spec: RunSpec,
    *,
    stock: int,
    domains: Sequence[Domain],
) -> Assessment:
    """What folding `report` would do to a run whose prompts `known` shows; `stock`: those with streak 0."""
    outcomes = classify(report.rewards, spec)
    named = _named(report.index, known)
    groups = _Groups(report.index, outcomes.outcome, _aside(report.step, named, spec), report.rewards.lengths, named)
    now = run.progress
    counts = groups.counts()
    if now.tuning is not None:
        steering = groups.steering
        before = _named(report.index[steering], known)
        in_force = bases(before, now.exploration, domains)
        evidence = tried(before, outcomes.outcome[steering] == EFFECTIVE, in_force, spec)
        counts = replace(counts, tried=evidence)
    after, closed_with = controller.observe(now, spec, report.step, counts, final=report.final, stock=stock)
    entry = Entry(groups.index.size, groups.rollouts, counts, after, closed_with)
    by_domain: tuple[Entry, ...] = ()
    if domains:
        wanted = controller.targets(spec, now.tuning)
        by_domain = tuple(_by_domain(groups, entry, report.step, spec=spec, wanted=wanted, domains=domains))
    return Assessment(outcomes, entry, by_domain, now.is_complete(report.step))


def _by_domain(
    groups: _Groups, run: Entry, step: int, *, spec: RunSpec, wanted: Exploration, domains: Sequence[Domain]
) -> Iterator[Entry]:
    numbers = groups.named.column("domain")
    there = np.bincount(numbers, minlength=len(domains))
    for number, domain in enumerate(domains):
        part, counts = None, Counts()
        if there[number]:
            part = groups.of(np.flatnonzero(numbers == number))
            counts = part.counts()
        # A domain has at most the run's effective groups, so the run's steps end its steps, and nothing else does.
        final, own = run.progress.is_complete(step), targets(spec, domain.name, wanted)
        after, closed_with = controller.observe(domain.progress, spec, step, counts, final=final, wanted=own)
        yield Entry(int(there[number]), part.rollouts if part else 0, counts, after, closed_with)


@dataclass(frozen=True, slots=True)
class _Groups:
    """Groups of a report: prompt, outcome, whether set aside, responses; `named`: their prompts before it."""

    index: Index
    outcome: NDArray[np.int8]
    aside: NDArray[np.bool_]
    lengths: NDArray[np.uint16]
    named: PromptView

    @property
    def rollouts(self) -> int:
        """Their responses."""
        return int(self.lengths.sum(dtype=np.int64))

    @property
    def steering(self) -> NDArray[np.bool_]:
        """bool[n]: the judged groups that are not set aside."""
        steering: NDArray[np.bool_] = (self.outcome != UNDETERMINED) & ~self.aside
        return steering

    def of(self, rows: Index) -> _Groups:
        """Some of them."""
        named = self.named.of(self.named.index[rows])  # type: ignore[index]
        return _Groups(self.index[rows], self.outcome[rows], self.aside[rows], self.lengths[rows], named)

    def counts(self) -> Counts:
        """What they add to their step."""
        number = np.bincount(self.outcome, minlength=len(Outcome))
        set_aside = np.bincount(self.outcome[self.aside], minlength=len(Outcome))
        steering = self.steering
        new = self.index[steering & (self.named.kind == UNDETERMINED)]
        first_judged = int(np.unique(new).size) if new.size else 0
        return Counts(
            effective=int(number[EFFECTIVE]),
            easy=int(number[EASY]),
            hard=int(number[HARD]),
            seen_before=int(np.count_nonzero(steering)) - first_judged,
            aside_effective=int(set_aside[EFFECTIVE]),
            aside_easy=int(set_aside[EASY]),
            aside_hard=int(set_aside[HARD]),
        )


def _named(index: Index, known: PromptView) -> PromptView:
    """Prompts of a report; those that it is the first to name read as never seen."""
    return known.of(np.where(index < known.streak.size, index, UNKNOWN))


def _aside(step: int, named: PromptView, spec: RunSpec) -> NDArray[np.bool_]:
    """bool[n]: groups that audits or shadow brought to a filter: they must not steer what it decides."""
    noted = named.column("audited")
    if spec.policy in RANKINGS and not spec.shadow:
        return np.zeros(noted.size, np.bool_)
    return audit.brought(noted, step)
