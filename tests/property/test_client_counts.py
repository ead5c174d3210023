"""The header in which clients tell their counts, whatever they send in it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greso_service.telemetry.client_counts import MEMBERS, MOST, parse

COUNTS = st.dictionaries(st.sampled_from(MEMBERS), st.integers(0, MOST))
# Nothing that would separate or name a member.
JUNK = st.text(st.characters(exclude_characters=",="), max_size=20)


def written(counts: dict[str, int]) -> list[str]:
    return [f"{name}={count}" for name, count in counts.items()]


@given(COUNTS, st.lists(st.tuples(st.integers(0, 4), JUNK), max_size=4), st.sampled_from([",", ", ", " ,\t"]))
def test_what_is_known_is_read_among_whatever_else_there_is(
    counts: dict[str, int], junk: list[tuple[int, str]], separator: str
) -> None:
    members = written(counts)
    for place, text in junk:
        members.insert(place, text)
    assert parse(separator.join(members)) == counts


@given(st.text() | st.text(st.sampled_from("degraspoltv=,0123456789 -+._e²٣")))
def test_nothing_a_client_sends_fails_or_gets_past_the_bounds(header: str) -> None:
    counts = parse(header)
    assert counts.keys() <= set(MEMBERS)
    assert all(type(count) is int and 0 <= count <= MOST for count in counts.values())


@pytest.mark.parametrize(
    "value",
    ["", "-1", "+1", "1.0", "1e3", "0x1", "1_0", " 1", "1 2", "²", "٣", str(MOST + 1), "0" * 11, "9" * 5000, "?1"],
)
def test_a_value_that_is_no_count_is_left_out_and_the_others_stay(value: str) -> None:
    assert parse(f"spooled={value}, degraded=3") == ({} if len(value) > 1000 else {"degraded": 3})


def test_a_member_given_twice_counts_once() -> None:
    assert parse("lost=1, lost=2") == {"lost": 2}


def test_names_are_lower_case_and_whole() -> None:
    assert parse("Degraded=1, degrade=1, degraded =1, xdegraded=1") == {}
