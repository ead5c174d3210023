"""Epoch permutations and the cursor that walks them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from greso_service.core.draws import epoch_key
from greso_service.core.pool import Cursor, permuted

from ..folding import draw, pool, report, run  # noqa: TID252


@pytest.mark.parametrize("key", [0, 1, 2**64 - 1, epoch_key(0, 0)])
def test_a_permutation_for_every_size(key: int) -> None:
    for size in range(1, 301):
        assert sorted(permuted(np.arange(size), size, key).tolist()) == list(range(size)), size


@pytest.mark.parametrize("size", [2**10 - 1, 2**10, 2**10 + 1, 2**16 + 1, 100_003])
def test_a_permutation_of_larger_sizes(size: int) -> None:
    assert (np.sort(permuted(np.arange(size), size, 77)) == np.arange(size)).all()


@pytest.mark.parametrize(
    ("size", "key", "order"),
    [
        (1, 0, [0]),
        (10, 13268663514978968273, [8, 2, 5, 3, 1, 6, 9, 4, 7, 0]),
        (17, 12345, [11, 13, 14, 5, 7, 4, 3, 16, 15, 10, 6, 0, 8, 9, 1, 2, 12]),
    ],
)
def test_golden_permutations(size: int, key: int, order: list[int]) -> None:
    assert permuted(np.arange(size), size, key).tolist() == order


def test_places_can_be_asked_for_in_any_order_and_number() -> None:
    whole = permuted(np.arange(1000), 1000, 5)
    places = np.array([999, 0, 500, 500])
    assert permuted(places, 1000, 5).tolist() == whole[places].tolist()
    assert permuted(np.zeros(0, np.int64), 1000, 5).size == 0


@pytest.mark.parametrize("size", [4, 7])
def test_every_prompt_comes_first_equally_often(size: int) -> None:
    epochs = 1000
    first = Counter(int(permuted(np.zeros(1, np.int64), size, epoch_key(9, epoch))[0]) for epoch in range(epochs))
    expected = epochs / size
    assert sum((first[one] - expected) ** 2 / expected for one in range(size)) < size - 1 + 5 * (2 * (size - 1)) ** 0.5


def test_epochs_are_not_alike() -> None:
    orders = {tuple(permuted(np.arange(30), 30, epoch_key(0, epoch)).tolist()) for epoch in range(100)}
    assert len(orders) == 100


def test_a_cursor_begins_its_first_epoch_with_the_pool() -> None:
    assert Cursor().ready(7) == Cursor(0, 0, 7)


def test_a_cursor_goes_on_within_its_epoch() -> None:
    cursor = Cursor(2, 3, 5)
    assert cursor.ready(9) == cursor, "prompts added later come in the next epoch"
    assert cursor.moved(2) == Cursor(2, 5, 5)
    assert cursor.moved(2).ready(9) == Cursor(3, 0, 9)


def test_each_epoch_draws_every_prompt_once() -> None:
    state = run(seed=4)
    prompts = [f"p{number}" for number in range(50)]
    pool(state, prompts)
    for epoch in range(5):
        drawn = [draw(state, epoch, 10) for _ in range(5)]
        assert {one["epoch"] for one in drawn} == {epoch}
        assert sorted(prompt for one in drawn for prompt in one["prompts"]) == sorted(prompts)


def test_a_draw_over_the_end_of_an_epoch_goes_on_with_the_next() -> None:
    state = run()
    pool(state, [f"p{number}" for number in range(10)])
    first = draw(state, 0, 7)
    second = draw(state, 0, 7)
    assert (first["epoch"], second["epoch"]) == (0, 1)
    assert len(set(first["prompts"]) | set(second["prompts"][:3])) == 10
    assert len(set(second["prompts"][3:])) == 4


def test_a_draw_examines_at_most_one_pool() -> None:
    state = run()
    pool(state, ["a", "b", "c"])
    answer = draw(state, 0, 100)
    assert (answer["examined"], sorted(answer["prompts"])) == (3, ["a", "b", "c"])


def test_prompts_that_join_during_an_epoch_come_in_the_next() -> None:
    state = run()
    pool(state, [f"old{number}" for number in range(4)])
    first = draw(state, 0, 2)
    assert pool(state, ["new0", "new1", "old0"]) == {"added": 2, "pool": 6}
    rest = draw(state, 0, 2)
    assert all(prompt.startswith("old") for prompt in first["prompts"] + rest["prompts"])
    assert len(draw(state, 0, 6)["prompts"]) == 6


def test_a_reported_prompt_may_join_the_pool_later() -> None:
    state = run()
    report(state, 0, [("a", [0, 1])])
    assert pool(state, ["b", "a", "b"]) == {"added": 2, "pool": 2}
    assert sorted(draw(state, 1, 2)["prompts"]) == ["a", "b"]


def test_count_left_out_is_the_current_batch_size() -> None:
    state = run(rollout_batch_size=4, train_batch_size=8)
    pool(state, [f"p{number}" for number in range(50)])
    assert len(draw(state, 0)["prompts"]) == 4
    report(state, 0, [(f"x{number}", [0, 1]) for number in range(7)])
    assert len(draw(state, 0)["prompts"]) == 2  # ceil(1.25 * 1)


def test_a_draw_that_finds_nothing_to_keep_walks_on() -> None:
    state = run(exploration_bounds=[0, 1], p_easy=0, p_hard=0, min_keep_probability=0)
    pool(state, ["a", "b", "c"])
    report(state, 0, [(prompt, [0, 0]) for prompt in "abc"])
    answer = draw(state, 0, 2)
    assert (answer["prompts"], answer["examined"], answer["skipped"]) == ([], 3, {"easy": 0, "hard": 3})
    assert draw(state, 0, 2)["epoch"] == 1
