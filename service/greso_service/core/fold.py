"""The fold: how each event of a history moves a run's state on. Nothing else changes a state."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from greso_service.core import audit, controller, learning
from greso_service.core.arrays import grown, in_turn
from greso_service.core.audit import RESTARTS, AuditCounts, Found
from greso_service.core.domains import begun, rest
from greso_service.core.draws import Ids
from greso_service.core.events import (
    Created,
    Event,
    Forked,
    Joined,
    Part,
    Patched,
    Pooled,
    Priors,
    Reported,
    Rewound,
    Selected,
)
from greso_service.core.mark import Mark
from greso_service.core.outcome import EFFECTIVE, UNDETERMINED, Outcomes
from greso_service.core.passes import Passes
from greso_service.core.policy import RANKINGS, PromptView, as_easy, known
from greso_service.core.pool import Cursor
from greso_service.core.prompts import Index
from greso_service.core.recent import SAID_ROW
from greso_service.core.sample import SKIPPED_EASY, SKIPPED_HARD
from greso_service.core.state import RunState


def fold(state: RunState, event: Event) -> None:
    """Move a state on by one event."""
    if stills := [still for still in (kept() for kept in state.stills) if still is not None]:
        about = _about(state, event)
        for still in stills:
            still.keep(about)
    match event:
        case Reported():
            _fold_reported(state, event)
        case Selected():
            _fold_selected(state, event)
        case Pooled():
            _fold_pooled(state, event)
        case Joined():
            _fold_joined(state, event)
        case Priors():
            _fold_priors(state, event)
        case Patched():
            _fold_patched(state, event)
        case Forked():
            pass
        case Created():
            raise ValueError("a history has one Created event, its first")
        case Rewound():
            raise ValueError("a rewind is no step on; fold the spans that it kept")
    state.forget_assessment()


def _about(state: RunState, event: Event) -> Index:
    """int64: the prompts of which the event changes what is known."""
    match event:
        case Reported() | Pooled() | Joined() | Priors():
            return event.index
        case Selected():
            ranked = () if event.ranked is None else event.ranked.index
            audited = () if event.audited is None else event.audited.easy + event.audited.hard
            return np.array(ranked + audited, np.int64)
        case Patched() if event.changes.keys() & set(RESTARTS):
            return np.flatnonzero(state.prompts.audited[: state.table.size])
        case _:
            return np.zeros(0, np.int64)


def rewound(state: RunState, event: Rewound, mark: Mark) -> None:
    """Make a state, which the event's spans made, the one behind the event, whose mark is `mark`."""
    state.generation, state.past, state.since = event.generation, event.kept, mark


def _fold_patched(state: RunState, event: Patched) -> None:
    before, state.spec = state.spec, state.spec.changed(event.changes)
    if any(getattr(before, name) != getattr(state.spec, name) for name in RESTARTS):
        state.audits = AuditCounts()
        audit.lapse(state.prompts)
    tuning = controller.retuned(state.progress, before, state.spec)
    state.progress = replace(controller.moved(state.progress, state.spec, event.changes), tuning=tuning)
    for domain in state.domains:
        domain.progress = controller.moved(domain.progress, state.spec, event.changes)


def _register(state: RunState, new: list[bytes]) -> None:
    if new:
        first = state.table.size
        state.table.add(Ids.of_bytes(new))
        state.prompts.grow(state.table.size)
        state.groups.grow(state.table.size)
        state.streaks.join(state.table.size - first)
        state.sample.admit(first, state.table.hashes[first:])


def _fold_pooled(state: RunState, event: Pooled) -> None:
    _register(state, event.new)
    end = state.pool_size + event.index.size
    state.pool = grown(state.pool, end)
    state.pool[state.pool_size : end] = event.index
    state.pool_size = end
    state.prompts.pooled[event.index] = True
    if state.domains:
        state.domains[0].pooled += event.index.size
        state.domains[0].members = None


def _fold_joined(state: RunState, event: Joined) -> None:
    if not state.domains:
        state.domains.append(rest(state, state.pool_size))
    walked = {number: _walked(state, number) for number, domain in enumerate(state.domains) if domain.walk.cursor.size}
    state.domains += [begun(name, state.progress) for name in event.new]
    state.prompts.domain[event.index] = event.domain
    joined = np.bincount(event.domain, minlength=len(state.domains))
    joined[0] = -event.index.size
    for number, domain in enumerate(state.domains):
        domain.pooled += int(joined[number])
        domain.members = None
    for number, before in walked.items():
        domain = state.domains[number]
        # Prompts that came behind those of a walk come in its next epoch. With others among them that is begun.
        if not np.array_equal(before, _walked(state, number)):
            domain.walk = replace(domain.walk, cursor=Cursor(domain.walk.cursor.epoch + 1))


def _walked(state: RunState, number: int) -> NDArray[np.uint32]:
    """The prompts that a domain's epoch is made of."""
    return state.members(number)[: state.domains[number].walk.cursor.size]


def _fold_selected(state: RunState, event: Selected) -> None:
    state.enter_selection(event.step, _amounts(event))
    for part in event.parts:
        state.domains[part.domain].enter_selection(event.step, _amounts(part))
        state.domains[part.domain].walk = part.walk or state.domains[part.domain].walk
    if event.cursor is not None:
        state.cursor = event.cursor
    if event.ranked is not None:
        state.owed = event.ranked.owed
        state.prompts.drawn[list(event.ranked.index)] = event.step + 1
    if event.audited is not None:
        audit.note(state.prompts, event.audited, event.step)
    if event.skipped:
        index = np.array(event.skipped, np.int64)
        easy = as_easy(state.spec, PromptView(state.prompts, index))
        state.sample.note(index, event.step, np.where(easy, SKIPPED_EASY, SKIPPED_HARD).astype(np.int8))


def _fold_reported(state: RunState, event: Reported) -> None:
    assessed = state.assess(event)
    _register(state, event.new)
    state.enter_report(event.step, assessed.entry, late=assessed.late)
    for domain, entry in zip(state.domains, assessed.domains, strict=True):
        domain.enter_report(event.step, entry, late=assessed.late)
    if event.seconds is not None:
        state.totals.add_seconds(event.seconds, assessed.counts.effective)
        if not assessed.late:
            state.steps.add(event.step, rollout_s=event.seconds.rollout, update_s=event.seconds.update)
    informed = known(state.view.of(event.index))
    found = audit.told(state.prompts, event, assessed.outcomes.outcome, informed)
    state.totals.add_audits(found)
    if not (state.spec.shadow or state.spec.audit_share or state.spec.policy in RANKINGS):
        found.kept = Found()
    state.audits += found
    group = Passes.earned(event.rewards, assessed.outcomes.mean, state.spec)
    state.ability = learning.reported(
        state.prompts, state.ability, event, group, informed=informed, decay=state.spec.posterior_decay
    )
    for rows in in_turn(event.index):
        _fold_groups(state, event, assessed.outcomes, rows)


def _fold_priors(state: RunState, event: Priors) -> None:
    if state.told_from is None and (state.prompts.rewards[event.index] == 0).any():
        state.told_from = max(state.progress.step + state.progress.complete, 0)
    learning.told(
        state.prompts, state.ability, event, step=max(state.progress.step, 0), decay=state.spec.posterior_decay
    )


def _fold_groups(state: RunState, event: Reported, outcomes: Outcomes, rows: Index) -> None:
    """Fold groups of distinct prompts."""
    prompts, index = state.prompts, event.index[rows]
    count, mean = event.rewards.lengths[rows].astype(np.int64), outcomes.mean[rows]
    said = np.empty(rows.size, SAID_ROW)
    said["count"], said["mean"], said["outcome"] = count, mean, outcomes.outcome[rows]
    said["low"], said["high"] = outcomes.low[rows], outcomes.high[rows]
    state.groups.put(index, prompts.visits[index], event.step, said)
    prompts.visits[index] += 1
    prompts.last_step[index] = np.maximum(prompts.last_step[index], event.step)
    rewarded = count > 0
    seen, count, mean = index[rewarded], count[rewarded], mean[rewarded]
    prompts.rewards[seen] += count
    weight = count / prompts.rewards[seen]
    prompts.mean[seen] = weight * mean + (1 - weight) * prompts.mean[seen]
    streak = outcomes.streak[rows]
    judged = streak != UNDETERMINED
    _fold_streaks(state, index[judged], streak[judged])
    sampled = state.sampled(index)
    if sampled.size:
        state.sample.note(index[sampled], event.step, outcomes.outcome[rows[sampled]])


def _fold_streaks(state: RunState, index: Index, kind: NDArray[np.int8]) -> None:
    before, streak = state.prompts.kind[index], state.prompts.streak[index]
    going = streak + 1
    if state.spec.streak_rule == "same_kind":
        going = np.where(before == kind, going, 1)
    now = np.where(kind == EFFECTIVE, 0, going)
    state.streaks.move(before, streak, kind, now)
    state.prompts.streak[index], state.prompts.kind[index] = now, kind


def _amounts(part: Selected | Part) -> dict[str, int]:
    return {
        "examined": part.examined,
        "selected": part.selected,
        "skipped_easy": part.skipped_easy,
        "skipped_hard": part.skipped_hard,
    }
