"""Where work is done: short work at once, long work in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")

LONG: Final = 20_000
"""Prompts from which a decision leaves the event loop, so that other runs' answers don't wait for it."""


async def placed(size: int, work: Callable[[], T]) -> T:
    """Do short work at once and long work in a thread."""
    return work() if size < LONG else await asyncio.to_thread(work)
