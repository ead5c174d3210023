"""Figures: what a run's gauges show, taken from its state without walking its prompts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from greso_service.core import controller
from greso_service.core.controller import Exploration
from greso_service.core.ledger import Ledger
from greso_service.core.spec import RunSpec
from greso_service.core.state import RunState
from greso_service.core.streaks import StreakCounts

_BACK = 64  # rows looked at for the newest complete step: those behind it are steps selected for and not reported


@dataclass(frozen=True, slots=True)
class StepFigures:
    """A complete step: its groups' outcomes as shares of the judged groups, and its rounds."""

    easy: float
    hard: float
    effective: float
    rounds: int


@dataclass(frozen=True, slots=True)
class DomainFigures:
    """A domain at a glance; `name` is empty for the prompts without one, else as in `Figures`."""

    name: str
    pool: int
    selected: int
    exploration: Exploration
    last: StepFigures | None


@dataclass(frozen=True, slots=True)
class Figures:
    """A run at a glance. `streaks`: a copy; `last`: the newest complete step with judged groups, if there is one."""

    spec: RunSpec
    step: int
    generation: int
    epoch: int
    prompts: int
    pool: int
    exploration: Exploration
    target: Exploration
    next_rollout_batch_size: int
    streaks: StreakCounts
    last: StepFigures | None
    domains: tuple[DomainFigures, ...]

    @classmethod
    def of(cls, state: RunState) -> Figures:
        """The figures of a state."""
        streaks = StreakCounts()
        streaks.table = state.streaks.table.copy()
        progress = state.progress
        return cls(
            spec=state.spec,
            step=max(progress.step, 0),
            generation=state.generation,
            epoch=state.epoch,
            prompts=state.table.size,
            pool=state.pool_size,
            exploration=progress.exploration,
            target=controller.targets(state.spec, progress.tuning),
            next_rollout_batch_size=state.batch_size(progress.step),
            streaks=streaks,
            last=_last(state),
            domains=tuple(
                DomainFigures(
                    domain.name, domain.pooled, domain.totals.selected, domain.progress.exploration, _last(domain)
                )
                for domain in state.domains
                if domain.told
            ),
        )


def _last(ledger: Ledger) -> StepFigures | None:
    rows, progress = ledger.steps.rows[-_BACK:], ledger.progress
    newest_complete = progress.step if progress.complete else progress.step - 1
    judged = np.flatnonzero((rows["step"] <= newest_complete) & (rows["groups"] > 0))
    if not judged.size:
        return None
    row = rows[judged[-1]]
    groups = int(row["groups"])
    return StepFigures(
        int(row["easy"]) / groups, int(row["hard"]) / groups, int(row["effective"]) / groups, int(row["rounds"])
    )
