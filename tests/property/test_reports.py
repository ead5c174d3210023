"""The quick reader of reports: takes what pydantic takes, says the same of it, and leaves all else to it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from greso_service.api import reports
from greso_service.api.wire_requests import MOST_SECONDS, ReportRequest
from greso_service.core.limits import LARGEST_STEP

numbers = st.one_of(
    st.sampled_from([0, 1]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-(2**70), 2**70),
)
groups: st.SearchStrategy[Any] = st.fixed_dictionaries(
    {"prompt": st.text(max_size=5), "rewards": st.lists(numbers, max_size=4)}
)
seconds = st.fixed_dictionaries({}, optional={"rollout": st.floats(0, MOST_SECONDS), "update": st.integers(0, 10)})
good: st.SearchStrategy[Any] = st.fixed_dictionaries(
    {"step": st.integers(0, LARGEST_STEP), "results": st.lists(groups, max_size=4)},
    optional={"final": st.booleans(), "seconds": st.none() | seconds},
)

strange = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=3), st.just([]), st.just({}),
    st.sampled_from([LARGEST_STEP + 1, 1.0, -0.0, "1", 1e999]),
)  # fmt: skip


@st.composite
def broken(draw: st.DrawFn) -> Any:
    """A good report of which some place holds something strange, or is not there, or is there without need."""
    body = draw(good)
    place: Any = body
    for name in draw(st.sampled_from(["", "results", "results rewards", "seconds"])).split():
        below = place.get(name)
        if isinstance(below, list) and below and isinstance(below[0], dict):
            below = below[draw(st.integers(0, len(below) - 1))]
        if not below:
            break
        place = below
    if isinstance(place, list):
        place[draw(st.integers(0, len(place) - 1))] = draw(strange)
    else:
        name = draw(st.sampled_from([*place, "more"]))
        if draw(st.booleans()):
            place[name] = draw(strange)
        else:
            place.pop(name, None)
    return body


@given(good)
def test_good_reports_are_read_quickly_and_as_pydantic_reads_them(body: Any) -> None:
    content = json.dumps(body).encode()
    quick = reports.quickly(content)
    assert quick is not None
    assert quick == reports.thoroughly(ReportRequest.model_validate_json(content))


@given(broken())
def test_what_the_quick_reader_takes_pydantic_takes_too(body: Any) -> None:
    content = json.dumps(body).encode()
    if (quick := reports.quickly(content)) is not None:
        assert quick == reports.thoroughly(ReportRequest.model_validate_json(content))


@pytest.mark.parametrize(
    "content",
    [
        b"", b"[]", b"{", b'{"step": 1.0, "results": []}', b'{"step": true, "results": []}',
        b'{"step": 1, "results": [{"prompt": "a", "rewards": [true]}]}',
        b'{"step": 1, "results": [{"prompt": "a", "rewards": [1e999]}]}',
        b'{"step": 1, "results": [{"prompt": "a", "rewards": [NaN]}]}',
        b'{"step": 1, "results": [{"prompt": "a", "rewards": ["1"]}]}',
        b'{"step": 1, "results": [{"prompt": "\xff", "rewards": []}]}',
        b'{"step": 1, "results": [], "seconds": {"rollout": -1}}',
        b'{"step": 1, "results": [], "seconds": {"rollout": null}}',
    ],
)  # fmt: skip
def test_what_is_wrong_is_left_to_pydantic(content: bytes) -> None:
    assert reports.quickly(content) is None
    with pytest.raises(ValidationError):
        ReportRequest.model_validate_json(content)
