"""Which candidates are kept, and why; `limit`, `at_least`, the policies."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from greso_service.core import spec
from greso_service.core.controller import Exploration
from greso_service.core.outcome import Outcome
from greso_service.core.policy import (
    FILTERS,
    RANKINGS,
    Question,
    Reason,
    best,
    keep_probability,
    mopps,
    p_mixed,
    select,
)
from greso_service.core.prompts import UNKNOWN
from greso_service.core.spec import RunSpec

from ..folding import question, report, run, view  # noqa: TID252
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
    assert (selection.skipped(Reason.SKIP_EASY), selection.skipped(Reason.SKIP_HARD)) == (1, 1)


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
    skips = [selection.skipped(reason) for reason in (Reason.SKIP_EASY, Reason.SKIP_HARD)]
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


# Rankings.


def ranked(scores_of: str, known: list[tuple[float, float]], draws: list[float] | None = None, **spec: Any) -> Question:
    """A decision about prompts of so many passed and failed responses, all seen before; (0, 0): never seen."""
    size = len(known)
    asked = question([0] * size, [NEW] * size, [0.5] * size if draws is None else draws, policy=scores_of, **spec)
    rows = asked.candidates.rows
    rows.passed[:size], rows.failed[:size] = np.array(known, np.float32).reshape(-1, 2).T
    rows.visits[:size] = (rows.passed[:size] + rows.failed[:size]) > 0
    return asked


@pytest.mark.parametrize("size", [1, 2, 3, 8, 64])
def test_p_mixed_is_the_chance_of_a_mixed_group(size: int) -> None:
    known = [(0, 0), (8, 0), (0, 8), (4, 4), (1, 7), (100, 3), (0, 4000), (16, 16)]
    scores = p_mixed(ranked("p_mixed", known, group_size=size))
    for score, (passed, failed) in zip(scores, known, strict=True):
        a, b, right, wrong = 1 + passed, 1 + failed, Fraction(1), Fraction(1)
        for j in range(size):
            right *= Fraction(a + j, a + b + j)
            wrong *= Fraction(b + j, a + b + j)
        assert score == pytest.approx(float(1 - right - wrong), abs=size * 1e-6)
    assert scores.min() >= 0


def test_p_mixed_of_fractional_counts() -> None:
    """Against the integral over the posterior."""
    p = np.linspace(0, 1, 200_001)[1:-1]
    for passed, failed in [(0.5, 2.25), (7.7, 0.3)]:
        weight = p**passed * (1 - p) ** failed
        right = float((weight * (1 - p**8 - (1 - p) ** 8)).sum() / weight.sum())
        assert p_mixed(ranked("p_mixed", [(passed, failed)])) == pytest.approx([right], abs=1e-4)


def test_mopps_is_nearness_to_a_half() -> None:
    draws = np.random.default_rng(0).random(3000).tolist()
    even, easy, hard = (mopps(ranked("mopps", [known] * 3000, draws)) for known in [(50, 50), (95, 5), (5, 95)])
    for scores in (even, easy, hard):
        assert ((scores >= 0) & (scores <= 1)).all()
    assert even.mean() > 0.97
    assert easy.mean() == pytest.approx(4 * 0.94 * 0.06, abs=0.02)
    assert hard.mean() == pytest.approx(4 * 0.94 * 0.06, abs=0.02)


@pytest.mark.parametrize("policy", RANKINGS)
def test_a_score_is_the_same_in_any_company(policy: str) -> None:
    known = [(float(k), float(n)) for k in range(6) for n in range(6)]
    draws = np.random.default_rng(1).random(36).tolist()
    together = RANKINGS[policy](ranked(policy, known, draws))
    for at in range(36):
        assert RANKINGS[policy](ranked(policy, known[at : at + 1], draws[at : at + 1])) == together[at]


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


def rows_of(draws: list[float]) -> Any:
    return lambda rows: np.array(draws)[rows]


@pytest.mark.parametrize(
    ("scores", "count", "chosen"),
    [
        ([], 3, []),
        ([0.5], 0, []),
        ([0.1, 0.9, 0.5], 2, [1, 2]),
        ([0.1, 0.9, 0.5], 9, [1, 2, 0]),
        ([-1, 0.9, -1, 0.0], 3, [1, 3]),
        ([-1, -1], 1, []),
        ([0.5, 0.5, 0.5, 0.5], 2, [3, 2]),  # the smallest draws first
        ([0.5, 0.9, 0.5, 0.5], 2, [1, 3]),
        ([0.5, 0.9, 0.9, 0.5], 2, [2, 1]),
        ([0.0, 0.0, -1, 0.0], 9, [3, 1, 0]),
    ],
)
def test_best(scores: list[float], count: int, chosen: list[int]) -> None:
    assert best(np.array(scores, np.float32), count, rows_of([0.9, 0.8, 0.7, 0.6])).tolist() == chosen


def test_best_is_that_of_a_sort() -> None:
    random = np.random.default_rng(2)
    for _ in range(100):
        size = int(random.integers(1, 60))
        scores = random.integers(-1, 4, size).astype(np.float32)
        draws, count = random.random(size), int(random.integers(0, 70))
        right = [at for at in np.lexsort((draws, -scores)) if scores[at] >= 0][:count]
        assert best(scores, count, rows_of(draws.tolist())).tolist() == right


@pytest.mark.parametrize("policy", RANKINGS)
def test_a_ranked_select(policy: str) -> None:
    known = [(0.0, 40.0), (4.0, 4.0), (40.0, 0.0), (0.0, 0.0), (30.0, 30.0)] * 4
    asked = ranked(policy, known, (np.arange(20) / 20).tolist())
    scores = RANKINGS[policy](asked)
    for limit in (0, 1, 7, 20, 99):
        selection = select(asked, limit=limit)
        assert selection.selected == min(limit, 20)
        assert selection.examined == (20 if limit else 0)
        if 0 < limit < 20:
            assert scores[selection.keep].min() >= scores[~selection.keep].max()
    few = replace(asked, batch=6)
    assert select(few).selected == 6, "without a limit as many as a round takes"
    assert select(few, at_least=9).selected == 9
    assert select(few, limit=4, at_least=4).selected == 4
    assert select(asked).selected == 20
    skipped = select(asked, limit=12)
    rates = np.array([(1 + k) / (2 + k + n) for k, n in known])
    assert (
        skipped.reason[~skipped.keep] == np.where(rates >= 0.5, Reason.SKIP_EASY, Reason.SKIP_HARD)[~skipped.keep]
    ).all()


@pytest.mark.parametrize("policy", RANKINGS)
def test_a_ranked_select_of_duplicates_and_unknown_prompts(policy: str) -> None:
    state = run(policy=policy, rollout_batch_size=100, seed=4)
    report(state, 0, [("a", [0, 0]), ("b", [0, 1])] * 4)
    decisions = select_in(state, 1, ["a", "new", "b", "new", "a"])["decisions"]
    assert decisions[1] == decisions[3]
    assert decisions[0] == decisions[4]
    assert select_in(state, 1, [], limit=3)["selected"] == []
    assert len(select_in(state, 1, ["new"] * 5, limit=3)["selected"]) == 3
    fresh = run(policy=policy)
    assert len(select_in(fresh, 0, [f"p{n}" for n in range(9)], limit=4)["selected"]) == 4


@pytest.mark.parametrize("policy", RANKINGS)
@pytest.mark.parametrize("share", [0.3, 1.0])
@pytest.mark.parametrize("limit", [0, 1, 5, 12, 20])
def test_audits_take_no_more_than_the_limit(policy: str, share: float, limit: int) -> None:
    asked = ranked(policy, [(4.0, 4.0)] * 20, (np.arange(20) / 20).tolist(), audit_share=share)
    selection = select(asked, limit=limit)
    assert selection.selected == limit
    assert (selection.keep | ~selection.audited).all()
    if limit and share == 1:
        assert selection.audited.any() == (limit < 20)


@pytest.mark.parametrize("policy", spec.POLICIES)
@pytest.mark.parametrize("limit", [None, 0, 3, 99])
def test_a_shadow_run_leaves_nobody_out(policy: str, limit: int | None) -> None:
    known = [(0.0, 0.0), (80.0, 0.0), (0.0, 80.0), (4.0, 4.0), (0.0, 0.0), (0.0, 80.0), (0.0, 0.0)]
    asked = replace(ranked(policy, known, [0.99] * 7, shadow=True), batch=2)
    selection = select(asked, limit=limit)
    assert selection.keep.all()
    assert selection.examined == min(7 if limit is None else limit, 7)
    assert not selection.audited[asked.candidates.column("visits")[: selection.examined] == 0].any()
    if policy == "band" and limit is None:
        assert selection.audited.tolist() == [False, True, True, False, False, True, False]
