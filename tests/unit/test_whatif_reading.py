"""Reading logs: the layouts of trainers, files and folders, and what is wrong with a line."""

from __future__ import annotations

import gzip
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greso_service.core.events import Reported
from greso_service.whatif.log import Log, LogError
from greso_service.whatif.plain import KNOWN, Fields
from greso_service.whatif.read import read

Groups = list[tuple[int, str, list[float]]]


def written(folder: Path, *rows: object, name: str = "log.jsonl") -> str:
    path = folder / name
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows))
    return str(path)


def groups(log: Log) -> Groups:
    """The groups as they were logged."""
    names: list[bytes] = []
    found: Groups = []
    for step in log.entries:
        assert isinstance(step, Reported)
        assert step.final
        names += step.new
        at = 0
        for prompt, length in zip(step.index.tolist(), step.rewards.lengths.tolist(), strict=True):
            found.append((step.step, names[prompt].decode(), step.rewards.values[at : at + length].tolist()))
            at += length
    return found


WANTED: Groups = [(0, "a", [1.0, 0.0]), (0, "b", [0.0, 0.0]), (2, "a", [1.0, 1.0])]


def responses(**names: str) -> list[dict[str, Any]]:
    step, prompt, reward = (names.get(name, name) for name in ("step", "prompt", "reward"))
    return [
        {step: at, prompt: name, "output": "...", reward: earned} for at, name, rewards in WANTED for earned in rewards
    ]


LAYOUTS: dict[str, list[Any]] = {
    "groups": [{"step": step, "prompt": name, "rewards": rewards} for step, name, rewards in WANTED],
    "responses": responses(),
    "responses in between": [responses()[row] for row in (0, 2, 1, 3, 4, 5)],
    "other names": responses(step="global_step", prompt="input", reward="score"),
    "a prompt's own id wins over its text": [{**row, "prompt_id": row["prompt"], "prompt": "x"} for row in responses()],
    "truth values": [{**row, "reward": bool(row["reward"])} for row in responses()],
    "whole numbers as floats": [{**row, "step": float(row["step"])} for row in responses()],
    "blank lines": ["\n", *responses(), "  \n"],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_trainers_are_known(layout: str, tmp_path: Path) -> None:
    assert groups(read([written(tmp_path, *LAYOUTS[layout])])) == WANTED


def test_fields_may_be_named_and_lie_in_objects(tmp_path: Path) -> None:
    rows = [
        {"at": {"step": step}, "prompt": "x", "info.id": name, "r": rewards, "reward": 7}
        for step, name, rewards in WANTED
    ]
    log = read([written(tmp_path, *rows)], Fields("at.step", "info.id", "r"))
    assert groups(log) == WANTED
    assert log.source.endswith("(fields at.step, info.id, r)")


def test_gzip_is_told_by_its_content(tmp_path: Path) -> None:
    path = Path(written(tmp_path, *LAYOUTS["groups"]))
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert groups(read([str(path)])) == WANTED
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(LogError, match="ended before"):
        read([str(path)])


def test_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = Path(written(tmp_path, *LAYOUTS["groups"])).read_bytes()
    for given_ in (content, gzip.compress(content)):
        raw = io.BufferedReader(io.BytesIO(given_))
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(raw))
        assert groups(read(["-"])) == WANTED


def test_the_files_of_a_folder_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for step, name, rewards in [(10, "b", [0, 0]), (9, "a", [1, 1]), (100, "c", [1, 0])]:
        written(tmp_path, {"step": step, "prompt": name, "rewards": rewards}, name=f"{step}.jsonl")
    (tmp_path / "notes.txt").write_text("no log")
    assert [step for step, _, _ in groups(read([str(tmp_path)]))] == [9, 10, 100]


def test_ids_are_numbers_messages_or_texts_of_any_length(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "1 + 1"}]
    prompts = [17, "17", messages, messages, "x" * 300, "x" * 300, "x" * 299 + "y"]
    rows = [{"step": step, "prompt": prompt, "rewards": [1, 0]} for step, prompt in enumerate(prompts)]
    names = [name for _, name, _ in groups(read([written(tmp_path, *rows)]))]
    assert [names.index(name) for name in names] == [0, 0, 2, 2, 4, 4, 6]
    assert names[0] == "17"
    assert names[4].startswith("sha256:")


def test_a_line_that_breaks_off_at_the_end_is_left_out(tmp_path: Path) -> None:
    log = read([written(tmp_path, *LAYOUTS["groups"], '{"step": 2, "pro')])
    assert groups(log) == WANTED
    assert log.notes == ("The last line breaks off and was left out.",)


def test_nan_outside_of_the_rewards_does_no_harm(tmp_path: Path) -> None:
    rows = [{**row, "kl": float("nan")} for row in LAYOUTS["groups"]]
    assert groups(read([written(tmp_path, *rows)])) == WANTED


GOOD = {"step": 1, "prompt": "a", "rewards": [1, 0]}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "nothing in it"),
        (["\n"], "nothing in it"),
        (["[\n"], "line 1 begins a JSON array; write one object a line"),
        (["[1]\n"], "line 1 has a list where an object is needed"),
        ([GOOD, "nonsense\n", GOOD], "line 2 is not JSON"),
        (['{"step": 1'], "no whole line"),
        (
            [{"step": 1, "rewards": [1]}],
            "line 1 has no prompt: no field 'prompt_id' or .*; it has: step, rewards; name it",
        ),
        ([GOOD, {"step": 1, "prompt": "a"}], "line 2 has no 'rewards', as the first line has"),
        ([GOOD, {**GOOD, "prompt": ""}], "line 2 its prompt is empty"),
        ([{**GOOD, "prompt": True}], "line 1 its prompt is true, which is neither text nor a whole number"),
        ([{**GOOD, "step": -1}], "line 1 has the step -1, which is no whole number from 0 on"),
        ([{**GOOD, "step": 1.5}], "line 1 has the step 1.5"),
        ([{**GOOD, "step": "1"}], 'line 1 has the step "1"'),
        ([GOOD, {**GOOD, "rewards": [1, float("nan")]}], "line 2 has a reward that is not finite"),
        ([GOOD, {**GOOD, "rewards": float("inf")}], "line 2 has the reward inf"),
        ([GOOD, {**GOOD, "rewards": [1, None]}], r"line 2 has rewards that are not numbers: \[1, null\]"),
        ([GOOD, {**GOOD, "rewards": "1"}], "line 2 has a text as reward"),
        ([{**GOOD, "rewards": [1] * 65_536}], "more than 65,535 rewards"),
        ([GOOD, {**GOOD, "step": 0}], "line 2 is of step 0, behind one of step 1; with --sort"),
        (["PAR1..."], "is Parquet; write it as JSON Lines first"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(rows: Sequence[object], message: str, tmp_path: Path) -> None:
    with pytest.raises(LogError, match=message) as told:
        read([written(tmp_path, *rows)])
    assert "log.jsonl" in str(told.value)
    assert "\n" not in str(told.value)


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="No such file"):
        read([str(tmp_path / "none.jsonl")])
    with pytest.raises(LogError, match=r"no \.jsonl or \.ndjson in this folder"):
        read([str(tmp_path)])


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.sampled_from("abcd"), st.lists(st.integers(0, 1), max_size=3)),
        min_size=1,
        max_size=20,
    )
)
def test_sorted_lines_are_as_if_they_had_come_in_order(rows: list[tuple[int, str, list[int]]]) -> None:
    def log_of(some: list[tuple[int, str, list[int]]], *, sort: bool) -> Groups:
        text = "".join(json.dumps({"step": s, "prompt": p, "rewards": r}) + "\n" for s, p, r in some)
        raw = io.BufferedReader(io.BytesIO(text.encode()))
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(sys, "stdin", io.TextIOWrapper(raw))
            return groups(read(["-"], KNOWN, sort=sort))

    assert log_of(rows, sort=True) == log_of(sorted(rows, key=lambda row: row[0]), sort=False)
