"""What the client knows of its run, and the answers it gives from that while the service is away.

The rule is the plain one: roll out everything. Only what the training loop can't do without is worked out here: which
groups are effective, how far the step is, and how many prompts to roll out next (docs/algorithm.md, sections 2 to 4).
"""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from greso_client._types import (
    Decision,
    Drawn,
    Exploration,
    Group,
    PoolSize,
    Reported,
    Selection,
    Skipped,
    StepProgress,
    ZeroVariance,
)
from greso_client._views import RunState, Totals

# Defaults of the fields used here, as in docs/algorithm.md: they hold until the service or the caller says otherwise.
_DEFAULTS = {
    "train_batch_size": 256,
    "rollout_batch_size": 384,
    "min_rollout_batch_size": 1,
    "safety_factor": 1.25,
    "reward_tolerance": 1e-6,
    "solved_reward": 1.0,
}
_NO_STEP = -1


def _usable(name: str, value: Any) -> bool:
    """Whether a field of a spec may be taken over: what is worked with here and wrong is the service's to refuse."""
    if name not in _DEFAULTS:
        return value is not None
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1e300 <= value <= 1e300:
        return False
    return name == "solved_reward" or value > 0 or (name == "reward_tolerance" and value == 0)


class Fallback:
    """The last known state of a run, and answers without the service. Safe between threads."""

    def __init__(self, run: str, shuffle: random.Random) -> None:
        self._run = run
        self._shuffle = shuffle
        self._lock = threading.Lock()
        self._spec: dict[str, Any] = dict(_DEFAULTS)
        self.spec_known = False
        self._exploration = Exploration(0.5, 0.5)
        self._generation = 0
        self._epoch = 0
        # The newest step reported here or seen in an answer: judged groups and effective ones.
        self._step, self._groups, self._effective = _NO_STEP, 0, 0
        self._batch_size: int | None = None
        # Prompts this client added, as an ordered set; the walk is what is left of the present local epoch.
        self._prompts: dict[str, None] = {}
        self._walk: list[str] = []

    @property
    def rollout_batch_size(self) -> int:
        """Prompts to roll out in the first round of a step."""
        return int(self._spec["rollout_batch_size"])

    @property
    def train_batch_size(self) -> int:
        """Effective groups that a step needs."""
        return int(self._spec["train_batch_size"])

    # What live answers teach

    def learn_spec(self, spec: Mapping[str, Any], known: bool) -> None:
        """Take over the fields of a spec: the service's (`known`), or those the caller asked for."""
        with self._lock:
            self._spec.update({name: value for name, value in spec.items() if _usable(name, value)})
            self.spec_known = self.spec_known or known

    def learn_state(self, state: RunState) -> None:
        """Take over a run's state."""
        self.learn_spec(state.spec, known=True)
        with self._lock:
            self._exploration, self._generation, self._epoch = state.exploration, state.generation, state.epoch

    def learn(self, answer: Selection | Drawn | Reported) -> None:
        """Take over what an answer says about the run."""
        with self._lock:
            self._exploration, self._generation = answer.exploration, answer.generation
            if isinstance(answer, Drawn):
                self._epoch = answer.epoch
            elif isinstance(answer, Selection):
                self._batch_size = answer.rollout_batch_size
            else:
                self._batch_size = answer.next_rollout_batch_size
                if answer.step.number >= self._step:
                    self._step, self._groups = answer.step.number, answer.step.groups
                    self._effective = answer.step.effective
                if answer.step.complete:
                    self._spec["rollout_batch_size"] = answer.next_rollout_batch_size

    def rewound(self, state: RunState, step: int) -> None:
        """Take over a run's state as it was when `step` completed: the later steps are no more."""
        self.learn_state(state)
        with self._lock:
            self._step, self._groups, self._effective = step + 1, 0, 0
            self._batch_size = None

    def learn_prompts(self, prompts: Sequence[str]) -> None:
        """Remember the prompts this client added: the pool of a local walk."""
        with self._lock:
            self._prompts.update(dict.fromkeys(prompts))

    # Answers without the service

    def state(self) -> RunState:
        """The run as far as it is known here."""
        with self._lock:
            return RunState(
                run=self._run, step=max(self._step, 0), exploration=self._exploration, prompts=len(self._prompts),
                pool=len(self._prompts), epoch=self._epoch, spec=dict(self._spec), totals=Totals(),
                generation=self._generation, degraded=True,
            )  # fmt: skip

    def pool(self, added: int) -> PoolSize:
        """The pool as far as it is known here."""
        return PoolSize(added=added, pool=len(self._prompts), degraded=True)

    def select(self, candidates: int, limit: int | None, explain: bool) -> Selection:
        """All candidates, up to `limit`."""
        examined = candidates if limit is None else min(limit, candidates)
        with self._lock:
            return Selection(
                selected=list(range(examined)), examined=examined, skipped=Skipped(), exploration=self._exploration,
                rollout_batch_size=self._batch_size or self.rollout_batch_size, generation=self._generation,
                degraded=True, decisions=[Decision(True, "degraded", 1.0, 0)] * examined if explain else None,
            )  # fmt: skip

    def draw(self, count: int | None) -> Drawn | None:
        """The next `count` prompts of a shuffled walk over the prompts added here; None when there are none."""
        with self._lock:
            if not self._prompts:
                return None
            wanted = (self._batch_size or self.rollout_batch_size) if count is None else count
            # As the service does: one draw never looks at more than one pool's length.
            wanted = min(wanted, len(self._prompts))
            drawn = self._walk[:wanted]
            del self._walk[:wanted]
            if len(drawn) < wanted:
                self._walk = list(self._prompts)
                self._shuffle.shuffle(self._walk)
                self._epoch += 1
                rest = wanted - len(drawn)
                drawn += self._walk[:rest]
                del self._walk[:rest]
            return Drawn(
                prompts=drawn, epoch=self._epoch, examined=len(drawn), skipped=Skipped(),
                exploration=self._exploration, generation=self._generation, degraded=True,
            )  # fmt: skip

    def report(self, step: int, groups: Sequence[Group], final: bool) -> Reported:
        """Judge groups here and count them into their step."""
        effective, easy, hard, undetermined = self._classify(groups)
        with self._lock:
            if step > self._step:
                self._step, self._groups, self._effective = step, 0, 0
            late = step < self._step
            if not late:
                self._groups += len(groups) - undetermined
                self._effective += len(effective)
            progress = self._progress(step, late, final)
            size = self.rollout_batch_size if progress.complete else self._next_batch_size(progress.missing)
            self._batch_size = size
            return Reported(
                effective=effective, zero_variance=ZeroVariance(easy, hard), undetermined=undetermined, step=progress,
                next_rollout_batch_size=size, exploration=self._exploration, generation=self._generation, degraded=True,
            )  # fmt: skip

    def _classify(self, groups: Sequence[Group]) -> tuple[list[int], int, int, int]:
        tolerance, solved = float(self._spec["reward_tolerance"]), float(self._spec["solved_reward"])
        effective: list[int] = []
        easy = hard = undetermined = 0
        for index, group in enumerate(groups):
            rewards = group.rewards
            if len(rewards) < 2:
                undetermined += 1
            elif max(rewards) - min(rewards) > tolerance:
                effective.append(index)
            elif math.fsum(rewards) / len(rewards) >= solved - tolerance:
                easy += 1
            else:
                hard += 1
        return effective, easy, hard, undetermined

    def _progress(self, step: int, late: bool, final: bool) -> StepProgress:
        if late:
            # Its counts are no longer kept here; a report of a later step has completed it.
            return StepProgress(number=step, groups=0, effective=0, missing=0, complete=True)
        missing = max(0, int(self._spec["train_batch_size"]) - self._effective)
        return StepProgress(step, self._groups, self._effective, missing, complete=final or missing == 0)

    def _next_batch_size(self, missing: int) -> int:
        most = self.rollout_batch_size
        if self._effective == 0:
            return most
        wanted = math.ceil(float(self._spec["safety_factor"]) * missing * self._groups / self._effective)
        return min(max(wanted, int(self._spec["min_rollout_batch_size"])), most)
