"""What a report's groups say of exploring: the evidence of a target that tunes itself (`target`)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from greso_service.core.filters import keep_probability
from greso_service.core.outcome import EASY, HARD, UNDETERMINED
from greso_service.core.question import Bases, PromptView
from greso_service.core.spec import RunSpec
from greso_service.core.target import Tried


def tried(prompts: PromptView, effective: NDArray[np.bool_], exploration: Bases, spec: RunSpec) -> Tried:
    """Judged groups of these prompts as they were before, bool[n] effective or not, by what their prompts were."""
    streak, kind = prompts.streak, prompts.kind
    explored = keep_probability(streak, kind, exploration, spec) > spec.min_keep_probability
    weight = np.where(explored, streak, 0)
    kept = (streak == 0) & (kind != UNDETERMINED)
    parts = (np.where(kind == EASY, weight, 0), np.where(kind == HARD, weight, 0), kept)
    return Tried(*(float(rows.sum()) for part in parts for rows in (part, part[effective])))
