"""What a run learns of its prompts' pass rates: the fold of `passes` and `difficulty` into the prompts' columns."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from greso_service.core import difficulty, exact, passes
from greso_service.core.difficulty import Ability, Belief
from greso_service.core.events import Priors, Reported
from greso_service.core.passes import Passes
from greso_service.core.prompt_arrays import PromptArrays
from greso_service.core.prompts import Index

_COLUMNS = ("passed", "failed", "difficulty", "variance", "hopeless")


def beliefs(prompts: PromptArrays, index: Index, step: int) -> Belief:
    """What the item-response model knows of prompts in a step."""
    columns = (prompts.difficulty, prompts.variance, prompts.hopeless)
    mean, variance, hopeless = (column[index].astype(np.float64) for column in columns)
    aged = difficulty.aged(variance, step - prompts.last_step[index])
    return Belief(mean, aged, difficulty.hopeless(hopeless))


def reported(
    prompts: PromptArrays,
    ability: Ability,
    event: Reported,
    group: Passes,
    *,
    informed: NDArray[np.bool_],
    decay: float,
) -> Ability:
    """Learn from a report, before its groups move `last_step`; returns the ability after it. `decay`: as in `counted`.

    The ability follows prompts that something was known of (`informed`, bool[n]), from what was thought; a new one's
    group may be its own doing.
    """
    rows = np.flatnonzero(informed & (group.tried > 0))
    index = event.index[rows]
    thought = prompts.difficulty[index].astype(np.float64)
    _learn(prompts, ability, event.index, group, step=event.step, decay=decay)
    if not rows.size:
        return ability
    followed, predicted = group.of(rows), exact.logistic(ability.value - thought)
    weight = 1 - prompts.hopeless[index].astype(np.float64)
    return ability.then(event.step, followed.passed, followed.tried, predicted, weight)


def told(prompts: PromptArrays, ability: Ability, event: Priors, *, step: int, decay: float) -> None:
    """Take priors of the model as it is in `step` for prompts without a reward; they replace those that came before."""
    fresh = prompts.rewards[event.index] == 0
    index = event.index[fresh]
    for name in _COLUMNS:
        getattr(prompts, name)[index] = 0
    _learn(prompts, ability, index, Passes(event.passed[fresh], event.tried[fresh]), step=step, decay=decay)
    prompts.last_step[index] = step


def _learn(prompts: PromptArrays, ability: Ability, index: Index, group: Passes, *, step: int, decay: float) -> None:
    """Fold what groups say of their prompts' pass rates; several groups of one prompt count as one."""
    rewarded = group.tried > 0
    if not rewarded.all():
        _age(prompts, np.setdiff1d(index[~rewarded], index[rewarded]), step)
    index, group = group.together(index[rewarded], rewarded)
    prompts.passed[index], prompts.failed[index] = passes.counted(
        prompts.passed[index], prompts.failed[index], group, decay
    )
    now = beliefs(prompts, index, step).after(ability.value, group.passed, group.tried)
    prompts.difficulty[index], prompts.variance[index] = now.mean, now.variance
    prompts.hopeless[index] = now.hopeless


def _age(prompts: PromptArrays, index: Index, step: int) -> None:
    """Keep what prompts aged until a group without rewards, which teaches nothing but moves `last_step`."""
    index = index[prompts.variance[index] > 0]
    prompts.variance[index] = difficulty.aged(prompts.variance[index], step - prompts.last_step[index])
