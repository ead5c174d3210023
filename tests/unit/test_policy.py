"""Which candidates filters keep, and why; `limit`, `at_least`."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from greso_service.core import spec
from greso_service.core.controller import Exploration
from greso_service.core.filters import keep_probability
from greso_service.core.outcome import Outcome
from greso_service.core.policy import FILTERS, RANKINGS, Reason, select
from greso_service.core.prompts import UNKNOWN
from greso_service.core.spec import RunSpec

from ..folding import question, ranked, report, run, view  # noqa: TID252
from ..folding import select as select_in  # noqa: TID252

NEW, EFFECTIVE, EASY, HARD = Outcome

# Six candidates: new, effective, easy kept, easy skipped, hard kept, hard skipped (keep 0.5, 0.25).
SIX = question([0, 0, 1, 1, 2, 2], [NEW, EFFECTIVE, EASY, EASY, HARD, HARD], [0.99, 0.99, 0.49, 0.5, 0.24, 0.9])


def test_reasons() -> None:
    selection = select(SIX)
    assert [Reason(reason).name.lower() for reason in selection.reason] == [
        "new", "effective", "explore", "skip_easy", "explore", "skip_hard",
    ]  # fmt: skip
    assert selection.keep.tolist() == [True, True, True, False, True, False]
    assert selection.keep_probability.tolist() == [1, 1, 0.5, 0.5, 0.25, 0.25]
    assert selection.streak.tolist() == [0, 0, 1, 1, 2, 2]
    assert (selection.examined, selection.selected) == (6, 4)
    assert (selection.skipped_easy, selection.skipped_hard) == (1, 1)


@pytest.mark.parametrize(
    ("limit", "examined", "selected"), [(0, 0, 0), (1, 1, 1), (3, 3, 3), (4, 5, 4), (5, 6, 4), (99, 6, 4)]
)
def test_limit_judges_in_order_until_so_many_are_kept(limit: int, examined: int, selected: int) -> None:
    selection = select(SIX, limit=limit)
    assert (selection.examined, selection.selected) == (examined, selected)
    assert selection.keep.tolist() == select(SIX).keep.tolist()[:examined]


def test_limit_stops_right_behind_the_last_one_kept() -> None:
    selection = select(question([0, 3, 0, 3, 3], [HARD] * 5, [0.9] * 5), limit=2)
    assert selection.examined == 3


@pytest.mark.parametrize(
    ("at_least", "kept"),
    [
        (0, [0, 1, 2, 4]),
        (4, [0, 1, 2, 4]),
        (5, [0, 1, 2, 3, 4]),  # 3 came closer: 0.5/0.5 against 0.9/0.25
        (6, [0, 1, 2, 3, 4, 5]),
        (99, [0, 1, 2, 3, 4, 5]),
    ],
)
def test_at_least_fills_up_with_the_skipped_that_came_closest(at_least: int, kept: list[int]) -> None:
    selection = select(SIX, at_least=at_least)
    assert np.flatnonzero(selection.keep).tolist() == kept
    filled = sorted(set(kept) - {0, 1, 2, 4})
    assert np.flatnonzero(selection.reason == Reason.FILL).tolist() == filled
    skips = [selection.skipped_easy, selection.skipped_hard]
    assert skips == [int(3 not in kept), int(5 not in kept)], "a filled candidate is not skipped"


def test_closeness_is_draw_over_keep_probability_not_the_draw() -> None:
    # keep 0.5 and 0.25: draws 0.6 (1.2 times) and 0.45 (1.8 times).
    selection = select(question([1, 2], [EASY, HARD], [0.6, 0.45]), at_least=1)
    assert selection.keep.tolist() == [True, False]


def test_ties_are_filled_in_order() -> None:
    selection = select(question([1] * 4, [HARD] * 4, [0.8] * 4), at_least=2)
    assert selection.keep.tolist() == [True, True, False, False]


def test_fill_works_where_nothing_has_a_chance() -> None:
    nothing = {"min_keep_probability": 0.0, "exploration_bounds": [0, 0.95]}
    never = question([5, 5], [EASY, HARD], [0.3, 0.2], Exploration(0.0, 0.0), **nothing)
    assert select(never).selected == 0
    assert select(never, at_least=1).keep.tolist() == [False, True]


def test_limit_and_at_least_together() -> None:
    skipped = question([9] * 5, [HARD] * 5, [0.5, 0.4, 0.3, 0.2, 0.1])
    selection = select(skipped, limit=3, at_least=2)
    assert selection.examined == 5, "all are judged, since three were never kept"
    assert selection.keep.tolist() == [False, False, False, True, True]
    kept = question([0] * 5, [NEW] * 5, [0.5] * 5)
    assert select(kept, limit=3, at_least=3).examined == 3


@pytest.mark.parametrize("limit", [None, 0, 3])
@pytest.mark.parametrize("at_least", [0, 3])
def test_no_candidates(limit: int | None, at_least: int) -> None:
    selection = select(question([], [], []), limit=limit, at_least=at_least)
    assert (selection.examined, selection.selected) == (0, 0)


@pytest.mark.parametrize("draw", [0.0, 0.2499999, 0.25, 1 - 2**-53])
def test_a_draw_keeps_below_the_keep_probability(draw: float) -> None:
    assert select(question([2], [EASY], [draw])).selected == (draw < 0.25)


@pytest.mark.parametrize(
    ("z", "kind", "keep"),
    [(0, NEW, 1), (0, EFFECTIVE, 1), (1, EASY, 0.4), (2, EASY, 0.4**2), (1, HARD, 0.6), (3, HARD, 0.6**3),
     (6, EASY, 0.01), (1_000_000, HARD, 0.01), (2**31 - 1, EASY, 0.01)],
)  # fmt: skip
def test_keep_probability(z: int, kind: Outcome, keep: float) -> None:
    streak, of_kind = np.array([z], np.int32), np.array([kind], np.int8)
    [probability] = keep_probability(streak, of_kind, Exploration(0.4, 0.6), RunSpec.of({}))
    assert probability == pytest.approx(keep, rel=1e-15)


@pytest.mark.parametrize(("p", "keep"), [(0.0, 0.0), (1.0, 1.0)])
def test_keep_probability_at_the_ends(p: float, keep: float) -> None:
    streak, kind = np.array([0, 1, 5], np.int32), np.array([HARD] * 3, np.int8)
    probability = keep_probability(streak, kind, Exploration(p, p), RunSpec.of({"min_keep_probability": 0}))
    assert probability.tolist() == [1.0, keep, keep]


def test_uniform_keeps_everything() -> None:
    selection = select(question([0, 9, 9], [NEW, EASY, HARD], [0.99] * 3, policy="uniform"))
    assert selection.keep.all()
    assert selection.keep_probability.tolist() == [1.0] * 3
    assert [Reason(reason) for reason in selection.reason] == [Reason.NEW, Reason.EXPLORE, Reason.EXPLORE]


def test_uniform_in_a_run_learns_streaks_all_the_same() -> None:
    state = run(policy="uniform")
    report(state, 0, [("a", [0, 0])] * 3)
    answer = select_in(state, 1, ["a", "b"])
    assert answer["selected"] == [0, 1]
    assert [one["streak"] for one in answer["decisions"]] == [3, 0]


def test_every_policy_of_the_spec_is_there() -> None:
    assert FILTERS.keys() | RANKINGS.keys() == set(spec.POLICIES)
    assert not FILTERS.keys() & RANKINGS.keys()


def test_unknown_prompts_read_as_new() -> None:
    looked = view([4, 0], [HARD, EFFECTIVE]).of(np.array([UNKNOWN, 0, 1, UNKNOWN]))
    assert looked.streak.tolist() == [0, 4, 0, 0]
    assert looked.kind.tolist() == [NEW, HARD, EFFECTIVE, NEW]


def test_unknown_prompts_in_an_empty_run_read_as_new() -> None:
    looked = view([], []).of(np.array([UNKNOWN, UNKNOWN]))
    assert looked.streak.tolist() == looked.kind.tolist() == [0, 0]


def test_a_candidate_offered_twice_gets_one_answer() -> None:
    state = run()
    report(state, 0, [(f"p{i}", [0, 0]) for i in range(50)] * 2)
    once = select_in(state, 3, [f"p{i}" for i in range(50)])["decisions"]
    twice = select_in(state, 3, [f"p{i}" for i in range(50)] * 2)["decisions"]
    assert twice == once + once


@pytest.mark.parametrize(("low", "high"), [(0.1, 0.9), (0.0, 1.0), (0.4, 0.6), (0.5, 0.5)])
def test_band_keeps_what_lies_inside(low: float, high: float) -> None:
    known = [(0.0, 0.0), (8.0, 0.0), (0.0, 8.0), (4.0, 4.0), (80.0, 0.0), (0.0, 80.0), (3.0, 4.0)]
    asked = ranked("band", known, [0.5] * 7, pass_rate_band=[low, high])
    selection = select(asked)
    for at, (passed, failed) in enumerate(known):
        rate = Fraction(1 + int(passed), 2 + int(passed + failed))
        inside = at == 0 or low <= float(rate) <= high
        assert selection.keep[at] == inside
        assert selection.keep_probability[at] == (1.0 if inside else asked.spec.min_keep_probability)
        if not inside:
            assert selection.reason[at] == (Reason.SKIP_EASY if rate > high else Reason.SKIP_HARD)


def test_band_looks_at_others_now_and_then() -> None:
    draws = np.arange(1000) / 1000
    selection = select(ranked("band", [(80.0, 0.0)] * 1000, draws.tolist(), min_keep_probability=0.05))
    assert np.flatnonzero(selection.keep).tolist() == list(range(50))
