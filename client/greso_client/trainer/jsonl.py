"""Problems out of JSON Lines files: one problem a line, in the layouts that public data sets come in.

====================  =======================================================================================
GSM8K                 ``{"question": ..., "answer": "... #### 42"}``
MATH                  ``{"problem": ..., "solution": "... \\boxed{42}"}``, or ``{"problem": ..., "answer": ...}``
DAPO-Math             ``{"prompt": [{"role": "user", "content": ...}], "reward_model": {"ground_truth": ...},
                      "extra_info": {"index": ...}}``
plain                 ``{"prompt": ..., "answer": ..., "id": ...}``, the id may be left out
====================  =======================================================================================
"""

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from greso_client.trainer.rewards import last_boxed
from greso_client.trainer.task import Problem, TaskError, content_id

logger = logging.getLogger(__name__)

QUESTION_FIELDS = ("prompt", "problem", "question")
ANSWER_FIELDS = ("answer", "solution", "reward_model.ground_truth")
ID_FIELDS = ("id", "extra_info.index")
GSM8K_MARK = "####"


@dataclass(frozen=True, slots=True)
class Fields:
    """Which fields to read; a dot leads into an object (``extra_info.index``). None recognises the layout."""

    question: str | None = None
    answer: str | None = None
    id: str | None = None


def load_problems(path: Path, fields: Fields = Fields(), *, template: str = "{question}") -> list[Problem]:
    """Read the problems of a file; `template` says what is asked, with ``{question}`` in it.

    Without an id field the ids are made from the questions as they stand in the file. Raises `TaskError` that names
    the line, `OSError`.
    """
    rows = list(_rows(path))
    if not rows:
        raise TaskError(f"{path}: the file holds no problem")
    read = [_read(path, number, row, fields) for number, row in rows]
    ids = {given for given, _, _ in read}
    if fields.id is None and len(read) > 1 and len(ids) == 1 and None not in ids:
        # verl writes 0 into every row unless it is told otherwise.
        logger.warning("%s: all ids are %s; the ids are made from the questions instead", path, ids.pop())
        read = [(None, question, answer) for _, question, answer in read]
    return [
        Problem(content_id(question) if given is None else given, template.replace("{question}", question), answer)
        for given, question, answer in read
    ]


def without_repeats(problems: list[Problem]) -> list[Problem]:
    """Keep the first problem of each id."""
    firsts: dict[str, Problem] = {}
    for problem in problems:
        firsts.setdefault(problem.id, problem)
    return list(firsts.values())


def _rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:  # not JSON, or not UTF-8
                raise TaskError(f"{path}:{number}: not a line of JSON: {error}") from None
            if not isinstance(row, dict):
                raise TaskError(f"{path}:{number}: a {type(row).__name__} where an object is needed")
            yield number, row


def _read(path: Path, number: int, row: Mapping[str, Any], fields: Fields) -> tuple[str | None, str, str]:
    """Return id (None: there is none), question and answer."""
    try:
        question = _question(_wanted(row, fields.question, QUESTION_FIELDS, "question"))
        if fields.answer is None and row.get("answer") is None:
            _require_marked_answer(row.get("solution"))
        answer = _answer(_wanted(row, fields.answer, ANSWER_FIELDS, "answer"))
        return _id(row, fields.id), question, answer
    except TaskError as error:
        raise TaskError(f"{path}:{number}: {error}") from None


def _wanted(row: Mapping[str, Any], named: str | None, known: tuple[str, ...], what: str) -> Any:
    for name in (named,) if named else known:
        value = _field(row, name)
        if value is not None:
            return value
    looked = repr(named) if named else " or ".join(map(repr, known))
    raise TaskError(f"no field {looked}; it has: {', '.join(row) or 'none'}; name it with --{what}-field")


def _id(row: Mapping[str, Any], named: str | None) -> str | None:
    found = [value for name in ((named,) if named else ID_FIELDS) if (value := _field(row, name)) is not None]
    if not found:
        if named:
            raise TaskError(f"no field {named!r}; it has: {', '.join(row)}")
        return None
    if isinstance(found[0], bool) or not isinstance(found[0], str | int) or found[0] == "":
        raise TaskError(f"the id is {found[0]!r}, which is neither text nor a whole number")
    return str(found[0])


def _field(row: Mapping[str, Any], name: str) -> Any:
    value: Any = row
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _question(value: Any) -> str:
    if isinstance(value, list):  # messages
        parts = [message.get("content") if isinstance(message, Mapping) else None for message in value]
        value = "\n\n".join(part for part in parts if isinstance(part, str))
    if not isinstance(value, str) or not value.strip():
        raise TaskError(f"the question is {value!r}, which is no text")
    return value


def _require_marked_answer(solution: Any) -> None:
    """Refuse a solution that doesn't mark its answer: all of its text would be the answer, which nothing equals."""
    if isinstance(solution, str) and GSM8K_MARK not in solution and last_boxed(solution) is None:
        raise TaskError(
            "the solution has no \\boxed{...} and there is no field 'answer'; leave the line out, or, if solutions are "
            "bare answers, say --answer-field solution"
        )


def _answer(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise TaskError(f"the answer is {value!r}, which is neither text nor a number")
    text = str(value)
    if GSM8K_MARK in text:
        text = text.rpartition(GSM8K_MARK)[2].replace(",", "")  # thousands are separated there
    elif (boxed := last_boxed(text)) is not None:
        text = boxed
    if not text.strip():
        raise TaskError("the answer is empty")
    return text.strip()
