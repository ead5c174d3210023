"""That a connection has closed, told as redis-py knows it, so that it connects anew and tries again.

On uvloop, writing to a transport that has closed meanwhile is a RuntimeError; with asyncio's own loop an OSError. Where
redis-py's cluster client closes the connections to a node, another call that has just taken one of them finds that it
has no writer any more: an AttributeError.
"""

from __future__ import annotations

import functools
from typing import Any

from redis.asyncio import Redis, RedisCluster
from redis.exceptions import ConnectionError  # noqa: A004

from greso_service.history.sending import quickly


def told(client: Redis | RedisCluster) -> None:
    """Let a new client's connections tell it."""
    if isinstance(client, RedisCluster):
        kind = _telling(quickly(client.connection_kwargs["connection_class"]))
        client.connection_kwargs["connection_class"] = kind
        client.nodes_manager.connection_kwargs["connection_class"] = kind
        for node in client.startup_nodes:
            node.connection_class = kind
    else:
        pool: Any = client.connection_pool
        pool.connection_class = _telling(quickly(pool.connection_class))


@functools.cache
def _telling(kind: Any) -> Any:
    async def send_packed_command(self: Any, *args: Any, **options: Any) -> None:
        try:
            await kind.send_packed_command(self, *args, **options)
        except (AttributeError, RuntimeError) as error:
            if isinstance(error, AttributeError) and self._writer is not None:
                raise
            raise ConnectionError(f"the connection has closed: {error}") from error

    return type(kind.__name__, (kind,), {"send_packed_command": send_packed_command})
