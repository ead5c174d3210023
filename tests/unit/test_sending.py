"""Commands to Redis are packed as redis-py packs them; a write that the other end does not take times out as there."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.asyncio.connection import Connection
from redis.exceptions import DataError
from redis.exceptions import TimeoutError as RedisTimeoutError

from greso_service.history.sending import quickly

COMMANDS = (
    ("EVALSHA", "0" * 40, 2, "greso:{default/r}:log", b"\x00\xff", 1_700_000_000_000, "", b""),
    ("CONFIG GET", "maxmemory"),
    (b"GET", "ü"),
    ("SET", "key", b"x" * 100_000, 0.5),
    ("GET", bytearray(b"key"), memoryview(b"value")),
)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_packed_as_redis_py_packs_it(command: tuple[Any, ...]) -> None:
    packed = (kind().pack_command(*command) for kind in (quickly(Connection), Connection))
    assert len({b"".join(parts) for parts in packed}) == 1


def test_what_is_no_argument_is_refused_as_there() -> None:
    with pytest.raises(DataError):
        quickly(Connection)().pack_command("GET", None)


class Sender:
    """A connection that takes a command when it is told to."""

    socket_timeout: float | None = 0.001
    is_connected = True

    def __init__(self) -> None:
        self.takes = asyncio.Event()
        self.given: list[tuple[Any, float | None]] = []

    async def send_packed_command(self, command: Any) -> None:
        self.given.append((command, self.socket_timeout))
        await self.takes.wait()


def test_a_command_that_is_taken_begins_no_task_and_leaves_the_time_out_as_it_was() -> None:
    async def story() -> None:
        sender = quickly(Sender)()
        sender.takes.set()
        await sender.send_packed_command([b"PING"])
        assert sender.given == [([b"PING"], None)]
        assert sender.socket_timeout == 0.001
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(story())


def test_a_command_that_is_not_taken_times_out() -> None:
    async def story() -> None:
        sender = quickly(Sender)()
        with pytest.raises(RedisTimeoutError, match="Timeout writing"):
            await sender.send_packed_command([b"PING"])

    asyncio.run(story())


@pytest.mark.parametrize("changed", [{"is_connected": False}, {"socket_timeout": None}])
def test_what_connects_first_or_has_no_time_out_is_left_to_redis_py(changed: dict[str, Any]) -> None:
    async def story() -> None:
        sender = quickly(Sender)()
        vars(sender).update(changed)
        sender.takes.set()
        await sender.send_packed_command([b"PING"])
        assert sender.given == [([b"PING"], sender.socket_timeout)]

    asyncio.run(story())
