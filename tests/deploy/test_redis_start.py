"""deploy/redis: a real Redis, started as the container starts it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.servers import eventually

from greso_service.preflight import look
from greso_service.settings import load

from .files import DEPLOY, compose
from .redis_process import START, Started

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Started]:
    server = Started(tmp_path, "aZ09._~+/=-", REDIS_MAXMEMORY="64mb", REDIS_APPENDFSYNC="always")
    try:
        yield server.start()
    finally:
        server.close()


def test_it_keeps_everything_and_greso_finds_nothing_to_fix(started: Started) -> None:
    with started.client("aZ09._~+/=-") as client:
        told = {name: client.config_get(name)[name] for name in ("appendonly", "appendfsync", "save", "maxmemory")}
        assert told == {"appendonly": "yes", "appendfsync": "always", "save": "", "maxmemory": str(64 * 2**20)}
        assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
    settings = load({"redis_url": f"redis://127.0.0.1:{started.port}", "redis_password_file": started.password_file})
    findings = look(settings)
    assert [str(finding) for finding in findings if finding.level != "ok"] == []
    assert len(findings) >= 5


def test_the_password_is_no_argument_and_no_variable(started: Started) -> None:
    process = Path(f"/proc/{started.pid}")
    if not process.exists():
        pytest.skip("no /proc here")
    assert b"redis-server" in (process / "cmdline").read_bytes(), "the shell has become the server: signals reach it"
    for place in ("cmdline", "environ"):
        assert b"aZ09" not in (process / place).read_bytes()


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    def refused(**variables: str) -> str:
        environment = {"PATH": os.environ["PATH"], **variables}
        done = subprocess.run([START], env=environment, capture_output=True, text=True, check=False, timeout=20)
        assert done.returncode
        return done.stderr

    file = tmp_path / "password"
    file.write_text("\n")
    assert "names the file of the password" in refused(REDIS_MAXMEMORY="1gb")
    assert "can't be read" in refused(REDIS_MAXMEMORY="1gb", REDIS_PASSWORD_FILE=str(tmp_path / "none"))
    assert "is empty" in refused(REDIS_MAXMEMORY="1gb", REDIS_PASSWORD_FILE=str(file))
    file.write_text('a"b')
    assert "letters, digits" in refused(REDIS_MAXMEMORY="1gb", REDIS_PASSWORD_FILE=str(file))
    file.write_text("fine")
    assert "says how much memory" in refused(REDIS_PASSWORD_FILE=str(file))


def test_a_backup_is_taken_while_it_runs_and_put_back(started: Started, tmp_path: Path) -> None:
    password = "aZ09._~+/=-"
    with started.client(password) as client:
        with client.pipeline(transaction=False) as writes:
            for number in range(1000):
                writes.xadd("log", {"e": str(number)})
            writes.execute()
        environment = started.environment | {"REDIS_PORT": str(started.port)}
        backup = [DEPLOY / "redis" / "backup.sh", tmp_path / "copy"]
        subprocess.run(backup, env=environment, check=True, capture_output=True, timeout=30)
        assert client.config_get("auto-aof-rewrite-percentage") == {"auto-aof-rewrite-percentage": "100"}
        client.flushall()
        again = subprocess.run(backup, env=environment, check=False, capture_output=True, text=True, timeout=30)
        assert again.returncode, "it overwrites nothing"
        assert client.config_get("auto-aof-rewrite-percentage") == {"auto-aof-rewrite-percentage": "100"}
    started.close()
    shutil.rmtree(tmp_path / "appendonlydir")
    (tmp_path / "copy").rename(tmp_path / "appendonlydir")
    started.start()
    with started.client(password) as client:
        assert client.xlen("log") == 1000


def test_the_compose_files_health_check_knows_a_redis_that_answers(started: Started) -> None:
    kind, declared = compose()["services"]["redis"]["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    command = declared.replace("/run/secrets/redis_password", str(started.password_file))
    command = command.replace("redis-cli ", f"redis-cli -p {started.port} ")

    def healthy() -> bool:
        return subprocess.run(["sh", "-c", command], check=False, capture_output=True, timeout=20).returncode == 0

    assert healthy()
    started.password_file.write_text("another")
    assert not healthy()
    started.password_file.write_text("aZ09._~+/=-")
    assert healthy()
    started.kill()
    assert not healthy()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_backup_that_is_broken_off_leaves_redis_as_it_was(tmp_path: Path, number: signal.Signals) -> None:
    said = tmp_path / "said"
    said.touch()
    program = tmp_path / "redis-cli"
    program.write_text(f"""#!/bin/sh
echo "$*" >>{said}
case "$*" in
*GET*) echo 77 ;;
*INFO*) echo aof_rewrite_in_progress:1 ;;
esac
""")
    program.chmod(0o755)
    environment = os.environ | {"REDIS_SOCKET": str(tmp_path / "none"), "REDIS_CLI": str(program)}
    before = signal.signal(number, signal.SIG_DFL)  # who runs the tests may have it ignored, and a shell leaves that so
    backup = subprocess.Popen(
        [DEPLOY / "redis" / "backup.sh", tmp_path / "copy"], env=environment, start_new_session=True
    )
    signal.signal(number, before)
    try:
        eventually(lambda: "INFO" in said.read_text())
        os.killpg(backup.pid, number)
        assert backup.wait(20) != 0
    finally:
        backup.kill()
        backup.wait()
    assert said.read_text().splitlines()[-1].endswith("CONFIG SET auto-aof-rewrite-percentage 77")
    assert not (tmp_path / "copy").exists()
