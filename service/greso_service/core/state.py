"""RunState: the fold of a run's history, as arrays over its prompts."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from greso_service.core import audit, controller, difficulty, exact, passes, target
from greso_service.core.arrays import grown, in_turn
from greso_service.core.audit import RESTARTS, AuditCounts, Found
from greso_service.core.controller import Counts, Exploration, Progress
from greso_service.core.difficulty import Ability, Belief
from greso_service.core.draws import U64, Ids, audit_uniforms, epoch_key, uniforms
from greso_service.core.events import (
    Created,
    Event,
    Forked,
    Patched,
    Pooled,
    Priors,
    Reported,
    Rewound,
    Selected,
    Span,
)
from greso_service.core.mark import START, Mark
from greso_service.core.outcome import JUDGED, Outcome, Outcomes, classify
from greso_service.core.passes import Passes
from greso_service.core.policy import RANKINGS, PromptView, Question, as_easy, known
from greso_service.core.pool import Cursor, permuted
from greso_service.core.prompt_arrays import GROUP_ROW, RECENT, PromptArrays
from greso_service.core.prompts import UNKNOWN, Index, PromptTable
from greso_service.core.sample import SKIPPED_EASY, SKIPPED_HARD, Sample
from greso_service.core.spec import AUTO, RunSpec
from greso_service.core.steps import LATELY, StepLog
from greso_service.core.streaks import StreakCounts
from greso_service.core.target import NOTHING, Tried
from greso_service.core.tried import tried

Floats = NDArray[np.float64]


@dataclass(slots=True)
class Totals:
    """Sums over the run, in prompts and groups; `rollouts` in responses.

    `audited_...`: audited groups, whatever `audits` has begun anew since; `false_...`: the effective ones of them.
    `rollout_seconds`, `update_seconds`: as far as the trainer reports them; `timed_effective`: effective groups of the
    reports that said how long their rollouts took.
    """

    examined: int = 0
    selected: int = 0
    skipped_easy: int = 0
    skipped_hard: int = 0
    groups: int = 0
    effective: int = 0
    easy: int = 0
    hard: int = 0
    undetermined: int = 0
    rollouts: int = 0
    audited_easy: int = 0
    audited_hard: int = 0
    false_easy: int = 0
    false_hard: int = 0
    rollout_seconds: float = 0.0
    update_seconds: float = 0.0
    timed_effective: int = 0

    def since(self, before: Totals) -> Totals:
        """What was added since `before`."""
        return Totals(*(getattr(self, name) - getattr(before, name) for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class Assessment:
    """What a report means for the state it meets; nothing of it is applied yet."""

    outcomes: Outcomes
    counts: Counts
    progress: Progress
    closed_with: Exploration
    late: bool


class RunState:
    """The state of one run after some prefix of its history. `fold` moves it on; the rest only looks.

    `owed`: prompts that the walk of the pool still is to bring to draws by rank. `audits`: what audits found.
    `generation`: how often the run was rewound. What the state is made of: the spans in `past`, which the last rewind
    left, and all events behind `since`, the mark of that rewind.
    """

    __slots__ = (
        "_assessed",
        "ability",
        "audits",
        "created",
        "cursor",
        "generation",
        "owed",
        "past",
        "pool",
        "pool_size",
        "progress",
        "prompts",
        "sample",
        "since",
        "spec",
        "steps",
        "streaks",
        "table",
        "totals",
    )

    def __init__(self, created: Created) -> None:
        self.spec = self.created = RunSpec.of(created.spec)
        self.table = PromptTable()
        self.prompts = PromptArrays()
        self.streaks = StreakCounts()
        self.sample = Sample()
        self.pool = np.zeros(0, np.uint32)
        self.pool_size = 0
        self.cursor = Cursor()
        tuning = target.begun(self.spec) if self.spec.target_zero_variance == AUTO else None
        self.progress = Progress(Exploration(self.spec.p_easy, self.spec.p_hard), tuning=tuning)
        self.steps = StepLog()
        self.totals = Totals()
        self.ability = Ability()
        self.owed = 0.0
        self.audits = AuditCounts()
        self.generation = 0
        self.past: tuple[Span, ...] = ()
        self.since: Mark = START
        self._assessed: tuple[Reported, Assessment] | None = None

    @property
    def view(self) -> PromptView:
        """What policies see."""
        return PromptView(self.prompts, slice(0, self.table.size))

    def question(self, step: int, index: Index, ids: Ids | None = None) -> Question:
        """The decision to make for candidates in a step. `ids` is needed only if some of `index` are unknown."""
        hashes = self.table.hashes[index] if ids is None else ids.hashes
        return self.question_about(PromptView(self.prompts, index), step, hashes)

    def question_about(self, candidates: PromptView, step: int, hashes: U64) -> Question:
        """The decision to make for these candidates; `hashes`: of their ids."""
        return Question(
            self.spec,
            self.progress.exploration,
            self.ability,
            step,
            self.batch_size(step),
            candidates,
            lambda: uniforms(hashes, self.spec.seed, step),
            lambda: audit_uniforms(hashes, self.spec.seed, step),
        )

    def batch_size(self, step: int, progress: Progress | None = None) -> int:
        """Prompts that the next round of a step takes, after `progress` (default: now).

        As `controller.next_rollout_batch_size`. But the first round of a step in which a ranking draws takes no more
        than its last `LATELY` steps with groups needed: of what it chooses most may be effective, and what a step does
        not train on is wasted.
        """
        progress = progress or self.progress
        going = step == progress.step and not progress.complete
        if going or self.spec.policy not in RANKINGS or self.spec.shadow:
            return controller.next_rollout_batch_size(progress, self.spec, step)
        last = progress.counts if progress.complete else Counts()  # a report is answered before its row is written
        groups, effective = self.steps.judged_lately(progress.step, LATELY - bool(last.groups))
        return controller.first_batch_size(self.spec, groups + last.groups, effective + last.effective)

    def places(self, cursor: Cursor, count: int) -> Index:
        """int64: the prompts at the next `count` places of the cursor's epoch (fewer at its end)."""
        places = np.arange(cursor.position, min(cursor.position + count, cursor.size))
        order = permuted(places, cursor.size, epoch_key(self.spec.seed, cursor.epoch))
        return self.pool[order].astype(np.int64)

    def recent(self, index: int) -> NDArray[np.void]:
        """The prompt's last groups (at most `RECENT`), newest first."""
        visits = int(self.prompts.visits[index])
        newest_first = np.arange(visits - 1, max(visits - RECENT, 0) - 1, -1) % RECENT
        groups: NDArray[np.void] = self.prompts.recent[index][newest_first]
        return groups

    def sampled(self, index: Index) -> Index:
        """int64: the rows of `index`, known prompts, that are in the sample."""
        return self.sample.among(index, self.table.hashes[index])

    def assess(self, report: Reported) -> Assessment:
        """What folding `report` would do, without doing it; remembered for the fold that mostly follows."""
        if self._assessed is not None and self._assessed[0] is report:
            return self._assessed[1]
        outcomes = classify(report.rewards, self.spec)
        number = np.bincount(outcomes.outcome, minlength=len(Outcome))
        aside = self._aside(report)
        steering = (outcomes.outcome != Outcome.UNDETERMINED) & ~aside
        index, effective = report.index[steering], outcomes.outcome[steering] == Outcome.EFFECTIVE
        set_aside = np.bincount(outcomes.outcome[aside], minlength=len(Outcome))
        counts = Counts(
            effective=int(number[Outcome.EFFECTIVE]),
            easy=int(number[Outcome.EASY]),
            hard=int(number[Outcome.HARD]),
            seen_before=index.size - self._first_judged(index),
            **{f"aside_{kind.name.lower()}": int(set_aside[kind]) for kind in JUDGED},
            tried=NOTHING if self.progress.tuning is None else self._tried(index, effective),
        )
        stock = int(self.streaks.table[:, 0].sum())
        progress, closed_with = controller.observe(
            self.progress, self.spec, report.step, counts, final=report.final, stock=stock
        )
        late = self.progress.is_complete(report.step)
        self._assessed = report, Assessment(outcomes, counts, progress, closed_with, late)
        return self._assessed[1]

    def _aside(self, report: Reported) -> NDArray[np.bool_]:
        """bool[n]: groups that audits or shadow brought to a filter: they must not steer what it decides."""
        if self.spec.policy in RANKINGS and not self.spec.shadow:
            return np.zeros(report.index.size, np.bool_)
        return audit.brought(self._known(report.index).column("audited"), report.step)

    def _tried(self, index: Index, effective: NDArray[np.bool_]) -> Tried:
        return tried(self._known(index), effective, self.progress.exploration, self.spec)

    def _known(self, index: Index) -> PromptView:
        """Prompts of a report; those that it is the first to name read as never seen."""
        return self.view.of(np.where(index < self.table.size, index, UNKNOWN))

    def _first_judged(self, index: Index) -> int:
        kind = self._known(index).kind
        first = index[kind == Outcome.UNDETERMINED]
        return int(np.unique(first).size) if first.size else 0

    def fold(self, event: Event) -> None:
        """Move the state on by one event."""
        match event:
            case Reported():
                self._fold_reported(event)
            case Selected():
                self._fold_selected(event)
            case Pooled():
                self._fold_pooled(event)
            case Priors():
                self._fold_priors(event)
            case Patched():
                self._fold_patched(event)
            case Forked():
                pass
            case Created():
                raise ValueError("a history has one Created event, its first")
            case Rewound():
                raise ValueError("a rewind is no step on; fold the spans that it kept")
        self._assessed = None

    def rewound(self, event: Rewound, mark: Mark) -> None:
        """Make this state, which the event's spans made, the one behind the event, whose mark is `mark`."""
        self.generation, self.past, self.since = event.generation, event.kept, mark

    def _fold_patched(self, event: Patched) -> None:
        before, self.spec = self.spec, self.spec.changed(event.changes)
        if any(getattr(before, name) != getattr(self.spec, name) for name in RESTARTS):
            self.audits = AuditCounts()
            audit.lapse(self.prompts)
        low, high = self.spec.exploration_bounds
        now = self.progress.exploration
        easy, hard = (event.changes.get("p_easy", now.easy), event.changes.get("p_hard", now.hard))
        exploration = Exploration(min(max(easy, low), high), min(max(hard, low), high))
        tuning = controller.retuned(self.progress, before, self.spec)
        self.progress = replace(self.progress, exploration=exploration, tuning=tuning)

    def _register(self, new: list[bytes]) -> None:
        if new:
            first = self.table.size
            self.table.add(Ids.of_bytes(new))
            self.prompts.grow(self.table.size)
            self.streaks.join(self.table.size - first)
            self.sample.admit(first, self.table.hashes[first:])

    def _fold_pooled(self, event: Pooled) -> None:
        self._register(event.new)
        end = self.pool_size + event.index.size
        self.pool = grown(self.pool, end)
        self.pool[self.pool_size : end] = event.index
        self.pool_size = end
        self.prompts.pooled[event.index] = True

    def _fold_selected(self, event: Selected) -> None:
        amounts = {
            "examined": event.examined,
            "selected": event.selected,
            "skipped_easy": event.skipped_easy,
            "skipped_hard": event.skipped_hard,
        }
        for name, amount in amounts.items():
            self._add_totals(name, amount)
        first = event.step not in self.steps
        self.steps.add(event.step, **amounts)
        if first or not self.progress.is_complete(event.step):
            self._note_exploration(event.step, self.progress.exploration)
        if event.cursor is not None:
            self.cursor = event.cursor
        if event.ranked is not None:
            self.owed = event.ranked.owed
            self.prompts.drawn[list(event.ranked.index)] = event.step + 1
        if event.audited is not None:
            audit.note(self.prompts, event.audited, event.step)
        if event.skipped:
            index = np.array(event.skipped, np.int64)
            easy = as_easy(self.spec, PromptView(self.prompts, index))
            self.sample.note(index, event.step, np.where(easy, SKIPPED_EASY, SKIPPED_HARD).astype(np.int8))

    def _note_exploration(self, step: int, exploration: Exploration) -> None:
        self.steps.set_exploration(step, exploration.easy, exploration.hard)

    def _fold_reported(self, event: Reported) -> None:
        assessed = self.assess(event)
        self._register(event.new)
        self._fold_totals(event, assessed)
        if not assessed.late:
            if event.step > self.progress.step and not self.progress.complete:
                self._note_exploration(self.progress.step, assessed.closed_with)
            counts = assessed.counts
            self.steps.add(
                event.step,
                groups=counts.groups,
                effective=counts.effective,
                easy=counts.easy,
                hard=counts.hard,
                rollouts=event.rewards.values.size,
                rounds=int(event.index.size > 0),
            )
            if event.seconds is not None:
                self.steps.add(event.step, rollout_s=event.seconds.rollout, update_s=event.seconds.update)
            self._note_exploration(event.step, assessed.progress.exploration)
        self.progress = assessed.progress
        group = Passes.earned(event.rewards, assessed.outcomes.mean, self.spec)
        before = self.beliefs(event.index, event.step)
        informed = known(self.view.of(event.index))
        followed = np.flatnonzero(informed & (group.tried > 0))
        self._fold_audits(audit.told(self.prompts, event, assessed.outcomes.outcome, informed))
        self._fold_passes(event.index, group, event.step)
        for rows in in_turn(event.index):
            self._fold_groups(event, assessed.outcomes, rows)
        self._fold_ability(event, group.of(followed), before.mean[followed], event.index[followed])

    def _fold_priors(self, event: Priors) -> None:
        """Take priors of the model as it is now for prompts without a reward; they replace those that came before."""
        fresh = self.prompts.rewards[event.index] == 0
        index, step = event.index[fresh], max(self.progress.step, 0)
        for name in ("passed", "failed", "difficulty", "variance", "hopeless"):
            getattr(self.prompts, name)[index] = 0
        self._fold_passes(index, Passes(event.passed[fresh], event.tried[fresh]), step)
        self.prompts.last_step[index] = step

    def _fold_ability(self, event: Reported, group: Passes, mean: Floats, index: Index) -> None:
        """Follow prompts that something was known of, from what was thought; a new one's group may be its own doing."""
        if index.size:
            predicted = exact.logistic(self.ability.value - mean)
            weight = 1 - self.prompts.hopeless[index].astype(np.float64)
            self.ability = self.ability.then(event.step, group.passed, group.tried, predicted, weight)

    def beliefs(self, index: Index, step: int) -> Belief:
        """What the item-response model knows of prompts in a step."""
        prompts = self.prompts
        columns = (prompts.difficulty, prompts.variance, prompts.hopeless)
        mean, variance, hopeless = (column[index].astype(np.float64) for column in columns)
        aged = difficulty.aged(variance, step - prompts.last_step[index])
        return Belief(mean, aged, difficulty.hopeless(hopeless))

    def _fold_passes(self, index: Index, group: Passes, step: int) -> None:
        """Fold what groups say of their prompts' pass rates; several groups of one prompt count as one."""
        rewarded = group.tried > 0
        self._age(np.setdiff1d(index[~rewarded], index[rewarded]), step)
        index, group = group.together(index[rewarded], rewarded)
        prompts = self.prompts
        prompts.passed[index], prompts.failed[index] = passes.counted(
            prompts.passed[index], prompts.failed[index], group, self.spec.posterior_decay
        )
        now = self.beliefs(index, step).after(self.ability.value, group.passed, group.tried)
        prompts.difficulty[index], prompts.variance[index] = now.mean, now.variance
        prompts.hopeless[index] = now.hopeless

    def _age(self, index: Index, step: int) -> None:
        """Keep what prompts aged until a group without rewards, which teaches nothing but moves `last_step`."""
        index = index[self.prompts.variance[index] > 0]
        self.prompts.variance[index] = difficulty.aged(
            self.prompts.variance[index], step - self.prompts.last_step[index]
        )

    def _fold_audits(self, found: AuditCounts) -> None:
        for kind, of_kind in (("easy", found.easy), ("hard", found.hard)):
            self._add_totals(f"audited_{kind}", of_kind.groups)
            self._add_totals(f"false_{kind}", of_kind.effective)
        if not (self.spec.shadow or self.spec.audit_share or self.spec.policy in RANKINGS):
            found.kept = Found()
        self.audits += found

    def _add_totals(self, name: str, amount: int) -> None:
        setattr(self.totals, name, getattr(self.totals, name) + amount)

    def _fold_totals(self, event: Reported, assessed: Assessment) -> None:
        totals, counts = self.totals, assessed.counts
        totals.groups += event.index.size
        totals.effective += counts.effective
        totals.easy += counts.easy
        totals.hard += counts.hard
        totals.undetermined += event.index.size - counts.groups
        totals.rollouts += event.rewards.values.size
        if event.seconds is not None:
            totals.rollout_seconds += event.seconds.rollout
            totals.update_seconds += event.seconds.update
            totals.timed_effective += counts.effective if event.seconds.rollout else 0

    def _fold_groups(self, event: Reported, outcomes: Outcomes, rows: Index) -> None:
        """Fold groups of distinct prompts."""
        prompts, index = self.prompts, event.index[rows]
        count, mean = event.rewards.lengths[rows].astype(np.int64), outcomes.mean[rows]
        groups = np.empty(rows.size, GROUP_ROW)
        groups["step"], groups["count"], groups["mean"] = event.step, count, mean
        groups["low"], groups["high"] = outcomes.low[rows], outcomes.high[rows]
        groups["outcome"] = outcomes.outcome[rows]
        prompts.recent[index, prompts.visits[index] % RECENT] = groups
        prompts.visits[index] += 1
        prompts.last_step[index] = np.maximum(prompts.last_step[index], event.step)
        rewarded = count > 0
        seen, count, mean = index[rewarded], count[rewarded], mean[rewarded]
        prompts.rewards[seen] += count
        weight = count / prompts.rewards[seen]
        prompts.mean[seen] = weight * mean + (1 - weight) * prompts.mean[seen]
        streak = outcomes.streak[rows]
        judged = streak != Outcome.UNDETERMINED
        self._fold_streaks(index[judged], streak[judged])
        sampled = self.sampled(index)
        if sampled.size:
            self.sample.note(index[sampled], event.step, outcomes.outcome[rows[sampled]])

    def _fold_streaks(self, index: Index, kind: NDArray[np.int8]) -> None:
        before, streak = self.prompts.kind[index], self.prompts.streak[index]
        going = streak + 1
        if self.spec.streak_rule == "same_kind":
            going = np.where(before == kind, going, 1)
        now = np.where(kind == Outcome.EFFECTIVE, 0, going)
        self.streaks.move(before, streak, kind, now)
        self.prompts.streak[index], self.prompts.kind[index] = now, kind
