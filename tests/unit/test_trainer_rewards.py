"""Rewards by exact match and by mathematics."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from greso_client.trainer.engine import Completion
from greso_client.trainer.rewards import exact_match, last_boxed, math_match
from greso_client.trainer.task import Problem


def problem(answer: str) -> Problem:
    return Problem("p", "question", answer)


def completion(text: str) -> Completion:
    return Completion([], [], text, ended=True)


@pytest.mark.parametrize(
    ("answer", "text", "reward"),
    [("42", "42", 1.0), ("42", " 42\n", 1.0), ("42", "042", 0.0), ("42", "it is 42", 0.0), ("a b", "a  b", 0.0)],
)
def test_exact_match_forgives_white_space_around_and_nothing_else(answer: str, text: str, reward: float) -> None:
    assert exact_match(problem(answer), completion(text)) == reward


@pytest.mark.parametrize(
    ("answer", "text", "reward"),
    [
        ("42", r"so it is \boxed{42}.", 1.0),
        ("42", r"so it is \boxed{41}.", 0.0),
        ("42", r"\boxed{41}? No, \boxed{42}", 1.0),
        ("42", "First 17, then the answer is 42.", 1.0),
        ("42", "42 at first, but the answer is 17.", 0.0),
        ("0.5", r"\boxed{\frac{1}{2}}", 1.0),
        (r"\frac{1}{2}", "the answer is 0.5", 1.0),
        ("1024", "The answer is 1,024.", 1.0),
        (r"\frac{x}{2}", r"\boxed{0.5x}", 1.0),
        (r"(3, \frac{\pi}{2})", r"\boxed{\left(3, \pi/2\right)}", 1.0),
        ("34", "", 0.0),
        ("34", "no idea", 0.0),
        ("34", r"\boxed{", 0.0),
        ("Paris", r"it is \boxed{Paris}", 1.0),
        ("Paris", r"it is \boxed{London}", 0.0),
        ("Evelyn", r"\boxed{ Evelyn }", 1.0),
    ],
)
def test_math_match(answer: str, text: str, reward: float) -> None:
    assert math_match(problem(answer), completion(text)) == reward


def test_math_match_works_beside_the_main_thread_where_no_alarm_can_be_set() -> None:
    def judge(text: str) -> float:
        return math_match(problem("0.75"), completion(text))

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(judge, [r"\boxed{\frac{3}{4}}", r"\boxed{3}"])) == [1.0, 0.0]


@pytest.mark.parametrize(
    ("text", "boxed"),
    [
        (r"\boxed{a}", "a"),
        (r"\boxed{\frac{1}{2}} and \boxed{\sqrt{\frac{1}{2}}}", r"\sqrt{\frac{1}{2}}"),
        (r"\boxed {a} \fbox{b}", "b"),
        (r"\boxed{a} \boxed{never closed", "a"),
        (r"\boxed{}", ""),
        ("boxed{a}", None),
        ("", None),
    ],
)
def test_the_last_whole_box(text: str, boxed: str | None) -> None:
    assert last_boxed(text) == boxed
