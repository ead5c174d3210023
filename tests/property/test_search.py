"""Searching ids in packed words finds what a plain search finds, whatever the ids' bytes and lengths."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greso_service.core import prompts
from greso_service.core.draws import Ids
from greso_service.core.prompts import PromptTable

# Few letters, so that parts are found often; a zero byte, as ids are padded with them; letters of several bytes.
LETTERS = st.sampled_from("ab/0\0é")
NAMES = st.lists(st.text(LETTERS, min_size=1, max_size=20), max_size=40, unique=True)
PARTS = st.text(LETTERS, max_size=20)


def table(names: list[str]) -> PromptTable:
    """A table of these ids."""
    made = PromptTable()
    made.add(Ids.of(names))
    return made


@given(names=NAMES, part=PARTS, data=st.data(), chunk=st.sampled_from([1, 3, 65_536]))
def test_it_finds_what_a_plain_search_finds(names: list[str], part: str, data: Any, chunk: int) -> None:
    if names and data.draw(st.booleans()):  # a part that is there, up to a whole id
        name = data.draw(st.sampled_from(names))
        start = data.draw(st.integers(0, len(name) - 1))
        part = name[start : data.draw(st.integers(start + 1, len(name)))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prompts, "_CHUNK", chunk)
        found = table(names).containing(part.encode())
    assert found.tolist() == [part.encode() in name.encode() for name in names]


@pytest.mark.parametrize(
    ("names", "part", "found"),
    [
        (["abcdefgh", "ijklmnop"], "hi", [False, False]),  # ids of whole words stand side by side
        (["abc", "d"], "c\0", [False, False]),  # the padding is no part of an id
        (["abc\0", "abc"], "c\0", [True, False]),
        (["x" * 256, "y"], "x" * 256, [True, False]),
        (["x" * 255], "x" * 256, [False]),
        (["a", "b"], "", [True, True]),
        ([], "a", []),
        (["Dapo/1", "dapo/1"], "dapo", [False, True]),
        (["aXbXa", "ab"], "Xb", [True, False]),
    ],
)
def test_cases(names: list[str], part: str, found: list[bool]) -> None:
    assert table(names).containing(part.encode()).tolist() == found
