"""What is known of prompts before their first group: pass rates given with them, and what another run has learnt.

Difficulties are what carries over from one training to another; the ability is each run's own. A run that has just
begun has the ability that every run begins with, so carried difficulties give the pass rates of the model as it was
when the other run began, not those that it ended with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from greso_service.core import difficulty
from greso_service.core.difficulty import Belief
from greso_service.core.draws import IdError, Ids
from greso_service.core.passes import Passes
from greso_service.core.prompts import UNKNOWN, Index
from greso_service.core.state import RunState
from greso_service.errors import Fault, InvalidInput
from greso_service.settings import set_by

Floats = NDArray[np.float64]

MOST_CARRIED: Final = 4
"""Groups' worth of responses that another run's knowledge of a prompt counts for at most: no two trainings are the
same, and counts beyond that would hold against what this one shows."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Pass rates of m of an upload's prompts, as the model is now. `row`: int64[m], their places in the upload;
    `rate`: float64[m] in [0, 1]; `samples`: int64[m], responses that the rate was measured on, 0 where nobody says.
    """

    row: Index
    rate: Floats
    samples: Index


@dataclass(frozen=True, slots=True)
class Carried:
    """What another run knows of an upload's prompts. `row`: int64[m], places in `prompts` of those it knows."""

    prompts: Sequence[str]
    row: Index
    belief: Belief


def too_many(most: int) -> str:
    """The limit that an upload to a pool is over, in words."""
    return f"max_pool_upload is {most}, {set_by('max_pool_upload')}"


def carried(state: RunState, prompts: Sequence[str] | None, pointer: str, most: int | None = None) -> Carried:
    """What a run knows of these prompts; None: of all in its pool, or of all it has met if it has no pool.

    Raises `InvalidInput` if those are more than `most`.
    """
    if prompts is None:
        size = state.pool_size
        if most is not None and (count := size or state.table.size) > most:
            detail = f"has {count} prompts; {too_many(most)}: name prompts of it, in parts"
            raise InvalidInput(Fault("/from_run", detail))
        index = state.pool[:size].astype(np.int64) if size else np.arange(state.table.size)
        prompts = state.table.texts(index)
    else:
        try:
            index = state.table.find(Ids.of(prompts))
        except IdError as error:
            raise InvalidInput(Fault(f"{pointer}/{error.row}", error.detail)) from None
    rows = np.flatnonzero(index != UNKNOWN)
    rows = rows[state.prompts.variance[index[rows]] > 0]
    return Carried(prompts, rows, state.beliefs(index[rows], max(state.progress.step, 0)))


def passes(state: RunState, place: Index, size: int, rates: Rates | None, known: Carried | None) -> Passes:
    """What is known beforehand, as responses to `size` distinct prompts; `place`: int64[n], where each row is of them.

    A given rate goes before a carried difficulty, and a later row before an earlier one.
    """
    passed, tried = np.zeros(size), np.zeros(size)
    group_size = state.spec.group_size
    if known is not None:
        taught = difficulty.responses(known.belief, state.ability.value, MOST_CARRIED * group_size)
        passed[place[known.row]], tried[place[known.row]] = taught
    if rates is not None:
        samples = np.where(rates.samples > 0, rates.samples, group_size).astype(np.float64)
        passed[place[rates.row]], tried[place[rates.row]] = rates.rate * samples, samples
    return Passes(passed, tried)
