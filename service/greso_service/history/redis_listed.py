"""The runs of a tenant by their names: when each was last written to, as far as the shards of a cluster answer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from redis.asyncio import RedisCluster
from redis.exceptions import (
    BusyLoadingError,
    ClusterError,
    ConnectionError,  # noqa: A004
    ReadOnlyError,
    RedisClusterException,
    ResponseError,
    SlotNotCoveredError,
    TimeoutError,  # noqa: A004
)

from greso_service.history.base import Listed, RunKey
from greso_service.history.redis_wire import key_of

AWAY: Final = (
    BusyLoadingError,
    ClusterError,
    ConnectionError,
    OSError,  # asyncio's time-out among them
    ReadOnlyError,
    RedisClusterException,
    TimeoutError,
)
"""What says that a server, or the one that it should be, is not there to answer."""

_LATEST_MS = 253_402_300_799_999  # the end of the year 9999, the last that a date can say


async def listed(redis: Any, tenant: str, names: Sequence[str], within: float) -> list[Listed]:
    """Those of the runs that there are. `within`: seconds that a shard of a cluster has to answer."""
    heads = {name: key_of(RunKey(tenant, name), "head") for name in names}
    away = await _away(redis, heads, within) if isinstance(redis, RedisCluster) else frozenset[str]()
    here = [name for name in names if name not in away]
    pipeline = redis.pipeline(transaction=False)
    for name in here:
        pipeline.hget(heads[name], "active")
    times = map(_time, await pipeline.execute(raise_on_error=False) if here else [])
    there = [Listed(name, at) for name, at in zip(here, times, strict=True) if at is not None]
    return there + [Listed(name, 0, away=True) for name in names if name in away]


async def _away(cluster: RedisCluster, heads: Mapping[str, str], within: float) -> frozenset[str]:
    """The runs on shards that don't answer, found by asking each shard for one.

    A pipeline fails as a whole when one shard is away, and closes the connections to all others.
    """
    await cluster.initialize()
    shards: dict[str, list[str]] = {}
    for name, head in heads.items():
        try:
            node = cluster.get_node_from_key(head)
        except SlotNotCoveredError:
            node = None
        shards.setdefault(node.name if node else "", []).append(name)
    answers = await asyncio.gather(*(_answers(cluster, heads[some[0]], within) for some in shards.values()))
    return frozenset(name for some, here in zip(shards.values(), answers, strict=True) if not here for name in some)


async def _answers(cluster: Any, head: str, within: float) -> bool:
    try:
        async with asyncio.timeout(within):
            await cluster.exists(head)
    except AWAY:
        return False
    return True


def _time(reply: Any) -> int | None:
    """A head that can't be read is that of a run all the same: it is listed, and who asks for it is told."""
    if isinstance(reply, ResponseError) and "WRONGTYPE" in str(reply):
        return 0
    if isinstance(reply, Exception):
        raise reply
    known = isinstance(reply, bytes) and reply.isdigit() and len(reply) < len(str(_LATEST_MS))
    return int(reply) if known else None if reply is None else 0
