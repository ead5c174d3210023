"""A connection to Redis that has closed while nobody looked is told as redis-py knows it, on any event loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvloop
from redis.asyncio import RedisCluster
from redis.exceptions import ConnectionError  # noqa: A004

from greso_service.history import closed
from greso_service.history.connect import connect

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


async def asked(connection: Any) -> None:
    await connection.send_command("PING")
    await connection.read_response()


def over(url: str, loop: str, story: Callable[[Any], Awaitable[None]]) -> None:
    """Run a story of a client, whose next command then finds a new connection."""

    async def told() -> None:
        client: Any = connect(url, 1.0)
        try:
            await story(client)
            assert await client.ping(), "and the next command finds a new connection"
        finally:
            await client.aclose()

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(told())


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("server", ["valkey", "redis7"])
def test_writing_to_a_closed_connection_is_a_connection_error(
    server: str, loop: str, request: pytest.FixtureRequest
) -> None:
    """By a unix socket and by TCP. On uvloop it was a RuntimeError, and a 500 for the client."""
    url, _ = request.getfixturevalue(server)

    async def story(client: Any) -> None:
        connection = await client.connection_pool.get_connection()
        connection._writer.transport.abort()
        with pytest.raises(ConnectionError):
            await asked(connection)
        await client.connection_pool.release(connection)

    over(url, loop, story)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_connection_that_is_closed_while_it_is_written_to_is_a_connection_error(
    loop: str, redis7: tuple[str, int]
) -> None:
    """As the cluster's client does to all of a node's when one call on it has failed. It was an AttributeError, and a
    500 for the client.
    """

    async def story(client: Any) -> None:
        for turns in range(10):  # of the event loop until the writer is gone
            connection = await client.connection_pool.get_connection()
            closing = asyncio.create_task(connection.disconnect())
            for _ in range(turns):
                await asyncio.sleep(0)
            with contextlib.suppress(ConnectionError):
                await asked(connection)
            await closing
            await client.connection_pool.release(connection)

    over(redis7[0], loop, story)


@pytest.mark.parametrize(
    "url",
    [
        "redis://h", "rediss://h", "unix:///s", "redis+sentinel://h/m", "rediss+sentinel://h/m", "redis+cluster://h",
        "rediss+cluster://h",
    ],
)  # fmt: skip
def test_connections_of_every_kind_say_so(url: str) -> None:
    async def kinds() -> list[Any]:
        client: Any = connect(url, 1.0)
        try:
            if isinstance(client, RedisCluster):
                nodes = [*client.startup_nodes, *client.nodes_manager.startup_nodes.values()]
                later = client.nodes_manager.connection_kwargs["connection_class"]  # of nodes that are found later
                return [later, *(node.connection_class for node in nodes)]
            return [client.connection_pool.connection_class]
        finally:
            await client.aclose()

    assert all("send_packed_command" in vars(kind) for kind in asyncio.run(kinds()))


@pytest.mark.parametrize(("writer", "told"), [(None, ConnectionError), (object(), AttributeError)])
def test_a_mistake_on_an_open_connection_is_told_as_it_is(writer: object, told: type[Exception]) -> None:
    class Mistaken:
        _writer = writer

        async def send_packed_command(self) -> None:
            raise AttributeError("a mistake")

    with pytest.raises(told, match="a mistake"):
        asyncio.run(closed._telling(Mistaken)().send_packed_command())
