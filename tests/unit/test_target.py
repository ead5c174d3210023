"""A target that tunes itself: where it goes, what it never does, and what is told of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from greso_service import answers
from greso_service.core import controller, target
from greso_service.core.events import Patched, Reported, Seconds
from greso_service.core.outcome import Rewards
from greso_service.core.spec import AUTO, RunSpec, SpecError
from greso_service.core.state import RunState
from greso_service.core.target import Tried, Tuning, begun, tuned
from greso_service.history import codec, snapshot

from ..folding import content, fold, mixed, report, run  # noqa: TID252

SPEC = RunSpec.of({"target_zero_variance": AUTO})


def after(steps: int, tried: Tried, spec: RunSpec = SPEC, stock: int = 10_000, **groups: int) -> Tuning:
    tuning = begun(spec)
    for _ in range(steps):
        tuning = tuned(tuning, spec, tried, **{"effective": 60, "easy": 10, "hard": 30, **groups}, stock=stock)
    return tuning


def test_it_begins_with_the_papers_target_inside_the_bounds() -> None:
    assert (begun(SPEC).target_easy, begun(SPEC).target_hard) == pytest.approx((0.25 / 3, 0.5 / 3))
    low = begun(RunSpec.of({"target_zero_variance": AUTO, "target_bounds": [0.01, 0.1]}))
    assert low.target_easy + low.target_hard == pytest.approx(0.1)


# A find brings 1 / (1 - 0.8) = 5 effective groups, 60 of 100 groups are effective: it pays from 0.6 / 0.4 / 5 = 0.3 on.
@pytest.mark.parametrize(("found", "up"), [(0.2, False), (0.4, True)])
def test_a_kind_goes_up_while_exploring_it_pays(found: float, up: bool) -> None:
    tuning = after(20, Tried(hard=100, hard_found=100 * found, kept=1000, kept_found=800))
    assert tuning.needed == pytest.approx(0.3, rel=0.02)
    assert tuning.target_hard > 1 / 6 if up else tuning.target_hard < 1 / 6
    assert tuning.target_easy == pytest.approx(1 / 12)  # of which nothing is known


def test_a_find_counts_for_more_where_the_stock_is_small() -> None:
    tried = Tried(kept=1000, kept_found=800)
    assert after(9, tried, stock=100).worth == pytest.approx(2 * after(9, tried, stock=10**9).worth)


def test_a_target_stays_near_the_share_that_comes() -> None:
    tuning = after(200, Tried(hard=100, hard_found=90, kept=1000, kept_found=800), hard=1, easy=0, effective=99)
    assert tuning.target_hard <= 0.02 + 1e-9


amounts = st.integers(0, 50)


@given(
    st.lists(st.tuples(amounts, amounts, amounts, st.floats(0, 1), amounts), max_size=60),
    st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted),
    st.floats(0, 1),
)
def test_it_never_leaves_its_bounds(
    steps: list[tuple[int, int, int, float, int]], bounds: list[float], share: float
) -> None:
    spec = RunSpec.of({"target_zero_variance": AUTO, "target_bounds": bounds, "easy_share": share})
    tuning = begun(spec)
    for effective, easy, hard, found, stock in steps:
        tried = Tried(easy, easy * found, hard, hard * found, effective, effective * found)
        before = tuning
        tuning = tuned(tuning, spec, tried, easy=easy, hard=hard, effective=effective, stock=stock)
        low, high = spec.target_bounds
        assert low - 1e-9 <= tuning.target_easy + tuning.target_hard <= high + 1e-9
        assert target.reason(tuning, spec)
        if not effective + easy + hard:
            assert (tuning.target_easy, tuning.target_hard) == (before.target_easy, before.target_hard)


@pytest.mark.parametrize(
    ("given", "pointer"),
    [
        ({"target_zero_variance": "automatic"}, "target_zero_variance"),
        ({"target_bounds": [0.5, 0.1]}, "target_bounds"),
        ({"target_bounds": [0.5, 1.1]}, "target_bounds"),
        ({"target_bounds": ["auto", 1]}, "target_bounds"),
    ],
)
def test_what_a_spec_may_not_say(given: dict[str, Any], pointer: str) -> None:
    with pytest.raises(SpecError) as raised:
        RunSpec.of(given)
    assert [name for name, _ in raised.value.faults] == [pointer]


def trained(steps: int = 12, **spec: Any) -> RunState:
    """Hard prompts come again and again and are never solved."""
    state = run(train_batch_size=20, **spec)
    for step in range(steps):
        report(state, step, mixed(20, 2, 8))
    return state


def test_a_number_stays_what_it_is() -> None:
    state = trained(target_zero_variance=0.25)
    assert state.progress.tuning is None
    assert answers.summary("r", state)["target"] == {
        "easy": 0.25 / 3, "hard": 0.25 - 0.25 / 3, "auto": False,
        "reason": "set by target_zero_variance and easy_share",
    }  # fmt: skip


def test_prompts_never_solved_lower_the_target() -> None:
    state = trained(target_zero_variance=AUTO)
    told = answers.summary("r", state)["target"]
    assert told["auto"]
    assert told["hard"] < 1 / 6
    assert told["reason"].startswith("easy down: 0% of the easy prompts tried again were effective, less than the ")
    assert "; hard down: 0%" in told["reason"]


def test_a_live_run_goes_from_a_number_to_auto_and_back() -> None:
    state = trained(target_zero_variance=0.4)
    fold(state, [Patched({"target_zero_variance": AUTO})])
    assert controller.targets(state.spec, state.progress.tuning).easy == pytest.approx(0.4 / 3)
    report(state, 12, mixed(20, 2, 8))
    fold(state, [Patched({"target_bounds": [0.02, 0.1]})])
    now = controller.targets(state.spec, state.progress.tuning)
    assert now.easy + now.hard <= 0.1
    fold(state, [Patched({"target_zero_variance": 0.3})])
    assert controller.targets(state.spec, state.progress.tuning).easy == pytest.approx(0.1)


def test_the_same_from_a_snapshot_and_from_the_log() -> None:
    state = trained(target_zero_variance=AUTO)
    restored = snapshot.decode(snapshot.Frozen(state).encode())
    for each in (state, restored):
        report(each, 12, mixed(5, 2, 8))
    assert content(restored) == content(state)
    patched = codec.Recorded(Patched({"target_zero_variance": AUTO}), 0, 0)
    assert codec.decode(codec.encode(patched)).event == patched.event


def test_seconds_are_shown_and_decide_nothing() -> None:
    state, plain = (
        run(train_batch_size=2, target_zero_variance=AUTO),
        run(train_batch_size=2, target_zero_variance=AUTO),
    )
    for each, seconds in ((state, Seconds(4.0, 1.5)), (plain, None)):
        new = [b"a", b"b", b"c"]
        event = Reported(0, False, new, np.arange(3), Rewards.of([[0, 1], [0, 1], [0, 0]]), seconds)
        fold(each, [event])
    assert state.progress == plain.progress
    told = answers.summary("r", state)["totals"]
    assert (told["seconds"], told["effective_per_rollout_second"]) == ({"rollout": 4.0, "update": 1.5}, 0.5)
    assert answers.summary("r", plain)["totals"]["effective_per_rollout_second"] is None
    assert b'"seconds":{"rollout":4.0,"update":1.5}' in answers.steps(state, -1, 9).body
