"""Every kind of Redis URL against real servers, and how long a silent one may hold a request."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest
import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from greso_service.history.connect import connect
from greso_service.history.embedded import EmbeddedRedis, find_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def port() -> int:
    # A cluster node also listens 10,000 higher, so stay well below the ephemeral ports.
    for candidate in range(11_000 + os.getpid() % 5_000, 22_000):
        with socket.socket() as probe, socket.socket() as bus:
            try:
                probe.bind(("127.0.0.1", candidate))
                bus.bind(("127.0.0.1", candidate + 10_000))
            except OSError:
                continue
            return candidate
    pytest.fail("no free port")


@contextmanager
def running(folder: Path, config: str, port: int) -> Iterator[redis.Redis]:
    """A server (a sentinel, if its configuration begins so) as a process of its own, with a client that may ask it."""
    folder.mkdir()
    kind = ["--sentinel"] if config.startswith("sentinel") else []
    (folder / "redis.conf").write_text(f"port {port}\nbind 127.0.0.1\n{config}\n")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([find_server(), "redis.conf", *kind], cwd=folder, stdout=log, stderr=log)
    try:
        with redis.Redis(port=port, retry=Retry(NoBackoff(), 0)) as client:
            give_up = time.monotonic() + 10
            while True:
                try:
                    client.ping()
                except redis.AuthenticationError:
                    break
                except redis.ConnectionError:
                    assert time.monotonic() < give_up, (folder / "log").read_text()
                    time.sleep(0.01)
                else:
                    break
            yield client
    finally:
        process.kill()
        process.wait()


async def _write_and_read(url: str) -> object:
    client = connect(url, 2.0)
    try:
        await client.set("key", "value")
        return await client.get("key")
    finally:
        await client.aclose()


@pytest.mark.parametrize(("config", "login"), [("", ""), ("requirepass se/cret", "default:se%2Fcret@")])
def test_a_plain_server(tmp_path: Path, port: int, config: str, login: str) -> None:
    with running(tmp_path / "redis", config, port):
        assert asyncio.run(_write_and_read(f"redis://{login}127.0.0.1:{port}/1")) == b"value"


def test_a_unix_socket(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as server:
        assert asyncio.run(_write_and_read(server.url)) == b"value"


def test_a_cluster(tmp_path: Path, port: int) -> None:
    with running(tmp_path / "redis", "cluster-enabled yes", port) as node:
        node.cluster("ADDSLOTSRANGE", 0, 16383)
        give_up = time.monotonic() + 10
        while node.cluster("INFO")["cluster_state"] != "ok":
            assert time.monotonic() < give_up
            time.sleep(0.01)
        assert asyncio.run(_write_and_read(f"redis+cluster://127.0.0.1:{port}")) == b"value"


def test_sentinels_name_the_primary_and_one_that_is_down_is_passed_over(tmp_path: Path, port: int) -> None:
    sentinel = port + 1
    with ExitStack() as servers:
        servers.enter_context(running(tmp_path / "redis", "", port))
        servers.enter_context(running(tmp_path / "sentinel", f"sentinel monitor main 127.0.0.1 {port} 1", sentinel))
        url = f"redis+sentinel://127.0.0.1:1,127.0.0.1:{sentinel}/main"
        assert asyncio.run(_write_and_read(url)) == b"value"


async def _seconds_until_it_fails(url: str, server: int, connected: bool) -> float:
    client = connect(url, 0.2)
    if connected:
        await client.ping()
    os.kill(server, signal.SIGSTOP)
    began = time.monotonic()
    try:
        with pytest.raises((RedisError, OSError)):
            async with asyncio.timeout(5):
                await client.ping()
        return time.monotonic() - began
    finally:
        os.kill(server, signal.SIGCONT)
        await client.aclose()


@pytest.mark.parametrize("connected", [False, True], ids=["new connection", "old connection"])
def test_a_frozen_server_holds_a_command_for_a_few_time_outs_only(tmp_path: Path, connected: bool) -> None:
    with EmbeddedRedis(tmp_path) as server:
        assert server.process is not None
        took = asyncio.run(_seconds_until_it_fails(server.url, server.process.pid, connected))
    assert 0.2 <= took < 1.5  # at most three waits of 0.2 s: command, new connection, command; the rest: a busy machine


def test_a_client_outlives_a_restart_of_its_server(tmp_path: Path) -> None:
    async def scenario(server: EmbeddedRedis) -> list[object]:
        client = connect(server.url, 0.5)
        await client.set("key", "value")
        assert server.process is not None
        first = server.process.pid
        os.kill(first, signal.SIGKILL)
        give_up = time.monotonic() + 10
        values: list[object] = []
        while not values:
            assert time.monotonic() < give_up
            try:
                values.append(await client.get("key"))
            except (RedisError, OSError):
                await asyncio.sleep(0.01)
        await client.aclose()
        assert server.process.pid != first
        return values

    with EmbeddedRedis(tmp_path, fsync="always") as server:
        assert asyncio.run(scenario(server)) == [b"value"]
