"""JSONL files: the layouts of public data sets, ids that stay, and what is wrong with a line."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import pytest

from greso_client.trainer.addition import right_and_ended
from greso_client.trainer.jsonl import Fields, load_problems, without_repeats
from greso_client.trainer.task import Problem, Task, TaskError, content_id, hold_out

if TYPE_CHECKING:
    from pathlib import Path

GSM8K = {"question": "Natalia sold 48 clips ...", "answer": "She sold 48/2 = <<48/2=24>>24.\n#### 1,024"}
MATH = {"problem": "What is half of $x$?", "level": "Level 1", "solution": r"Half is $\boxed{\frac{x}{2}}$."}
DAPO = {
    "data_source": "math_dapo",
    "prompt": [{"role": "user", "content": "Solve it."}],
    "reward_model": {"ground_truth": "34", "style": "rule"},
    "extra_info": {"index": "9a9b6eb4"},
}


def write(folder: Path, *rows: Any) -> Path:
    path = folder / "data.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (GSM8K, (None, "Natalia sold 48 clips ...", "1024")),
        (MATH, (None, "What is half of $x$?", r"\frac{x}{2}")),
        ({"problem": "p", "solution": "so it is 3", "answer": "3"}, (None, "p", "3")),
        (DAPO, ("9a9b6eb4", "Solve it.", "34")),
        ({"prompt": "p", "answer": "a", "id": "x/1"}, ("x/1", "p", "a")),
        ({"prompt": "p", "answer": 3, "id": 7}, ("7", "p", "3")),
        ({"prompt": "Ünïcödé ∑", "answer": " a "}, (None, "Ünïcödé ∑", "a")),
    ],
    ids=["gsm8k", "math", "math with answers", "dapo", "plain", "numbers", "unicode"],
)
def test_the_layouts(tmp_path: Path, row: dict[str, Any], expected: tuple[str | None, str, str]) -> None:
    given, question, answer = expected
    (problem,) = load_problems(write(tmp_path, row))
    assert problem == Problem(given or content_id(question), question, answer)


def test_fields_can_be_named_and_lead_into_objects(tmp_path: Path) -> None:
    path = write(tmp_path, {"q": {"text": "one?"}, "gold": 1, "meta": {"uid": 17}, "prompt": "not this"})
    assert load_problems(path, Fields("q.text", "gold", "meta.uid")) == [Problem("17", "one?", "1")]


def test_the_template_says_what_is_asked_and_leaves_the_id_alone(tmp_path: Path) -> None:
    path = write(tmp_path, {"prompt": "1+1?", "answer": "2"})
    (problem,) = load_problems(path, template=r"{question} Put it into \boxed{}.")
    assert problem == Problem(content_id("1+1?"), r"1+1? Put it into \boxed{}.", "2")


def test_solutions_that_are_bare_answers_are_taken_when_said_so(tmp_path: Path) -> None:
    (problem,) = load_problems(write(tmp_path, {"problem": "p", "solution": "3"}), Fields(answer="solution"))
    assert problem.answer == "3"


def test_empty_lines_are_nothing(tmp_path: Path) -> None:
    assert len(load_problems(write(tmp_path, "", GSM8K, "   ", MATH))) == 2


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"prompt": "p", "answer"', "not a line of JSON"),
        ("[1]", "a list where an object is needed"),
        ({"text": "p", "answer": "a"}, "no field 'prompt' or 'problem' or 'question'; it has: text, answer; name it"),
        ({"prompt": "p"}, "no field 'answer' or .* --answer-field"),
        ({"prompt": "  ", "answer": "a"}, "the question is '  ', which is no text"),
        ({"prompt": 3, "answer": "a"}, "the question is 3, which is no text"),
        ({"prompt": [{"role": "user"}], "answer": "a"}, "the question is '', which is no text"),
        ({"prompt": "p", "answer": ["a"]}, "the answer is .'a'., which is neither text nor a number"),
        ({"prompt": "p", "answer": True}, "the answer is True"),
        ({"prompt": "p", "answer": "so ####  "}, "the answer is empty"),
        ({"problem": "p", "solution": "so it is 3"}, r"the solution has no \\boxed.* --answer-field solution"),
        ({"prompt": "p", "answer": "a", "id": {"x": 1}}, "the id is .*, which is neither text nor a whole number"),
        ({"prompt": "p", "answer": "a", "id": ""}, "the id is ''"),
    ],
)
def test_a_bad_line_is_named_with_its_place(tmp_path: Path, line: Any, said: str) -> None:
    with pytest.raises(TaskError, match=said) as refusal:
        load_problems(write(tmp_path, GSM8K, line))
    assert str(refusal.value).startswith(f"{tmp_path / 'data.jsonl'}:2: ")
    assert "\n" not in str(refusal.value)


def test_bytes_that_are_no_text_are_named_with_their_place(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(b'{"prompt": "\xff", "answer": "a"}\n')
    with pytest.raises(TaskError, match=r"data\.jsonl:1: not a line of JSON"):
        load_problems(path)


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_an_empty_file_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "data.jsonl").write_text(text)
    with pytest.raises(TaskError, match=r"data\.jsonl: the file holds no problem$"):
        load_problems(tmp_path / "data.jsonl")


def test_an_id_that_is_the_same_everywhere_is_not_used_but_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [{"prompt": f"{i}+1?", "answer": "2", "extra_info": {"index": 0}} for i in range(3)]
    with caplog.at_level(logging.WARNING):
        problems = load_problems(write(tmp_path, *rows))
    assert [problem.id for problem in problems] == [content_id(f"{i}+1?") for i in range(3)]
    assert "all ids are 0; the ids are made from the questions instead" in caplog.text


def test_an_id_that_was_asked_for_is_taken_or_refused(tmp_path: Path) -> None:
    path = write(tmp_path, *[{"prompt": f"{i}?", "answer": "2", "n": 0} for i in range(3)])
    problems = load_problems(path, Fields(id="n"))
    with pytest.raises(TaskError, match="all 3 problems have the id '0'"):
        Task("t", problems, [], right_and_ended)
    with pytest.raises(TaskError, match=r"data\.jsonl:1: no field 'm'; it has: prompt, answer, n"):
        load_problems(path, Fields(id="m"))


def test_repeats_can_be_dropped(tmp_path: Path) -> None:
    rows = [{"prompt": text, "answer": str(i)} for i, text in enumerate("abacb")]
    assert [problem.answer for problem in without_repeats(load_problems(write(tmp_path, *rows)))] == ["0", "1", "3"]


def test_the_same_problems_are_held_out_whatever_their_order() -> None:
    problems = [Problem(f"p/{i}", f"{i}?", "") for i in range(50)]
    pool, held_out = hold_out(problems, 10)
    assert (len(pool), len(held_out)) == (40, 10)
    assert {p.id for p in hold_out(problems[::-1], 10)[1]} == {p.id for p in held_out}
    assert sorted([*pool, *held_out], key=lambda p: p.id) == sorted(problems, key=lambda p: p.id)
    assert hold_out(problems, 0) == (problems, [])
