"""What is said to break a world does break it, or the schedules would show nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from greso_service.history import codec, exported

from .nursery import Nursery, lives
from .schedule import KINDS
from .world import SERVERS, World, until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    started = Nursery()
    try:
        yield started
    finally:
        started.close()


def within(nursery: Nursery, folder: Path, server: str, story: Callable[[World], Awaitable[None]]) -> None:
    async def told() -> None:
        world = World(nursery, folder / "world", server)
        try:
            await world.open()
            await world.call(world.replicas[0], "/v1/runs/r", "PUT", {})
            await story(world)
            await world.heal("r")
        finally:
            await world.close()

    asyncio.run(told())


async def report(world: World) -> int:
    body = {"step": 0, "results": [{"prompt": "p" * 200, "rewards": [0, 1]}]}
    return (await world.http.post(f"{world.replicas[0].url}/v1/runs/r/report", json=body, timeout=10.0)).status_code


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.skipif("disk full" not in KINDS, reason="limits of other processes' files are Linux's")
def test_a_disk_that_is_full(nursery: Nursery, tmp_path: Path, server: str) -> None:
    async def story(world: World) -> None:
        world.limit_files(100)
        assert await report(world) == 503
        await until(lambda: not lives(world.pid), "with fsync always Redis ends itself")
        await world.revive_redis()
        await world.heal("r")
        await world.configure(appendfsync="everysec")
        world.limit_files(100)
        give_up = time.monotonic() + 30
        while await report(world) != 503:
            assert time.monotonic() < give_up
        assert lives(world.pid), "with everysec it waits"

    within(nursery, tmp_path, server, story)


def test_memory_that_is_full_a_clock_that_is_off_and_a_killed_service(nursery: Nursery, tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.configure(maxmemory=1)
        assert await report(world) == 503
        await world.heal("r")
        world.replicas[0].clock.off = -1e9
        assert await report(world) == 200
        world.replicas[0].clock.off = 0.0
        assert await report(world) == 200
        export = await world.call(world.replicas[1], "/v1/runs/r/export")
        times = [codec.decode(each).at_ms / 1000 for each in exported.read(export.content.splitlines(keepends=True))]
        assert times[-1] == pytest.approx(time.time(), abs=600)
        assert times[-2] == pytest.approx(time.time() - 1e9, abs=600)
        killed = world.replicas[0].pid
        await world.kill_service(world.replicas[0])
        assert not lives(killed)
        await world.start_service(world.replicas[0])
        assert await report(world) == 200
        states = [(await world.call(replica, "/faults/state/r")).text for replica in world.replicas]
        assert len(states[0]) == 64
        assert states[0] == states[1]

    within(nursery, tmp_path, "bundled", story)
