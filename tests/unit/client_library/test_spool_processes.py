"""The report spool on disk: kills, full disks, and several threads and processes at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from greso_client._requests import Request
from greso_client._spool import Spool

from .doubles import drain, request, wait_for

BIG = 1 << 20
APPEND_FOR_EVER = """
import itertools, sys
from pathlib import Path
from greso_client._requests import Request
from greso_client._spool import Spool
spool = Spool(Path(sys.argv[1]), 1 << 24)
for number in itertools.count():
    body, key = b"{}", f"{sys.argv[2]}-{number}"
    spool.append(Request("POST", "/v1/runs/r/report", body, key=key), float(number))
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
        spool.append(Request("POST", "/v1/runs/r/report", b"x" * 100, key=f"k{kept}"), 0.0)
        kept += 1
except OSError as error:
    print(kept, type(error).__name__)
"""


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
