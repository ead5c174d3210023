"""The demo's task: data sets, rewards, tokens."""

from __future__ import annotations

import numpy as np
import pytest

from greso_client.trainer.task import (
    ANSWER_TOKENS,
    BROKEN_ANSWERS,
    END,
    PROMPT_TOKENS,
    VOCABULARY_SIZE,
    Problem,
    draw_warm_start,
    encode,
    make_dataset,
    reward,
)

DATA = make_dataset(1, pool=600, held_out=200)
PROBLEM = Problem("add/0", "  47+ 156=", "302")


def true_answer(problem: Problem) -> str:
    a, b = problem.question.removesuffix("=").split("+")
    return str(int(a) + int(b))[::-1]


def test_a_seed_gives_one_data_set_and_another_seed_another() -> None:
    assert make_dataset(1, pool=600, held_out=200) == DATA
    assert make_dataset(2, pool=600, held_out=200) != DATA


def test_no_two_problems_share_a_question_or_an_id() -> None:
    problems = [*DATA.pool, *DATA.held_out]
    assert len({problem.question for problem in problems}) == len({problem.id for problem in problems}) == 800


def test_held_out_answers_are_right_and_fit_into_a_completion() -> None:
    for problem in DATA.held_out:
        assert problem.answer == true_answer(problem)
        assert len(problem.answer) < ANSWER_TOKENS
        assert len(encode(problem.question)) == PROMPT_TOKENS


def test_the_broken_share_of_the_pool_can_never_be_rewarded() -> None:
    broken = [problem for problem in DATA.pool if problem.answer != true_answer(problem)]
    assert len(broken) / len(DATA.pool) == pytest.approx(BROKEN_ANSWERS, abs=0.06)  # 3 standard deviations
    for problem in broken:
        assert len(problem.answer) == ANSWER_TOKENS  # with the end token one longer than any completion
        assert reward(problem, encode(problem.answer)) == 0.0


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        ([*encode("302"), END], 1.0),
        (encode("302"), 0.0),  # never ended
        ([*encode("203"), END], 0.0),  # not reversed
        ([*encode("3020"), END], 0.0),
        ([*encode("30"), END], 0.0),
        ([END], 0.0),
        ([], 0.0),
    ],
)
def test_only_the_exact_answer_that_ends_is_rewarded(completion: list[int], expected: float) -> None:
    assert reward(PROBLEM, completion) == expected


def test_the_warm_start_shows_right_answers_and_nothing_held_out() -> None:
    avoid = {problem.question for problem in DATA.held_out}
    drawn = draw_warm_start(np.random.default_rng(0), 20_000, avoid=DATA.held_out)
    assert 0 < len(drawn) < 20_000  # some held-out problem was drawn, and left out
    assert not avoid & {problem.question for problem in drawn}
    assert all(problem.answer == true_answer(problem) for problem in drawn)


def test_tokens_are_one_a_character_and_leave_one_for_the_end() -> None:
    tokens = encode("0123456789+= ")
    assert tokens == list(range(END))
    assert VOCABULARY_SIZE == END + 1
    with pytest.raises(KeyError):
        encode("x")
