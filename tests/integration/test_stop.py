"""A service that is told to stop stops, whatever it was doing in the background at that moment."""

from __future__ import annotations

import asyncio
import time

import pytest

from greso_service.api.app import create_app
from greso_service.history.base import History
from greso_service.history.connect import connect
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
