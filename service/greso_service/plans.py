"""What each write of a run would do to the state it meets: the events to append and the answer to give. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greso_service import answers, joining, priors
from greso_service.core import drawing, policy, walked_draw
from greso_service.core.draws import IdError, Ids
from greso_service.core.events import Event, Pooled, Priors, Reported, Seconds, Selected
from greso_service.core.mark import Mark
from greso_service.core.outcome import Rewards
from greso_service.core.prompts import Index
from greso_service.core.state import RunState
from greso_service.errors import Conflict, Fault, InvalidInput
from greso_service.joining import Named
from greso_service.priors import Carried, Rates

_CHUNK = 65_536  # prompts per event of a large upload


@dataclass(frozen=True, slots=True)
class Plan:
    """Events to append, all or none, and the answer (JSON) that goes with them.

    `state`: what the events make, where folding them on the present state can't tell. `base`: of a rewind, that which
    the history must have.
    """

    events: Sequence[Event]
    answer: bytes = b""
    state: RunState | None = None
    base: Mark | None = None


def select(
    state: RunState,
    step: int,
    prompts: Sequence[str],
    *,
    limit: int | None,
    at_least: int,
    explain: bool,
    stale: bool,
) -> Plan:
    """Judge candidates."""
    ids = _ids(prompts, "/prompts/{}")
    index = state.table.find(ids)
    selection = policy.select(state.question(step, index, ids), limit=limit, at_least=at_least)
    tally = walked_draw.tally(state, index, selection)
    examined, selected, easy, hard = tally.sum(axis=0).tolist()
    event = Selected(
        step,
        examined,
        selected,
        easy,
        hard,
        skipped=walked_draw.sampled(state, index, selection),
        audited=walked_draw.audited(index, selection),
        parts=drawing.parts(tally),
    )
    answer = answers.select(state, event, selection, explain=explain, stale=stale)
    return Plan([event], answer)


def pool(
    state: RunState,
    prompts: Sequence[str],
    pointer: str,
    *,
    rates: Rates | None = None,
    carried: Carried | None = None,
    domains: Named | None = None,
) -> Plan:
    """Add prompts to the pool, in order of first mention, with what is known of them beforehand, if anything is."""
    distinct = list(dict.fromkeys(prompts))
    known, place = None, _places(distinct, prompts)
    if rates is not None or carried is not None:
        known = priors.passes(state, place, len(distinct), rates, carried)
    events: list[Event] = []
    size, added, told = state.table.size, 0, 0
    entering = None if domains is None else joining.Joining(state, domains, place, len(distinct), pointer)
    for start in range(0, len(distinct), _CHUNK):
        part = slice(start, start + _CHUNK)
        index, new = state.table.plan(_distinct_ids(distinct[part], prompts, pointer), size)
        coming = index[~_marked(index, state.prompts.pooled, state.table.size)]
        size, added = size + len(new), added + coming.size
        if coming.size:
            events.append(Pooled(new, coming))
        if entering is not None and (joined := entering.of(part, index)) is not None:
            events.append(joined)
        if known is not None:
            rows = (known.tried[part] > 0) & ~_marked(index, state.prompts.rewards, state.table.size)
            if rows.any():
                events.append(Priors(index[rows], known.passed[part][rows], known.tried[part][rows]))
                told += int(np.count_nonzero(rows))
    # With nothing to add there is an event all the same: it carries the idempotency key, and shows that the state which
    # the answer was made from is the newest.
    events = events or [Pooled([], np.zeros(0, np.int64))]
    return Plan(events, answers.pool(added, state.pool_size + added, None if known is None else told))


def _places(distinct: Sequence[str], prompts: Sequence[str]) -> Index:
    """int64[n]: where each prompt stands among the distinct ones."""
    if len(distinct) == len(prompts):
        return np.arange(len(prompts))
    places = dict(zip(distinct, range(len(distinct)), strict=True))
    return np.fromiter(map(places.__getitem__, prompts), np.int64, len(prompts))


def _marked(index: Index, column: NDArray[Any], size: int) -> NDArray[np.bool_]:
    """bool[n]: whether the column is more than 0 at prompts that are known; False at those that come only now."""
    marked: NDArray[np.bool_] = index < size
    marked[marked] = column[index[marked]] > 0
    return marked


def draw(state: RunState, step: int, count: int | None, run: str = "{run}") -> Plan:
    """Take prompts of the pool: `count`, or a round's. `run`: its name, for what is to be done."""
    if not state.pool_size:
        raise Conflict(f"the pool is empty; add prompts with PUT /v1/runs/{run}/pool, or use select")
    if not state.scopes():
        raise Conflict(f"every domain that has prompts has quota 0; change the quotas with PATCH /v1/runs/{run}")
    drawn = drawing.draw(state, step, state.batch_size(step) if count is None else count)
    return Plan([drawn.event], answers.draw(state, drawn, state.table.texts(drawn.index)))


def report(
    state: RunState,
    step: int,
    prompts: Sequence[str],
    rewards: Sequence[Sequence[float]],
    *,
    final: bool,
    seconds: Seconds | None = None,
) -> Plan:
    """Fold in what groups earned; `prompts` and `rewards` are by group."""
    index, new = state.table.plan(_ids(prompts, "/results/{}/prompt"))
    event = Reported(step, final, new, index, Rewards.of(rewards), seconds)
    return Plan([event], answers.report(state, event, state.assess(event)))


def _ids(prompts: Sequence[str], pointer: str) -> Ids:
    try:
        return Ids.of(prompts)
    except IdError as error:
        raise InvalidInput(Fault(pointer.format(error.row), error.detail)) from None


def _distinct_ids(distinct: Sequence[str], prompts: Sequence[str], pointer: str) -> Ids:
    try:
        return Ids.of(distinct)
    except IdError as error:
        row = prompts.index(distinct[error.row])
        raise InvalidInput(Fault(f"{pointer}/{row}", error.detail)) from None
