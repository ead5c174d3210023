"""What a draw takes of the pool: by the run's policy, of all of it, or of each domain what its quota says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from greso_service.core import quotas, ranked_draw
from greso_service.core.events import Audited, Part, Ranked, Selected
from greso_service.core.policy import RANKINGS
from greso_service.core.pool import Walk
from greso_service.core.prompts import Index
from greso_service.core.quotas import Scope
from greso_service.core.state import RunState
from greso_service.core.walked_draw import Tally, Walker


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a draw takes, int64[n], the event of it, and the epoch of the pool that it ends in."""

    index: Index
    event: Selected
    epoch: int


def draw(state: RunState, step: int, count: int) -> Drawn:
    """Take `count` prompts of the pool, or fewer if there are none left to take."""
    scopes = state.scopes()
    whole = scopes[0].number is None
    drawn = (_by_rank if state.spec.policy in RANKINGS else _walked)(state, step, count, scopes)
    event = replace(drawn.event, parts=_parts(drawn.tally, {} if whole else drawn.walks))
    if whole:
        cursor = drawn.walks[0].cursor
        return Drawn(drawn.index, replace(event, cursor=cursor), cursor.epoch)
    return Drawn(drawn.index, event, min(walk.cursor.epoch for walk in drawn.walks.values()))


def parts(tally: Tally) -> tuple[Part, ...]:
    """What a selection did in each domain of a run that has any."""
    return _parts(tally, {})


def _parts(tally: Tally, walks: dict[int, Walk]) -> tuple[Part, ...]:
    if len(tally) == 1:  # a run has either none or, with those without, two
        return ()
    return tuple(
        Part(number, examined, selected, easy, hard, walks.get(number))
        for number, (examined, selected, easy, hard) in enumerate(tally.tolist())
        if examined or number in walks
    )


@dataclass(frozen=True, slots=True)
class _Taken:
    """What a draw takes of its scopes; `walks`: where it leaves each, by number, 0 for the whole pool."""

    index: Index
    event: Selected
    tally: Tally
    walks: dict[int, Walk]


def _walked(state: RunState, step: int, count: int, scopes: Sequence[Scope]) -> _Taken:
    walkers = [Walker(state, step, scope) for scope in scopes]
    due = _take(walkers, scopes, count)
    tally = sum((walker.tally for walker in walkers), np.zeros_like(walkers[0].tally))
    examined, selected, easy, hard = tally.sum(axis=0).tolist()
    audited = Audited(
        tuple(index for walker in walkers for index in walker.audited.easy),
        tuple(index for walker in walkers for index in walker.audited.hard),
    )
    sampled = tuple(index for walker in walkers for index in walker.sampled)
    event = Selected(
        step, examined, selected, easy, hard, skipped=sampled, audited=audited if audited.any else None
    )  # fmt: skip
    walks = {
        scope.number or 0: Walk(walker.cursor, scope.walk.owed, float(due[place]))
        for place, (scope, walker) in enumerate(zip(scopes, walkers, strict=True))
    }
    return _Taken(_in_turns([walker.taken for walker in walkers]), event, tally, walks)


def _take(walkers: Sequence[Walker], scopes: Sequence[Scope], count: int) -> quotas.Floats:
    """Walk on for `count` prompts, each scope for its share of them; what is due from each then."""
    if scopes[0].number is None:
        walkers[0].take(count)
        return np.zeros(1)
    share, due = quotas.shares_of(scopes)
    room = np.array([scope.size for scope in scopes])
    taken = np.zeros(len(scopes), np.int64)
    numbers, due = quotas.divided(count, share, due, room)
    while numbers.any():
        for walker, number in zip(walkers, numbers.tolist(), strict=True):
            walker.take(number)
        taken = np.array([walker.taken.size for walker in walkers])
        room = np.array([0 if walker.done else count for walker in walkers])
        # What some skip to their ends, the others give.
        numbers, _ = quotas.divided(count - int(taken.sum()), share, np.zeros(len(scopes)), room)
    return due


def _by_rank(state: RunState, step: int, count: int, scopes: Sequence[Scope]) -> _Taken:
    """Nobody is skipped: who is not taken now is ranked again the next time."""
    numbers, due = ranked_draw.divided(state, step, count, scopes)
    drawn = [
        ranked_draw.draw(state, step, number, scope) for scope, number in zip(scopes, numbers.tolist(), strict=True)
    ]
    best, walked = (_in_turns(parts) for parts in zip(*((one.best, one.walked) for one in drawn), strict=True))
    index = np.concatenate([best, walked])
    audited = Audited(
        tuple(index for one in drawn for index in one.audited.easy),
        tuple(index for one in drawn for index in one.audited.hard),
    )
    owed = drawn[0].walk.owed if scopes[0].number is None else state.owed
    event = Selected(
        step,
        index.size,
        index.size,
        0,
        0,
        ranked=Ranked(tuple(index.tolist()), walked.size, owed),
        audited=audited if audited.any else None,
    )
    walks = {
        scope.number or 0: replace(one.walk, due=float(due[place]))
        for place, (scope, one) in enumerate(zip(scopes, drawn, strict=True))
    }
    taken = np.bincount(state.prompts.domain[index], minlength=max(len(state.domains), 1))
    tally = np.zeros((taken.size, 4), np.int64)
    tally[:, :2] = taken[:, None]
    return _Taken(index, event, tally, walks)


def _in_turns(parts: Sequence[Index]) -> Index:
    """One sequence of the domains' prompts, in which they take turns."""
    if len(parts) == 1:
        return parts[0]
    turns: Index = np.concatenate(parts)[quotas.mixed([part.size for part in parts])]
    return turns
