"""A step's progress, completion, steering and next batch."""

from __future__ import annotations

from typing import Any

import pytest

from greso_service.core.controller import NO_STEP, Exploration, Progress, next_rollout_batch_size, observe
from greso_service.core.spec import RunSpec

from ..folding import counts, mixed, report, run, select  # noqa: TID252

START = Progress(Exploration(0.5, 0.5))
MANY = {"train_batch_size": 1000}


def spec(**given: Any) -> RunSpec:
    return RunSpec.of({"train_batch_size": 10, **given})


def test_before_any_report_no_step_is_complete() -> None:
    assert START.step == NO_STEP
    assert not START.is_complete(0)
    assert START.is_complete(-1)


def test_a_step_completes_with_its_effective_groups() -> None:
    progress, _ = observe(START, spec(), 0, counts(9, 3, 3), final=False)
    assert not progress.complete
    progress, _ = observe(progress, spec(), 0, counts(1), final=False)
    assert progress.complete
    assert progress.counts == counts(10, 3, 3)


def test_a_step_completes_with_a_final_report() -> None:
    progress, _ = observe(START, spec(), 0, counts(1), final=True)
    assert progress.complete


def test_a_step_completes_when_a_later_one_is_reported() -> None:
    first, _ = observe(START, spec(), 3, counts(1, 1, 0), final=False)
    progress, closed_with = observe(first, spec(), 5, counts(2), final=False)
    assert progress.is_complete(3)
    assert progress.is_complete(4), "below the newest reported one, reported or not"
    assert not progress.is_complete(5)
    assert closed_with == progress.exploration == Exploration(0.49, 0.51)
    assert progress.counts == counts(2)


def test_a_step_adjusts_once_by_what_all_its_rounds_brought() -> None:
    progress, _ = observe(START, spec(), 0, counts(5, 0, 0), final=False)
    assert progress.exploration == START.exploration
    progress, _ = observe(progress, spec(), 0, counts(4, 0, 8), final=False)
    assert progress.exploration == START.exploration
    progress, _ = observe(progress, spec(), 0, counts(1, 0, 0), final=False)
    assert progress.exploration == Exploration(0.51, 0.49)  # easy 0/18 < 1/12, hard 8/18 >= 1/6


@pytest.mark.parametrize("final", [False, True])
@pytest.mark.parametrize("step", [0, 1])
def test_late_reports_change_no_progress(step: int, final: bool) -> None:
    done, _ = observe(START, spec(), 1, counts(10), final=False)
    assert observe(done, spec(), step, counts(5, 5, 5), final=final)[0] == done


def test_final_for_a_complete_step_does_not_adjust_again() -> None:
    done, _ = observe(START, spec(), 0, counts(10), final=True)
    again, _ = observe(done, spec(), 0, counts(), final=True)
    assert again == done
    later, _ = observe(again, spec(), 1, counts(1, seen=False), final=False)
    assert later.exploration == done.exploration


def test_no_adjustment_for_a_step_of_new_prompts_only() -> None:
    progress, _ = observe(START, spec(), 0, counts(5, 9, 9, seen=False), final=True)
    assert progress.exploration == START.exploration


def test_one_prompt_seen_before_is_enough_to_adjust() -> None:
    progress, _ = observe(START, spec(), 0, counts(5, 9, 9, seen=False), final=False)
    progress, _ = observe(progress, spec(), 0, counts(1), final=True)
    assert progress.exploration == Exploration(0.49, 0.49)


def test_no_adjustment_for_a_step_without_groups() -> None:
    progress, _ = observe(START, spec(), 0, counts(), final=True)
    assert progress.complete
    assert progress.exploration == START.exploration


@pytest.mark.parametrize(
    ("easy", "hard", "moved"),
    [
        (3, 3, Exploration(0.49, 0.49)),  # exactly on both targets: 3/12
        (0, 0, Exploration(0.51, 0.51)),
        (3, 2, Exploration(0.49, 0.51)),
        (2, 3, Exploration(0.51, 0.49)),
        (2, 2, Exploration(0.51, 0.51)),
    ],
)
def test_shares_at_their_targets_lower_exploration(easy: int, hard: int, moved: Exploration) -> None:
    # Powers of two, so that the targets are exact: with easy_share 1/3 no float is the target of hard groups.
    given = spec(**MANY, easy_share=0.5, target_zero_variance=0.5)
    progress, _ = observe(START, given, 0, counts(12 - easy - hard, easy, hard), final=True)
    assert progress.exploration == moved


@pytest.mark.parametrize(
    ("share", "target", "moved"),
    [
        (0.0, 0.25, Exploration(0.49, 0.51)),
        (1.0, 0.25, Exploration(0.51, 0.49)),
        (0.5, 0.0, Exploration(0.49, 0.49)),
        (0.5, 1.0, Exploration(0.51, 0.51)),
    ],
)
def test_extreme_targets(share: float, target: float, moved: Exploration) -> None:
    given = spec(easy_share=share, target_zero_variance=target)
    progress, _ = observe(START, given, 0, counts(8, 0, 0), final=True)
    assert progress.exploration == moved


def test_exploration_stops_at_its_bounds() -> None:
    given = spec(exploration_bounds=(0.1, 0.9), exploration_step=0.3)
    progress = START
    lows = []
    for step in range(4):
        progress, _ = observe(progress, given, step, counts(0, 5, 0), final=True)
        lows.append((progress.exploration.easy, progress.exploration.hard))
    assert lows == [(0.2, 0.8), (0.1, 0.9), (0.1, 0.9), (0.1, 0.9)]


def test_hundreds_of_steps_stay_on_the_grid() -> None:
    progress, seen = START, set()
    for step in range(300):
        easy = 5 if (step // 45) % 2 == 0 else 0
        progress, _ = observe(progress, spec(), step, counts(0, easy, 5 - easy), final=True)
        seen |= {progress.exploration.easy, progress.exploration.hard}
    assert seen <= {number / 100 for number in range(5, 96)}


@pytest.mark.parametrize(
    ("effective", "zero", "given", "size"),
    [
        (5, 5, {}, 13),  # ceil(1.25 * 5 / 0.5) = ceil(12.5)
        (5, 0, {}, 7),  # ceil(6.25)
        (6, 0, {}, 5),  # 1.25 * 4 = 5 exactly
        (9, 1, {}, 2),  # ceil(1.3889)
        (9, 0, {"safety_factor": 1.0}, 1),
        (1, 99, {}, 384),  # 1125, clamped
        (0, 10, {}, 384),  # all zero-variance
        (0, 0, {}, 384),
        (9, 0, {"min_rollout_batch_size": 64}, 64),
        (1, 99, {"rollout_batch_size": 1200}, 1125),
        (3, 0, {"safety_factor": 1.0, "train_batch_size": 6}, 3),
        (7, 42, {"safety_factor": 1.0}, 21),  # 3 * 7 exactly, where 3 / (1 - 42/49) is 21.000000000000004
    ],
)
def test_next_batch_of_an_incomplete_step(effective: int, zero: int, given: dict[str, Any], size: int) -> None:
    progress, _ = observe(START, spec(**given), 0, counts(effective, 0, zero), final=False)
    assert next_rollout_batch_size(progress, spec(**given), 0) == size


def test_next_batch_of_a_complete_or_another_step_is_the_whole_one() -> None:
    progress, _ = observe(START, spec(), 3, counts(9), final=False)
    assert next_rollout_batch_size(progress, spec(), 2) == 384
    assert next_rollout_batch_size(progress, spec(), 4) == 384
    progress, _ = observe(progress, spec(), 3, counts(), final=True)
    assert next_rollout_batch_size(progress, spec(), 3) == 384


# The same through the fold, where "seen" is looked up in the state.


def test_a_prompt_seen_in_an_undetermined_group_only_counts_as_new() -> None:
    state = run(**MANY)
    report(state, 0, [("a", [1]), ("b", [])], final=True)
    answer = report(state, 1, [("a", [1, 1]), ("b", [0, 0])], final=True)
    assert answer["exploration"] == {"easy": 0.5, "hard": 0.5}
    answer = report(state, 2, [("a", [1, 1]), ("c", [0, 1])], final=True)
    assert answer["exploration"] == {"easy": 0.49, "hard": 0.51}


@pytest.mark.parametrize("at_once", [True, False])
def test_a_prompt_twice_in_a_step_was_seen_the_second_time(at_once: bool) -> None:
    state = run(**MANY)
    groups = [("a", [1.0, 1.0]), ("a", [1.0, 1.0])]
    for part in [groups] if at_once else [groups[:1], groups[1:]]:
        report(state, 0, part)
    assert report(state, 0, [], final=True)["exploration"] == {"easy": 0.49, "hard": 0.51}


def test_undetermined_groups_cost_rollouts_and_count_for_nothing_else() -> None:
    state = run(**MANY)
    answer = report(state, 0, [("a", [1.0]), ("b", []), ("c", [0, 1]), ("d", [1, 1, 1])])
    assert answer["undetermined"] == 2
    assert answer["step"] == {"number": 0, "groups": 2, "effective": 1, "missing": 999, "complete": False}
    [row] = state.steps.rows
    assert (row["groups"], row["effective"], row["easy"], row["rollouts"]) == (2, 1, 1, 6)
    assert (state.totals.groups, state.totals.undetermined, state.totals.rollouts) == (4, 2, 6)


def test_late_reports_enter_histories_and_totals_but_not_their_step() -> None:
    state = run(train_batch_size=2)
    report(state, 4, mixed(2, 1, 1))
    before = state.steps.rows.copy(), state.progress
    answer = report(state, 4, [("p2", [1, 1]), ("new", [0, 1])])
    assert answer["effective"] == [1]
    assert answer["step"] == {"number": 4, "groups": 4, "effective": 2, "missing": 0, "complete": True}
    assert answer["next_rollout_batch_size"] == 384
    assert state.steps.rows.tobytes() == before[0].tobytes()
    assert state.progress == before[1]
    assert (state.totals.groups, state.totals.effective, state.totals.easy) == (6, 3, 2)
    answer = report(state, 2, [("p3", [0, 0])])  # a step that was never reported, below the newest
    assert answer["step"] == {"number": 2, "groups": 0, "effective": 0, "missing": 2, "complete": True}
    assert [row["step"] for row in state.steps.rows] == [4]


def test_a_step_row_shows_what_the_step_left_behind() -> None:
    state = run(train_batch_size=100)
    report(state, 0, mixed(1, 1, 1))
    report(state, 1, mixed(1, 1, 1))
    report(state, 2, [])
    assert [(row["p_easy"], row["p_hard"], row["rounds"]) for row in state.steps.rows] == [
        (0.5, 0.5, 1),
        (0.49, 0.49, 1),
        (0.49, 0.49, 0),
    ]


def test_a_select_for_a_bygone_step_shows_the_exploration_it_was_decided_with() -> None:
    state = run(**MANY)
    report(state, 0, mixed(1, 1, 1), final=True)
    report(state, 5, mixed(1, 1, 1), final=True)
    select(state, 3, ["p0"])
    row = state.steps.rows[1]
    assert (row["step"], row["examined"], row["p_easy"], row["p_hard"]) == (3, 1, 0.49, 0.49)
