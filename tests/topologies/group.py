"""What the tests do with a group of redis-servers, whoever watches over it."""

from __future__ import annotations

import abc
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from ..servers import RedisServer, eventually  # noqa: TID252

HEALTHY_SECONDS = 60.0  # far more than any failover takes here, on a loaded machine, too
ALERT, CALM = 500, 60_000  # ms of silence: while a server is down; else, so that a loaded machine is no fault by itself

OPTIONS = (
    *("--appendfsync", "no"),  # what is written outlives a SIGKILL; a slow disk must not look like a frozen server
    *("--repl-diskless-sync-delay", "0", "--repl-timeout", "60"),
)


@contextmanager
def asking(port: int) -> Iterator[Any]:
    """A client of one server that gives up soon."""
    with redis.Redis(port=port, retry=Retry(NoBackoff(), 0), socket_timeout=5, socket_connect_timeout=5) as client:
        yield client


class Group(abc.ABC):
    """Servers of which one is the primary of a run and others its replicas. `url` is the service's."""

    url: str

    def __init__(self, servers: list[RedisServer]) -> None:
        self.servers = servers
        self.frozen: set[RedisServer] = set()

    @abc.abstractmethod
    def start(self) -> Self:
        """Start all and wait until they are whole."""

    @abc.abstractmethod
    def primary(self, run: str) -> RedisServer:
        """The server that takes the writes of a run."""

    @abc.abstractmethod
    def replicas(self, run: str) -> list[RedisServer]:
        """The servers that may take its place."""

    @abc.abstractmethod
    def fail_over(self, run: str) -> None:
        """Have another primary made for a run by command, and wait for it."""

    @abc.abstractmethod
    def watch(self, milliseconds: int) -> None:
        """Have a server count as down when it has been silent so long."""

    def await_other_primary(self, before: RedisServer, run: str) -> RedisServer:
        """Wait until another server than `before`, which is down, is the primary of a run; that server."""
        self.watch(ALERT)
        eventually(lambda: self.is_settled(before, run), HEALTHY_SECONDS, self.said)
        self.watch(CALM)
        return self.primary(run)

    @abc.abstractmethod
    def is_settled(self, before: RedisServer, run: str) -> bool:
        """Whether all who decide agree on another primary than `before`."""

    @abc.abstractmethod
    def restart(self, server: RedisServer) -> None:
        """Start a server that was killed."""

    @abc.abstractmethod
    def whole(self) -> bool:
        """Whether all servers are up and in step."""

    @abc.abstractmethod
    def said(self) -> str:
        """What the processes logged."""

    def events(self, server: RedisServer, run: str) -> int:
        """How many events of a run a server has, be it a replica."""
        with asking(server.port) as client:
            with suppress(redis.ResponseError):  # outside of a cluster nobody needs to say so
                client.execute_command("READONLY")
            return int(client.xlen(f"greso:{{default/{run}}}:log"))

    def at(self, port: int) -> RedisServer:
        """The server of a port."""
        return next(server for server in self.servers if server.port == port)

    def freeze(self, server: RedisServer) -> None:
        """SIGSTOP."""
        server.signal(signal.SIGSTOP)
        self.frozen.add(server)

    def thaw(self, server: RedisServer) -> None:
        """SIGCONT."""
        server.signal(signal.SIGCONT)
        self.frozen.discard(server)

    def cut_off(self, run: str) -> RedisServer:
        """Let the primary of a run lose its replicas, which are frozen: what it takes from now on is its own alone."""
        primary, replicas = self.primary(run), self.replicas(run)
        for replica in replicas:
            self.freeze(replica)
        with asking(primary.port) as client:
            assert client.execute_command("CLIENT", "KILL", "TYPE", "replica") == len(replicas)
        return primary

    def heal(self) -> None:
        """Wake who sleeps, start who is dead, and wait until all are in step."""
        for server in list(self.frozen):
            self.thaw(server)
        for server in self.servers:
            if server.ended():
                self.restart(server)
        self.await_whole()

    def await_whole(self) -> None:
        """Wait until all servers are up and in step."""
        eventually(self._is_whole, HEALTHY_SECONDS, self.said)

    def _is_whole(self) -> bool:
        try:
            return self.whole()
        except redis.RedisError:
            return False

    def close(self) -> None:
        """Kill all: a primary that is asked to end waits for its replicas."""
        for server in self.servers:
            if server.process is not None and not server.ended():
                server.kill()
