"""The report spool on disk: order, bound, damage, kills, and several processes at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greso_client._requests import Request
from greso_client._spool import Spool

from .doubles import wait_for

BIG = 1 << 20
APPEND_FOR_EVER = """
import itertools, sys
from pathlib import Path
from greso_client._requests import Request
from greso_client._spool import Spool
spool = Spool(Path(sys.argv[1]), 1 << 24)
for number in itertools.count():
    spool.append(Request("POST", "/report", b'{"n": %d}' % number, key=f"{sys.argv[2]}-{number}"), float(number))
    print(number, flush=True)
"""
DELIVER_ALL = """
import sys
from pathlib import Path
from greso_client._spool import Spool
spool = Spool(Path(sys.argv[1]), 1 << 24)
while not spool.is_empty():
    lock = spool.delivering()
    if lock is None:
        continue
    for _ in range(5):
        entry = spool.head()
        if entry is None:
            break
        print(entry.request.key, flush=True)
        spool.settle(entry)
    spool.release(lock)
"""
FILL_UP = """
import resource, sys
from pathlib import Path
from greso_client._requests import Request
from greso_client._spool import Spool
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
spool = Spool(Path(sys.argv[1]), 1 << 24)
kept = 0
try:
    while True:
        spool.append(Request("POST", "/report", b"x" * 100, key=f"k{kept}"), 0.0)
        kept += 1
except OSError as error:
    print(kept, type(error).__name__)
"""


def request(number: int, size: int = 10) -> Request:
    return Request(
        "POST", "/v1/runs/test/report", json.dumps({"n": number, "x": "y" * size}).encode(), key=f"k{number}"
    )


def drain(spool: Spool) -> list[Request]:
    drained = []
    while (entry := spool.head()) is not None:
        drained.append(entry.request)
        spool.settle(entry)
    return drained


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


def test_a_disk_that_fills_up_leaves_whole_lines(spool_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FILL_UP, spool_path], capture_output=True, text=True, check=True)
    kept, error = done.stdout.split()
    assert error == "OSError"
    assert int(kept) > 3
    assert spool_path.read_bytes().endswith(b"\n")
    assert [one.key for one in drain(Spool(spool_path, BIG))] == [f"k{number}" for number in range(int(kept))]


def test_a_process_killed_while_it_appends_loses_nothing_that_it_was_told_is_kept(spool_path: Path) -> None:
    told: dict[str, int] = {}
    for life in ("a", "b", "c"):
        process = subprocess.Popen([sys.executable, "-c", APPEND_FOR_EVER, spool_path, life], stdout=subprocess.PIPE)
        assert process.stdout is not None
        for _ in range(40):
            told[life] = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        process.wait()
        told[life] = max([told[life], *map(int, process.stdout.read().split())])
        process.stdout.close()
    keys = [one.key for one in drain(Spool(spool_path, 1 << 24))]
    for life, last in told.items():
        mine = [key for key in keys if key is not None and key.startswith(life)]
        assert mine[: last + 1] == [f"{life}-{number}" for number in range(last + 1)]
        assert len(mine) <= last + 2
    assert len(set(keys)) == len(keys)


def test_two_processes_deliver_each_entry_once_and_together_all(spool_path: Path) -> None:
    spool = Spool(spool_path, 1 << 24)
    for number in range(300):
        spool.append(request(number), 1.0)
    processes = [
        subprocess.Popen([sys.executable, "-c", DELIVER_ALL, spool_path], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    delivered = [process.communicate(timeout=60)[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sorted(delivered[0] + delivered[1]) == sorted(f"k{number}" for number in range(300))


def test_threads_appending_while_one_delivers_lose_and_double_nothing(spool_path: Path) -> None:
    spool = Spool(spool_path, 1 << 24)
    writers = [
        threading.Thread(target=lambda base=base: [spool.append(request(base + n), 1.0) for n in range(50)])
        for base in (0, 100, 200)
    ]
    for writer in writers:
        writer.start()
    seen: list[Request] = []

    def all_there() -> bool:
        seen.extend(drain(spool))
        return len(seen) >= 150

    wait_for(all_there, 30)
    for writer in writers:
        writer.join()
    keys = [one.key for one in seen]
    assert sorted(map(str, keys)) == sorted(f"k{base + n}" for base in (0, 100, 200) for n in range(50))


def test_only_one_may_deliver_at_a_time(spool_path: Path) -> None:
    one, other = Spool(spool_path, BIG), Spool(spool_path, BIG)
    lock = one.delivering()
    assert lock is not None
    assert other.delivering() is None
    assert one.delivering() is None
    one.release(lock)
    lock = other.delivering()
    assert lock is not None
    other.release(lock)


def test_a_child_forked_during_a_delivery_does_not_keep_the_right_to_deliver(spool_path: Path) -> None:
    spool = Spool(spool_path, BIG)
    lock = spool.delivering()
    assert lock is not None
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(write)
        os.read(read, 1)
        os._exit(0)
    os.close(read)
    try:
        spool.release(lock)
        again = spool.delivering()
        assert again is not None
        spool.release(again)
    finally:
        os.close(write)
        os.waitpid(child, 0)


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
