"""Redis URLs: what each becomes, and what is refused."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry

from greso_service.errors import StartupError
from greso_service.history.connect import Address, connect, parse


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://host", Address("single", (("host", 6379),))),
        ("redis://host:1/3", Address("single", (("host", 1),), db=3)),
        ("redis://host?db=4", Address("single", (("host", 6379),), db=4)),
        ("redis://[::1]:7", Address("single", (("::1", 7),))),
        (
            "redis://me:p%40%2F%3A@host",
            Address("single", (("host", 6379),), login={"username": "me", "password": "p@/:"}),
        ),
        ("redis://:pw@host", Address("single", (("host", 6379),), login={"password": "pw"})),
        (
            "rediss://host?ssl_ca_certs=/ca.pem",
            Address("single", (("host", 6379),), tls=True, tls_options={"ssl_ca_certs": "/ca.pem"}),
        ),
        ("unix:///run/re%20dis.sock?db=2", Address("unix", path="/run/re dis.sock", db=2)),
        (
            "redis+sentinel://:pw@a,b:9/main/2?sentinel_password=sp",
            Address(
                "sentinel",
                (("a", 26379), ("b", 9)),
                service="main",
                db=2,
                login={"password": "pw"},
                sentinel_login={"password": "sp"},
            ),
        ),
        ("redis+cluster://a:1,b", Address("cluster", (("a", 1), ("b", 6379)))),
        ("rediss+cluster://a", Address("cluster", (("a", 6379),), tls=True)),
    ],
)
def test_a_url_is_taken_apart(url: str, address: Address) -> None:
    assert parse(url) == address


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://host", "begin with one of redis://"),
        ("redis+ring://host", "begin with one of redis://"),
        ("unix+sentinel:///x", "begin with one of redis://"),
        ("redis://", "name a host"),
        ("redis://a,b", "several hosts need redis\\+sentinel"),
        ("redis://host:port", "port"),
        ("redis://host:99999", "[Pp]ort"),
        ("redis://host/zero", "database 'zero' is not a whole number"),
        ("redis://host?ssl_ca_certs=/x", "unknown option ssl_ca_certs; known here: db, password, username"),
        ("redis://host?socket_timeout=60", "unknown option socket_timeout"),
        ("unix://relative/path", "give an absolute path"),
        ("redis+sentinel://host", "name the service the sentinels watch"),
        ("redis+cluster://host/1", "Redis Cluster has database 0 only"),
    ],
)
def test_a_url_that_can_not_be_used_says_why(url: str, message: str) -> None:
    with pytest.raises(StartupError, match=f"^Redis URL .*{message}"):
        parse(url)


def test_a_refused_url_does_not_show_its_password() -> None:
    with pytest.raises(StartupError) as refusal:
        parse("redis://me:secret@host/zero")
    assert "secret" not in str(refusal.value)
    assert "secret" not in repr(parse("redis://me:secret@host"))


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("redis://host", Redis),
        ("rediss://host?ssl_cert_reqs=none", Redis),
        ("unix:///run/redis.sock", Redis),
        ("redis+sentinel://host/main", Redis),
        ("redis+cluster://host", RedisCluster),
    ],
)
def test_every_kind_of_client_has_the_time_out_and_one_retry(url: str, kind: type) -> None:
    client = connect(url, 0.25)
    assert isinstance(client, kind)
    options = client.connection_kwargs if isinstance(client, RedisCluster) else client.connection_pool.connection_kwargs
    assert options["socket_timeout"] == options["socket_connect_timeout"] == 0.25
    assert options["decode_responses"] is False
    retry = client.retry if isinstance(client, RedisCluster) else options["retry"]
    assert isinstance(retry, Retry)  # the one for asyncio: the other is silently never used
    assert retry.get_retries() == 1
