"""A log out of JSON Lines as trainers write them: a line a group, or a line a response."""

from __future__ import annotations

import hashlib
import json
import math
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import orjson

from greso_service.core.draws import MAX_ID_BYTES
from greso_service.core.events import Reported
from greso_service.core.limits import LARGEST_STEP
from greso_service.core.outcome import Rewards
from greso_service.whatif.log import Log, LogError

if TYPE_CHECKING:
    from greso_service.whatif.read import Line

STEP_FIELDS: Final = ("step", "global_step", "global_steps", "training_step", "train_step", "iteration")
PROMPT_FIELDS: Final = ("prompt_id", "prompt", "input", "question", "problem", "query", "id", "index", "uid")
REWARD_FIELDS: Final = ("rewards", "scores", "reward", "score", "correct")

MOST_REWARDS: Final = 65_535
"""Of a group, as in a report."""


@dataclass(frozen=True, slots=True)
class Fields:
    """Which fields to read; a dot leads into an object (`extra_info.index`). None: the first known one there is."""

    step: str | None = None
    prompt: str | None = None
    reward: str | None = None


KNOWN: Final = Fields()
"""Those of trainers that are known."""


class Prompts:
    """Prompts -> dense indices. Text too long for an id, and messages, go by their SHA-256."""

    def __init__(self) -> None:
        self._index: dict[str, int] = {}
        self._new: list[bytes] = []

    def index(self, prompt: Any) -> int:
        """The index of a prompt. Raises `ValueError` for what can't be one."""
        if type(prompt) is not str:
            prompt = _text(prompt)
        if (index := self._index.get(prompt)) is None:
            name = prompt.encode("utf-8", "surrogatepass")
            if not name:
                raise ValueError("is empty")
            index = self._index[prompt] = len(self._index)
            long = len(name) > MAX_ID_BYTES
            self._new.append(b"sha256:" + hashlib.sha256(name).hexdigest().encode() if long else name)
        return index

    def new(self) -> list[bytes]:
        """The ids that came since the last call, in order."""
        new, self._new = self._new, []
        return new


def _text(prompt: Any) -> str:
    if isinstance(prompt, int) and not isinstance(prompt, bool):
        return str(prompt)
    if isinstance(prompt, list | dict):  # messages
        return json.dumps(prompt, sort_keys=True)
    raise ValueError(f"is {json.dumps(prompt)}, which is neither text nor a whole number")


@dataclass(slots=True)
class _Step:
    """The groups of a step so far, flat; `open_`: the row of each prompt whose responses come line by line."""

    index: array[int] = field(default_factory=lambda: array("q"))
    values: list[array[float]] = field(default_factory=list)
    open_: dict[int, int] = field(default_factory=dict)

    def add_group(self, prompt: int, rewards: array[float]) -> None:
        self.index.append(prompt)
        self.values.append(rewards)

    def add_response(self, prompt: int, reward: float) -> int:
        """How many rewards its group has now."""
        row = self.open_.get(prompt)
        if row is None:
            self.open_[prompt] = len(self.values)
            self.add_group(prompt, array("d", [reward]))
            return 1
        self.values[row].append(reward)
        return len(self.values[row])

    def reported(self, step: int, new: list[bytes]) -> Reported:
        lengths = np.fromiter(map(len, self.values), np.uint16, len(self.values))
        flat = np.frombuffer(b"".join(self.values), np.float64)
        return Reported(step, True, new, np.array(self.index, np.int64), Rewards(lengths, flat + 0.0))


class _Rows:
    """Takes lines apart; the fields are those of the first line."""

    def __init__(self, fields: Fields) -> None:
        self._asked = fields
        self._found: tuple[str, str, str] | None = None
        self._get: tuple[Callable[[Any], Any], ...] = ()
        self.cut = False  # the last line breaks off, as that of a trainer that is running, or was killed

    @property
    def fields(self) -> str:
        """The fields read, for people."""
        return "" if self._found is None else f"fields {', '.join(self._found)}"

    def values(self, line: Line) -> tuple[Any, Any, Any] | None:
        """Step, prompt and rewards as they stand in the line; None for one that breaks off."""
        try:
            row = orjson.loads(line.text)
        except orjson.JSONDecodeError as error:
            row = self._lenient(line, error)
            if row is None:
                return None
        if type(row) is not dict:
            raise _wrong(line, f"has {_kind(row)} where an object is needed, one a line")
        if self._found is None:
            self._find(line, row)
        step, prompt, reward = self._get
        try:
            return step(row), prompt(row), reward(row)
        except (KeyError, TypeError):
            missing = [name for name in self._found or () if _of(row, name) is None]
            raise _wrong(line, f"has no {' and no '.join(map(repr, missing))}, as the first line has") from None

    def _lenient(self, line: Line, error: orjson.JSONDecodeError) -> Any:
        try:
            return json.loads(line.text)  # which takes NaN, as Python writes it
        except ValueError:
            if line.text.lstrip().startswith(b"["):
                raise _wrong(line, "begins a JSON array; write one object a line, as jq -c '.[]' does") from None
            if line.text.endswith(b"\n"):
                raise _wrong(line, f"is not JSON ({error})") from None
            self.cut = True
            return None

    def _find(self, line: Line, row: dict[str, Any]) -> None:
        asked = self._asked
        found = (
            _wanted(line, row, asked.step, STEP_FIELDS, "step"),
            _wanted(line, row, asked.prompt, PROMPT_FIELDS, "prompt"),
            _wanted(line, row, asked.reward, REWARD_FIELDS, "reward"),
        )
        self._found = found
        self._get = tuple(_getter(name) for name in found)


def log(lines: Iterable[Line], source: str, fields: Fields, *, sort: bool = False) -> Log:
    """The log in these lines. Raises `LogError`."""
    prompts, rows = Prompts(), _Rows(fields)
    entries = list(_sorted(lines, rows, prompts) if sort else _ascending(lines, rows, prompts))
    if not entries:
        raise LogError(f"{source}: no whole line in it")
    notes = ("The last line breaks off and was left out.",) if rows.cut else ()
    return Log(f"{source} ({rows.fields})", entries, {}, notes)


def _ascending(lines: Iterable[Line], rows: _Rows, prompts: Prompts) -> Iterator[Reported]:
    now, groups = -1, _Step()
    for line in lines:
        if (values := rows.values(line)) is None:
            continue
        step = _number(line, values[0])
        if step != now:
            if step < now:
                raise _wrong(
                    line,
                    f"is of step {step:,}, behind one of step {now:,}; with --sort the order does not matter, but if"
                    " the training went back to a checkpoint, take out first what it did before and then did again",
                )
            if groups.values:
                # The prompts are numbered in the order of the steps, those of this line later.
                yield groups.reported(now, prompts.new())
            now, groups = step, _Step()
        _add(groups, line, prompts, *values[1:])
    if groups.values:
        yield groups.reported(now, prompts.new())


def _sorted(lines: Iterable[Line], rows: _Rows, prompts: Prompts) -> Iterator[Reported]:
    steps: dict[int, _Step] = {}
    for line in lines:
        if (values := rows.values(line)) is not None:
            _add(steps.setdefault(_number(line, values[0]), _Step()), line, prompts, *values[1:])
    names = prompts.new()
    order = np.full(len(names), -1)
    seen = 0
    for number in sorted(steps):
        step = steps.pop(number).reported(number, [])
        fresh = [prompt for prompt in dict.fromkeys(step.index.tolist()) if order[prompt] < 0]
        order[fresh] = range(seen, seen + len(fresh))
        seen += len(fresh)
        yield Reported(number, True, [names[prompt] for prompt in fresh], order[step.index], step.rewards)


def _add(groups: _Step, line: Line, prompts: Prompts, prompt: Any, rewards: Any) -> None:
    try:
        index = prompts.index(prompt)
    except ValueError as error:
        raise _wrong(line, f"its prompt {error}") from None
    if type(rewards) is list:
        try:
            group = array("d", rewards)
        except TypeError:
            raise _wrong(line, f"has rewards that are not numbers: {json.dumps(rewards)[:80]}") from None
        if not all(map(math.isfinite, group)):
            raise _wrong(line, "has a reward that is not finite; leave out responses that failed")
        groups.add_group(index, group)
        count = len(group)
    elif isinstance(rewards, int | float):
        if not math.isfinite(rewards):
            raise _wrong(line, f"has the reward {rewards}; leave out responses that failed")
        count = groups.add_response(index, float(rewards))
    else:
        raise _wrong(line, f"has {_kind(rewards)} as reward where a number or a list of numbers is needed")
    if count > MOST_REWARDS:
        raise _wrong(
            line, f"makes a group of more than {MOST_REWARDS:,} rewards; is it grouped by the right prompt field?"
        )


def _number(line: Line, step: Any) -> int:
    if type(step) is float and step.is_integer():
        step = int(step)
    if type(step) is not int or not 0 <= step <= LARGEST_STEP:
        raise _wrong(line, f"has the step {json.dumps(step)}, which is no whole number from 0 on")
    return step


def _wanted(line: Line, row: dict[str, Any], named: str | None, known: tuple[str, ...], what: str) -> str:
    for name in (named,) if named else known:
        if _of(row, name) is not None:
            return name
    looked = repr(named) if named else " or ".join(map(repr, known))
    has = ", ".join(row) or "nothing"
    raise _wrong(line, f"has no {what}: no field {looked}; it has: {has}; name it with --{what}-field")


def _getter(name: str) -> Callable[[Any], Any]:
    if "." not in name:
        return lambda row: row[name]
    parts = name.split(".")

    def nested(row: Any) -> Any:
        if name in row:
            return row[name]
        for part in parts:
            row = row[part]
        return row

    return nested


def _of(row: dict[str, Any], name: str) -> Any:
    try:
        return _getter(name)(row)
    except (KeyError, TypeError):
        return None


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")


def _wrong(line: Line, detail: str) -> LogError:
    return LogError(f"{line.place} {detail}")
