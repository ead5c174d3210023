"""`greso check`: what it says about settings and Redis, good and bad."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from greso_service.cli import run
from greso_service.preflight import look
from greso_service.settings import load

from ..keys import KeyFile  # noqa: TID252 - tests are no installed package
from ..servers import RedisServer, Service, certificate  # noqa: TID252
from .fake_redis import FakeRedis

if TYPE_CHECKING:
    from collections.abc import Callable

GOOD = {
    "redis_version": "7.2.0",
    "redis_mode": "standalone",
    "role": "master",
    "aof_enabled": "1",
    "aof_last_write_status": "ok",
    "maxmemory": "0",
    "maxmemory_policy": "noeviction",
    "used_memory": "1000000",
    "total_system_memory": "100000000",
}


Check = Callable[..., tuple[int, str]]


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Check:
    """Exit status and output of `greso check`."""
    for name in [name for name in os.environ if name.startswith("GRESO_")]:
        monkeypatch.delenv(name)

    def call(*options: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["greso", "check", *options])
        with pytest.raises(SystemExit) as end:
            run()
        said = capsys.readouterr()
        assert said.err == ""
        return int(end.value.code or 0), said.out

    return call


def test_the_embedded_redis_is_tried_out(tmp_path: Path, check: Check) -> None:
    status, said = check("--data-dir", str(tmp_path))
    assert status == 0
    assert f"ok      settings    data_dir={tmp_path}\n" in said
    assert "ok      redis       embedded, starts (" in said
    assert "ok      version     Valkey " in said
    assert "ok      persistence append-only file\n" in said
    assert "warning" not in said.replace("ok ", "")


def test_the_redis_of_a_running_service_is_looked_at(start_service: Callable[..., Service], check: Check) -> None:
    service = start_service()
    status, said = check("--data-dir", str(service.folder / "data"))
    assert status == 0
    assert f"embedded, of the service that runs (pid {service.pid})" in said
    assert "ok      version     Valkey " in said
    assert service.ready()


def test_a_misspelt_variable_is_noticed(tmp_path: Path, check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRESO_PROT", "1")
    monkeypatch.setenv("GRESO_URL", "http://elsewhere")
    status, said = check("--data-dir", str(tmp_path))
    assert status == 0
    assert "warning settings    GRESO_PROT is set but is no setting\n" in said
    assert "did you mean GRESO_PORT?" in said
    assert "GRESO_URL" not in said


def test_errors_are_listed_and_give_exit_code_1(tmp_path: Path, check: Check) -> None:
    (tmp_path / "file").write_text("")
    status, said = check("--data-dir", str(tmp_path / "file"))
    assert status == 1
    assert "error   redis       data directory" in said
    with FakeRedis(**GOOD | {"redis_version": "5.0.7"}) as old:
        status, said = check("--redis-url", old.url)
    assert status == 1
    assert "error   version     Redis 5.0.7 is too old\n" in said
    assert "-> greso needs Redis 6.2 or later, or Valkey\n" in said


def found(reply: str = "+PONG", durability: str = "redis", **info: str) -> dict[str, tuple[str, str]]:
    """Subject -> level and text of what is found at a Redis with this INFO."""
    with FakeRedis(reply, **info) as server:
        findings = look(load({"redis_url": server.url, "durability": durability}))
    return {finding.subject: (finding.level, str(finding)) for finding in findings}


def test_a_good_redis_has_nothing_to_fix() -> None:
    assert {level for level, _ in found(**GOOD).values()} == {"ok"}


@pytest.mark.parametrize(
    ("changes", "subject", "level", "text"),
    [
        ({"redis_version": "6.2.0"}, "version", "ok", "Redis 6.2.0"),
        ({"redis_version": "7.2.4", "valkey_version": "9.1.2"}, "version", "ok", "Valkey 9.1.2"),
        ({"redis_version": "6.0.20"}, "version", "error", "Redis 6.0.20 is too old"),
        ({"redis_version": "10.0.0"}, "version", "ok", "Redis 10.0.0"),
        ({"role": "slave"}, "kind", "error", "this is a replica"),
        ({"redis_mode": "cluster"}, "kind", "error", "use redis+cluster://host:6379"),
        ({"redis_mode": "sentinel"}, "kind", "error", "redis+sentinel://host:26379/mymaster"),
        ({"aof_enabled": "0"}, "persistence", "warning", "set `appendonly yes`"),
        ({"aof_last_write_status": "err"}, "persistence", "error", "is the disk full?"),
        ({"aof_enabled": "0", "rdb_last_bgsave_status": "err"}, "persistence", "error", "snapshot (RDB) failed"),
        ({"maxmemory_policy": "allkeys-lru"}, "eviction", "ok", "no memory limit"),
        ({"maxmemory_policy": "volatile-ttl", "maxmemory": "9000000"}, "eviction", "warning", "noeviction"),
        ({"used_memory": "90000000"}, "memory", "warning", "delete finished runs or give Redis more memory"),
        ({"maxmemory": "1100000"}, "memory", "warning", "(maxmemory)"),
    ],
)
def test_what_is_wrong_is_named_with_its_fix(changes: dict[str, str], subject: str, level: str, text: str) -> None:
    finding = found(**GOOD | changes)[subject]
    assert finding[0] == level
    assert text in finding[1]


@pytest.mark.parametrize(("connected", "level"), [("1", "error"), ("2", "ok")])
def test_replicas_are_counted_when_durability_asks_for_them(connected: str, level: str) -> None:
    assert found(durability="replicas:2", **GOOD, connected_slaves=connected)["replicas"][0] == level


def test_a_service_starts_while_replicas_are_missing_and_check_says_that_nothing_can_be_written(
    tmp_path: Path, start_service: Callable[..., Service], check: Check
) -> None:
    redis = RedisServer(tmp_path / "redis")
    try:
        options = ("--redis-url", redis.start().url, "--durability", "replicas:1")
        status, said = check(*options)
        assert status == 1
        assert "error   replicas    0 connected, durability asks for 1\n" in said
        assert "until then every write is answered 503" in said
        service = start_service(*options)
        assert "error   redis replicas: 0 connected, durability asks for 1" in service.said()
        assert service.call("PUT", "/v1/runs/r", {}).status_code == 503
    finally:
        redis.close()


def test_a_strict_check_fails_by_a_warning_too(check: Check) -> None:
    with FakeRedis(**GOOD | {"aof_enabled": "0"}) as forgetful, FakeRedis(**GOOD) as good:
        lax, _ = check("--redis-url", forgetful.url)
        strict, said = check("--redis-url", forgetful.url, "--strict")
        nothing_to_fix, _ = check("--redis-url", good.url, "--strict")
    assert "warning persistence" in said
    assert (lax, strict, nothing_to_fix) == (0, 1, 0)


def test_keys_that_end_soon_are_named(tmp_path: Path, check: Check) -> None:
    file, now = KeyFile(tmp_path / "keys.json"), datetime.now(UTC)
    for name, days in (("late", 13), ("later", 15), ("first", 1)):
        file.add("team-a", "write", name=name, expires=now + timedelta(days=days))
    file.add("team-a", "write", name="for-ever")
    status, said = check("--data-dir", str(tmp_path / "data"), "--keys-file", str(file.path), "--strict")
    [line] = [line for line in said.splitlines() if "within 14 days end" in line]
    assert status == 1
    assert line.startswith("warning keys")
    assert line.index("(first) of tenant team-a on ") < line.index("(late) of tenant team-a on ")
    assert "later" not in line
    assert "for-ever" not in line


@pytest.mark.parametrize(
    ("days", "level", "text"),
    [(30, "ok", ", until"), (13, "warning", "within 14 days"), (-1, "error", "over since")],
)
def test_the_end_of_the_certificate_is_told(tmp_path: Path, check: Check, days: int, level: str, text: str) -> None:
    cert, key = certificate(tmp_path, days)
    tls = ("--tls-cert", str(cert), "--tls-key", str(key))
    status, said = check("--data-dir", str(tmp_path / "data"), *tls)
    [line] = [line for line in said.splitlines() if f"certificate {cert}" in line and "settings" not in line]
    assert (status, line.split()[0]) == (int(level == "error"), level)
    assert text in line
    assert f"{datetime.now(UTC) + timedelta(days=days):%Y-%m-%d}" in line


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        ("-NOAUTH Authentication required.", "put the right user and password into --redis-url"),
        ("-MISCONF Errors writing to the AOF file: No space left on device", "No space left on device; repair it"),
        (
            "-NOPERM this user has no permissions to run the 'ping' command",
            "let the user of --redis-url run PING and INFO",
        ),
        ("-LOADING Redis is loading the dataset in memory", "can't be reached: Redis is loading the dataset"),
        ("HTTP/1.1 400 Bad Request", "can't be reached"),
    ],
)
def test_a_redis_that_refuses_is_told_with_its_reason(reply: str, text: str) -> None:
    level, said = found(reply, **GOOD)["redis"]
    assert level == "error"
    assert text in said
    assert "\n" not in said
