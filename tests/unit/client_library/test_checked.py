"""Looked at as a whole or one by one, what callers give is judged the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greso_client import Group, InvalidRequestError, _checked

ids = st.one_of(st.text(max_size=3), st.sampled_from(["a", "b" * 256, "b" * 257, "é" * 128, "é" * 129, "\ud800", 7]))
rewards = st.lists(st.one_of(st.floats(), st.integers(0, 1), st.sampled_from([True, "1", 1e308, 10**400])), max_size=4)
groups = st.lists(st.builds(Group, st.just("a") | ids, st.lists(st.sampled_from([0.0, 1.0])) | rewards), max_size=4)


def judged(groups: list[Group]) -> list[Group] | str:
    try:
        return _checked.checked_groups(groups)
    except InvalidRequestError as error:
        return str(error)


@given(groups)
def test_groups(groups: list[Group]) -> None:
    whole = judged(groups)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_checked, "_plain_groups", lambda _: False)
        assert judged(groups) == whole


@given(st.lists(ids, max_size=4))
def test_ids(prompts: list[str]) -> None:
    def judged() -> list[str] | str:
        try:
            return _checked.checked_prompts(prompts)
        except InvalidRequestError as error:
            return str(error)

    whole = judged()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_checked, "_plain_ids", lambda _: False)
        assert judged() == whole


def test_the_usual_is_looked_at_as_a_whole() -> None:
    assert _checked._plain_groups([Group("a", [0.0, 1.0]), Group("b", [])])
    assert _checked._plain_ids(["a", "b"])
    assert not _checked._plain_ids(["a", ""])
