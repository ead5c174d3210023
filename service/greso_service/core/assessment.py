"""Assessment: what a report means for the state that it meets. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from greso_service.core import audit, controller
from greso_service.core.controller import Counts, Exploration, Progress
from greso_service.core.events import Reported
from greso_service.core.outcome import JUDGED, Outcome, Outcomes, classify
from greso_service.core.policy import RANKINGS, PromptView
from greso_service.core.prompts import UNKNOWN, Index
from greso_service.core.spec import RunSpec
from greso_service.core.target import NOTHING
from greso_service.core.tried import tried


@dataclass(frozen=True, slots=True)
class Assessment:
    """What a report means for the state it meets; nothing of it is applied yet."""

    outcomes: Outcomes
    counts: Counts
    progress: Progress
    closed_with: Exploration
    late: bool


def assess(report: Reported, known: PromptView, progress: Progress, spec: RunSpec, *, stock: int) -> Assessment:
    """What folding `report` would do to a run whose prompts `known` shows; `stock`: those with streak 0."""
    outcomes = classify(report.rewards, spec)
    number = np.bincount(outcomes.outcome, minlength=len(Outcome))
    named = _named(report.index, known)
    aside = _aside(report.step, named, spec)
    steering = (outcomes.outcome != Outcome.UNDETERMINED) & ~aside
    index, effective = report.index[steering], outcomes.outcome[steering] == Outcome.EFFECTIVE
    set_aside = np.bincount(outcomes.outcome[aside], minlength=len(Outcome))
    before = _named(index, known)
    counts = Counts(
        effective=int(number[Outcome.EFFECTIVE]),
        easy=int(number[Outcome.EASY]),
        hard=int(number[Outcome.HARD]),
        seen_before=index.size - _first_judged(index, before),
        **{f"aside_{kind.name.lower()}": int(set_aside[kind]) for kind in JUDGED},
        tried=NOTHING if progress.tuning is None else tried(before, effective, progress.exploration, spec),
    )
    after, closed_with = controller.observe(progress, spec, report.step, counts, final=report.final, stock=stock)
    return Assessment(outcomes, counts, after, closed_with, progress.is_complete(report.step))


def _named(index: Index, known: PromptView) -> PromptView:
    """Prompts of a report; those that it is the first to name read as never seen."""
    return known.of(np.where(index < known.streak.size, index, UNKNOWN))


def _aside(step: int, named: PromptView, spec: RunSpec) -> NDArray[np.bool_]:
    """bool[n]: groups that audits or shadow brought to a filter: they must not steer what it decides."""
    noted = named.column("audited")
    if spec.policy in RANKINGS and not spec.shadow:
        return np.zeros(noted.size, np.bool_)
    return audit.brought(noted, step)


def _first_judged(index: Index, before: PromptView) -> int:
    first = index[before.kind == Outcome.UNDETERMINED]
    return int(np.unique(first).size) if first.size else 0
