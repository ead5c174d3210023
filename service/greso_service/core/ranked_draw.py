"""Drawing from the pool by rank: the prompts that would teach most, and a share that the walk of the pool brings.

The walk is what keeps a ranking honest. It goes through the pool in epochs, whatever the scores are, and passes by
those that were drawn a moment ago. So every prompt is drawn in every epoch, or was shortly before its place came: in a
pool of N prompts at the latest 2 (N - 1) places of the walk after it was drawn last (first in one epoch, last in the
next), which take 2 (N - 1) / exploration_share drawn prompts. What the walk brings and the ranking would not have taken
shows what the ranking misses. A prompt that was drawn is left alone for `cooldown_steps`: it would rank high at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from greso_service.core import draws
from greso_service.core.events import Audited, Ranked
from greso_service.core.policy import RANKINGS, PromptView, as_easy, best
from greso_service.core.pool import Cursor
from greso_service.core.prompts import Index
from greso_service.core.state import RunState

WINDOW: Final = 1 << 20
"""Prompts that a draw ranks at most: of a larger run each step ranks another stretch of this length. The best few
hundred of a million are hardly worse than those of ten million, and a draw takes the same time in a run of any size."""

_CHUNK: Final = 1 << 15
"""Prompts scored at a time: what a score is made of stays in a processor's cache."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """Prompts that a draw takes, and where it leaves the walk of the pool."""

    ranked: Ranked
    audited: Audited
    cursor: Cursor


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
    spans = _window(state, step)
    scores = np.concatenate([_scores(state, step, *span) for span in spans])
    rows = np.concatenate([np.arange(*span) for span in spans])
    places = np.flatnonzero(rows == index)
    free_from = rank = None
    if _cooling(state.prompts.drawn[index : index + 1], step, state.spec.cooldown_steps)[0]:
        free_from = int(state.prompts.drawn[index]) + state.spec.cooldown_steps
    elif places.size:
        place, drawn = places[0], draws.uniforms(state.table.hashes[rows], state.spec.seed, step)
        before = (scores > scores[place]) | ((scores == scores[place]) & (drawn < drawn[place]))
        rank = 1 + int(np.count_nonzero(before))
    count = state.batch_size(step)
    walked = min(int(_owed(state, count)), count)
    return Standing(rank, int(np.count_nonzero(scores >= 0)), free_from, count - walked, walked)


def _owed(state: RunState, count: int) -> float:
    """Prompts that the walk is to bring by the end of a draw of `count`."""
    spec = state.spec
    share = 1.0 if spec.shadow else max(spec.exploration_share, spec.audit_share)
    return round(state.owed + share * count, 9)  # ten tenths are one


def looked_at(state: RunState) -> int:
    """Prompts that a draw looks at to rank them; 0 where it does not rank."""
    return min(state.table.size, WINDOW) if state.spec.policy in RANKINGS else 0


def draw(state: RunState, step: int, count: int) -> Drawn:
    """Take `count` prompts of the pool, or as many as there are that this step has not taken yet."""
    owed = _owed(state, count)
    walked, cursor = _walk(state, step, min(int(owed), count))
    top = _top(state, step, count)
    taken = top[~np.isin(top, walked)][: count - walked.size]
    lacking = count - walked.size - taken.size
    if lacking:
        taken = np.concatenate([taken, _longest_left_alone(state, step, np.concatenate([taken, walked]), lacking)])
    # What the walk could not bring is not owed for ever; a draw of nothing leaves it as it is.
    owed = min(owed - walked.size, max(state.owed, float(count)))
    ranked = Ranked((*taken.tolist(), *walked.tolist()), walked.size, owed)
    return Drawn(ranked, _audited(state, walked[~np.isin(walked, top)]), cursor)


def _walk(state: RunState, step: int, count: int) -> tuple[Index, Cursor]:
    """The next `count` prompts of the walk that are not left alone, and the cursor behind them."""
    cursor, left = state.cursor, state.pool_size
    found: list[Index] = []
    while count and left:
        cursor = cursor.ready(state.pool_size)
        index = state.places(cursor, min(max(2 * count, 64), _CHUNK, left))
        places = np.flatnonzero(~_cooling(state.prompts.drawn[index], step, state.spec.cooldown_steps))[:count]
        examined = int(places[-1]) + 1 if places.size == count else index.size
        # An epoch's end may lie within one draw, and the next epoch begin with what this one ended with.
        fresh = index[places][~np.isin(index[places], np.concatenate([*found, np.zeros(0, np.int64)]))]
        found.append(fresh)
        cursor, left, count = cursor.moved(examined), left - examined, count - fresh.size
    return np.concatenate([*found, np.zeros(0, np.int64)]), cursor


def _cooling(drawn: NDArray[np.int64], step: int, steps: int) -> NDArray[np.bool_]:
    """bool[n]: drawn for a step less than `steps` away, or for this one. A trainer may draw ahead, so in both ways."""
    cooling: NDArray[np.bool_] = (drawn > 0) & (drawn >= step + 1 - steps) & (drawn <= step + 1 + steps)
    return cooling


def _top(state: RunState, step: int, count: int) -> Index:
    """The best `count` prompts that are not left alone, best first."""
    spans = _window(state, step)
    scores = np.concatenate([_scores(state, step, *span) for span in spans])
    rows = np.concatenate([np.arange(*span) for span in spans])
    top = best(scores, count, lambda places: draws.uniforms(state.table.hashes[rows[places]], state.spec.seed, step))
    chosen: Index = rows[top]
    return chosen


def _window(state: RunState, step: int) -> list[tuple[int, int]]:
    """The stretches of the run's prompts, from and to, that the step ranks: the same ones in each of its draws."""
    size = state.table.size
    if size <= WINDOW:
        return [(0, size)]
    start = draws.window_start(state.spec.seed, step, size)
    end = start + WINDOW
    return [(start, end)] if end <= size else [(start, size), (0, end - size)]


def _scores(state: RunState, step: int, start: int, end: int) -> NDArray[np.float32]:
    """float32[end - start]: scores; -1 for prompts that are not in the pool or left alone."""
    ranking, prompts = RANKINGS[state.spec.policy], state.prompts
    scores = np.empty(end - start, np.float32)
    for first in range(start, end, _CHUNK):
        part = slice(first, min(first + _CHUNK, end))
        free = prompts.pooled[part] & ~_cooling(prompts.drawn[part], step, state.spec.cooldown_steps)
        scores[part.start - start : part.stop - start] = -1
        if free.any():
            question = state.question_about(PromptView(prompts, part), step, state.table.hashes[part])
            np.copyto(scores[part.start - start : part.stop - start], ranking(question), where=free)
    return scores


def _longest_left_alone(state: RunState, step: int, taken: Index, count: int) -> Index:
    """Of what is left of the pool, those whose turn is longest ago; none that this step has taken already."""
    drawn = state.prompts.drawn[: state.table.size]
    waiting = state.prompts.pooled[: state.table.size] & (drawn != step + 1)
    waiting[taken] = False
    rows = np.flatnonzero(waiting)
    uniforms = draws.uniforms(state.table.hashes[rows], state.spec.seed, step)
    longest: Index = rows[np.lexsort((uniforms, drawn[rows]))[:count]]
    return longest


def _audited(state: RunState, index: Index) -> Audited:
    index = index[state.prompts.visits[index] > 0]
    easy = as_easy(state.spec, PromptView(state.prompts, index))
    return Audited(tuple(index[easy].tolist()), tuple(index[~easy].tolist()))
