"""Where work is done: short work at once, long work in a thread, what never ends in the background."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")

LONG: Final = 20_000
"""Prompts from which a decision leaves the event loop, so that other runs' answers don't wait for it."""


async def placed(size: int, work: Callable[[], T]) -> T:
    """Do short work at once and long work in a thread.

    A caller who is cancelled waits for the thread all the same: others may have what it works on when he has left.
    """
    if size < LONG:
        return work()
    task, cancelled = asyncio.create_task(asyncio.to_thread(work)), None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        task.exception()  # nobody asks for it any more
        raise cancelled
    return task.result()


async def end(*tasks: asyncio.Task[None]) -> None:
    """Cancel tasks until they have ended.

    Once is not enough on Python 3.11: its `asyncio.wait_for`, with which redis-py may send, can swallow a cancellation.
    """
    while alive := [task for task in tasks if not task.done()]:
        for task in alive:
            task.cancel()
        await asyncio.wait(alive, timeout=0.05)
