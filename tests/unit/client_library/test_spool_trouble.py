"""A spool on a disk or beside a process in trouble: a report may be lost, which is counted; the training never is."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import gc
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from greso_client import AsyncClient, Group
from greso_client._breaker import FIRST_PAUSE
from greso_client._core import Core
from greso_client._delivery import LEAST_WAIT, LOCKED_PAUSE
from greso_client._io import AsyncioIO, run
from greso_client._spool import Spool

from .doubles import ClockIO, FakeService, drain, make_core, request, wait_for
from .server import Server

GROUPS = [Group("a", [0.0, 1.0])]
BIG = 1 << 20


@pytest.fixture
def server(service: FakeService) -> Iterator[Server]:
    server = Server(service)
    yield server
    server.close()


def come_back(service: FakeService, io: ClockIO) -> None:
    service.down = False
    io.time += 2 * FIRST_PAUSE


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO, errno.EACCES])
def test_a_disk_that_does_not_even_say_whether_there_is_a_spool_stops_nothing(
    core: Core, service: FakeService, io: ClockIO, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def broken(self: Path) -> bool:
        raise OSError(number, os.strerror(number), str(self))

    service.down = True
    run(core.report(0, GROUPS))
    monkeypatch.setattr(Path, "exists", broken)
    assert run(core.report(1, GROUPS)).degraded
    come_back(service, io)
    run(core.report(2, GROUPS))
    run(core.create_run({}))
    monkeypatch.undo()
    assert run(core.flush())
    assert sorted(step for step, _ in service.reported()) == [0, 1, 2]


@pytest.mark.parametrize("where", ["x" * 300, "folder"])
def test_a_spool_that_can_be_no_file_costs_reports_and_nothing_else(
    io: ClockIO, service: FakeService, tmp_path: Path, where: str
) -> None:
    (tmp_path / "folder").mkdir()
    core = make_core(io, tmp_path / where)
    service.down = True
    assert run(core.report(0, GROUPS)).degraded
    assert core.counts.snapshot().dropped == 1
    come_back(service, io)
    assert not run(core.report(1, GROUPS)).degraded
    assert not run(core.flush()), "nobody knows whether something is left"
    run(core.finish())


def test_a_process_frozen_while_it_holds_the_spool_holds_up_nobody_for_ever(
    core: Core, service: FakeService, io: ClockIO, spool_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("greso_client._spool.LOCK_SECONDS", 0.05)
    service.down = True
    run(core.report(0, GROUPS))
    descriptor = os.open(f"{spool_path}.lock", os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        assert run(core.report(1, GROUPS)).degraded
        assert core.counts.snapshot().dropped == 1
    finally:
        os.close(descriptor)
    come_back(service, io)
    assert not run(core.report(2, GROUPS)).degraded
    assert [step for step, _ in service.reported()] == [0, 2]


class Waits:
    """Time as the spool has it: it passes only where the spool waits for its lock."""

    def __init__(self) -> None:
        self.waited = 0.0

    def monotonic(self) -> float:
        return self.waited

    def sleep(self, seconds: float) -> None:
        self.waited += seconds


@pytest.fixture
def frozen(
    core: Core, service: FakeService, spool_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Waits, int]]:
    """A spool of one report, locked by a process that is frozen: what waiting for it takes, and the lock."""
    service.down = True
    run(core.report(0, GROUPS))
    descriptor = os.open(f"{spool_path}.lock", os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    waits = Waits()
    monkeypatch.setattr("greso_client._spool.time", waits)
    yield waits, descriptor
    os.close(descriptor)


def test_a_frozen_spool_costs_a_call_its_budget_at_most_and_the_next_ones_nothing(
    frozen: tuple[Waits, int], io: ClockIO, service: FakeService, spool_path: Path
) -> None:
    waits, _ = frozen
    core = make_core(io, spool_path, budget=0.2)
    service.down = False
    assert not run(core.report(1, GROUPS)).degraded, "half of the budget is left for it"
    assert 0.05 <= waits.waited <= 0.11
    service.down = True
    before = waits.waited
    for step in range(2, 9):
        assert run(core.report(step, GROUPS)).degraded
    assert waits.waited == before
    assert core.counts.snapshot().dropped == 7


def test_with_the_breaker_open_a_frozen_spool_costs_one_budget_per_pause(
    frozen: tuple[Waits, int], core: Core, io: ClockIO
) -> None:
    waits, _ = frozen
    for _ in range(5):
        assert run(core.report(1, GROUPS)).degraded
    assert 1.9 <= waits.waited <= 2.01
    io.time += LOCKED_PAUSE
    assert run(core.report(1, GROUPS)).degraded
    assert 1.9 <= waits.waited <= 4.02
    assert core.counts.snapshot().dropped == 6


def test_a_spool_that_thaws_takes_reports_at_once(
    frozen: tuple[Waits, int], core: Core, service: FakeService, io: ClockIO
) -> None:
    _, descriptor = frozen
    assert run(core.report(1, GROUPS)).degraded
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    assert run(core.report(2, GROUPS)).degraded
    come_back(service, io)
    assert run(core.flush())
    assert [step for step, _ in service.reported()] == [0, 2]
    assert core.counts.snapshot().dropped == 1


def test_a_used_up_budget_leaves_a_moment_to_wait_for_a_busy_spool(
    frozen: tuple[Waits, int], io: ClockIO, spool_path: Path
) -> None:
    waits, _ = frozen
    core = make_core(io, spool_path)
    spool_path.unlink()  # nothing waits in it, so that nothing is to be delivered first
    io.takes = 60.0
    assert run(core.report(1, GROUPS)).degraded
    assert LEAST_WAIT <= waits.waited <= LEAST_WAIT + 0.01


def test_creating_a_run_waits_no_longer_than_its_budget_for_a_frozen_spool(
    frozen: tuple[Waits, int], io: ClockIO, service: FakeService, spool_path: Path
) -> None:
    waits, _ = frozen
    service.down = service.exists = False
    run(make_core(io, spool_path, budget=0.2).create_run({}))
    assert 0.19 <= waits.waited <= 0.21


def test_waiting_for_the_spool_is_short_when_its_holder_is_not_frozen(spool_path: Path) -> None:
    spool = Spool(spool_path, BIG)
    spool.append(request(0), 1.0)
    descriptor = os.open(f"{spool_path}.lock", os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    waiting = threading.Thread(target=spool.append, args=(request(1), 1.0))
    waiting.start()
    os.close(descriptor)
    waiting.join(30)
    assert [one.key for one in drain(spool)] == ["k0", "k1"]


def test_damaged_lines_are_counted_as_lost_and_kept_for_who_may_know_them(
    core: Core, service: FakeService, io: ClockIO, spool_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    service.down = True
    for step in range(3):
        run(core.report(step, GROUPS))
    lines = spool_path.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2][:30] + b"\x00\xff" + lines[2][32:]
    lines += [b'{"due":1,"half a li']  # torn: it was never said to be kept
    spool_path.write_bytes(b"".join(lines))
    come_back(service, io)
    assert run(core.flush())
    assert [step for step, _ in service.reported()] == [0, 2]
    counters = core.counts.snapshot()
    assert (counters.delivered, counters.refused) == (2, 1)
    [aside] = [json.loads(line) for line in spool_path.with_name("spool.jsonl.refused").read_text().splitlines()]
    assert aside["refused"] == "damaged on the disk"
    assert aside["line"].startswith('{"due":1,"at":')
    assert "1 lines of the spool were damaged" in caplog.text


@pytest.mark.parametrize(
    "wrong",
    [{"key": None}, {"key": ""}, {"path": "http://elsewhere/v1/runs/test/report"}, {"path": "/v1/runs"}, {"body": 3},
     {"method": "DELETE"}, {"at": "x"}, {"at": 10**400}, {"generation": "x"}],
    ids=str,
)  # fmt: skip
def test_a_line_that_no_client_wrote_is_never_sent(
    core: Core, service: FakeService, io: ClockIO, spool_path: Path, wrong: dict[str, object]
) -> None:
    service.down = True
    run(core.report(0, GROUPS))
    head, line = spool_path.read_text().splitlines()
    spool_path.write_text(f"{head}\n{json.dumps(json.loads(line) | wrong, separators=(',', ':'))}\n")
    service.requests.clear()
    come_back(service, io)
    assert run(core.flush())
    assert service.requests == []
    assert core.counts.snapshot().refused == 1


def test_a_body_damaged_on_the_disk_is_put_aside(
    core: Core, service: FakeService, io: ClockIO, spool_path: Path
) -> None:
    service.down = True
    run(core.report(0, GROUPS))
    spool_path.write_text(spool_path.read_text().replace("results", "resalts"))
    service.requests.clear()
    come_back(service, io)
    assert run(core.flush())
    assert (service.requests, core.counts.snapshot().refused) == ([], 1)


def test_two_trainers_on_one_spool_deliver_each_others_reports_once(
    io: ClockIO, service: FakeService, spool_path: Path
) -> None:
    one, other = make_core(io, spool_path), make_core(io, spool_path)
    service.down = True
    for step in range(6):
        run((one, other)[step % 2].report(step, GROUPS))
    come_back(service, io)
    assert not run(other.report(6, GROUPS)).degraded
    io.time += 3600
    assert not run(one.report(7, GROUPS)).degraded
    assert [step for step, _ in service.reported()] == list(range(8))
    assert one.counts.snapshot().delivered + other.counts.snapshot().delivered == 6


def test_a_call_cancelled_while_it_takes_the_right_to_deliver_gives_it_back(
    server: Server, spool_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Spool(spool_path, BIG).append(request(0), 1e12)
    entered, let_go = threading.Event(), threading.Event()
    take = Spool.delivering

    def slowly(self: Spool) -> int | None:
        entered.set()
        let_go.wait(30)
        return take(self)

    async def train() -> None:
        async with AsyncClient(server.url, run="test", spool=spool_path) as client:
            monkeypatch.setattr(Spool, "delivering", slowly)
            call = asyncio.create_task(client.report(0, GROUPS))
            await asyncio.to_thread(wait_for, entered.is_set)
            call.cancel()
            await asyncio.sleep(0)
            let_go.set()
            with pytest.raises(asyncio.CancelledError):
                await call
            monkeypatch.undo()
            lock = Spool(spool_path, BIG).delivering()
            assert lock is not None
            Spool(spool_path, BIG).release(lock)

    asyncio.run(train())


def test_disk_work_that_fails_after_its_call_was_cancelled_says_nothing() -> None:
    let_go = threading.Event()

    def fail() -> None:
        let_go.wait(30)
        raise OSError(errno.EIO, "broken")

    said: list[object] = []

    async def work() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
        io = AsyncioIO(None)  # type: ignore[arg-type]
        task = asyncio.create_task(io.work(fail))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
        let_go.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        del task
        gc.collect()

    asyncio.run(work())
    assert said == []
