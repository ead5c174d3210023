"""A small world to break: a Redis, two replicas of the service, each with a proxy of its own on the way to it."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff
from redis.exceptions import RedisError

from greso_service.history.embedded import find_server

from ..servers import free_port  # noqa: TID252
from .nursery import Clock, Nursery, lives, send
from .proxy import Proxy

if importlib.util.find_spec("sniffio") is None:
    sys.modules["sniffio"] = None  # type: ignore[assignment]  # httpcore looks for it on disk with each request
PATIENCE = 120.0  # seconds for anything to come back on a loaded machine
SERVERS = ("bundled", "installed")
"""Valkey as it comes with the service, and the machine's redis-server, if there is one."""


async def until(condition: Callable[[], bool], why: str) -> None:
    """Wait for a condition."""
    give_up = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > give_up:
            raise TimeoutError(f"{why}: not within {PATIENCE:g} s")
        await asyncio.sleep(0.01)


@dataclass(slots=True)
class Replica:
    """One service."""

    number: int
    port: int
    proxy: Proxy
    clock: Clock
    folder: Path
    pid: int = 0

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        """What it writes."""
        return self.folder / "service.log"


class World:
    """Started with `open`; every way to break it has one to mend it, and `heal` mends all."""

    def __init__(self, nursery: Nursery, folder: Path, server: str) -> None:
        self.nursery = nursery
        self.folder = folder
        self.server = server
        self.http = httpx.AsyncClient(
            timeout=2.5, trust_env=False, verify=False, limits=httpx.Limits(max_keepalive_connections=8)
        )
        self.replicas: list[Replica] = []
        self.port = free_port()
        self.pid = 0
        self.snapshot_every = 5

    async def open(self) -> None:
        """Start everything."""
        self.folder.mkdir(parents=True)
        await self.start_redis()
        for number in range(2):
            folder = self.folder / f"replica-{number}"
            folder.mkdir()
            proxy = Proxy(self.port)
            await proxy.start()
            self.replicas.append(Replica(number, free_port(), proxy, Clock(folder / "clock"), folder))
        await asyncio.gather(*(self.start_service(replica) for replica in self.replicas))

    async def close(self) -> None:
        """Kill everything."""
        for replica in self.replicas:
            await replica.proxy.close()
        for pid in filter(None, (self.pid, *(replica.pid for replica in self.replicas))):
            send(pid, signal.SIGKILL)
        await self.http.aclose()
        shutil.rmtree(self.folder, ignore_errors=True)

    def redis(self, retries: int = 0) -> Redis:
        """A client of Redis itself, past the proxies; close it."""
        return Redis(port=self.port, socket_timeout=5.0, protocol=2, retry=Retry(ConstantBackoff(0.05), retries))

    async def configure(self, **values: object) -> None:
        """Change Redis's settings."""
        async with self.redis(retries=3) as client:  # a busy server may drop a connection
            for name, value in values.items():
                await client.config_set(name, str(value))

    async def start_redis(self) -> None:
        """Start Redis on its files, and wait until it has loaded them."""
        installed = shutil.which("redis-server") if self.server == "installed" else None
        binary = installed or str(find_server())
        command = [binary, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"]
        command += ["--appendfsync", "always", "--auto-aof-rewrite-percentage", "0", "--hz", "50"]
        self.pid = self.nursery.run(command, self.folder, self.folder / "redis.log")
        give_up = time.monotonic() + PATIENCE
        async with self.redis() as client:
            while True:
                try:
                    await client.ping()
                except (RedisError, OSError):
                    if time.monotonic() > give_up or not lives(self.pid):
                        raise RuntimeError((self.folder / "redis.log").read_text()) from None
                    await asyncio.sleep(0.01)
                else:
                    return

    async def revive_redis(self) -> None:
        """Start Redis again if it has ended, as a supervisor does, until it writes with fsync always."""
        give_up = time.monotonic() + PATIENCE
        while True:
            if not lives(self.pid):
                await self.start_redis()
            try:
                await self.configure(maxmemory=0, appendfsync="always")
                async with self.redis() as client:
                    await client.incr("probe")  # one that could not write before may end itself only now
            except (RedisError, OSError):
                if time.monotonic() > give_up:
                    raise
                await asyncio.sleep(0.02)
            else:
                return

    async def kill_redis(self) -> None:
        """SIGKILL, and wait until it is gone."""
        send(self.pid, signal.SIGKILL)
        await until(lambda: not lives(self.pid), "Redis dies")

    async def start_service(self, replica: Replica) -> None:
        """Start a service, again and again as a supervisor does, until it answers."""
        settings = {
            "port": replica.port,
            "redis_url": f"redis://127.0.0.1:{replica.proxy.port}",
            "snapshot_every": self.snapshot_every,
            "data_dir": str(replica.folder / "data"),
        }
        give_up = time.monotonic() + PATIENCE
        while time.monotonic() < give_up:
            if not replica.pid or not lives(replica.pid):
                replica.pid = self.nursery.serve(settings, replica.folder / "clock", replica.log)
            await asyncio.sleep(0.05)
            try:
                if (await self.http.get(f"{replica.url}/livez")).is_success:
                    return
            except httpx.TransportError:
                continue
        raise TimeoutError(f"the service does not start: {replica.log.read_text()[-2000:]}")

    async def kill_service(self, replica: Replica) -> None:
        """SIGKILL, and wait until it is gone."""
        send(replica.pid, signal.SIGKILL)
        await until(lambda: not lives(replica.pid), "the service dies")

    def log_of_redis(self) -> Path:
        """The file that Redis appends to."""
        return max((self.folder / "appendonlydir").glob("*.incr.aof"), key=lambda path: int(path.name.split(".")[-3]))

    async def rewrite_log(self) -> None:
        """Let Redis begin to write its file anew, as it does when it has grown."""
        async with self.redis() as client:
            await client.bgrewriteaof()

    def limit_files(self, more: int | None) -> None:
        """Let Redis's file grow by so many bytes, then be full; None: lift that."""
        if not lives(self.pid):
            return
        size = resource.RLIM_INFINITY if more is None else self.log_of_redis().stat().st_size + more
        if sys.platform == "linux":
            resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    async def heal(self, run: str) -> None:
        """End all that is broken, and wait until both replicas tell of the run from Redis."""
        for replica in self.replicas:
            replica.proxy.trouble, replica.clock.off = None, 0.0
        for pid in (self.pid, *(replica.pid for replica in self.replicas)):
            send(pid, signal.SIGCONT)
        self.limit_files(None)
        await self.revive_redis()
        for replica in self.replicas:
            await self.start_service(replica)
            (await self.call(replica, f"/v1/runs/{run}")).raise_for_status()

    async def call(self, replica: Replica, path: str, method: str = "GET", body: Any = None) -> httpx.Response:
        """A request that may be repeated, and is while the service is away: on a loaded machine Redis may be late."""
        give_up = time.monotonic() + PATIENCE
        while True:
            try:
                answer = await self.http.request(method, replica.url + path, json=body, timeout=30.0)
            except httpx.TransportError:  # a kept connection has died with a process, or an export broke off
                if time.monotonic() > give_up:
                    raise
            else:
                if answer.status_code != 503 or time.monotonic() > give_up:
                    return answer
            await asyncio.sleep(0.05)

    def traces(self) -> list[str]:
        """What the services wrote that nobody should read: tracebacks."""
        return [replica.log.read_text() for replica in self.replicas if "Traceback" in replica.log.read_text()]

    def forget_logs(self) -> None:
        """Empty the services' logs."""
        for replica in self.replicas:
            os.truncate(replica.log, 0)
