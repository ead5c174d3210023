"""The law in plain Python: one prompt and one group at a time, and nothing shared with the service.

Where the law leaves a value open the model returns `OneOf` with every reading of it.
"""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from typing import Any

from .compare import OneOf
from .records import Group, Outcome, Prompt, Spec, Step, Totals, outcome_of, streak_kind_of


class Run:
    """The oracle's copy of a run: told the same things as the service, it says what the service must answer."""

    def __init__(self, spec: Spec, initial: tuple[float, float] = (0.5, 0.5)) -> None:
        self.spec = spec
        self.generation = 0
        self.p_easy, self.p_hard = initial
        self.prompts: dict[str, Prompt] = {}
        self.pool: dict[str, None] = {}
        self.mentioned: set[str] = set()
        self.steps: dict[int, Step] = {}
        self.newest: int | None = None
        self.newest_asked: int | None = None
        self.totals = Totals()

    # -- 1. deciding -------------------------------------------------------------------------------------------------

    def keep_probability(self, prompt: str) -> float:
        """Section 1: max(p ** z, floor), 1 without a streak or under the uniform policy."""
        known = self.prompts.get(prompt)
        if known is None or known.streak == 0 or self.spec.policy == "uniform":
            return 1.0
        p = self.p_easy if known.kind == "easy" else self.p_hard
        return max(p**known.streak, self.spec.min_keep_probability)

    def streak(self, prompt: str) -> int:
        known = self.prompts.get(prompt)
        return 0 if known is None else known.streak

    def kind(self, prompt: str) -> str:
        known = self.prompts.get(prompt)
        return "new" if known is None else known.shown_kind

    def asked(self, step: int, selected: int, skipped_easy: int, skipped_hard: int) -> None:
        """Count a select or draw that the service has answered."""
        row = self._row(step)
        row.asks += 1
        row.asked_after_completion |= row.complete
        self.newest_asked = step if self.newest_asked is None else max(step, self.newest_asked)
        for counts in (row, self.totals):
            counts.examined += selected + skipped_easy + skipped_hard
            counts.selected += selected
            counts.skipped_easy += skipped_easy
            counts.skipped_hard += skipped_hard

    # -- 2. observing ------------------------------------------------------------------------------------------------

    def report(self, step: int, results: list[tuple[str, tuple[float, ...]]], *, final: bool = False) -> dict[str, Any]:
        """Fold one report and return what the service must answer to it."""
        if self.newest is None or step > self.newest:
            self._finish_below(step)
            self.newest = step
        row = self._row(step)
        is_open = not row.complete
        outcomes = [self._observe(step, prompt, rewards, row if is_open else None) for prompt, rewards in results]
        if is_open:
            row.reported = True
            row.reports += 1
            row.reports_with_groups += bool(results)
            if final or row.effective >= self.spec.train_batch_size:
                self._complete(row)
        short = max(0, self.spec.train_batch_size - row.effective)
        return {
            "effective": [at for at, outcome in enumerate(outcomes) if outcome == "effective"],
            "zero_variance": {"easy": outcomes.count("easy"), "hard": outcomes.count("hard")},
            "undetermined": outcomes.count("undetermined"),
            "step": {
                "number": step,
                "groups": row.groups,
                "effective": row.effective,
                "missing": OneOf(short, 0) if row.complete else short,
                "complete": row.complete,
            },
            "next_rollout_batch_size": self.next_batch(step),
            "exploration": self.exploration(),
            "generation": self.generation,
        }

    def add(self, prompts: list[str]) -> int:
        """Put prompts into the pool; returns how many were new."""
        before = len(self.pool)
        self.pool.update(dict.fromkeys(prompts))
        return len(self.pool) - before

    def change(self, changes: dict[str, Any]) -> None:
        """Change tunables."""
        self.spec = replace(self.spec, **changes)

    def end(self, step: int) -> None:
        """Count `step` and all below it as complete, whether they were reported or not."""
        self._finish_below(step)
        self.newest = step if self.newest is None else max(step, self.newest)
        row = self._row(step)
        if not row.complete:
            self._complete(row)

    def _observe(self, step: int, prompt: str, rewards: tuple[float, ...], row: Step | None) -> Outcome:
        self.mentioned.add(prompt)
        known = self.prompts.setdefault(prompt, Prompt())
        outcome = outcome_of(self.spec, rewards)
        seen = bool(known.judged)
        known.groups.append(Group(step, rewards, outcome))
        self.totals.rollouts += len(rewards)
        setattr(self.totals, outcome, getattr(self.totals, outcome) + 1)
        if row is not None:
            row.rollouts += len(rewards)
            setattr(row, outcome, getattr(row, outcome) + 1)
        if outcome == "undetermined":
            return outcome
        if row is not None:
            row.groups += 1
            row.anything_seen_before |= seen
        kind = streak_kind_of(self.spec, rewards)
        if kind is None:
            known.streak, known.kind = 0, None
        else:
            restarts = self.spec.streak_rule == "same_kind" and known.kind not in (None, kind)
            known.streak, known.kind = (1 if restarts else known.streak + 1), kind
        return outcome

    # -- 3. steering -------------------------------------------------------------------------------------------------

    def _finish_below(self, step: int) -> None:
        for number, row in self.steps.items():
            if number < step and not row.complete:
                self._complete(row)

    def _complete(self, row: Step) -> None:
        row.complete = True
        row.exploration.append((self.p_easy, self.p_hard))
        if row.groups and row.anything_seen_before:
            target_easy = self.spec.easy_share * self.spec.target_zero_variance
            target_hard = self.spec.target_zero_variance - target_easy
            self.p_easy = self._moved(self.p_easy, row.easy / row.groups >= target_easy)
            self.p_hard = self._moved(self.p_hard, row.hard / row.groups >= target_hard)
        row.exploration.append((self.p_easy, self.p_hard))

    def _moved(self, p: float, down: bool) -> float:
        low, high = self.spec.exploration_bounds
        return min(high, max(low, p - self.spec.exploration_step if down else p + self.spec.exploration_step))

    # -- 4. batch size -----------------------------------------------------------------------------------------------

    def next_batch(self, step: int) -> Any:
        """The next round's size after a report for `step`, in exact arithmetic."""
        row, full = self._row(step), self.spec.rollout_batch_size
        if row.complete:
            return full
        missing = self.spec.train_batch_size - row.effective
        needed = Fraction(str(self.spec.safety_factor)) * missing
        if row.groups == 0:
            # No share of zero-variance groups exists yet: the law says neither "none" nor "all".
            return OneOf(self._clamped(math.ceil(needed)), full)
        useful = 1 - Fraction(row.easy + row.hard, row.groups)
        return full if useful == 0 else self._clamped(math.ceil(needed / useful))

    def _clamped(self, size: int) -> int:
        return min(self.spec.rollout_batch_size, max(self.spec.min_rollout_batch_size, size))

    def current_batch(self, step: int) -> Any:
        """The rollout batch size told by a select or draw at `step`."""
        if self.newest is None:
            return self.spec.rollout_batch_size
        current = self.next_batch(self.newest)
        return current if step == self.newest else OneOf(current, self.spec.rollout_batch_size)

    # -- what can be looked at ---------------------------------------------------------------------------------------

    def exploration(self) -> Any:
        """p_easy and p_hard; whether they move under the uniform policy, which never uses them, is left open."""
        if self.spec.policy == "uniform":
            return {}
        return {"easy": self.p_easy, "hard": self.p_hard}

    def seen(self) -> set[str]:
        return {name for name, prompt in self.prompts.items() if prompt.judged}

    def _row(self, step: int) -> Step:
        if step not in self.steps:
            overtaken = self.newest is not None and step < self.newest
            self.steps[step] = Step(complete=overtaken, exploration=[(self.p_easy, self.p_hard)])
        return self.steps[step]
