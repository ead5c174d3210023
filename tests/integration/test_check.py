"""`greso check`: what it says about settings and Redis, good and bad."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from greso_service.cli import run
from greso_service.preflight import look
from greso_service.settings import load

from ..servers import Service  # noqa: TID252 - tests are no installed package
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


@pytest.mark.parametrize(("connected", "level"), [("1", "warning"), ("2", "ok")])
def test_replicas_are_counted_when_durability_asks_for_them(connected: str, level: str) -> None:
    assert found(durability="replicas:2", **GOOD, connected_slaves=connected)["replicas"][0] == level


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
