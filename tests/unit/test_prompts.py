"""PromptTable: ids <-> indices, also where hashes collide."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from greso_service.core import draws
from greso_service.core.draws import U64, Ids
from greso_service.core.prompts import UNKNOWN, PromptTable

STRANGE = [
    "a",
    "a\0",
    "\0",
    "é",
    "e\u0301",
    "漢字" * 40,
    "x" * 256,
    "x" * 255,
    "/../",
    "%2F",
    '"',
    " ",
    "\n",
    "🤖" * 64,
]


def table_of(prompts: list[str], at_a_time: int = 10**9) -> PromptTable:
    table = PromptTable()
    for start in range(0, len(prompts), at_a_time):
        _, new = table.plan(Ids.of(prompts[start : start + at_a_time]))
        table.add(Ids.of_bytes(new))
    return table


def found(table: PromptTable, prompts: list[str]) -> list[int]:
    index: list[int] = table.find(Ids.of(prompts)).tolist()
    return index


@pytest.mark.parametrize("at_a_time", [1, 3, 1000])
def test_indices_are_given_in_order_of_first_appearance(at_a_time: int) -> None:
    table = table_of(STRANGE, at_a_time)
    assert found(table, STRANGE) == list(range(len(STRANGE)))
    assert table.texts(range(len(table))) == STRANGE


def test_unknown_ids() -> None:
    assert found(PromptTable(), ["a"]) == [UNKNOWN]
    assert found(table_of(STRANGE), ["b", "a", "x" * 254]) == [UNKNOWN, 0, UNKNOWN]
    assert found(table_of(STRANGE), []) == []


def test_a_plan_changes_nothing() -> None:
    table = table_of(["a", "b"])
    index, new = table.plan(Ids.of(["c", "b", "c", "d", "a"]))
    assert index.tolist() == [2, 1, 2, 3, 0]
    assert new == [b"c", b"d"]
    assert len(table) == 2
    assert found(table, ["c"]) == [UNKNOWN]


def test_a_plan_behind_other_plans() -> None:
    index, new = table_of(["a", "b"]).plan(Ids.of(["x", "a"]), size=10)
    assert (index.tolist(), new) == ([10, 0], [b"x"])


def crowded(_words: U64, lengths: np.ndarray[tuple[int], np.dtype[np.int64]]) -> U64:
    return np.zeros(lengths.size, np.uint64)


def last_slots(words: U64, lengths: np.ndarray[tuple[int], np.dtype[np.int64]]) -> U64:
    """Distinct hashes that all begin at the end of the table, so that probing wraps around."""
    return (words[:, 0] << np.uint64(32)) | np.uint64(0xFFFFFFFF)


@pytest.mark.parametrize("collide", [crowded, last_slots])
def test_ids_whose_hashes_collide_stay_apart(monkeypatch: pytest.MonkeyPatch, collide: Callable[..., U64]) -> None:
    monkeypatch.setattr(draws, "_hash", collide)
    prompts = [*STRANGE, *(f"p{number}" for number in range(300))]
    for at_a_time in (7, 1000):
        table = table_of(prompts, at_a_time)
        assert found(table, prompts) == list(range(len(prompts)))
        assert found(table, ["q", "p300", "p0"]) == [UNKNOWN, UNKNOWN, prompts.index("p0")]
    words, lengths = table.packed()
    assert PromptTable.unpacked(words, lengths).texts(range(len(prompts))) == prompts


def test_the_table_grows() -> None:
    prompts = [f"dataset/{number}" for number in range(20_000)]
    one, many = table_of(prompts), table_of(prompts, 333)
    assert found(one, prompts) == found(many, prompts) == list(range(20_000))
    assert one.hashes.tolist() == many.hashes.tolist()
    assert one.texts([19_999, 0]) == ["dataset/19999", "dataset/0"]


def test_adding_nothing_changes_nothing() -> None:
    table = table_of(["a"])
    table.add(Ids.of([]))
    assert (len(table), found(table, ["a"])) == (1, [0])


@pytest.mark.parametrize("prompts", [[], ["a"], STRANGE, [f"p{number}" for number in range(5000)]])
def test_packed_and_unpacked(prompts: list[str]) -> None:
    table = table_of(prompts)
    again = PromptTable.unpacked(*table.packed())
    assert again.texts(range(len(again))) == prompts
    assert again.hashes.tolist() == table.hashes.tolist()
    assert found(again, [*prompts, "unknown"]) == [*range(len(prompts)), UNKNOWN]
