"""One Redis client for each of the five kinds of URL, with the same time-outs and retries for all.

    redis://[user:password@]host[:6379][/db]            rediss:// is the same over TLS
    unix:///path/to/socket[?db=0]
    redis+sentinel://[user:password@]host[:26379][,host...]/service[/db]
    redis+cluster://[user:password@]host[:6379][,host...]

`rediss+sentinel://` and `rediss+cluster://` use TLS. Query options: `db`, `username`, `password`; for TLS
`ssl_ca_certs`, `ssl_certfile`, `ssl_keyfile`, `ssl_cert_reqs` (required, optional, none); for sentinels with a login of
their own `sentinel_username`, `sentinel_password`.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from redis.asyncio import ConnectionPool, Redis, RedisCluster, UnixDomainSocketConnection
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import ConstantBackoff, NoBackoff
from redis.exceptions import RedisError

from greso_service.errors import StartupError
from greso_service.history import closed
from greso_service.history.redis_cluster import Cluster
from greso_service.settings import REDIS_SCHEMES, without_password

if TYPE_CHECKING:
    from typing import TypeAlias

AnyRedis: TypeAlias = "Redis | RedisCluster"

DEFAULT_PORT = {"single": 6379, "cluster": 6379, "sentinel": 26379}
TLS_OPTIONS = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs"})
LOGIN_OPTIONS = frozenset({"username", "password"})
SENTINEL_OPTIONS = frozenset({"sentinel_username", "sentinel_password"})
RETRY_PAUSE = 0.02  # seconds: enough for a restarted server's socket, little beside a request's deadline


@dataclass(frozen=True, slots=True)
class Address:
    """Where a Redis is and how to log in; what `parse` makes of a URL."""

    kind: str  # single, unix, sentinel or cluster
    hosts: tuple[tuple[str, int], ...] = ()
    path: str = ""
    service: str = ""
    db: int = 0
    tls: bool = False
    login: dict[str, str] = field(default_factory=dict, repr=False)
    tls_options: dict[str, str] = field(default_factory=dict)
    sentinel_login: dict[str, str] = field(default_factory=dict, repr=False)


def parse(url: str) -> Address:
    """Take a Redis URL apart.

    Raises:
        StartupError: naming the URL (without its password) and what is wrong with it.
    """
    try:
        return _parse(url)
    except ValueError as error:
        raise StartupError(f"Redis URL {without_password(url)}: {error}") from None


def _parse(url: str) -> Address:
    parts = urlsplit(url)
    scheme, _, variant = parts.scheme.partition("+")
    options = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
    if scheme == "unix" and not variant:
        _refuse_unknown(options, LOGIN_OPTIONS | {"db"})
        if parts.netloc or not parts.path:
            raise ValueError("give an absolute path: unix:///run/redis.sock")
        return Address("unix", path=unquote(parts.path), db=_db(options.get("db", "")), login=_login(options))
    if scheme not in {"redis", "rediss"} or variant not in {"", "sentinel", "cluster"}:
        raise ValueError(f"begin with one of {REDIS_SCHEMES}")
    kind = variant or "single"
    tls = scheme == "rediss"
    known = (
        LOGIN_OPTIONS
        | {"db"}
        | (TLS_OPTIONS if tls else frozenset())
        | (SENTINEL_OPTIONS if variant == "sentinel" else frozenset())
    )
    _refuse_unknown(options, known)
    userinfo, _, hostlist = parts.netloc.rpartition("@")
    user, _, password = userinfo.partition(":")
    login = {name: unquote(value) for name, value in (("username", user), ("password", password)) if value}
    hosts = tuple(_host(item, DEFAULT_PORT[kind]) for item in hostlist.split(","))
    if kind == "single" and len(hosts) > 1:
        raise ValueError("several hosts need redis+sentinel:// or redis+cluster://")
    service, db = "", parts.path.strip("/")
    if kind == "sentinel":
        service, _, db = db.partition("/")
        if not service:
            raise ValueError("name the service the sentinels watch: redis+sentinel://host:26379/mymaster")
    db_number = _db(db or options.get("db", ""))
    if kind == "cluster" and db_number:
        raise ValueError("Redis Cluster has database 0 only")
    return Address(
        kind, hosts, "", unquote(service), db_number, tls, login | _login(options),
        {name: value for name, value in options.items() if name in TLS_OPTIONS},
        {name.removeprefix("sentinel_"): value for name, value in options.items() if name in SENTINEL_OPTIONS},
    )  # fmt: skip


def _refuse_unknown(options: dict[str, str], known: frozenset[str]) -> None:
    if unknown := sorted(options.keys() - known):
        raise ValueError(f"unknown option {unknown[0]}; known here: {', '.join(sorted(known))}")


def _login(options: dict[str, str]) -> dict[str, str]:
    return {name: options[name] for name in LOGIN_OPTIONS & options.keys()}


def _host(text: str, default_port: int) -> tuple[str, int]:
    single = urlsplit(f"//{text}")  # understands [::1]:6379
    if not single.hostname:
        raise ValueError("name a host")
    return unquote(single.hostname), default_port if single.port is None else single.port


def _db(text: str) -> int:
    if text and not text.isdecimal():
        raise ValueError(f"database {text!r} is not a whole number")
    return int(text or 0)


class _SentinelPool(SentinelConnectionPool):
    """Keeps no connection to a server that was the primary, and closes those to the sentinels with its own.

    redis-py keeps the connections that are in use while the primary changes, and leaves those to the sentinels open.
    """

    async def release(self, connection: Any) -> None:
        if (connection.host, connection.port) != self.master_address:
            await connection.disconnect()
        await super().release(connection)

    async def disconnect(self, inuse_connections: bool = True) -> None:
        await super().disconnect(inuse_connections=inuse_connections)
        if inuse_connections:
            await self.sentinel_manager.aclose()


def connect(url: str, timeout: float) -> AnyRedis:
    """A client for `url`; connects on first use, close it with `aclose()`.

    Connecting and each reply may take `timeout` seconds. A command that failed for lack of a connection or an
    answer is sent once more, so it may be applied twice: append under an idempotency key.

    Raises:
        StartupError: the URL is not one that can be used.
    """
    client = _client(parse(url), timeout)
    closed.told(client)
    return client


def _client(at: Address, timeout: float) -> AnyRedis:
    # RESP2: the same replies on every server from 6.2 on, and no HELLO that an old proxy refuses.
    common: dict[str, Any] = {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "protocol": 2,
        "decode_responses": False,
        **at.login,
    }
    # No health_check_interval: with it redis-py 8.1 connects to a frozen server over and over, without end. Connections
    # that a firewall dropped are found by TCP keep-alive, which redis-py turns on, and by the retry.
    retried: dict[str, Any] = {**common, "retry": Retry(ConstantBackoff(RETRY_PAUSE), 1)}
    tls: dict[str, Any] = {"ssl": True, **at.tls_options} if at.tls else {}
    if at.tls_options.get("ssl_cert_reqs") == "none":
        tls["ssl_check_hostname"] = False  # the ssl module refuses to check the name in a certificate it does not check
    if at.kind == "unix":
        # By way of the pool, since Redis(unix_socket_path=...) leaves the time-out for connecting at 5 s.
        return Redis.from_pool(
            ConnectionPool(connection_class=UnixDomainSocketConnection, path=at.path, db=at.db, **retried)
        )
    if at.kind == "single":
        [(host, port)] = at.hosts
        return Redis(host=host, port=port, db=at.db, **retried, **tls)
    if at.kind == "cluster":
        # Without full coverage the runs on the shards that are left go on.
        nodes = [ClusterNode(host, port) for host, port in at.hosts]
        return Cluster(startup_nodes=nodes, require_full_coverage=False, **retried, **tls)
    asking = {name: common[name] for name in ("socket_timeout", "socket_connect_timeout", "protocol")}
    # No retry here: there is another sentinel to ask, and the command itself is retried.
    asking |= {"retry": Retry(NoBackoff(), 0), **at.sentinel_login, **tls}
    sentinels = Sentinel(at.hosts, sentinel_kwargs=asking)  # type: ignore[no-untyped-call]
    return sentinels.master_for(  # type: ignore[no-any-return]
        at.service, connection_pool_class=_SentinelPool, db=at.db, **retried, **tls
    )


async def find_primary(client: AnyRedis, within: float) -> None:
    """Ask the sentinels, if there are any, which server is the primary; what is sent from now on goes there.

    An old primary that is alive goes on taking writes for 8 s and more after a failover, and they are lost then.
    Without an answer in `within` seconds all stays as it is.
    """
    pool: Any = getattr(client, "connection_pool", None)
    if isinstance(pool, _SentinelPool):
        with suppress(RedisError, OSError):  # a time-out is an OSError
            async with asyncio.timeout(within):
                await pool.get_master_address()  # type: ignore[no-untyped-call]


def node_client(cluster: RedisCluster, host: str, port: int) -> Redis:
    """A client of one node of a cluster, as the cluster's own are (time-outs, login, TLS); it retries nothing."""
    options = {name: value for name, value in cluster.connection_kwargs.items() if name != "response_callbacks"}
    return Redis.from_pool(ConnectionPool(host=host, port=port, retry=Retry(NoBackoff(), 0), **options))
