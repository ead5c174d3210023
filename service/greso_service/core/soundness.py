"""Whether an event can follow a state. What this service writes always can; what comes from a file may not.

A fold trusts its events: an index beyond the prompts, or one that joins the pool twice, would spoil the state silently.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from greso_service.core import spec
from greso_service.core.draws import Ids
from greso_service.core.events import (
    Created,
    Event,
    Forked,
    Joined,
    Patched,
    Pooled,
    Priors,
    Reported,
    Rewound,
    Selected,
    Span,
)
from greso_service.core.limits import LARGEST_STEP, RUN_NAME
from greso_service.core.mark import Mark
from greso_service.core.pool import Cursor
from greso_service.core.prompts import UNKNOWN
from greso_service.core.spec import RunSpec, SpecError
from greso_service.core.state import RunState

_MOST_SECONDS: Final = 1e15  # sums stay finite
_ROUNDED: Final = 1 + 1e-9  # what arithmetic may have added to a count of passes


class UnsoundError(ValueError):
    """The event can't be one of this history."""


def begun(event: Event) -> RunState:
    """The state that a history begins with. Raises `UnsoundError`."""
    if not isinstance(event, Created):
        raise UnsoundError(f"a history begins with created, not with {type(event).__name__.lower()}")
    _check_fields(event.spec)
    try:
        return RunState(event)
    except SpecError as error:
        raise UnsoundError(str(error)) from None


def check(state: RunState, event: Event) -> None:
    """Raise `UnsoundError` if the event can't follow; of rewinds see `check_rewound`."""
    match event:
        case Reported():
            _check_step(event.step)
            _check_new(state, event.new)
            _check_known(event.index, state.table.size + len(event.new))
            _demand(bool(np.isfinite(event.rewards.values).all()), "a reward is not finite")
            if event.seconds is not None:
                spent = (event.seconds.rollout, event.seconds.update)
                _demand(all(0 <= seconds <= _MOST_SECONDS for seconds in spent), "seconds are not 0 or more")
        case Selected():
            _check_selected(state, event)
        case Pooled():
            _check_new(state, event.new)
            _check_known(event.index, state.table.size + len(event.new))
            _check_distinct(event.index)
            known = event.index[event.index < state.table.size]
            _demand(not state.prompts.pooled[known].any(), "a prompt joins the pool that is in it")
        case Joined():
            _check_joined(state, event)
        case Priors():
            _check_known(event.index, state.table.size)
            _check_distinct(event.index)
            passed, tried = event.passed, event.tried
            sound = (passed >= 0) & (passed <= tried * _ROUNDED) & (tried > 0) & np.isfinite(tried)
            _demand(bool(sound.all()), "a prior has other than 0 to all of its responses passed")
        case Patched():
            _check_fields(event.changes)
            try:
                state.spec.changed(event.changes)
            except SpecError as error:
                raise UnsoundError(str(error)) from None
        case Forked():
            run: object = event.run  # as JSON had it
            named = isinstance(run, str) and bool(re.fullmatch(RUN_NAME, run))
            _demand(named, "the run that was forked has no name that a run can have")
            if event.step is not None:
                _check_step(event.step)
        case Created():
            raise UnsoundError("a history has one created event, its first")
        case Rewound():
            raise UnsoundError("a rewind is no step on")


def check_rewound(state: RunState, mark: Mark, event: Rewound) -> None:
    """Raise `UnsoundError` if the event can't follow the state, which is folded up to `mark`.

    What it keeps must be what the state is made of, up to some place.
    """
    _check_step(event.step)
    following = state.generation + 1
    _demand(event.generation == following, f"a rewind to generation {event.generation}, where {following} follows")
    _demand(bool(event.kept), "a rewind keeps nothing of the history")
    *whole, last = event.kept
    past = (*state.past, Span(state.since, mark, None))
    _demand(len(whole) < len(past) and tuple(whole) == past[: len(whole)], "a rewind keeps what does not count")
    cut = past[len(whole)]
    inside = last.after == cut.after and cut.after.number <= last.until.number <= cut.until.number
    within = last.step is not None and (cut.step is None or last.step <= cut.step)
    _demand(inside and within and 0 <= (last.step or 0) <= event.step, "a rewind keeps what does not count")


def _check_selected(state: RunState, event: Selected) -> None:
    _check_step(event.step)
    counts = (event.examined, event.selected, event.skipped_easy, event.skipped_hard)
    _demand(all(0 <= count <= LARGEST_STEP for count in counts), "a count is below 0")
    _demand(sum(counts[1:]) <= event.examined, "more are selected and skipped than examined")
    # Sums of steps have 64 bits. What the totals forgot in rewinds, the steps did, too.
    _demand(state.totals.examined + event.examined <= LARGEST_STEP, "more are examined than can be counted")
    if event.cursor is not None:
        _demand(_walks(event.cursor, state.pool_size), "a draw ends outside of the pool")
    _check_parts(state, event)
    size = state.table.size
    _check_known(_numbers(event.skipped), size)
    if event.ranked is not None:
        _check_known(_numbers(event.ranked.index), size)
        _demand(event.ranked.walked <= len(event.ranked.index), "the walk brings more than are drawn")
        _demand(0 <= event.ranked.owed <= LARGEST_STEP, "what the walk owes is not a number of prompts")
    if event.audited is not None:
        _check_known(_numbers((*event.audited.easy, *event.audited.hard)), size)


def _check_parts(state: RunState, event: Selected) -> None:
    domains = [part.domain for part in event.parts]
    _demand(len(set(domains)) == len(domains), "a domain has two parts of a selection")
    for part in event.parts:
        _demand(part.domain < len(state.domains), "a selection has a part of a domain that is not there")
        counts = (part.examined, part.selected, part.skipped_easy, part.skipped_hard)
        _demand(all(0 <= count <= LARGEST_STEP for count in counts), "a count of a domain is below 0")
        whole = (event.examined, event.selected, event.skipped_easy, event.skipped_hard)
        part_of = all(count <= most for count, most in zip(counts, whole, strict=True))
        _demand(part_of, "a domain's part of a selection is more than the whole")
        if part.walk is not None:
            _demand(_walks(part.walk.cursor, state.domains[part.domain].pooled), "a draw ends outside of a domain")
            _demand(0 <= part.walk.owed <= LARGEST_STEP, "what the walk owes is not a number of prompts")
            _demand(-1 <= part.walk.due <= 1, "more than one prompt is due")


def _check_joined(state: RunState, event: Joined) -> None:
    names = {domain.name for domain in state.domains[1:]}
    _demand(len(set(event.new)) == len(event.new) and names.isdisjoint(event.new), "a new domain is known")
    try:
        RunSpec.of({"domains": {name: {} for name in event.new}})
    except SpecError as error:
        raise UnsoundError(str(error)) from None
    most = len(names) + len(event.new)
    _demand(most <= spec.MOST_DOMAINS, f"{most} domains are more than {spec.MOST_DOMAINS}")
    _check_known(event.index, state.table.size)
    _check_distinct(event.index)
    _demand(bool(((event.domain >= 1) & (event.domain <= most)).all()), "a prompt joins a domain that is not there")
    _demand(bool(state.prompts.pooled[event.index].all()), "a prompt joins a domain that is not in the pool")
    _demand(not state.prompts.domain[event.index].any(), "a prompt joins a domain that has one")


def _walks(cursor: Cursor, pool: int) -> bool:
    return 0 <= cursor.epoch <= LARGEST_STEP and 0 <= cursor.position <= cursor.size <= pool


def _check_fields(given: Mapping[str, Any]) -> None:
    """Refuse values of another type than their fields'; names and ranges are looked at by the spec itself."""
    params = spec.params()
    for name, value in given.items():
        if name == "domains":
            _demand(_are_domains(value), f"{name}: {value!r} is of another type")
        elif name in params:
            field, param = params[name]
            _demand(_fits(value, str(field.type), field.default, param.words), f"{name}: {value!r} is of another type")


def _fits(value: Any, kind: str, default: Any, words: Iterable[str]) -> bool:
    if value is None:
        return default is None
    if isinstance(value, str):
        return isinstance(default, str) or value in words
    if isinstance(default, tuple):
        return isinstance(value, list | tuple) and len(value) == len(default) and all(map(_is_number, value))
    if kind in {"int", "bool"}:
        return type(value) is (int if kind == "int" else bool)
    return _is_number(value) and not isinstance(default, str)


def _are_domains(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(own, dict) and all(map(_is_number, own.values())) for own in value.values()
    )


def _is_number(value: Any) -> bool:
    return type(value) in {int, float}


def _check_step(step: object) -> None:
    _demand(type(step) is int and 0 <= step <= LARGEST_STEP, f"step {step} is not one from 0 to 2^53 - 1")


def _check_new(state: RunState, new: list[bytes]) -> None:
    try:
        ids = Ids.of_bytes(new)
        for raw in new:
            raw.decode()
    except ValueError as error:
        raise UnsoundError(f"a prompt's id is none: {error}") from None
    _demand(len(set(new)) == len(new) and bool((state.table.find(ids) == UNKNOWN).all()), "a new prompt is known")


def _check_known(index: NDArray[np.int64], size: int) -> None:
    if index.size and not 0 <= index.min() <= index.max() < size:
        raise UnsoundError(f"prompt {index.max()} of {size} is named")


def _check_distinct(index: NDArray[np.int64]) -> None:
    _demand(np.unique(index).size == index.size, "a prompt is named twice")


def _numbers(index: tuple[int, ...]) -> NDArray[np.int64]:
    return np.array(index, np.int64)


def _demand(sound: bool, otherwise: str) -> None:
    if not sound:
        raise UnsoundError(otherwise)
