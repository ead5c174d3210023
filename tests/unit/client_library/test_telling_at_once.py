"""What clients tell when several of their calls are under way: each thing with one of them, and none is lost."""

from __future__ import annotations

import asyncio
import random
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from greso_client import AsyncClient, Client, Group
from greso_client._answers import nothing
from greso_client._breaker import Breaker
from greso_client._counts import Counts
from greso_client._exchange import Exchange
from greso_client._reply import Answer
from greso_client._requests import Request

from .doubles import ClockIO, FakeService, wait_for
from .server import Server
from .telling import happened, told

GROUPS = [Group("a", [0.0, 1.0])]
LOOK = Request("GET", "/v1/runs/test")
PROBLEM = {"content-type": "application/problem+json"}


@pytest.fixture
def server(service: FakeService) -> Iterator[Server]:
    server = Server(service)
    yield server
    server.close()


class HeldIO(ClockIO):
    """Attempts that wait until the test says how they end."""

    def __init__(self) -> None:
        super().__init__(FakeService())
        self.held: list[tuple[Request, asyncio.Future[Answer]]] = []

    async def send(self, request: Request, timeout: float) -> Answer:  # noqa: ASYNC109 - the protocol
        ending: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.held.append((request, ending))
        return await ending


@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from(["degraded", "spooled", "delivered", "refused", "dropped"]), st.integers(0, 5)),
            st.tuples(st.just("begin"), st.just(0)),
            st.tuples(st.sampled_from(["answer", "refuse", "fail", "cancel"]), st.integers(0, 9)),
        ),
        max_size=40,
    )
)
def test_attempts_at_the_same_time_share_the_news_and_lose_none(story: list[tuple[str, int]]) -> None:
    async def tell() -> None:
        io, counts = HeldIO(), Counts()
        exchange = Exchange(io, Breaker("http://service", ""), random.Random(1), 1.0, counts)
        under_way: list[tuple[asyncio.Task[Any], Request, asyncio.Future[Answer]]] = []
        seen: list[httpx.Request] = []

        async def begin() -> None:
            task = asyncio.create_task(exchange(LOOK, nothing, io.now() + 9, once=True))
            await asyncio.sleep(0)
            under_way.append((task, *io.held.pop()))

        async def end(how: str, which: int) -> None:
            task, request, ending = under_way.pop(which % len(under_way))
            if how in {"answer", "refuse"}:
                seen.append(httpx.Request("GET", "http://service", headers={"greso-client": request.news}))
                ending.set_result(Answer(204, {}, b"") if how == "answer" else Answer(409, PROBLEM, b"{}"))
            elif how == "fail":
                ending.set_exception(ConnectionError("reset"))
            else:
                task.cancel()
            await asyncio.wait([task])
            assert task.cancelled() or task.exception() is None or how in {"refuse", "fail"}

        for what, number in story:
            if what == "begin":
                await begin()
            elif what in {"answer", "refuse", "fail", "cancel"}:
                if under_way:
                    await end(what, number)
            else:
                counts.add(**{what: number})
        while under_way:
            await end("fail", 0)
        await begin()
        await end("answer", 0)
        assert told(seen) == happened(counts.snapshot())
        assert not counts.any_news()

    asyncio.run(tell())


def test_threads_that_share_a_client_tell_each_thing_once_whatever_fails(
    server: Server, service: FakeService, spool_path: Path
) -> None:
    chance = random.Random(3)

    def work(step: int) -> None:
        client._core.counts.add(degraded=1, spooled=step % 2)
        if chance.random() < 0.3:
            service.script.append(httpx.ReadError("reset"))  # this very request, or another thread's
        assert not client.report(step, GROUPS).degraded

    answered: list[httpx.Request] = []
    serve = service.serve

    def serve_and_note(request: httpx.Request) -> httpx.Response:
        answered.append(request)
        return serve(request)

    service.serve = serve_and_note  # type: ignore[method-assign]
    # So long a budget that no answer is given up that the service has counted.
    with Client(server.url, run="test", budget=60.0, spool=spool_path) as client, ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(200)))
        service.script.clear()
        client.state()
    assert len(answered) == 201
    assert told(answered) == happened(client.counters) == {"degraded": 200, "spooled": 100}
    assert client.counters.retries > 20


def test_the_async_client_tells_it_too_and_a_cancelled_call_takes_nothing_with_it(
    server: Server, service: FakeService
) -> None:
    async def main() -> None:
        async with AsyncClient(server.url, run="test", spool=False) as client:
            client._core.counts.add(degraded=3)
            released = threading.Event()

            def hold(_: socket.socket) -> None:
                released.wait(10)

            server.misbehave = hold
            call = asyncio.create_task(client.state())
            await asyncio.to_thread(wait_for, lambda: not client._core.counts.any_news())
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            released.set()
            server.misbehave = None
            await asyncio.gather(*(client.state() for _ in range(10)))
            assert told(service.requests) == {"degraded": 3} == happened(client.counters)

    asyncio.run(main())
