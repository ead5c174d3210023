"""What a RunState remembers of its prompts."""

from __future__ import annotations

import gc
import math
import tracemalloc
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from greso_service.core.controller import Exploration
from greso_service.core.draws import Ids
from greso_service.core.events import Created, Patched, Reported
from greso_service.core.fold import fold
from greso_service.core.outcome import Outcome, Rewards
from greso_service.core.recent import RECENT
from greso_service.core.state import RunState
from greso_service.history import snapshot

from ..folding import mixed, pool, report, run, select  # noqa: TID252


def row(state: RunState, prompt: str) -> int:
    return int(state.table.find(Ids.of([prompt]))[0])


def reported(state: RunState, step: int, prompt: str, rewards: list[float], *, final: bool = False) -> Reported:
    index, new = state.table.plan(Ids.of([prompt]))
    return Reported(step, final, new, index, Rewards.of([rewards]))


@pytest.mark.parametrize("at_once", [True, False])
def test_the_mean_of_a_prompt_is_that_of_all_its_rewards(at_once: bool) -> None:
    state = run(train_batch_size=100)
    groups = [("a", [1.0]), ("a", [0.0, 0.0, 0.5]), ("a", []), ("a", [0.25] * 6)]
    for part in [groups] if at_once else [[group] for group in groups]:
        report(state, 0, part)
    rewards = [reward for _, earned in groups for reward in earned]
    assert state.prompts.mean[row(state, "a")] == pytest.approx(math.fsum(rewards) / len(rewards), rel=1e-14)
    assert state.prompts.rewards[row(state, "a")] == len(rewards)
    assert state.prompts.visits[row(state, "a")] == 4


def test_the_mean_of_equal_rewards_never_drifts() -> None:
    state = run(train_batch_size=10_000)
    for _ in range(300):
        report(state, 0, [("a", [0.1] * 3)])
    assert state.prompts.mean[row(state, "a")] == pytest.approx(0.1, rel=1e-13)


def test_the_last_step_is_the_newest_not_the_last_reported() -> None:
    state = run(train_batch_size=100)
    for step in (3, 7, 5):
        report(state, step, [("a", [0, 1])])
    assert state.prompts.last_step[row(state, "a")] == 7


@pytest.mark.parametrize("count", [1, RECENT - 1, RECENT, RECENT + 1, 3 * RECENT + 2])
@pytest.mark.parametrize("at_once", [True, False])
def test_the_latest_groups_newest_first(count: int, at_once: bool) -> None:
    state = run(train_batch_size=1000)
    groups = [("a", [float(number)] * (number % 3)) for number in range(count)]
    for part in [groups] if at_once else [[group] for group in groups]:
        report(state, 2, [*part, ("b", [1, 1])])
    kept = state.recent(row(state, "a"))
    newest = list(range(count))[::-1][:RECENT]
    assert kept["count"].tolist() == [number % 3 for number in newest]
    np.testing.assert_array_equal(kept["mean"], [number if number % 3 else np.nan for number in newest])
    outcomes = [Outcome.UNDETERMINED if number % 3 < 2 else Outcome.EASY for number in newest]
    assert kept["outcome"].tolist() == outcomes


def test_an_assessment_is_made_anew_when_the_state_has_moved_on() -> None:
    state = run(train_batch_size=2)
    asked = reported(state, 0, "a", [0, 1])
    assert not state.assess(asked).progress.complete
    report(state, 0, [("b", [0, 1])])
    assert state.assess(asked).progress.complete
    report(state, 1, [])
    assert state.assess(asked).late


def test_a_prompt_twice_in_a_report_is_folded_in_the_order_given() -> None:
    state = run(streak_rule="same_kind", train_batch_size=100)
    report(state, 0, [("a", [1, 1]), ("b", [0, 1]), ("a", [0, 0]), ("a", [0, 0]), ("b", [0, 0])])
    view = state.view.of(state.table.find(Ids.of(["a", "b"])))
    assert view.streak.tolist() == [2, 1]
    assert view.kind.tolist() == [Outcome.HARD, Outcome.HARD]


def test_a_change_of_bounds_moves_the_exploration_in_force_inside() -> None:
    state = run()
    fold(state, Patched({"exploration_bounds": [0.6, 0.9]}))
    assert state.progress.exploration == Exploration(0.6, 0.6)
    fold(state, Patched({"p_easy": 0.8}))
    assert state.progress.exploration == Exploration(0.8, 0.6)


def test_a_change_of_the_step_size_counts_from_the_next_completion() -> None:
    state = run(train_batch_size=100)
    report(state, 0, mixed(1, 1, 1), final=True)
    report(state, 1, mixed(1, 1, 1))
    fold(state, Patched({"exploration_step": 0.2}))
    assert report(state, 1, [], final=True)["exploration"] == pytest.approx({"easy": 0.3, "hard": 0.3})


def test_a_smaller_batch_completes_the_step_with_the_next_report() -> None:
    state = run(train_batch_size=10)
    report(state, 0, mixed(5, 0, 0))
    fold(state, Patched({"train_batch_size": 4}))
    answer = report(state, 0, [])
    assert answer["step"] == {"number": 0, "groups": 5, "effective": 5, "missing": 0, "complete": True}


def test_a_history_has_one_beginning() -> None:
    with pytest.raises(ValueError, match="first"):
        fold(run(), Created({}))


def test_candidates_of_a_select_are_not_registered() -> None:
    state = run()
    select(state, 0, ["a", "b"])
    assert state.table.size == 0
    pool(state, ["b"])
    assert state.table.texts([0]) == ["b"]


def arrays_of(part: Any, met: dict[int, NDArray[Any]]) -> dict[int, NDArray[Any]]:
    """Every array that a part of a state refers to, by what it is part of."""
    if isinstance(part, np.ndarray):
        met[id(part)] = part
    elif isinstance(part, list):
        for each in part:
            arrays_of(each, met)
    else:
        for kind in type(part).__mro__:
            for name in getattr(kind, "__slots__", ()):
                arrays_of(getattr(part, name), met)
    return met


def test_the_memory_of_a_state_is_that_of_all_its_arrays() -> None:
    """Graded rewards, which hardly ever say the same twice, and domains with steps of their own."""
    state = run(train_batch_size=10**6)
    prompts = [f"dapo/{number:08d}" for number in range(1_000)]
    pool(state, prompts, domains=[f"domain {number % 30}" for number in range(1_000)])
    earned = np.random.default_rng(0).random((60, 200, 4)).tolist()
    for step, groups in enumerate(earned):
        report(state, step, list(zip(prompts[step * 7 :][:200], groups, strict=True)), final=True)
    again = snapshot.decode(snapshot.Frozen(state).encode())  # which has no room to grow
    for each in (state, again):
        each.members(1)
    total = sum(array.nbytes for array in arrays_of(again, {}).values())
    assert total > 800_000
    assert total < again.nbytes < total + 600_000
    assert again.nbytes == pytest.approx(state.nbytes, rel=0.01)


def test_the_memory_of_a_state_is_about_that_of_the_process() -> None:
    """Of small runs, of which there may be many."""

    def small() -> RunState:
        state = run()
        pool(state, [f"dapo/{number:08d}" for number in range(400)])
        for step in range(5):
            report(state, step, mixed(20, 5, 5), final=True)
        return state

    small()
    tracemalloc.start()
    try:
        states = [small() for _ in range(5)]
        gc.collect()
        taken = tracemalloc.get_traced_memory()[0] / 5
    finally:
        tracemalloc.stop()
    assert states[0].nbytes == pytest.approx(taken, rel=0.25)


def test_thousands_of_groups_of_one_prompt_at_once() -> None:
    state = run(train_batch_size=10**6)
    report(state, 0, [("a", [0, 0])] * 2_000)
    assert state.prompts.streak[0] == state.prompts.visits[0] == 2_000
