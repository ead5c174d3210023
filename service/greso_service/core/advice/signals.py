"""What a run's state tells about how well the filter works: sums over its last and its first steps, and a look at the
prompts rolled out lately. The advice is made from these figures alone; reading them costs little at any size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greso_service.core.outcome import Outcome
from greso_service.core.policy import RANKINGS
from greso_service.core.prompts import Index
from greso_service.core.recent import RECENT
from greso_service.core.spec import RunSpec
from greso_service.core.state import RunState

WINDOW = 50
"""Steps at most that `recent` and `first` sum over: enough that a share of groups hardly depends on chance, few enough
that it tells of today's model."""

SETTLED = 20
"""Steps at most that tell of the exploration in force: p moves by 0.2 in as many, with the default step."""

_LOOKED_AT = 512  # rows searched for the window's: some rows hold selections only
_SAMPLE = 1024  # prompts whose last groups are looked at: a share of them is known within 3 points

_JUDGING = ("reward_tolerance", "solved_reward", "easy_min_mean", "hard_max_mean")

Rows = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Some steps of a run, as rows of `STEP_ROW`. A ratio without a denominator is None."""

    rows: Rows

    @property
    def steps(self) -> int:
        """How many."""
        return len(self.rows)

    def sum(self, column: str) -> int:
        """Over the steps."""
        return int(self.rows[column].sum())

    @property
    def groups(self) -> int:
        """Judged groups."""
        return self.sum("groups")

    @property
    def skipped(self) -> int:
        """Candidates skipped, easy and hard."""
        return self.sum("skipped_easy") + self.sum("skipped_hard")

    @property
    def skip_rate(self) -> float | None:
        """Skipped per examined candidate."""
        return _ratio(self.skipped, self.sum("examined"))

    @property
    def effective(self) -> float | None:
        """Effective per judged group: the yield of the rollouts."""
        return _ratio(self.sum("effective"), self.groups)

    def zero_variance(self, kind: str) -> float | None:
        """Easy or hard groups per judged group."""
        return _ratio(self.sum(kind), self.groups)

    @property
    def rounds(self) -> float | None:
        """Rounds of rollouts per step."""
        return _ratio(self.sum("rounds"), self.steps)


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def complete(state: RunState, rows: Rows) -> Rows:
    """Those of the rows, sorted by step, whose step is complete."""
    return rows[: int(np.searchsorted(rows["step"], state.progress.step + state.progress.complete))]


def recent(state: RunState) -> Stretch:
    """The last complete steps with groups, at most `WINDOW`."""
    rows = complete(state, state.steps.rows[-_LOOKED_AT:])
    return Stretch(rows[np.flatnonzero(rows["groups"] > 0)[-WINDOW:]])


def first(state: RunState) -> Stretch:
    """The complete steps with groups before anything was skipped, the first `WINDOW` of them: what an unfiltered step
    earned when the training began. None if the parameters that judge a group were changed since: what was effective
    then may not be so now."""
    if any(getattr(state.created, name) != getattr(state.spec, name) for name in _JUDGING):
        return Stretch(state.steps.rows[:0])
    rows = complete(state, state.steps.rows[:_LOOKED_AT])
    untouched = np.cumsum(rows["skipped_easy"] + rows["skipped_hard"]) == 0
    if state.created.policy in RANKINGS or state.spec.policy in RANKINGS:
        untouched = _unranked(state, rows)
    return Stretch(rows[np.flatnonzero(untouched & (rows["groups"] > 0))[:WINDOW]])


def _unranked(state: RunState, rows: Rows) -> NDArray[np.bool_]:
    """bool[rows]: steps in which a ranking could not choose, as it knew nothing of the prompts that it might take.

    Of a pool: until the first that it took may come again. Of candidates: the first step. Of either: until priors came.
    """
    created, spec = state.created, state.spec
    if created.policy != spec.policy or created.shadow != spec.shadow or not len(rows):
        return np.zeros(len(rows), np.bool_)
    if spec.shadow:
        return np.ones(len(rows), np.bool_)
    selects = bool((rows["skipped_easy"] + rows["skipped_hard"]).any())
    known: NDArray[np.bool_] = rows["step"] <= rows["step"][0] + (0 if selects else spec.cooldown_steps)
    return known if state.told_from is None else known & (rows["step"] < state.told_from)


@dataclass(frozen=True, slots=True)
class Lately:
    """The latest group of each of n prompts rolled out in the recent steps, as arrays of n.

    `index` of the prompts; `low`, `high` rewards of the group, NaN where it has none; its `outcome`; `streak` and
    `kind` of the prompt now. `again`: outcomes of the groups, of all that these prompts had in the recent steps, whose
    prompt's group before taught nothing: int8[m].
    """

    index: Index
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    outcome: NDArray[np.int8]
    streak: NDArray[np.int32]
    kind: NDArray[np.int8]
    again: NDArray[np.int8]

    def __len__(self) -> int:
        return self.index.size


def lately(state: RunState, since: int) -> Lately:
    """Of the prompts whose latest group is of step `since` or later, an even sample of at most 1,024."""
    prompts, size = state.prompts, state.table.size
    index = np.flatnonzero((prompts.last_step[:size] >= since) & (prompts.visits[:size] > 0))
    index = index[:: -(-index.size // _SAMPLE) or 1]
    visits = prompts.visits[index]
    groups = state.groups.of(index)
    newest_first = (visits[:, None] - 1 - np.arange(RECENT)) % RECENT  # what was never filled is undetermined
    groups = np.take_along_axis(groups, newest_first, axis=1)
    last, after, before = groups[:, 0], groups[:, :-1], groups[:, 1:]
    again = np.isin(before["outcome"], (Outcome.EASY, Outcome.HARD)) & (after["step"] >= since)
    return Lately(
        index=index,
        low=last["low"],
        high=last["high"],
        outcome=last["outcome"],
        streak=prompts.streak[index],
        kind=prompts.kind[index],
        again=after["outcome"][again],
    )


@dataclass(frozen=True, slots=True)
class Signals:
    """All that the advice looks at; `Signals.of` takes it. `idle`: seconds since the last write.

    `late`: the last `SETTLED` of the recent steps, those that tell of the exploration in force.
    """

    run: str
    state: RunState
    idle: float
    recent: Stretch
    late: Stretch
    first: Stretch
    lately: Lately

    @classmethod
    def of(cls, run: str, state: RunState, idle: float) -> Signals:
        """The signals of a state."""
        stretch = recent(state)
        since = int(stretch.rows["step"][0]) if stretch.steps else 0
        late = Stretch(stretch.rows[-SETTLED:])
        return cls(run, state, idle, stretch, late, first(state), lately(state, since))

    @property
    def spec(self) -> RunSpec:
        """The run's parameters in force."""
        return self.state.spec

    @property
    def ranking(self) -> bool:
        """Whether the policy ranks: it takes the best, and whom it does not take it has not skipped for good."""
        return self.spec.policy in RANKINGS

    @property
    def walked(self) -> bool:
        """Whether the service chooses from the pool, not the trainer's own candidates."""
        state = self.state
        chosen = state.totals.selected and not state.totals.skipped_easy + state.totals.skipped_hard
        walked = any(scope.walk.cursor.size for scope in state.scopes())
        return walked or bool(self.ranking and state.pool_size and chosen)

    @property
    def judged(self) -> int:
        """Judged groups of the whole run."""
        totals = self.state.totals
        return totals.effective + totals.easy + totals.hard

    @property
    def distinct(self) -> int:
        """Prompts with a judged group."""
        return self.state.table.size - int(self.state.streaks.table[Outcome.UNDETERMINED, 0])

    @property
    def coming_back(self) -> bool:
        """Whether prompts come a second time: before, nothing can be skipped, and nothing is learnt about the filter.

        Not the few that stand twice by chance: more than 1 group in 100 was of a known prompt, or as many were skipped.
        """
        totals = self.state.totals
        skipped = totals.skipped_easy + totals.skipped_hard
        return self.judged - self.distinct > 0.01 * self.judged or skipped > 0.01 * totals.examined
