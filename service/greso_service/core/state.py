"""RunState: the fold of a run's history, as arrays over its prompts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from greso_service.core import audit, controller, learning, quotas, target
from greso_service.core.arrays import grown, in_turn
from greso_service.core.assessment import Assessment, assess
from greso_service.core.audit import RESTARTS, AuditCounts, Found
from greso_service.core.controller import Counts, Exploration, Progress
from greso_service.core.difficulty import Ability, Belief
from greso_service.core.domains import Domain, bases, begun, rest
from greso_service.core.draws import U64, Ids, audit_uniforms, epoch_key, uniforms
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
    Span,
)
from greso_service.core.ledger import Ledger
from greso_service.core.mark import START, Mark
from greso_service.core.outcome import Outcome, Outcomes
from greso_service.core.passes import Passes
from greso_service.core.policy import RANKINGS, PromptView, Question, as_easy, known
from greso_service.core.pool import Cursor, Walk, permuted
from greso_service.core.prompt_arrays import GROUP_ROW, RECENT, PromptArrays
from greso_service.core.prompts import Index, PromptTable
from greso_service.core.quotas import Scope
from greso_service.core.sample import SKIPPED_EASY, SKIPPED_HARD, Sample
from greso_service.core.spec import AUTO, RunSpec
from greso_service.core.steps import LATELY
from greso_service.core.streaks import StreakCounts


class RunState(Ledger):
    """The state of one run after some prefix of its history. `fold` moves it on; the rest only looks.

    `domains`: by number, the prompts without one first; empty while no prompt has one.
    `owed`: prompts that the walk of the pool still is to bring to draws by rank. `audits`: what audits found.
    `told_from`: the first step whose prompts may have had priors before their first group; None: no such step.
    `generation`: how often the run was rewound. What the state is made of: the spans in `past`, which the last rewind
    left, and all events behind `since`, the mark of that rewind.
    """

    __slots__ = (
        "_assessed",
        "_members",
        "ability",
        "audits",
        "created",
        "cursor",
        "domains",
        "generation",
        "owed",
        "past",
        "pool",
        "pool_size",
        "prompts",
        "sample",
        "since",
        "spec",
        "streaks",
        "table",
        "told_from",
    )

    def __init__(self, created: Created) -> None:
        self.spec = self.created = RunSpec.of(created.spec)
        tuning = target.begun(self.spec) if self.spec.target_zero_variance == AUTO else None
        super().__init__(Progress(Exploration(self.spec.p_easy, self.spec.p_hard), tuning=tuning))
        self.table = PromptTable()
        self.prompts = PromptArrays()
        self.streaks = StreakCounts()
        self.sample = Sample()
        self.pool = np.zeros(0, np.uint32)
        self.pool_size = 0
        self.cursor = Cursor()
        self.domains: list[Domain] = []
        self.ability = Ability()
        self.owed = 0.0
        self.told_from: int | None = None
        self.audits = AuditCounts()
        self.generation = 0
        self.past: tuple[Span, ...] = ()
        self.since: Mark = START
        self._assessed: tuple[Reported, Assessment] | None = None
        self._members: dict[int, NDArray[np.uint32]] = {}

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
            bases(candidates, self.progress.exploration, self.domains),
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

    def scopes(self) -> list[Scope]:
        """What draws take prompts from: the whole pool, or, with quotas, each domain that has a share."""
        if not self.domains or not quotas.in_force(self.spec):
            return [Scope(None, self.pool[: self.pool_size], Walk(self.cursor, self.owed))]
        names = [domain.name for domain in self.domains]
        share = quotas.shares(self.spec, names, np.array([domain.pool for domain in self.domains]))
        return [
            Scope(number, self.members(number), self.domains[number].walk, share[number])
            for number in np.flatnonzero(share).tolist()
        ]

    @property
    def epoch(self) -> int:
        """The epoch of the pool's walk; with quotas that of the domain that is least far."""
        return min((scope.walk.cursor.epoch for scope in self.scopes()), default=0)

    def members(self, number: int) -> NDArray[np.uint32]:
        """uint32: the pool's prompts of a domain, in the order in which they joined the pool."""
        if number not in self._members:
            pool = self.pool[: self.pool_size]
            self._members[number] = pool[self.prompts.domain[pool] == number]
        return self._members[number]

    def places(self, members: NDArray[np.uint32], cursor: Cursor, count: int) -> Index:
        """int64: the prompts at the next `count` places of the cursor's epoch over `members` (fewer at its end)."""
        places = np.arange(cursor.position, min(cursor.position + count, cursor.size))
        order = permuted(places, cursor.size, epoch_key(self.spec.seed, cursor.epoch))
        return members[order].astype(np.int64)

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
        stock = int(self.streaks.table[:, 0].sum())
        assessed = assess(report, self.view, self, self.spec, stock=stock, domains=self.domains)
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
            case Joined():
                self._fold_joined(event)
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
        tuning = controller.retuned(self.progress, before, self.spec)
        self.progress = replace(controller.moved(self.progress, self.spec, event.changes), tuning=tuning)
        for domain in self.domains:
            domain.progress = controller.moved(domain.progress, self.spec, event.changes)

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
        if self.domains:
            self.domains[0].pool += event.index.size
            self._members.pop(0, None)

    def _fold_joined(self, event: Joined) -> None:
        if not self.domains:
            self.domains.append(rest(self, self.pool_size))
        self.domains += [begun(name, self.progress) for name in event.new]
        self.prompts.domain[event.index] = event.domain
        joined = np.bincount(event.domain, minlength=len(self.domains))
        joined[0] = -event.index.size
        for number in np.flatnonzero(joined).tolist():
            domain, cursor = self.domains[number], self.domains[number].walk.cursor
            domain.pool += int(joined[number])
            self._members.pop(number, None)
            # The members' places have changed under a walk that has begun: it begins a new epoch.
            if cursor.size:
                domain.walk = replace(domain.walk, cursor=Cursor(cursor.epoch + 1))

    def _fold_selected(self, event: Selected) -> None:
        self.enter_selection(event.step, _amounts(event))
        for part in event.parts:
            self.domains[part.domain].enter_selection(event.step, _amounts(part))
            self.domains[part.domain].walk = part.walk or self.domains[part.domain].walk
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

    def _fold_reported(self, event: Reported) -> None:
        assessed = self.assess(event)
        self._register(event.new)
        self.enter_report(event.step, assessed.entry, late=assessed.late)
        for domain, entry in zip(self.domains, assessed.domains, strict=True):
            domain.enter_report(event.step, entry, late=assessed.late)
        if event.seconds is not None:
            self.totals.add_seconds(event.seconds, assessed.counts.effective)
            if not assessed.late:
                self.steps.add(event.step, rollout_s=event.seconds.rollout, update_s=event.seconds.update)
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


def _amounts(part: Selected | Part) -> dict[str, int]:
    return {
        "examined": part.examined,
        "selected": part.selected,
        "skipped_easy": part.skipped_easy,
        "skipped_hard": part.skipped_hard,
    }
