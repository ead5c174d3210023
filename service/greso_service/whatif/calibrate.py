"""Calibration: predicted pass rates of the models behind the policies, held against the groups that came.

The models see every group of the log, each after it was predicted. Scored are the groups of prompts seen before; of a
prompt's first group a model knows no more than how the others fared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from greso_service.core import difficulty
from greso_service.core.events import Created, Reported
from greso_service.core.fold import fold
from greso_service.core.outcome import classify
from greso_service.core.passes import Passes
from greso_service.core.prompts import UNKNOWN, Index
from greso_service.core.question import PromptView, beta_mean
from greso_service.core.spec import RunSpec
from greso_service.core.state import RunState
from greso_service.whatif.judge import Told
from greso_service.whatif.log import Log, Seen

Floats = NDArray[np.float64]

BINS: Final = 10
"""Of a reliability diagram: predictions by tenths."""

_Z: Final = 1.959963984540054
"""The normal quantile of a two-sided interval of 95 %."""

_LEAST: Final = 1e-6
"""Predictions are taken for this far from 0 and from 1 at least, or one surprise would make a log loss infinite."""


@dataclass(slots=True)
class Score:
    """How well a model's pass rates foretold the groups'. `bins`: float64[BINS, 3]: groups, sums of predicted and
    observed rates.
    """

    groups: int = 0
    squares: float = 0.0
    losses: float = 0.0
    bins: Floats = field(default_factory=lambda: np.zeros((BINS, 3)))

    def add(self, predicted: Floats, observed: Floats) -> None:
        """Score groups: their predicted and their observed pass rates."""
        self.groups += predicted.size
        self.squares += math.fsum((predicted - observed) ** 2)
        safe = np.clip(predicted, _LEAST, 1 - _LEAST)
        self.losses -= math.fsum(observed * np.log(safe) + (1 - observed) * np.log1p(-safe))
        places = np.minimum((predicted * BINS).astype(np.int64), BINS - 1)
        for column, weights in enumerate((np.ones(predicted.size), predicted, observed)):
            self.bins[:, column] += np.bincount(places, weights=weights, minlength=BINS)

    @property
    def brier(self) -> float:
        """The mean square of predicted less observed pass rate."""
        return self.squares / self.groups

    @property
    def log_loss(self) -> float:
        """The mean of -(r ln p + (1 - r) ln (1 - p)) for observed r and predicted p, in nats a response."""
        return self.losses / self.groups


@dataclass(frozen=True, slots=True)
class Gap:
    """By how much the Beta posterior's squared errors exceed the item-response model's: their mean, and how far the
    truth may be from it at 95 %, taking groups for independent.
    """

    mean: float
    side: float

    @property
    def clear(self) -> bool:
        """Whether it is told from nothing."""
        return abs(self.mean) > self.side


@dataclass(slots=True)
class Calibration:
    """Scores of the models on groups of prompts seen before, and (`first`) on prompts' first groups.

    `luck`: the mean square by which a group's pass rate misses its prompt's for being of few responses: what would be
    left of the Brier score of one who knows the pass rates. None where it can't be told: groups of one response,
    rewards between right and wrong.
    """

    models: dict[str, Score] = field(default_factory=dict)
    first: dict[str, Score] = field(default_factory=dict)
    luck: float | None = None
    gap: Gap | None = None

    @property
    def groups(self) -> int:
        """Groups scored."""
        return next(iter(self.models.values())).groups if self.models else 0


MODELS: Final = ("beta", "irt")
CONSTANT: Final = "constant"
"""Predicts the mean of all that is to be predicted, which nobody knows beforehand: what a model has to beat."""


def calibrated(log: Log, seen: Sequence[Seen], spec: RunSpec, told: Told = lambda _groups: None) -> Calibration:
    """Score the models on a log."""
    state = RunState(Created(spec.to_dict()))
    found = Calibration({name: Score() for name in MODELS}, {name: Score() for name in MODELS})
    rates: list[Floats] = []
    luck: list[Floats] = []
    gaps: list[Floats] = []
    number, plain = 0, True
    for entry in log.entries:
        if isinstance(entry, Reported):
            group = Passes.earned(entry.rewards, classify(entry.rewards, spec).mean, spec)
            again = seen[number].again & (group.tried > 0)
            for scores, rows in ((found.models, again), (found.first, ~seen[number].again & (group.tried > 0))):
                observed = group.passed[rows] / group.tried[rows]
                predicted = _predicted(state, entry.step, entry.index[rows])
                for name in MODELS:
                    scores[name].add(predicted[name], observed)
                if rows is again:
                    rates.append(observed)
                    gaps.append((predicted["beta"] - observed) ** 2 - (predicted["irt"] - observed) ** 2)
            luck.append(_luck(rates[-1], group.tried[again]))
            plain = plain and bool(np.isin(entry.rewards.values, (0.0, spec.solved_reward)).all())
            number += 1
            told(entry.index.size)
        fold(state, entry)
    _add_constant(found, np.concatenate([*rates, np.zeros(0)]))
    found.gap = _gap(np.concatenate([*gaps, np.zeros(0)]))
    several = np.concatenate([*luck, np.zeros(0)])
    if several.size and plain:
        found.luck = math.fsum(several) / several.size
    return found


def _predicted(state: RunState, step: int, index: Index) -> dict[str, Floats]:
    """Each model's pass rates, float64[n]."""
    view = PromptView(state.prompts, np.where(index < state.table.size, index, UNKNOWN))
    mean, variance, hopeless = (view.column(name).astype(np.float64) for name in ("difficulty", "variance", "hopeless"))
    aged = difficulty.aged(variance, step - view.column("last_step"))
    belief = difficulty.Belief(mean, aged, difficulty.hopeless(hopeless))
    return {"beta": beta_mean(view), "irt": difficulty.pass_rate(belief, state.ability.value)}


def _luck(rate: Floats, tried: Floats) -> Floats:
    """The variances of groups' pass rates around their prompts', estimated from each group by itself."""
    several = tried > 1
    rate, tried = rate[several], tried[several]
    variances: Floats = rate * (1 - rate) / (tried - 1)
    return variances


def _gap(each: Floats) -> Gap | None:
    if each.size < 2:
        return None
    mean = math.fsum(each) / each.size
    return Gap(mean, _Z * math.sqrt(math.fsum((each - mean) ** 2) / (each.size - 1) / each.size))


def _add_constant(found: Calibration, rates: Floats) -> None:
    constant = Score()
    if rates.size:
        constant.add(np.full(rates.size, math.fsum(rates) / rates.size), rates)
    found.models[CONSTANT] = constant
