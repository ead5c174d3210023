"""A primary with two replicas, watched by three sentinels, as processes of a test's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import redis

from ..servers import START_SECONDS, Process, RedisServer, eventually, free_port, redis_server  # noqa: TID252
from .group import CALM, HEALTHY_SECONDS, OPTIONS, Group, asking

NAME = "main"


class SentinelProcess(Process):
    """A sentinel that keeps its configuration in `folder`."""

    def __init__(self, folder: Path, primary: int) -> None:
        folder.mkdir(parents=True)
        super().__init__(folder / "sentinel.log")
        self.folder, self.port = folder, free_port()
        (folder / "sentinel.conf").write_text(
            f"port {self.port}\nbind 127.0.0.1\n"
            f"sentinel monitor {NAME} 127.0.0.1 {primary} 2\n"
            f"sentinel down-after-milliseconds {NAME} {CALM}\n"
            f"sentinel failover-timeout {NAME} 3000\n"
            f"sentinel parallel-syncs {NAME} 2\n"
        )

    def start(self) -> Self:
        """Start it."""
        self.run([redis_server(), "sentinel.conf", "--sentinel"], self.folder)
        return self

    def answers(self) -> bool:
        """Whether it does."""
        try:
            with asking(self.port) as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False

    def ask(self, *command: str) -> Any:
        """The reply to a command of SENTINEL."""
        with asking(self.port) as client:
            return client.execute_command("SENTINEL", *command)

    def fields(self, *command: str) -> dict[str, str]:
        """What SENTINEL says about one server."""
        return _fields(self.ask(*command))


class Sentinels(Group):
    """See the module. Every run's primary is the one that there is."""

    def __init__(self, folder: Path, *options: str) -> None:
        every = (*OPTIONS, *options)
        super().__init__([RedisServer(folder / f"redis-{number}", *every) for number in range(3)])
        self._every = every
        self.sentinels = [SentinelProcess(folder / f"sentinel-{n}", self.servers[0].port) for n in range(3)]
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        self.url = f"redis+sentinel://{hosts}/{NAME}"

    def start(self) -> Self:
        """Start all and wait until they know each other."""
        first = self.servers[0].start()
        for server in self.servers[1:]:
            self.follow(server, first)
            server.start()
        for sentinel in self.sentinels:
            sentinel.start()
            eventually(sentinel.answers, START_SECONDS, sentinel.said)
            sentinel.ask("DEBUG", "INFO-PERIOD", "1000")  # 10 s of the usual would only have the tests wait
        self.await_whole()
        return self

    def follow(self, server: RedisServer, primary: RedisServer) -> None:
        """Let a server that is not running start as a replica."""
        server.options = (*self._every, "--replicaof", f"127.0.0.1 {primary.port}")

    def primary(self, run: str = "") -> RedisServer:
        """The primary that most sentinels know."""
        ports = [self._known_to(sentinel) for sentinel in self.sentinels]
        return self.at(max(ports, key=ports.count))

    def replicas(self, run: str = "") -> list[RedisServer]:
        """All but the primary."""
        primary = self.primary(run)
        return [server for server in self.servers if server is not primary]

    def fail_over(self, run: str = "") -> None:
        """SENTINEL FAILOVER, and wait until the sentinels agree on another primary."""
        before = self.primary(run)
        self.sentinels[0].ask("FAILOVER", NAME)
        eventually(lambda: self.is_settled(before, run), HEALTHY_SECONDS, self.said)

    def watch(self, milliseconds: int) -> None:
        """See `Group.watch`."""
        for sentinel in self.sentinels:
            sentinel.ask("SET", NAME, "down-after-milliseconds", str(milliseconds))

    def is_settled(self, before: RedisServer, run: str = "") -> bool:
        """See `Group.is_settled`."""
        return before.port not in {self._known_to(sentinel) for sentinel in self.sentinels}

    def restart(self, server: RedisServer) -> None:
        """Start a server that was killed, as a replica."""
        self.follow(server, self.primary())
        server.start()

    def heal(self) -> None:
        """See `Group.heal`; an old primary is told what a sentinel would tell it after 8 s or more."""
        for server in list(self.frozen):
            self.thaw(server)
        primary = self.primary()
        for server in self.servers:
            if server is not primary and not server.ended():
                with asking(server.port) as client:
                    client.execute_command("REPLICAOF", "127.0.0.1", primary.port)
        super().heal()

    def whole(self) -> bool:
        """Whether every sentinel sees a primary with two replicas in step, and the servers say so, too."""
        primary = self.primary()
        if not all(self._content(sentinel, primary) for sentinel in self.sentinels):
            return False
        with asking(primary.port) as client:
            told: Any = client.info("replication")
        states = [told.get(f"slave{number}", {}).get("state") for number in range(2)]
        return told["role"] == "master" and states == ["online", "online"]

    def close(self) -> None:
        """Stop all."""
        for sentinel in self.sentinels:
            sentinel.kill()
        super().close()

    def said(self) -> str:
        """The ends of the sentinels' logs."""
        return "\n".join(sentinel.said()[-2000:] for sentinel in self.sentinels)

    def _known_to(self, sentinel: SentinelProcess) -> int:
        return int(sentinel.ask("GET-MASTER-ADDR-BY-NAME", NAME)[1])

    def _content(self, sentinel: SentinelProcess, primary: RedisServer) -> bool:
        master = sentinel.fields("MASTER", NAME)
        replicas = [_fields(each) for each in sentinel.ask("REPLICAS", NAME)]
        return (
            master["port"] == str(primary.port)
            and master["flags"] == "master"
            and master["num-other-sentinels"] == "2"
            and sorted(each["port"] for each in replicas) == sorted(str(each.port) for each in self.replicas())
            and all(each["flags"] == "slave" and each["master-link-status"] == "ok" for each in replicas)
            and all(each["master-port"] == str(primary.port) for each in replicas)
        )


def _fields(reply: Any) -> dict[str, str]:
    if isinstance(reply, dict):  # newer versions of redis-py make one of it
        return {name.decode(): value.decode() for name, value in reply.items()}
    words = [word.decode() for word in reply]
    return dict(zip(words[::2], words[1::2], strict=True))
