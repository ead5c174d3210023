"""Writes that replicas must confirm: WAIT, on the connection that wrote, also in a cluster."""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis, RedisCluster
from redis.exceptions import (
    AskError,  # MovedError is one
    ClusterDownError,
    ConnectionError,  # noqa: A004
    NoScriptError,
    SlotNotCoveredError,
    TimeoutError,  # noqa: A004
    TryAgainError,
)

from greso_service.errors import Unavailable, Unwritable
from greso_service.history.connect import AnyRedis, node_client
from greso_service.history.redis_wire import Script

_ELSEWHERE = (AskError, ClusterDownError, TryAgainError)  # what a node of a cluster says that does not do the work
_ATTEMPTS = 2


class Confirmed:
    """Runs scripts over `redis`, and answers only when `replicas` have confirmed within `within_ms` what they wrote."""

    def __init__(self, redis: AnyRedis, replicas: int, within_ms: int) -> None:
        self._redis = redis
        self._replicas = replicas
        self._within_ms = within_ms
        self._nodes: dict[str, Redis] = {}

    async def evaluate(self, script: Script, keys: list[str], args: list[Any]) -> Any:
        """The reply of a script that can be run again. Raises `Unavailable` when too few confirm."""
        if not isinstance(self._redis, RedisCluster):
            return await self._on(self._redis, script, keys, args)
        for attempt in range(_ATTEMPTS):
            # Not by the cluster's client: its pipelines follow a redirection with one command after the other, and then
            # WAIT would speak of another node, or of a connection that has written nothing.
            try:
                return await self._on(await self._primary(keys[0]), script, keys, args)
            except (*_ELSEWHERE, SlotNotCoveredError, ConnectionError, TimeoutError) as error:
                if attempt + 1 < _ATTEMPTS:
                    await run(self._redis, script, keys, args)  # finds out which node it is now
                elif not isinstance(error, _ELSEWHERE):
                    raise
        raise Unavailable("the run is moving to another node of the cluster; try again")

    async def close(self) -> None:
        """Release the connections to single nodes."""
        for client in self._nodes.values():
            await client.aclose()

    async def _primary(self, key: str) -> Redis:
        cluster: Any = self._redis
        await cluster.initialize()
        node = cluster.get_node_from_key(key)
        if node.name not in self._nodes:
            self._nodes[node.name] = node_client(cluster, node.host, node.port)
        return self._nodes[node.name]

    async def _on(self, client: Redis, script: Script, keys: list[str], args: list[Any]) -> Any:
        # WAIT speaks of the writes of its own connection, so both go over one, and are repeated together.
        for command in (("EVALSHA", script.sha), ("EVAL", script.text)):
            pipeline = client.pipeline(transaction=False)
            pipeline.execute_command(*command, len(keys), *keys, *args)
            pipeline.execute_command("WAIT", self._replicas, self._within_ms)
            reply, confirmed = await pipeline.execute(raise_on_error=False)
            if not isinstance(reply, NoScriptError):
                break
        for failure in (reply, confirmed):
            if isinstance(failure, Exception):
                raise failure
        if confirmed < self._replicas:
            raise Unwritable(
                f"{confirmed} of {self._replicas} replicas confirmed the write, which may have been made; repeat the"
                " request, with the same Idempotency-Key if it has one"
            )
        return reply


async def run(redis: Any, script: Script, keys: list[str], args: list[Any]) -> Any:
    """The reply of a script, which the server may have forgotten."""
    try:
        return await redis.evalsha(script.sha, len(keys), *keys, *args)
    except NoScriptError:
        return await redis.eval(script.text, len(keys), *keys, *args)
