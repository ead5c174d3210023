"""Both clients over real sockets: kept-alive connections, hard time bounds, resets, threads, forks, the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from greso_client import AsyncClient, Client, Group, Rollout, UnavailableError

from .doubles import FakeService
from .server import Server

MIXED = [0.0, 1.0]
BUDGET = 0.4
# What the machine may add to a bound, when it is busy with other tests.
SLACK = 0.7


@pytest.fixture
def server(service: FakeService) -> Iterator[Server]:
    server = Server(service)
    yield server
    server.close()


def closed_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def hang(_: socket.socket) -> None:
    time.sleep(3 * BUDGET)


def trickle(connection: socket.socket) -> None:
    """Never silent for long, never done: no time-out between bytes ever strikes."""
    with contextlib.suppress(OSError):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(60):
            connection.sendall(b"x")
            time.sleep(0.05)


def trickle_headers(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        for _ in range(60):
            connection.sendall(b"HTTP/1.1 200 OK\r\nX-More: "[:1])
            time.sleep(0.05)


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    connection.close()


def half_an_answer(connection: socket.socket) -> None:
    connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"selected": [')


def garbage(connection: socket.socket) -> None:
    connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")


MISBEHAVIOUR = [hang, trickle, trickle_headers, reset, half_an_answer, garbage]


def timed_select(url: str, spool: Path) -> tuple[bool, float]:
    with Client(url, run="test", budget=BUDGET, spool=spool) as client:
        start = time.monotonic()
        answer = client.select(0, ["a"])
        return answer.degraded, time.monotonic() - start


def timed_select_async(url: str, spool: Path) -> tuple[bool, float]:
    async def main() -> tuple[bool, float]:
        async with AsyncClient(url, run="test", budget=BUDGET, spool=spool) as client:
            start = time.monotonic()
            answer = await client.select(0, ["a"])
            return answer.degraded, time.monotonic() - start

    return asyncio.run(main())


BOTH = pytest.mark.parametrize("select", [timed_select, timed_select_async])


@BOTH
@pytest.mark.parametrize("misbehaviour", MISBEHAVIOUR)
def test_whatever_is_at_the_other_end_a_call_is_over_within_its_budget(
    server: Server, spool_path: Path, select: Any, misbehaviour: Callable[[socket.socket], None]
) -> None:
    server.misbehave = misbehaviour
    degraded, seconds = select(server.url, spool_path)
    assert degraded
    assert seconds < BUDGET + SLACK


@BOTH
def test_a_closed_port_degrades_within_the_budget(spool_path: Path, select: Any) -> None:
    degraded, seconds = select(closed_port(), spool_path)
    assert degraded
    assert seconds < BUDGET + SLACK


@BOTH
def test_a_listener_that_never_accepts_degrades_within_the_budget(spool_path: Path, select: Any) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        degraded, seconds = select(f"http://127.0.0.1:{listener.getsockname()[1]}", spool_path)
    assert degraded
    assert seconds < BUDGET + SLACK


def test_a_resolver_that_hangs_degrades_within_the_budget(spool_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()

    def stuck(*_: Any, **__: Any) -> Any:
        released.wait(10)
        raise socket.gaierror("gave up")

    monkeypatch.setattr(socket, "getaddrinfo", stuck)
    try:
        degraded, seconds = timed_select("http://no-such-host.invalid", spool_path)
    finally:
        released.set()
    assert degraded
    assert seconds < BUDGET + SLACK


def test_connections_are_kept_alive(server: Server, spool_path: Path) -> None:
    with Client(server.url, run="test", spool=spool_path) as client:
        for step in range(20):
            client.select(step, ["a"])
            client.report(step, [Group("a", MIXED)])
    assert server.connections == 1
    assert len(server.service.reports) == 20


def test_a_connection_closed_by_the_service_meanwhile_is_replaced_without_notice(
    server: Server, spool_path: Path
) -> None:
    with Client(server.url, run="test", spool=spool_path) as client:
        client.select(0, ["a"])
        server.misbehave = reset
        asked = server.connections
        threading.Timer(0.05, lambda: setattr(server, "misbehave", None)).start()
        assert not client.select(1, ["a"]).degraded
        assert server.connections > asked


def test_threads_share_a_client(server: Server, spool_path: Path) -> None:
    with Client(server.url, run="test", spool=spool_path) as client, ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda step: client.report(step, [Group(f"p{step}", MIXED)]), range(80)))
    assert not any(answer.degraded for answer in answers)
    assert sorted(step for step, _ in server.service.reported()) == list(range(80))


def test_a_forked_child_opens_connections_of_its_own(server: Server, spool_path: Path) -> None:
    with Client(server.url, run="test", spool=spool_path) as client:
        client.report(0, [Group("parent", MIXED)])
        child = os.fork()
        if child == 0:
            status = 1
            with contextlib.suppress(BaseException):
                status = int(client.report(1, [Group("child", MIXED)]).degraded)
                client.close()
            os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert server.connections == 2
        assert not client.report(2, [Group("parent", MIXED)]).degraded
    assert server.connections == 2
    assert [step for step, _ in server.service.reported()] == [0, 1, 2]


def test_the_async_client_collects_with_an_awaited_rollout(server: Server, spool_path: Path) -> None:
    server.service.pool = [f"p{index}" for index in range(12)]

    async def roll_out(prompts: list[str]) -> list[Rollout[str]]:
        await asyncio.sleep(0)
        return [Rollout(MIXED, prompt.upper()) for prompt in prompts]

    async def main() -> None:
        async with AsyncClient(server.url, run="test", spool=spool_path) as client:
            assert (await client.create_run(train_batch_size=4, rollout_batch_size=6)).spec["train_batch_size"] == 4
            got = await client.collect(0, roll_out)
            assert [group.data for group in got.effective] == [f"P{index}" for index in range(6)]
            many = await asyncio.gather(*(client.select(step, ["a"]) for step in range(20)))
            assert not any(answer.degraded for answer in many)
            assert client.counters.calls == 23

    asyncio.run(main())


def test_the_async_client_spools_and_delivers(server: Server, spool_path: Path) -> None:
    async def main() -> None:
        async with AsyncClient(closed_port(), run="test", budget=0.1, spool=spool_path) as client:
            for step in range(3):
                assert (await client.report(step, [Group("a", MIXED)])).degraded
        async with AsyncClient(server.url, run="test", spool=spool_path) as client:
            assert await client.flush()

    asyncio.run(main())
    assert [step for step, _ in server.service.reported()] == [0, 1, 2]


def test_the_event_loop_goes_on_while_the_service_hangs(server: Server, spool_path: Path) -> None:
    attempt = 1.5  # longer than a busy machine takes for a tick
    ended, ticks = threading.Event(), [time.monotonic()]

    def hang_till_the_end(_: socket.socket) -> None:
        ended.wait(20 * attempt)

    async def tick() -> None:
        while True:
            await asyncio.sleep(0.01)
            ticks.append(time.monotonic())

    async def main() -> None:
        async with AsyncClient(server.url, run="test", budget=2 * attempt, spool=spool_path) as client:
            ticking = asyncio.create_task(tick())
            assert (await client.report(0, [Group("a", MIXED)])).degraded
            ticks.append(time.monotonic())
            ticking.cancel()
            server.misbehave = None

    server.misbehave = hang_till_the_end
    try:
        asyncio.run(main())
    finally:
        ended.set()
    assert ticks[-1] - ticks[0] >= attempt
    # A call that held the loop up would have done so for a whole attempt.
    assert max(later - earlier for earlier, later in itertools.pairwise(ticks)) < 0.9 * attempt


def test_a_cancelled_call_leaves_the_async_client_usable(server: Server, spool_path: Path) -> None:
    async def main() -> None:
        async with AsyncClient(server.url, run="test", spool=spool_path) as client:
            server.misbehave = hang
            call = asyncio.create_task(client.select(0, ["a"]))
            await asyncio.sleep(0.05)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            server.misbehave = None
            assert not (await client.select(0, ["a"])).degraded

    asyncio.run(main())


def test_an_interrupt_gets_through_while_the_service_hangs(server: Server, spool_path: Path) -> None:
    server.misbehave = hang
    with Client(server.url, run="test", budget=5.0, spool=spool_path) as client:
        threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        start = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            client.select(0, ["a"])
        assert time.monotonic() - start < 1.0


def test_strict_raises_a_standard_error_within_the_budget(server: Server) -> None:
    server.misbehave = hang
    with Client(server.url, run="test", budget=BUDGET, strict=True) as client:
        start = time.monotonic()
        with pytest.raises(TimeoutError) as caught:
            client.select(0, ["a"])
        assert time.monotonic() - start < BUDGET + SLACK
    assert isinstance(caught.value, UnavailableError)
    assert isinstance(caught.value, ConnectionError)
