"""RunState: the fold of a run's history, as arrays over its prompts."""

from __future__ import annotations

from typing import Final
from weakref import ref

import numpy as np
from numpy.typing import NDArray

from greso_service.core import controller, learning, quotas, target
from greso_service.core.assessment import Assessment, assess
from greso_service.core.audit import AuditCounts
from greso_service.core.controller import Counts, Exploration, Progress
from greso_service.core.difficulty import Ability, Belief
from greso_service.core.domains import Domain, bases
from greso_service.core.draws import U64, Ids, audit_uniforms, epoch_key, uniforms
from greso_service.core.events import (
    Created,
    Reported,
    Span,
)
from greso_service.core.ledger import Ledger
from greso_service.core.mark import START, Mark
from greso_service.core.policy import RANKINGS, PromptView, Question
from greso_service.core.pool import Cursor, Walk, permuted
from greso_service.core.prompt_arrays import ROW_BYTES, PromptArrays
from greso_service.core.prompts import Index, PromptTable
from greso_service.core.quotas import Scope
from greso_service.core.recent import RECENT, RecentGroups
from greso_service.core.sample import Sample
from greso_service.core.spec import AUTO, RunSpec
from greso_service.core.steps import LATELY
from greso_service.core.still import Still
from greso_service.core.streaks import StreakCounts

_NOTHING: Final = 2**15
"""Bytes of a state without prompts."""


class RunState(Ledger):
    """The state of one run after some prefix of its history. Only `fold` moves it on.

    `domains`: by number, the prompts without one first; empty while no prompt has one.
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
        "domains",
        "generation",
        "groups",
        "owed",
        "past",
        "pool",
        "pool_size",
        "prompts",
        "sample",
        "since",
        "spec",
        "stills",
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
        self.groups = RecentGroups()
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
        self.stills: list[ref[Still]] = []  # those that somebody may still read
        self._assessed: tuple[Reported, Assessment] | None = None

    @property
    def nbytes(self) -> int:
        """Memory of what it knows of prompts and steps, bytes; room to grow takes none."""
        prompts = self.table.nbytes + self.table.size * ROW_BYTES + self.groups.nbytes(self.table.size)
        pool = self.pool_size * self.pool.itemsize
        domains = sum(domain.nbytes for domain in self.domains)
        return _NOTHING + prompts + pool + self.sample.nbytes + self.steps.nbytes + domains

    def still(self) -> Still:
        """What is known of the prompts now, whatever is folded later: the columns of `PromptArrays` and the groups'."""
        columns = {name: getattr(self.prompts, name) for name in PromptArrays.__slots__}
        still = Still({**columns, **self.groups.by_prompt}, self.table.size)
        # Here only: a thread that folds must not find it changed by whoever drops one meanwhile.
        self.stills = [*(kept for kept in self.stills if kept() is not None), ref(still)]
        return still

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
            return [Scope(None, self.pool_size, Walk(self.cursor, self.owed))]
        return [
            Scope(number, self.domains[number].pooled, self.domains[number].walk, share)
            for number, share in enumerate(quotas.shares(self.spec, self.domains))
            if share
        ]

    @property
    def epoch(self) -> int:
        """The epoch of the pool's walk; with quotas that of the domain that is least far."""
        return min((scope.walk.cursor.epoch for scope in self.scopes()), default=0)

    def members(self, number: int | None) -> NDArray[np.uint32]:
        """uint32: the pool's prompts, of a domain or (None) all, in the order in which they joined it."""
        pool = self.pool[: self.pool_size]
        if number is None:
            return pool
        if self.domains[number].members is None:
            # Of all domains at once: for each by itself the whole pool would be looked through.
            own = self.prompts.domain[pool]
            ends = np.cumsum(np.bincount(own, minlength=len(self.domains)))
            parts = np.split(pool[np.argsort(own, kind="stable")], ends[:-1])
            for domain, members in zip(self.domains, parts, strict=True):
                domain.members = members
        found: NDArray[np.uint32] = self.domains[number].members  # type: ignore[assignment]
        return found

    def places(self, members: NDArray[np.uint32], cursor: Cursor, count: int) -> Index:
        """int64: the prompts at the next `count` places of the cursor's epoch over `members` (fewer at its end)."""
        places = np.arange(cursor.position, min(cursor.position + count, cursor.size))
        order = permuted(places, cursor.size, epoch_key(self.spec.seed, cursor.epoch))
        return members[order].astype(np.int64)

    def recent(self, index: int) -> NDArray[np.void]:
        """The prompt's last groups (at most `RECENT`), newest first."""
        visits = int(self.prompts.visits[index])
        newest_first = np.arange(visits - 1, max(visits - RECENT, 0) - 1, -1) % RECENT
        groups: NDArray[np.void] = self.groups.of(np.array([index]))[0][newest_first]
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

    def forget_assessment(self) -> None:
        """Forget what `assess` remembers: it was of a state that is no more."""
        self._assessed = None

    def beliefs(self, index: Index, step: int) -> Belief:
        """What the item-response model knows of prompts in a step."""
        return learning.beliefs(self.prompts, index, step)
