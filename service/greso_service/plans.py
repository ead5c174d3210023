"""What each write of a run would do to the state it meets: the events to append and the answer to give. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from greso_service import answers, priors
from greso_service.core import policy, ranked_draw
from greso_service.core.draws import IdError, Ids
from greso_service.core.events import Audited, Event, Pooled, Priors, Reported, Seconds, Selected
from greso_service.core.outcome import Rewards
from greso_service.core.policy import RANKINGS, Reason, Selection
from greso_service.core.prompts import UNKNOWN, Index
from greso_service.core.state import RunState
from greso_service.errors import Conflict, Fault, InvalidInput
from greso_service.priors import Carried, Rates

_CHUNK = 65_536  # prompts per event of a large upload, and places examined at a time by a long draw


@dataclass(frozen=True, slots=True)
class Plan:
    """Events to append, all or none, and the answer (JSON) that goes with them.

    `state`: what the events make, where folding them on the present state can't tell.
    """

    events: Sequence[Event]
    answer: bytes = b""
    state: RunState | None = None


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
    event = Selected(
        step,
        selection.examined,
        selection.selected,
        selection.skipped(Reason.SKIP_EASY),
        selection.skipped(Reason.SKIP_HARD),
        skipped=_sampled(state, index, selection),
        audited=_audited(index, selection),
    )
    answer = answers.select(state, event, selection, explain=explain, stale=stale)
    return Plan([event], answer)


def pool(
    state: RunState, prompts: Sequence[str], pointer: str, rates: Rates | None = None, carried: Carried | None = None
) -> Plan:
    """Add prompts to the pool, in order of first mention, with what is known of them beforehand, if anything is."""
    distinct = list(dict.fromkeys(prompts))
    known = None
    if rates is not None or carried is not None:
        known = priors.passes(state, _places(distinct, prompts), len(distinct), rates, carried)
    events: list[Event] = []
    size, added, told = state.table.size, 0, 0
    for start in range(0, len(distinct), _CHUNK):
        part = slice(start, start + _CHUNK)
        index, new = state.table.plan(_distinct_ids(distinct[part], prompts, pointer), size)
        joining = index[~_marked(index, state.prompts.pooled, state.table.size)]
        size, added = size + len(new), added + joining.size
        if joining.size:
            events.append(Pooled(new, joining))
        if known is not None:
            rows = (known.tried[part] > 0) & ~_marked(index, state.prompts.rewards > 0, state.table.size)
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


def _marked(index: Index, column: NDArray[np.bool_], size: int) -> NDArray[np.bool_]:
    """bool[n]: the column at prompts that are known, False at those that come only now."""
    marked: NDArray[np.bool_] = index < size
    marked[marked] = column[index[marked]]
    return marked


def draw(state: RunState, step: int, count: int | None) -> Plan:
    """Walk the pool from where the last draw stopped until `count` prompts are kept or a pool's length is examined."""
    if not state.pool_size:
        raise Conflict("the pool is empty; add prompts with PUT /v1/runs/{run}/pool, or use select")
    wanted = _batch_size(state, step) if count is None else count
    if state.spec.policy in RANKINGS:
        return _ranked_draw(state, step, wanted)
    cursor, left, chunk = state.cursor, state.pool_size, min(max(2 * wanted, 64), _CHUNK)
    kept = np.zeros(0, np.int64)
    skipped_easy = skipped_hard = 0
    sampled: tuple[int, ...] = ()
    audited = Audited((), ())
    while kept.size < wanted and left:
        cursor = cursor.ready(state.pool_size)
        index = state.places(cursor, min(chunk, left))
        selection = policy.select(state.question(step, index), limit=wanted - kept.size)
        kept = np.concatenate([kept, index[: selection.examined][selection.keep]])
        skipped_easy += selection.skipped(Reason.SKIP_EASY)
        skipped_hard += selection.skipped(Reason.SKIP_HARD)
        sampled += _sampled(state, index, selection)
        if more := _audited(index, selection):
            audited = Audited(audited.easy + more.easy, audited.hard + more.hard)
        cursor, left = cursor.moved(selection.examined), left - selection.examined
        chunk = min(2 * chunk, _CHUNK)
    examined = state.pool_size - left
    event = Selected(
        step, examined, kept.size, skipped_easy, skipped_hard, cursor, sampled, audited=audited if audited.any else None
    )
    return Plan([event], answers.draw(state, event, state.table.texts(kept.tolist())))


def _ranked_draw(state: RunState, step: int, wanted: int) -> Plan:
    """Take the best of the pool. Nobody is skipped: who is not taken now is ranked again the next time."""
    drawn = ranked_draw.draw(state, step, wanted)
    taken = drawn.ranked.index
    audited = drawn.audited if drawn.audited.any else None
    event = Selected(step, len(taken), len(taken), 0, 0, drawn.cursor, ranked=drawn.ranked, audited=audited)
    return Plan([event], answers.draw(state, event, state.table.texts(taken)))


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


def _sampled(state: RunState, index: Index, selection: Selection) -> tuple[int, ...]:
    """The sampled prompts among the skipped candidates."""
    skipped = index[: selection.examined][~selection.keep]
    known = skipped[skipped != UNKNOWN]
    return tuple(known[state.sampled(known)].tolist())


def _audited(index: Index, selection: Selection) -> Audited | None:
    """The audited candidates by what they would have been skipped as; None if there are none."""
    rows = np.flatnonzero(selection.audited)
    return Audited.of(index[rows], selection.easy[rows]) if rows.size else None


def _batch_size(state: RunState, step: int) -> int:
    return state.batch_size(step)


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
