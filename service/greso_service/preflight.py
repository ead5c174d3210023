"""What is looked at before serving, and by `greso check`: is this Redis one that histories can be kept in?"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from redis.asyncio import RedisCluster
from redis.exceptions import AuthenticationError, RedisClusterException, RedisError, ResponseError

from greso_service.errors import StartupError
from greso_service.history.connect import AnyRedis, connect
from greso_service.settings import without_password

if TYPE_CHECKING:
    from collections.abc import Iterator

    from greso_service.settings import Settings

OLDEST_REDIS = (6, 2)  # what the scripts and stream commands used here need
FULL = 0.8  # share of the memory limit from which it is worth a warning

Info = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: what was found and, unless it is fine, what to do.

    `passes`: an error that may mend itself while the service runs, which therefore starts all the same.
    """

    level: Literal["ok", "warning", "error"]
    subject: str
    found: str
    fix: str = ""
    passes: bool = False

    def __str__(self) -> str:
        return f"{self.found}; {self.fix}" if self.fix else self.found


def look(settings: Settings) -> list[Finding]:
    """Examine the Redis at `settings.redis_url` (which must be set).

    Raises:
        StartupError: the URL is not one that can be used.
    """
    return asyncio.run(_look(settings))


def require_usable(findings: list[Finding]) -> None:
    """Raise StartupError for the first error among the findings that does not pass."""
    for finding in findings:
        if finding.level == "error" and not finding.passes:
            raise StartupError(str(finding))


async def _look(settings: Settings) -> list[Finding]:
    if settings.redis_url is None:
        raise ValueError("start the embedded server first and give its URL")
    shown = without_password(settings.redis_url)
    client = connect(settings.redis_url, settings.redis_timeout)
    try:
        async with asyncio.timeout(settings.deadline):
            infos, saves = await _info(client)
    except AuthenticationError as error:
        fix = "put the right user and password into --redis-url: redis://user:password@host:6379"
        return [Finding("error", "redis", f"Redis at {shown} does not let us in: {_text(error)}", fix)]
    except ResponseError as error:
        fix = "repair it, or let the user of --redis-url run PING and INFO"
        return [Finding("error", "redis", f"Redis at {shown} refuses to work: {_text(error)}", fix)]
    except (RedisError, RedisClusterException, OSError) as error:  # TimeoutError is an OSError
        reason = _text(error) or f"no answer within {settings.deadline:g} s"
        fix = "start it, or correct --redis-url; without that option greso runs a Redis of its own"
        return [Finding("error", "redis", f"Redis at {shown} can't be reached: {reason}", fix)]
    finally:
        await client.aclose()
    clustered = isinstance(client, RedisCluster)
    findings = [Finding("ok", "redis", f"answers at {shown}" + (f", {len(infos)} primaries" if clustered else ""))]
    for node, info in infos.items():
        where = f"{node}: " if clustered else ""
        save = saves.get(node)
        findings += [
            replace(each, found=where + each.found) for each in _judge(info, save, clustered, settings.durability)
        ]
    return findings


def _text(error: Exception) -> str:
    # redis-py appends its representation of every sentinel after " : ".
    return " ".join(str(error).partition(" : <")[0].split()).rstrip(".")


async def _info(client: AnyRedis) -> tuple[dict[str, Info], dict[str, str]]:
    """Per primary (one, named "", outside of a cluster): INFO, and the configured RDB times where they may be read."""
    await client.ping()
    if isinstance(client, RedisCluster):
        primaries = RedisCluster.PRIMARIES
        infos = await client.info(target_nodes=primaries)
        configs = await _allowed(client.config_get("save", target_nodes=primaries))
        if len(client.get_primaries()) == 1:  # then the reply is not wrapped
            name = client.get_primaries()[0].name
            infos, configs = {name: infos}, {name: configs}
    else:
        infos = {"": await client.info()}
        configs = {"": await _allowed(client.config_get("save"))}
    return infos, {node: config["save"] for node, config in (configs or {}).items() if config}


async def _allowed(reply: Any) -> Any:
    try:
        return await reply
    except ResponseError:  # managed services hide CONFIG
        return None


def _judge(info: Info, save: str | None, clustered: bool, durability: str) -> Iterator[Finding]:
    yield _version(info)
    if wrong := _wrong_kind(info, clustered):
        yield wrong
        return
    yield _persistence(info, save)
    yield _eviction(info)
    yield _memory(info)
    if durability != "redis":
        yield _replicas(info, int(durability.removeprefix("replicas:")))


def _version(info: Info) -> Finding:
    # Valkey reports the Redis version it is compatible with beside its own.
    compatible = str(info.get("redis_version", "0"))
    valkey = info.get("valkey_version")
    name = f"Valkey {valkey}" if valkey else f"Redis {compatible}"
    if tuple(int(part) for part in compatible.split(".")[:2]) < OLDEST_REDIS:
        oldest = ".".join(map(str, OLDEST_REDIS))
        return Finding("error", "version", f"{name} is too old", f"greso needs Redis {oldest} or later, or Valkey")
    return Finding("ok", "version", name)


def _wrong_kind(info: Info, clustered: bool) -> Finding | None:
    mode = info.get("redis_mode")
    if mode == "sentinel":
        fix = "name the service it watches: redis+sentinel://host:26379/mymaster"
        return Finding("error", "kind", "this is a Sentinel, not a data server", fix)
    if mode == "cluster" and not clustered:
        return Finding("error", "kind", "this is a node of a Redis Cluster", "use redis+cluster://host:6379")
    if info.get("role") == "slave":
        fix = "use its primary, or redis+sentinel:// which finds the primary"
        return Finding("error", "kind", "this is a replica, which takes no writes", fix)
    return None


def _persistence(info: Info, save: str | None) -> Finding:
    if info.get("aof_enabled"):
        if info.get("aof_last_write_status", "ok") != "ok":
            return Finding(
                "error", "persistence", "its append-only file can't be written", "see its log; is the disk full?"
            )
        return Finding("ok", "persistence", "append-only file")
    fix = "set `appendonly yes` (CONFIG SET appendonly yes, and in its configuration file)"
    if save == "":
        return Finding("warning", "persistence", "none: a restart of Redis loses every run", fix)
    if info.get("rdb_last_bgsave_status", "ok") != "ok":
        return Finding("error", "persistence", "its last snapshot (RDB) failed", "see its log; is the disk full?")
    known = "snapshots (RDB) only" if save else "no append-only file (CONFIG may not be read, so snapshots are unknown)"
    return Finding("warning", "persistence", f"{known}: a crash of Redis loses the reports since the last one", fix)


def _eviction(info: Info) -> Finding:
    policy, limit = str(info.get("maxmemory_policy", "unknown")), int(info.get("maxmemory", 0))
    if policy != "noeviction" and limit:
        fix = "set `maxmemory-policy noeviction` (CONFIG SET maxmemory-policy noeviction)"
        return Finding("warning", "eviction", f"{policy}: a full Redis silently drops runs or idempotency keys", fix)
    return Finding("ok", "eviction", policy if limit else f"{policy}, no memory limit")


def _memory(info: Info) -> Finding:
    used, limit = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    bound, name = (limit, "maxmemory") if limit else (int(info.get("total_system_memory", 0)), "the machine's memory")
    if not bound:
        return Finding("ok", "memory", f"{used / 2**20:,.1f} MiB used")
    found = f"{used / 2**20:,.1f} MiB used of {bound / 2**20:,.0f} MiB ({name})"
    if used > FULL * bound:
        return Finding("warning", "memory", found, "delete finished runs or give Redis more memory")
    return Finding("ok", "memory", found)


def _replicas(info: Info, wanted: int) -> Finding:
    connected = int(info.get("connected_slaves", 0))
    found = f"{connected} connected, durability asks for {wanted}"
    if connected < wanted:
        fix = "connect more, or lower --durability: until then every write is answered 503"
        return Finding("error", "replicas", found, fix, passes=True)
    return Finding("ok", "replicas", found)
