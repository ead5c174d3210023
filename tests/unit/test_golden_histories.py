"""An older history is always readable: those that each version wrote fold to what they folded to then.

When a test here fails because the format has changed: raise `VERSION` of the codec or of the snapshot, keep reading the
older ones (snapshots are refused instead, and made anew), and make golden files: `python -m tests.golden_histories`.
"""

from __future__ import annotations

import asyncio
import json
import re
import zlib
from pathlib import Path
from typing import Any, get_args

import pytest

from greso_service.core.events import Event, Rewound
from greso_service.core.mark import START
from greso_service.history import codec, exported, snapshot
from greso_service.history.codec import CodecError

from ..golden_histories import FOLDER, STORIES, folded, newest, told  # noqa: TID252

HEAD = 20
HISTORIES = sorted(FOLDER.glob("*-events-*.ndjson"))
SNAPSHOTS = sorted(FOLDER.glob("*-snapshot-*.bin"))


def version_of(path: Path) -> int:
    found = re.search(r"-(\d+)\.", path.name)
    assert found
    return int(found[1])


def payloads(path: Path) -> list[bytes]:
    return list(exported.read(path.read_bytes().splitlines(keepends=True)))


def same(now: Any, then: Any, place: str = "") -> None:
    """All that was told then is told now; more may be told. Floats to 12 digits: processors round otherwise."""
    if isinstance(then, dict):
        assert set(then) <= set(now), place
        for name, value in then.items():
            same(now[name], value, f"{place}/{name}")
    elif isinstance(then, list):
        assert len(now) == len(then), place
        for row, value in enumerate(then):
            same(now[row], value, f"{place}/{row}")
    elif isinstance(then, float):
        assert now == pytest.approx(then, rel=1e-12, abs=1e-12), place
    else:
        assert now == then, place


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
def test_a_history_folds_to_what_it_folded_to(path: Path) -> None:
    same(told(asyncio.run(folded(path.read_bytes()))), json.loads(path.with_suffix(".json").read_text()))


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
def test_events_of_the_present_version_are_written_as_they_were(path: Path) -> None:
    """Else the format has changed: it needs another version, and golden histories of that."""
    for payload in payloads(path):
        if payload[0] == codec.VERSION:
            assert opened(codec.encode(codec.decode(payload))) == opened(payload)


def opened(payload: bytes) -> bytes:
    """zlib's output may differ between its versions; what it holds may not."""
    return payload[:HEAD] + (zlib.decompress(payload[HEAD:]) if payload[2] else payload[HEAD:])


@pytest.mark.parametrize("path", SNAPSHOTS, ids=lambda path: path.stem)
def test_a_snapshot_is_the_state_or_is_refused_as_of_another_version(path: Path) -> None:
    content = path.read_bytes()
    assert content[0] == version_of(path)
    if version_of(path) != snapshot.VERSION:
        with pytest.raises(CodecError, match="version"):
            snapshot.decode(content)
        return
    name = path.name.partition("-")[0]
    state = snapshot.decode(content)
    same(told(state), json.loads(newest(name).with_suffix(".json").read_text()))
    again = snapshot.Frozen(state).encode()
    assert zlib.decompress(again[1:]) == zlib.decompress(content[1:]), "the layout has changed: raise its version"


def test_there_are_golden_files_of_every_version() -> None:
    versions = {name: {version_of(path) for path in HISTORIES if path.name.startswith(name)} for name in STORIES}
    assert versions == {name: set(range(1, codec.VERSION + 1)) for name in STORIES}
    assert {path.name for path in SNAPSHOTS} >= {f"{name}-snapshot-{snapshot.VERSION}.bin" for name in STORIES}


def test_they_hold_every_kind_of_event() -> None:
    events = [codec.decode(payload).event for path in HISTORIES for payload in payloads(path)]
    assert {type(event) for event in events} == set(get_args(Event))
    rewinds = [event for event in events if isinstance(event, Rewound)]
    assert any(event.kept[0].after == START for event in rewinds)
