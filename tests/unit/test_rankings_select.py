"""Choosing by rank among candidates: the best, audits, shadow runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from greso_service.core import spec
from greso_service.core.policy import RANKINGS, Reason, best, select

from ..folding import ranked, report, run  # noqa: TID252
from ..folding import select as select_in  # noqa: TID252


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
