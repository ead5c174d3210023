"""A service that is told to stop stops, whatever it was doing in the background at that moment."""

from __future__ import annotations

import asyncio
import json
import signal
import time

import pytest

from greso_service.api.app import create_app
from greso_service.cli import serving
from greso_service.history.base import History
from greso_service.history.connect import connect
from greso_service.history.memory import MemoryHistory
from greso_service.history.redis import RedisHistory
from greso_service.placing import end
from greso_service.settings import load

from ..stores import RedisStore  # noqa: TID252


@pytest.mark.parametrize("turns", range(0, 40, 2))
def test_it_stops_at_whatever_turn_of_its_loop(redis_store: RedisStore, turns: int) -> None:
    async def story() -> float:
        app = create_app(load({"redis_url": redis_store.redis_url}))
        async with app.router.lifespan_context(app):
            for _ in range(turns):
                await asyncio.sleep(0)
            began = time.monotonic()
        return time.monotonic() - began

    assert asyncio.run(asyncio.wait_for(story(), 30)) < 10


def test_a_loop_that_lost_a_cancellation_ends_all_the_same(redis_store: RedisStore) -> None:
    async def ping_on(history: History) -> None:
        while True:
            await history.ping()
            await asyncio.sleep(0.02)

    async def story() -> None:
        history = RedisHistory(connect(redis_store.redis_url, 0.5), deadline=2.0)
        for turns in range(30):
            task = asyncio.create_task(ping_on(history))
            for _ in range(turns):
                await asyncio.sleep(0)
            await asyncio.wait_for(end(task), 10)
            assert task.done()
        await history.close()

    asyncio.run(story())


def test_what_is_not_answered_when_the_time_to_stop_is_over_is_told_to_try_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(serving, "GRACE_SECONDS", 0)

    async def story() -> None:
        app = create_app(load(), MemoryHistory())
        with serving.listen("127.0.0.1", 0) as listener:
            server = serving.Server(app, "serving", load())
            running = asyncio.create_task(server.serve(sockets=[listener]))
            reader, writer = await asyncio.open_connection(*listener.getsockname()[:2])
            # It expects to be told to go on, which it is as soon as its body is waited for.
            writer.write(b"PUT /v1/runs/r HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
            writer.write(b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
            server.handle_exit(signal.SIGTERM, None)
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 503")
            assert b"connection: close" in head.lower()
            told = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
            problem = json.loads(body)
            assert "the service stops" in problem["detail"]
            assert problem["instance"].encode() == told[b"x-request-id"]
            assert int(told[b"retry-after"]) >= 1
            writer.close()
            await running

    # The server sends itself the signal again that stopped it.
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        asyncio.run(asyncio.wait_for(story(), 60))
    finally:
        signal.signal(signal.SIGTERM, before)
