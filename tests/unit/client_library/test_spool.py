"""The report spool on disk: order, bound and damage."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greso_client._requests import Request
from greso_client._spool import Spool

from .doubles import drain, request

BIG = 1 << 20


def test_requests_come_back_whole_in_order_and_the_file_goes_when_all_are_done(spool_path: Path) -> None:
    spool = Spool(spool_path, BIG)
    requests = [request(number) for number in range(5)]
    assert spool.is_empty()
    assert [spool.append(one, 1.0) for one in requests] == [0] * 5
    assert not spool.is_empty()
    assert drain(spool) == requests
    assert spool.is_empty()
    assert not spool_path.exists()


def test_each_line_is_json_and_only_the_owner_may_read_the_folder(spool_path: Path) -> None:
    Spool(spool_path, BIG).append(request(1), 1.0)
    assert [json.loads(line) for line in spool_path.read_text().splitlines()][1]["key"] == "k1"
    assert spool_path.parent.stat().st_mode & 0o077 == 0


def test_a_half_delivered_spool_goes_on_where_it_stood_in_another_process(spool_path: Path) -> None:
    first = Spool(spool_path, BIG)
    for number in range(4):
        first.append(request(number), 1.0)
    for _ in range(2):
        entry = first.head()
        assert entry is not None
        first.settle(entry)
    assert [one.key for one in drain(Spool(spool_path, BIG))] == ["k2", "k3"]


@pytest.mark.parametrize("cut", [1, 10, 60])
def test_a_torn_last_line_is_passed_over_and_cut_off_by_the_next_append(spool_path: Path, cut: int) -> None:
    spool = Spool(spool_path, BIG)
    for number in range(3):
        spool.append(request(number), 1.0)
    os.truncate(spool_path, spool_path.stat().st_size - cut)
    assert spool.head() is not None
    spool.append(request(3), 1.0)
    assert [one.key for one in drain(spool)] == ["k0", "k1", "k3"]


def test_a_file_torn_in_its_first_line_is_begun_anew(spool_path: Path) -> None:
    spool = Spool(spool_path, BIG)
    spool.append(request(0), 1.0)
    os.truncate(spool_path, 7)
    assert spool.head() is None
    spool_path.write_bytes(b'{"greso')
    spool.append(request(1), 1.0)
    assert [one.key for one in drain(spool)] == ["k1"]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_whatever_a_crash_leaves_of_the_file_the_whole_lines_are_delivered(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "spool.jsonl"
        spool = Spool(path, BIG)
        ends = []
        for number in range(4):
            spool.append(request(number), 1.0)
            ends.append(path.stat().st_size)
        cut = data.draw(st.integers(0, ends[-1]))
        os.truncate(path, cut)
        whole = sum(end <= cut for end in ends)
        spool = Spool(path, BIG)
        spool.append(request(9), 1.0)
        assert [one.key for one in drain(spool)] == [f"k{number}" for number in range(whole)] + ["k9"]


def test_damaged_lines_are_passed_over(spool_path: Path) -> None:
    spool = Spool(spool_path, BIG)
    spool.append(request(0), 1.0)
    with spool_path.open("ab") as file:
        file.write(b'{"due":1,"at":}\n\xff\xfe\n{"due":1,"at":1}\n')
    spool.append(request(1), 1.0)
    assert [one.key for one in drain(spool)] == ["k0", "k1"]


def test_a_full_spool_drops_the_oldest_and_says_how_many(spool_path: Path) -> None:
    spool = Spool(spool_path, 4000)
    dropped = 0
    for number in range(100):
        dropped += spool.append(request(number), 1.0)
        assert spool_path.stat().st_size <= 4000
    left = [one.key for one in drain(spool)]
    assert len(left) == 100 - dropped > 10
    assert left == [f"k{number}" for number in range(dropped, 100)]


def test_what_is_delivered_makes_room_before_anything_is_dropped(spool_path: Path) -> None:
    spool = Spool(spool_path, 4000)
    for number in range(200):
        assert spool.append(request(number), 1.0) == 0
        entry = spool.head()
        assert entry is not None
        assert entry.request.key == f"k{number - 1 if number else 0}"
        if number:
            spool.settle(entry)


def test_an_entry_is_settled_also_when_the_file_was_rewritten_meanwhile(spool_path: Path) -> None:
    spool, other = Spool(spool_path, 4000), Spool(spool_path, 4000)
    number = 0
    while other.append(request(number), 1.0) == 0:
        number += 1
    entry = spool.head()
    assert entry is not None
    more = number + 1
    while other.append(request(more), 1.0) == 0:
        more += 1
    spool.settle(entry)
    keys = [one.key for one in drain(spool)]
    assert entry.request.key not in keys
    assert keys[-1] == f"k{more}"


def test_a_report_larger_than_the_spool_is_refused_and_the_rest_stays(spool_path: Path) -> None:
    spool = Spool(spool_path, 2000)
    spool.append(request(0), 1.0)
    with pytest.raises(OSError, match="does not fit"):
        spool.append(request(1, size=3000), 1.0)
    assert [one.key for one in drain(spool)] == ["k0"]


def test_retiring_takes_what_is_older_of_one_run_only(spool_path: Path) -> None:
    spool = Spool(spool_path, BIG)
    for number, (path, at) in enumerate(
        [("/v1/runs/a/report", 5.0), ("/v1/runs/ab/report", 1.0), ("/v1/runs/a/report", 1.0)]
    ):
        spool.append(Request("POST", path, b"{}", key=f"k{number}"), at)
    assert spool.retire("/v1/runs/a", 3.0, "another run") == 1
    assert [one.key for one in drain(spool)] == ["k0", "k1"]
    assert json.loads(spool.refused_path.read_text())["key"] == "k2"


def test_what_is_put_aside_is_bounded_too(spool_path: Path) -> None:
    spool = Spool(spool_path, 4000)
    for number in range(100):
        spool.append(request(number), 1.0)
        entry = spool.head()
        assert entry is not None
        spool.settle(entry, "refused")
    assert 3000 < spool.refused_path.stat().st_size <= 4000
