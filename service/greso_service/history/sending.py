"""Commands on their way to Redis, in less time than redis-py takes: packed in C, and without a task for each.

A command goes into the socket's buffer, and is sent. Up to Python 3.11 a time-out for that is a task of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from typing import Any

import hiredis
from redis.exceptions import TimeoutError as RedisTimeoutError

from greso_service.begun import Begun


@functools.cache
def quickly(kind: Any) -> Any:
    """A class of redis-py's connections that does so."""

    def pack_command(self: Any, *args: Any) -> Any:
        if isinstance(args[0], str) and " " not in args[0]:  # else it is several words
            with contextlib.suppress(TypeError):  # what it does not know
                return [hiredis.pack_command(args)]
        return kind.pack_command(self, *args)

    async def send_packed_command(self: Any, *args: Any, **options: Any) -> None:
        within = self.socket_timeout
        if not (within and self.is_connected):
            await kind.send_packed_command(self, *args, **options)
            return
        self.socket_timeout = None  # or it would begin a task
        try:
            begun = Begun(kind.send_packed_command(self, *args, **options))
        finally:
            self.socket_timeout = within
        if not begun.done:
            try:
                async with asyncio.timeout(within):
                    await begun
            except TimeoutError:
                raise RedisTimeoutError("Timeout writing to socket") from None

    return type(kind.__name__, (kind,), {"pack_command": pack_command, "send_packed_command": send_packed_command})
