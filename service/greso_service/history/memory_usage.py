"""How full a Redis is."""

from __future__ import annotations

from typing import Any

from redis.asyncio import RedisCluster
from redis.exceptions import NoPermissionError

from greso_service.history.base import Usage
from greso_service.history.connect import AnyRedis


async def usage(client: AnyRedis) -> Usage | None:
    """Memory used and the most that may be, maxmemory or else the machine's; of a cluster that of its fullest primary.

    None where the login may not ask, or the server does not say.
    """
    try:
        if isinstance(client, RedisCluster):
            replies = await client.info("memory", target_nodes=RedisCluster.PRIMARIES)
            # The reply of a single primary is not wrapped.
            nodes = [replies] if "used_memory" in replies else list(replies.values())
        else:
            nodes = [await client.info("memory")]
    except NoPermissionError:
        return None
    known = [found for found in map(_usage, nodes) if found is not None]
    return max(known, key=lambda found: found.used / found.limit, default=None)


def _usage(info: dict[str, Any]) -> Usage | None:
    used, limit = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0) or info.get("total_system_memory", 0))
    return Usage(used, limit) if limit else None
