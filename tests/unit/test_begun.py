"""Work that is begun at once, and awaited only if it has to wait."""

from __future__ import annotations

import asyncio

import pytest

from greso_service.begun import Begun


async def after(*waits: asyncio.Future[int]) -> int:
    return sum([await each for each in waits])


def test_work_that_needs_not_wait_is_done_at_once() -> None:
    begun = Begun(after())
    assert begun.done
    assert begun.value == 0


def test_its_errors_come_where_they_arise() -> None:
    async def fails(wait: bool) -> None:
        if wait:
            await asyncio.sleep(0)
        raise ValueError("of the work")

    with pytest.raises(ValueError, match="of the work"):
        Begun(fails(wait=False))

    async def story() -> None:
        begun = Begun(fails(wait=True))
        with pytest.raises(ValueError, match="of the work"):
            await begun

    asyncio.run(story())


def test_it_goes_on_as_often_as_it_waits_and_gives_its_value() -> None:
    async def story() -> None:
        waits = [asyncio.get_running_loop().create_future() for _ in range(3)]
        begun = Begun(after(*waits))
        assert not begun.done
        for value, each in enumerate(waits):
            asyncio.get_running_loop().call_soon(each.set_result, value)
        assert await begun == 3
        assert (begun.done, begun.value) == (True, 3)

    asyncio.run(story())


def test_a_time_out_ends_the_work_where_it_waits() -> None:
    ended = list[str]()

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("the work")

    async def story() -> None:
        begun = Begun(waits())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await begun

    asyncio.run(story())
    assert ended == ["the work"]


def test_work_that_swallows_a_cancellation_goes_on() -> None:
    async def stubborn() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
        return "at its end"

    async def story() -> None:
        async def awaited() -> str:
            return await Begun(stubborn())

        task = asyncio.create_task(awaited())
        await asyncio.sleep(0)
        task.cancel()
        assert await task == "at its end"

    asyncio.run(story())
