"""The sample of prompts whose visits are remembered, against a naive one."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.folding import draw, mixed, pool, report, run, select

from greso_service.core.draws import Ids
from greso_service.core.outcome import Outcome
from greso_service.core.sample import SAMPLE, SKIPPED_EASY, SKIPPED_HARD, VISITS, Sample
from greso_service.core.state import RunState


def seen(state: RunState) -> dict[str, list[tuple[int, int]]]:
    """Prompt -> its visits, oldest first."""
    visits = {}
    for slot, text in enumerate(state.table.texts(state.sample.index.tolist())):
        steps, what = state.sample.visits(slot)
        visits[text] = list(zip(steps.tolist(), what.tolist(), strict=True))
    return visits


def test_a_visit_is_an_outcome_or_a_skip() -> None:
    state = run(p_easy=0.05, p_hard=0.05, exploration_bounds=[0.05, 0.95])
    report(state, 0, [("good", [0, 1]), ("easy", [1, 1]), ("hard", [0, 0]), ("one", [1])], final=True)
    for step in range(1, 40):
        select(state, step, ["good", "easy", "hard", "one", "unknown"])
    visits = seen(state)
    assert visits["good"] == [(0, Outcome.EFFECTIVE)]
    assert visits["one"] == [(0, Outcome.UNDETERMINED)]
    assert {what for _, what in visits["easy"][1:]} == {SKIPPED_EASY}
    assert {what for _, what in visits["hard"][1:]} == {SKIPPED_HARD}
    totals = state.totals
    assert (len(visits["easy"]) - 1, len(visits["hard"]) - 1) == (totals.skipped_easy, totals.skipped_hard)


def test_a_draw_notes_what_it_skipped_across_the_epochs_end() -> None:
    state = run(p_easy=0.3, p_hard=0.3, train_batch_size=10_000)
    pool(state, [f"p{number}" for number in range(50)])
    for step in range(30):
        drawn = draw(state, step, 20)["prompts"]
        report(state, step, [(prompt, [0, 0]) for prompt in drawn])
    skips = sum(what == SKIPPED_HARD for visits in seen(state).values() for _, what in visits)
    assert skips == state.totals.skipped_hard > 50


def test_only_the_last_visits_are_kept() -> None:
    state = run()
    for step in range(VISITS + 10):
        report(state, step, [("p", [0, 1])], final=True)
    assert seen(state)["p"] == [(step, Outcome.EFFECTIVE) for step in range(10, VISITS + 10)]


def test_a_prompt_twice_in_a_report_is_visited_twice() -> None:
    state = run()
    report(state, 0, [("p", [0, 1]), ("q", [1, 1]), ("p", [0, 0])])
    assert seen(state)["p"] == [(0, Outcome.EFFECTIVE), (0, Outcome.HARD)]


def test_the_sample_is_the_same_however_the_prompts_came() -> None:
    names = [f"prompt/{number}" for number in range(5_000)]
    at_once, in_parts = run(), run()
    pool(at_once, names)
    for start in range(0, 5_000, 700):
        pool(in_parts, names[::-1][start : start + 700])
    assert set(seen(at_once)) == set(seen(in_parts))
    assert at_once.sample.index.size == SAMPLE
    hashes = Ids.of(names).hashes
    assert set(seen(at_once)) == {names[row] for row in np.argsort(hashes)[:SAMPLE]}


def test_a_large_run_pays_for_its_sample_only() -> None:
    state = run()
    pool(state, [f"p{number}" for number in range(20_000)])
    report(state, 0, mixed(100, 100, 100))
    assert sum(len(visits) for visits in seen(state).values()) < 300


@given(
    parts=st.lists(st.lists(st.integers(0, 2**64 - 1), max_size=40), max_size=8),
    notes=st.lists(st.lists(st.integers(0, 300), max_size=12), max_size=30),
)
@pytest.mark.parametrize("same", [False, True])
def test_it_is_what_a_naive_sample_is(same: bool, parts: list[list[int]], notes: list[list[int]]) -> None:
    if same:  # hashes that collide: the earlier prompt wins
        parts = [[value % 3 for value in part] * 40 for part in parts]
    sample, hashes = Sample(), np.zeros(0, np.uint64)
    for part in parts:
        first = hashes.size
        hashes = np.concatenate([hashes, np.array(part, np.uint64)])
        sample.admit(first, hashes[first:])
    wanted = sorted(sorted(range(hashes.size), key=lambda place: (int(hashes[place]), place))[:SAMPLE])
    assert sample.index.tolist() == wanted
    visits = defaultdict(list)
    for step, named in enumerate(notes):
        index = np.array([place for place in named if place < hashes.size], np.int64)
        what = (index % 6).astype(np.int8)
        assert [int(index[row]) for row in sample.among(index, hashes[index])] == [i for i in index if i in set(wanted)]
        sample.note(index, step, what)
        for place in index.tolist():
            visits[place].append((step, place % 6))
    for slot, place in enumerate(wanted):
        steps, codes = sample.visits(slot)
        assert list(zip(steps.tolist(), codes.tolist(), strict=True)) == visits[place][-VISITS:]
