"""RunState: the fold of a run's history, as arrays over its prompts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from greso_service.core import audit, controller, learning, target
from greso_service.core.arrays import grown, in_turn
from greso_service.core.assessment import Assessment, assess
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
from greso_service.core.outcome import Outcome, Outcomes
from greso_service.core.passes import Passes
from greso_service.core.policy import RANKINGS, PromptView, Question, as_easy, known
from greso_service.core.pool import Cursor, permuted
from greso_service.core.prompt_arrays import GROUP_ROW, RECENT, PromptArrays
from greso_service.core.prompts import Index, PromptTable
from greso_service.core.sample import SKIPPED_EASY, SKIPPED_HARD, Sample
from greso_service.core.spec import AUTO, RunSpec
from greso_service.core.steps import LATELY, StepLog
from greso_service.core.streaks import StreakCounts
from greso_service.core.totals import Totals


class RunState:
    """The state of one run after some prefix of its history. `fold` moves it on; the rest only looks.

    `owed`: prompts that the walk of the pool still is to bring to draws by rank. `audits`: what audits found.
    `told_from`: the first step whose prompts may have had priors before their first group; None: no such step.
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
        "told_from",
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
        self.told_from: int | None = None
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
        assessed = assess(report, self.view, self.progress, self.spec, stock=int(self.streaks.table[:, 0].sum()))
        self._assessed = report, assessed
        return assessed

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
        self.totals.add(**amounts)
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
        self.totals.add_report(event, assessed.counts)
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
        informed = known(self.view.of(event.index))
        found = audit.told(self.prompts, event, assessed.outcomes.outcome, informed)
        self.totals.add_audits(found)
        if not (self.spec.shadow or self.spec.audit_share or self.spec.policy in RANKINGS):
            found.kept = Found()
        self.audits += found
        group = Passes.earned(event.rewards, assessed.outcomes.mean, self.spec)
        self.ability = learning.reported(
            self.prompts, self.ability, event, group, informed=informed, decay=self.spec.posterior_decay
        )
        for rows in in_turn(event.index):
            self._fold_groups(event, assessed.outcomes, rows)

    def _fold_priors(self, event: Priors) -> None:
        if self.told_from is None and (self.prompts.rewards[event.index] == 0).any():
            self.told_from = max(self.progress.step + self.progress.complete, 0)
        learning.told(
            self.prompts, self.ability, event, step=max(self.progress.step, 0), decay=self.spec.posterior_decay
        )

    def beliefs(self, index: Index, step: int) -> Belief:
        """What the item-response model knows of prompts in a step."""
        return learning.beliefs(self.prompts, index, step)

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
