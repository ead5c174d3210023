"""The file form of a history: what goes in comes out, and nothing that was changed, cut or added to is taken."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from greso_service.core.events import Created, Event, Reported
from greso_service.core.mark import START, Mark
from greso_service.core.outcome import Rewards
from greso_service.core.spec import RunSpec
from greso_service.history import codec, exported
from greso_service.history.codec import Recorded
from greso_service.history.exported import ExportError, Writer


def mark_of(payloads: list[bytes]) -> Mark:
    mark = START
    for payload in payloads:
        mark = mark.then(payload)
    return mark


def export(payloads: list[bytes], page: int = 100) -> bytes:
    writer = Writer("my-run", mark_of(payloads))
    text = writer.begin()
    for start in range(0, len(payloads), page):
        text += writer.lines(payloads[start : start + page])
    return text + writer.end()


def read(text: bytes) -> list[bytes]:
    return list(exported.read(text.splitlines(keepends=True)))


def history() -> list[bytes]:
    report = Reported(3, True, [b"a"], np.array([0]), Rewards.of([[1.0, 0.0]]))
    events: list[Event] = [Created(RunSpec().to_dict()), report]
    return [codec.encode(Recorded(event, 1_000 + at, at)) for at, event in enumerate(events)]


@given(st.lists(st.binary(min_size=0, max_size=40), max_size=20), st.integers(1, 5))
def test_a_history_comes_back_byte_for_byte(payloads: list[bytes], page: int) -> None:
    assert read(export(payloads, page)) == payloads


def test_the_lines_say_what_they_are() -> None:
    payloads = history()
    text = export(payloads)
    manifest, created, reported, end = (json.loads(line) for line in text.splitlines())
    assert manifest == {
        "format": "greso-history", "version": 1, "run": "my-run", "events": 2, "mark": str(mark_of(payloads)),
    }  # fmt: skip
    assert (created["type"], reported["type"]) == ("created", "reported")
    assert reported["mark"] == str(mark_of(payloads))
    before = text[: text.rindex(b"{")]
    assert end == {"events": 2, "sha256": hashlib.sha256(before).hexdigest()}


def test_an_event_of_a_newer_version_goes_out_as_it_is() -> None:
    payloads = [b"\x09\xff anything"]
    assert json.loads(export(payloads).splitlines()[1])["type"] == "unknown"
    assert read(export(payloads)) == payloads


def test_every_byte_counts() -> None:
    text = export(history())
    for place in range(len(text)):
        changed = bytearray(text)
        changed[place] ^= 1
        with pytest.raises(ExportError):
            read(bytes(changed))


@pytest.mark.parametrize(
    ("spoilt", "message"),
    [
        (lambda lines: lines[:-1], "cut off behind line 3"),
        (lambda lines: lines[:0], "cut off behind line 0"),
        (lambda lines: [*lines, lines[1]], "line 5 stands behind the end"),
        (lambda lines: [lines[0], *lines[2:]], "line 2 has the mark"),
        (lambda lines: [lines[0], lines[2], lines[1], lines[3]], "line 2 has the mark"),
        (lambda lines: lines[1:], "line 1 is not the manifest"),
        (lambda lines: lines[-1:], "line 1 is not the manifest"),
        (lambda lines: [lines[0].replace(b'"version":1', b'"version":2'), *lines[1:]], "line 1 says version 2"),
        (lambda lines: [lines[0].replace(b"my-run", b"my-ruN"), *lines[1:]], "line 4 has another checksum"),
        (lambda lines: [lines[0].replace(b'"events":2', b'"events":3'), *lines[1:]], "line 4 says 2 events"),
        (lambda lines: [lines[0], b"[]\n"], "line 2 is not an object"),
        (lambda lines: [lines[0], b'{"mark": "1-1"}\n'], "line 2 has no event in base64"),
        (lambda lines: [lines[0], lines[1][:40]], "line 2 is not JSON"),
    ],
)
def test_what_is_not_whole_is_refused(spoilt: object, message: str) -> None:
    lines = export(history()).splitlines(keepends=True)
    assert callable(spoilt)
    with pytest.raises(ExportError, match=message):
        list(exported.read(spoilt(lines)))
