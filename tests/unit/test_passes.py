"""Passed and failed responses: fractional rewards, other scales, odd targets, and MoPPS's counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from greso_service.core.outcome import Rewards, classify
from greso_service.core.passes import Passes, counted
from greso_service.core.spec import RunSpec

from ..folding import report, run  # noqa: TID252


def earned(groups: list[list[float]], **spec: Any) -> Passes:
    made, rewards = RunSpec.of(spec), Rewards.of(groups)
    return Passes.earned(rewards, classify(rewards, made).mean, made)


@pytest.mark.parametrize(
    ("rewards", "solved", "passed"),
    [
        ([1, 0, 0, 1], 1.0, 2),
        ([0, 0, 0, 0], 1.0, 0),
        ([1, 1, 1], 1.0, 3),
        ([0.5, 0.25], 1.0, 0.75),
        ([5, 0, 10, 10], 10.0, 2.5),
        ([-1, 1, 1, -1], 1.0, 2),  # what is below 0 is no pass, and takes nothing off the others
        ([2, 0, 1], 1.0, 2),  # nor is what exceeds a pass more than one
        ([-3, 0.5, 9], 1.0, 1.5),
        ([-0.0, -0.0], 1.0, 0),
        ([0, -1, -2], 0.0, 1),  # a target of 0: reached or not
        ([0.5, -0.5], 0.0, 1),
        ([-1, -2, -5, 0], -2.0, 3),
        ([-2 - 1e-9, -3], -2.0, 1),  # within the tolerance
        ([1e300, 0], 1e300, 1),
        ([1e300, -1e300], 1e300, 1),
        ([1.0, 0.0], 1e300, 1e-300),
        ([1e-310, 0.0], 1e-310, 1),  # the least numbers there are
        ([1.0, 0.0], 1e-310, 1),
        ([], 1.0, 0),
        ([], 0.0, 0),
        ([1.0], 1.0, 1),
    ],
)
def test_passed(rewards: list[float], solved: float, passed: float) -> None:
    found = earned([rewards], solved_reward=solved)
    assert found.passed == pytest.approx([passed], rel=1e-12, abs=1e-320)
    assert found.tried.tolist() == [len(rewards)]


def test_groups_without_rewards_among_others() -> None:
    found = earned([[], [1.0, 0.0], [], [], [1.0], []])
    assert found.passed.tolist() == [0, 1, 0, 0, 1, 0]
    assert found.tried.tolist() == [0, 2, 0, 0, 1, 0]
    odd = earned([[], [3.0, 0.0], [], [], [-1.0], []])
    assert odd.passed.tolist() == [0, 1, 0, 0, 0, 0]
    none = earned([])
    assert none.passed.size == none.tried.size == 0


@given(
    st.lists(st.lists(st.floats(-2, 2) | st.sampled_from([0.0, 1.0, 1e308, -1e308, 0.3]), max_size=9), max_size=6),
    st.sampled_from([1.0, 0.3, 1 / 3, 0.1, 7.0, 1e-310, 1e300, 0.0, -1.0]),
)
def test_passes_lie_between_none_and_all(groups: list[list[float]], solved: float) -> None:
    found = earned(groups, solved_reward=solved)
    assert np.isfinite(found.passed).all()
    assert (found.passed >= 0).all()
    assert (found.passed <= found.tried).all(), "else a count of failures is negative"
    assert (found.tried == [len(group) for group in groups]).all()


@given(st.lists(st.lists(st.floats(0, 1), max_size=9), max_size=6))
def test_a_group_counts_the_same_whatever_the_others_are(groups: list[list[float]]) -> None:
    """A reward outside [0, 1] sends the report another way; the others hardly notice."""
    alone = earned(groups)
    beside = earned([*groups, [-1.0, 1.0]])
    assert beside.passed[:-1] == pytest.approx(alone.passed, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("decay", [1.0, 0.5, 0.9, 0.0])
def test_counts_are_those_of_mopps(decay: float) -> None:
    """a <- decay * a + (1 - decay) * 1 + k, b likewise with G - k, from Beta(1, 1)."""
    rng = np.random.default_rng(3)
    a, b = 1.0, 1.0
    passed, failed = np.zeros(1, np.float32), np.zeros(1, np.float32)
    for _ in range(50):
        k, size = int(rng.integers(0, 9)), 8
        a, b = decay * a + (1 - decay) + k, decay * b + (1 - decay) + size - k
        more = Passes(np.array([float(k)]), np.array([float(size)]))
        now = counted(passed, failed, more, decay)
        passed, failed = now[0].astype(np.float32), now[1].astype(np.float32)
        assert 1 + passed == pytest.approx([a], rel=1e-5)
        assert 1 + failed == pytest.approx([b], rel=1e-5)


@pytest.mark.parametrize("decay", [1.0, 0.5])
def test_counts_of_a_run(decay: float) -> None:
    state = run(posterior_decay=decay, train_batch_size=10**6)
    report(state, 0, [("a", [1, 0, 0, 0]), ("b", []), ("a", [1, 1, 1, 1]), ("c", [0.25, 0.25])])
    assert state.prompts.passed[:3].tolist() == [5, 0, 0.5], "groups of one report count together"
    assert state.prompts.failed[:3].tolist() == [3, 0, 1.5]
    report(state, 1, [("a", []), ("b", [1.0]), ("c", [1, 1])])
    assert state.prompts.passed[:3].tolist() == [5, 1, 0.5 * decay + 2], "no rewards, no decay"
    assert state.prompts.failed[:3].tolist() == [3, 0, 1.5 * decay]


def test_a_change_of_the_decay_holds_from_then_on() -> None:
    state = run(posterior_decay=1.0, train_batch_size=10**6)
    report(state, 0, [("a", [1, 1])])
    state.spec = state.spec.changed({"posterior_decay": 0.0})
    report(state, 1, [("a", [0, 0, 0])])
    assert (state.prompts.passed[0], state.prompts.failed[0]) == (0, 3)


def test_counts_never_fall_below_zero() -> None:
    """0.3 / 0.3 * 8 must be 8, not a hair more."""
    for solved in (0.1, 0.3, 0.7, 1 / 3, 1e-5):
        state = run(solved_reward=solved, train_batch_size=10**6)
        for step in range(20):
            report(state, step, [("a", [solved] * (3 + step))])
        assert state.prompts.failed[0] >= 0
