"""The same history gives bit for bit the same state, however it is folded; and a plain fold agrees."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greso_service.core.controller import Progress
from greso_service.core.events import Created, Event, Reported
from greso_service.core.fold import fold
from greso_service.core.outcome import Outcome
from greso_service.core.spec import RunSpec
from greso_service.core.state import RunState
from greso_service.history import codec, snapshot

from ..folding import content, run, streak  # noqa: TID252
from ..folding import report as report_to  # noqa: TID252
from .traces import PROMPTS, Action, plan, play, rewards, solved_or_not, specs, steps, traces


def begun(event: Event) -> RunState:
    assert isinstance(event, Created)
    return RunState(event)


@given(specs, traces, st.sets(st.integers(0, 60)))
def test_in_one_go_in_pieces_and_from_its_log(spec: dict[str, Any], trace: list[Action], pieces: set[int]) -> None:
    state, events = play(spec, trace)
    decoded = [codec.decode(codec.encode(codec.Recorded(event, 0, place))).event for place, event in enumerate(events)]
    replayed, in_pieces = begun(decoded[0]), begun(decoded[0])
    for place, event in enumerate(decoded[1:], 1):
        fold(replayed, event)
        if place in pieces:  # as by a replica that starts from a snapshot here
            in_pieces = snapshot.decode(snapshot.Frozen(in_pieces).encode())
        fold(in_pieces, event)
    assert content(replayed) == content(state)
    assert content(in_pieces) == content(state)
    assert snapshot.Frozen(in_pieces).encode() == snapshot.Frozen(state).encode()


@given(specs, traces, st.sets(st.integers(0, 60)))
def test_what_was_frozen_stays_as_it_was_whatever_is_folded_then(
    spec: dict[str, Any], trace: list[Action], places: set[int]
) -> None:
    _, events = play(spec, trace)
    state, frozen = begun(events[0]), list[tuple[snapshot.Frozen, bytes]]()
    for place, event in enumerate(events[1:]):
        if place in places:
            frozen.append((snapshot.Frozen(state), snapshot.Frozen(state).encode()))
        fold(state, event)
    assert [one.encode() for one, _ in frozen] == [whole for _, whole in frozen]


@given(specs, traces)
def test_planning_changes_nothing(spec: dict[str, Any], trace: list[Action]) -> None:
    state, _ = play(spec, trace)
    before = content(state)
    for action in trace:
        plan(state, action)
    assert content(state) == before


@given(specs, traces)
def test_exploration_stays_in_its_bounds_and_moves_at_most_once_a_step(
    spec: dict[str, Any], trace: list[Action]
) -> None:
    state, _ = play(spec, [])
    _, events = play(spec, trace)
    moved: list[int] = []
    for event in events[1:]:
        before = state.progress
        fold(state, event)
        now = state.progress.exploration
        low, high = state.spec.exploration_bounds
        assert low <= now.easy <= high
        assert low <= now.hard <= high
        if isinstance(event, Reported) and now != before.exploration:
            completed = completed_by(event, before, state.progress)
            moved += completed
            for old, new in ((before.exploration.easy, now.easy), (before.exploration.hard, now.hard)):
                assert abs(new - old) <= len(completed) * state.spec.exploration_step + 1e-9
    assert len(moved) == len(set(moved))


def completed_by(event: Reported, before: Progress, after: Progress) -> list[int]:
    """The steps that a report completed."""
    ended = [before.step] if not before.complete and event.step > before.step else []
    return ended + ([after.step] if after.complete and not before.is_complete(after.step) else [])


@given(specs, traces)
def test_totals_and_steps_add_up(spec: dict[str, Any], trace: list[Action]) -> None:
    state, events = play(spec, trace)
    totals = state.totals
    assert totals.groups == totals.effective + totals.easy + totals.hard + totals.undetermined
    assert totals.examined == totals.selected + totals.skipped_easy + totals.skipped_hard
    assert totals.groups == int(state.prompts.visits.sum())
    assert totals.rollouts == sum(event.rewards.values.size for event in events if isinstance(event, Reported))
    rows = state.steps.rows
    assert (rows["step"][1:] > rows["step"][:-1]).all()
    assert (rows["groups"] == rows["effective"] + rows["easy"] + rows["hard"]).all()
    assert rows["examined"].sum() == totals.examined
    assert (rows["p_easy"] > 0).all() or state.spec.exploration_bounds[0] == 0
    assert len(set(state.pool[: state.pool_size].tolist())) == state.pool_size


# A plain fold of algorithm.md, sections 2 to 4, one group after the other.


@dataclass
class Plain:
    """A run in dictionaries."""

    spec: RunSpec
    streaks: dict[str, tuple[int, str]] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    p: dict[str, float] = field(default_factory=dict)
    newest: int = -1
    complete: bool = True
    n: dict[str, int] = field(default_factory=lambda: {"effective": 0, "easy": 0, "hard": 0})
    old: int = 0

    def __post_init__(self) -> None:
        self.p = {"easy": self.spec.p_easy, "hard": self.spec.p_hard}

    def outcome(self, values: list[float]) -> str | None:
        """Section 2."""
        if len(values) < 2:
            return None
        if max(values) - min(values) > self.spec.reward_tolerance:
            return "effective"
        mean = sum(map(Fraction, values)) / len(values)
        return "easy" if mean >= self.spec.solved_reward - self.spec.reward_tolerance else "hard"

    def report(self, step: int, groups: list[tuple[str, list[float]]], final: bool) -> None:
        """Fold one report."""
        late = step < self.newest or (step == self.newest and self.complete)
        if step > self.newest:
            if not self.complete:
                self.end()
            self.newest, self.complete, self.old = step, False, 0
            self.n = dict.fromkeys(self.n, 0)
        for prompt, values in groups:
            self.group(prompt, values, late)
        if not late and (final or self.n["effective"] >= self.spec.train_batch_size):
            self.end()

    def group(self, prompt: str, values: list[float], late: bool) -> None:
        """Fold one group."""
        outcome = self.outcome(values)
        if outcome is None:
            return
        if not late:
            self.n[outcome] += 1
            self.old += prompt in self.seen
        self.seen.add(prompt)
        z, kind = self.streaks.get(prompt, (0, "new"))
        if outcome == "effective":
            self.streaks[prompt] = 0, "effective"
        elif self.spec.streak_rule == "same_kind" and kind != outcome:
            self.streaks[prompt] = 1, outcome
        else:
            self.streaks[prompt] = z + 1, outcome

    def end(self) -> None:
        """Complete the newest step, section 3."""
        self.complete = True
        if not self.old:
            return
        n = sum(self.n.values())
        target = float(self.spec.target_zero_variance)
        easy = self.spec.easy_share * target
        low, high = self.spec.exploration_bounds
        for kind, wanted in (("easy", easy), ("hard", target - easy)):
            down = self.n[kind] / n >= wanted
            self.p[kind] += -self.spec.exploration_step if down else self.spec.exploration_step
            self.p[kind] = min(max(self.p[kind], low), high)

    def next_batch(self) -> int:
        """Section 4."""
        n = sum(self.n.values())
        if self.complete or not self.n["effective"]:
            return self.spec.rollout_batch_size
        lacking = self.spec.train_batch_size - self.n["effective"]
        share = (n - self.n["effective"]) / n
        size = math.ceil(round(self.spec.safety_factor * lacking / (1 - share), 9))
        return min(max(size, self.spec.min_rollout_batch_size), self.spec.rollout_batch_size)


KINDS = {Outcome.UNDETERMINED: "new", Outcome.EFFECTIVE: "effective", Outcome.EASY: "easy", Outcome.HARD: "hard"}

reports = st.lists(
    st.tuples(steps, st.lists(st.tuples(st.sampled_from(PROMPTS), rewards | solved_or_not), max_size=8), st.booleans()),
    max_size=20,
)


@given(
    st.fixed_dictionaries(
        {"train_batch_size": st.integers(1, 8), "streak_rule": st.sampled_from(["zero_variance", "same_kind"])},
        optional={
            "exploration_step": st.sampled_from([0.01, 0.2]),
            "easy_share": st.floats(0, 1),
            "target_zero_variance": st.floats(0, 1),
            "reward_tolerance": st.sampled_from([0.0, 1e-6, 0.3]),
            "solved_reward": st.sampled_from([1.0, 0.5, 0.0]),
            "rollout_batch_size": st.integers(5, 20),
        },
    ),
    reports,
)
def test_a_plain_fold_agrees(
    spec: dict[str, Any], reported: list[tuple[int, list[tuple[str, list[float]]], bool]]
) -> None:
    state, plain = run(**spec), Plain(RunSpec.of(spec))
    for step, groups, final in reported:
        answer = report_to(state, step, groups, final=final)
        before = plain.newest
        plain.report(step, groups, final)
        outcomes = [plain.outcome(values) for _, values in groups]
        assert answer["effective"] == [place for place, outcome in enumerate(outcomes) if outcome == "effective"]
        assert answer["zero_variance"] == {kind: outcomes.count(kind) for kind in ("easy", "hard")}
        assert answer["undetermined"] == outcomes.count(None)
        assert answer["exploration"] == pytest.approx(plain.p, abs=1e-9)
        assert answer["step"]["complete"] == (plain.complete or step < plain.newest)
        if step == plain.newest:
            assert answer["step"]["effective"] == plain.n["effective"]
            assert answer["step"]["groups"] == sum(plain.n.values())
            assert answer["next_rollout_batch_size"] == plain.next_batch()
        else:
            assert before > step
            assert answer["next_rollout_batch_size"] == plain.spec.rollout_batch_size
        for prompt, _ in groups:
            z, kind = streak(state, prompt)
            assert (z, KINDS[Outcome(kind)]) == plain.streaks.get(prompt, (0, "new"))
