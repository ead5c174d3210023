"""Drawing from the pool by rank: the prompts that would teach most, and a share that the walk of the pool brings.

The walk is what keeps a ranking honest. It goes through the pool in epochs, whatever the scores are, and passes by
those that were drawn a moment ago. So every prompt is drawn in every epoch, or was shortly before its place came: in a
pool of N prompts at the latest 2 (N - 1) places of the walk after it was drawn last (first in one epoch, last in the
next), which take 2 (N - 1) / exploration_share drawn prompts. What the walk brings and the ranking would not have taken
shows what the ranking misses. A prompt that was drawn is left alone for `cooldown_steps`: it would rank high at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from greso_service.core import draws, quotas
from greso_service.core.events import Audited
from greso_service.core.policy import RANKINGS, PromptView, as_easy, best, known
from greso_service.core.pool import Cursor, Walk
from greso_service.core.prompts import Index
from greso_service.core.quotas import Scope
from greso_service.core.state import RunState

WINDOW: Final = 1 << 20
"""Prompts that a draw ranks at most: of a larger pool each step ranks another stretch of this length. The best few
hundred of a million are hardly worse than those of ten million, and a draw takes the same time whatever the size."""

AHEAD: Final = 64
"""Steps that a trainer may draw ahead and still get nobody twice when it goes back to a step that is not complete."""

_CHUNK: Final = 1 << 15
"""Prompts scored at a time: what a score is made of stays in a processor's cache."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """Prompts that a draw takes of its scope, by rank (best first) and from the walk, and where it leaves that."""

    best: Index
    walked: Index
    audited: Audited
    walk: Walk


@dataclass(frozen=True, slots=True)
class Standing:
    """How a prompt of the pool would fare in a step's next draw.

    `rank`: from 1, `among` all that the step ranks; None if it is not among them. `free_from`: the first step that does
    not leave it alone, None if this one does not. `by_rank`, `walked`: how many the draw takes, and how.
    """

    rank: int | None
    among: int
    free_from: int | None
    by_rank: int
    walked: int

    @property
    def taken(self) -> bool:
        """Whether its rank is high enough."""
        return self.free_from is None and self.rank is not None and self.rank <= self.by_rank


def standing(state: RunState, step: int, index: int) -> Standing:
    """How a prompt of the pool would fare in a step's next draw, if that is of a round's size."""
    scopes = state.scopes()
    number = None if scopes and scopes[0].number is None else int(state.prompts.domain[index])
    place = next((place for place, scope in enumerate(scopes) if scope.number == number), None)
    if place is None:  # its domain has no share of the draws
        return Standing(None, 0, None, 0, 0)
    scope = scopes[place]
    rows, scores = _ranked(state, step, scope)
    places = np.flatnonzero(rows == index)
    free_from = rank = None
    if _cooling(state, state.prompts.drawn[index : index + 1], step)[0]:
        free_from = int(state.prompts.drawn[index]) + state.spec.cooldown_steps
    elif places.size:
        own, drawn = places[0], draws.uniforms(state.table.hashes[rows], state.spec.seed, step)
        before = (scores > scores[own]) | ((scores == scores[own]) & (drawn < drawn[own]))
        rank = 1 + int(np.count_nonzero(before))
    count = int(divided(state, step, state.batch_size(step), scopes)[0][place])
    walked = min(int(_owed(state, scope, count)), count)
    return Standing(rank, int(np.count_nonzero(scores >= 0)), free_from, count - walked, walked)


def _owed(state: RunState, scope: Scope, count: int) -> float:
    """Prompts that the walk is to bring by the end of a draw of `count`."""
    spec = state.spec
    share = 1.0 if spec.shadow else max(spec.exploration_share, spec.audit_share)
    return round(scope.walk.owed + share * count, 9)  # ten tenths are one


def looked_at(state: RunState) -> int:
    """Prompts that a draw looks at: to rank them, or with quotas to find those of each domain; 0 if neither."""
    divided = bool(state.domains) and quotas.in_force(state.spec)
    return min(state.table.size, WINDOW) if state.spec.policy in RANKINGS or divided else 0


def divided(state: RunState, step: int, count: int, scopes: Sequence[Scope]) -> tuple[quotas.Numbers, quotas.Floats]:
    """How many prompts a draw takes of each scope, and what is due from it then."""
    share, due = quotas.shares_of(scopes)
    if len(scopes) == 1:
        return np.array([count]), due
    return quotas.divided(count, share, due, np.array([_left(state, step, scope).size for scope in scopes]))


def draw(state: RunState, step: int, count: int, scope: Scope) -> Drawn:
    """Take `count` prompts of a scope, or as many as there are that this step has not taken yet."""
    if not count:
        none = np.zeros(0, np.int64)
        return Drawn(none, none, Audited((), ()), scope.walk)
    owed = _owed(state, scope, count)
    walked, cursor = _walk(state, step, min(int(owed), count), scope)
    top = _top(state, step, count, scope)
    taken = top[~np.isin(top, walked)][: count - walked.size]
    lacking = count - walked.size - taken.size
    if lacking:
        there = np.concatenate([taken, walked])
        taken = np.concatenate([taken, _longest_left_alone(state, step, there, lacking, scope)])
    # What the walk could not bring is not owed for ever; a draw of nothing leaves it as it is.
    owed = min(owed - walked.size, max(scope.walk.owed, float(count)))
    audited = _audited(state, walked[~np.isin(walked, top)])
    return Drawn(taken, walked, audited, Walk(cursor, owed, scope.walk.due))


def _walk(state: RunState, step: int, count: int, scope: Scope) -> tuple[Index, Cursor]:
    """The next `count` prompts of the walk that are not left alone, and the cursor behind them."""
    cursor, left, members = scope.walk.cursor, scope.size, state.members(scope.number)
    found: list[Index] = []
    while count and left:
        cursor = cursor.ready(scope.size)
        index = state.places(members, cursor, min(max(2 * count, 64), _CHUNK, left))
        places = np.flatnonzero(~_cooling(state, state.prompts.drawn[index], step))[:count]
        examined = int(places[-1]) + 1 if places.size == count else index.size
        # An epoch's end may lie within one draw, and the next epoch begin with what this one ended with.
        fresh = index[places][~np.isin(index[places], np.concatenate([*found, np.zeros(0, np.int64)]))]
        found.append(fresh)
        cursor, left, count = cursor.moved(examined), left - examined, count - fresh.size
    return np.concatenate([*found, np.zeros(0, np.int64)]), cursor


def _cooling(state: RunState, drawn: NDArray[np.int64], step: int) -> NDArray[np.bool_]:
    """bool[n]: drawn for a step at most `cooldown_steps` away, for this one, or ahead of it; `drawn`: their column."""
    steps = state.spec.cooldown_steps
    last = step + 1 + max(steps, _ahead(state, step))
    cooling: NDArray[np.bool_] = (drawn > 0) & (drawn >= step + 1 - steps) & (drawn <= last)
    return cooling


def _ahead(state: RunState, step: int) -> int:
    """By how many steps later a draw may have been and count as one of this step, too.

    `drawn` holds a prompt's last step only, so one that was drawn for a later step may have been drawn for this one
    before. A trainer that draws for a complete step has begun again without a rewind: then all was drawn later.
    """
    return 0 if state.progress.is_complete(step) else AHEAD


def _top(state: RunState, step: int, count: int, scope: Scope) -> Index:
    """The best `count` prompts that are not left alone, best first."""
    rows, scores = _ranked(state, step, scope)
    top = best(scores, count, lambda places: draws.uniforms(state.table.hashes[rows[places]], state.spec.seed, step))
    chosen: Index = rows[top]
    return chosen


def _ranked(state: RunState, step: int, scope: Scope) -> tuple[Index, NDArray[np.float32]]:
    """The prompts that the step ranks, the same ones in each of its draws, and their scores."""
    stretches = _window(state, step, scope)
    scores = np.concatenate([_scores(state, step, stretch) for stretch in stretches])
    rows = np.concatenate([
        np.arange(stretch.start, stretch.stop) if isinstance(stretch, slice) else stretch for stretch in stretches
    ])  # fmt: skip
    return rows, scores


def _window(state: RunState, step: int, scope: Scope) -> list[slice | Index]:
    """Stretches of the run's prompts that hold what the step ranks; of a run larger than `WINDOW` only its pool."""
    # Slices of the columns are several times as fast as prompts picked out of them.
    whole = scope.number is None and (state.table.size <= WINDOW or scope.size == state.table.size)
    size = state.table.size if whole else scope.size
    most = WINDOW if scope.number is None else max(WINDOW * size // state.pool_size, 1)
    stretches = [slice(0, size)]
    if size > most and state.pool_size > WINDOW:
        start = draws.window_start(state.spec.seed, step, size)
        end = start + most
        stretches = [slice(start, end)] if end <= size else [slice(start, size), slice(0, end - size)]
    members = state.members(scope.number)
    return [*stretches] if whole else [members[stretch].astype(np.int64) for stretch in stretches]


def _scores(state: RunState, step: int, stretch: slice | Index) -> NDArray[np.float32]:
    """float32[n]: scores of the prompts of a stretch; -1 for those that are not in the pool or left alone."""
    ranking, prompts = RANKINGS[state.spec.policy], state.prompts
    scores = np.empty(stretch.stop - stretch.start if isinstance(stretch, slice) else stretch.size, np.float32)
    for first in range(0, scores.size, _CHUNK):
        scored = scores[first : first + _CHUNK]
        part = _part(stretch, first, scored.size)
        free = prompts.pooled[part] & ~_cooling(state, prompts.drawn[part], step)
        scored[:] = -1
        if free.any():
            question = state.question_about(PromptView(prompts, part), step, state.table.hashes[part])
            np.copyto(scored, ranking(question), where=free)
    return scores


def _part(stretch: slice | Index, first: int, count: int) -> slice | Index:
    if isinstance(stretch, slice):
        return slice(stretch.start + first, stretch.start + first + count)
    return stretch[first : first + count]


def _longest_left_alone(state: RunState, step: int, taken: Index, count: int, scope: Scope) -> Index:
    """Of what is left of a scope, those whose turn is longest ago; none that this step may have taken already."""
    rows = _left(state, step, scope)
    left = np.ones(state.table.size, np.bool_)
    left[taken] = False
    rows = rows[left[rows]]
    uniforms = draws.uniforms(state.table.hashes[rows], state.spec.seed, step)
    longest: Index = rows[np.lexsort((uniforms, state.prompts.drawn[rows]))[:count]]
    return longest


def _left(state: RunState, step: int, scope: Scope) -> Index:
    """int64: the prompts of a scope that this step can't have taken yet."""
    members = state.members(scope.number)
    drawn = state.prompts.drawn[members]
    left = (drawn < step + 1) | (drawn > step + 1 + _ahead(state, step))
    rows: Index = members[left].astype(np.int64)
    return rows


def _audited(state: RunState, index: Index) -> Audited:
    index = index[known(PromptView(state.prompts, index))]
    return Audited.of(index, as_easy(state.spec, PromptView(state.prompts, index)))
