"""A Redis Cluster of three primaries with a replica each, as processes of a test's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, Self

from redis.crc import key_slot

from ..servers import RedisServer, eventually, free_port  # noqa: TID252
from .group import CALM, HEALTHY_SECONDS, OPTIONS, Group, asking

SLOTS = 16_384
LIST = key_slot(b"default")  # the slot of the list of runs


class Node(NamedTuple):
    """What CLUSTER NODES says of one."""

    id: str
    port: int
    flags: frozenset[str]
    primary: str
    linked: bool
    slots: tuple[range, ...]


def slot_of(run: str) -> int:
    """The slot of a run's keys."""
    return key_slot(f"default/{run}".encode())


class Cluster(Group):
    """See the module."""

    def __init__(self, folder: Path, *options: str) -> None:
        every = (
            *("--cluster-enabled", "yes", "--cluster-node-timeout", str(CALM)),
            *("--cluster-require-full-coverage", "no", "--cluster-allow-replica-migration", "no"),
            *("--cluster-replica-validity-factor", "0"),
            *(*OPTIONS, *options),
        )
        super().__init__(
            [RedisServer(folder / f"redis-{n}", *every, "--cluster-port", str(free_port())) for n in range(6)]
        )
        self.url = "redis+cluster://" + ",".join(f"127.0.0.1:{server.port}" for server in self.servers)

    def start(self) -> Self:
        """Start all, make them a cluster, and wait until it is whole."""
        for server in self.servers:
            server.start()
        first = self.servers[0]
        for number, server in enumerate(self.servers):
            self.ask(server, "SET-CONFIG-EPOCH", number + 1)
            bus = server.options[-1]
            self.ask(first, "MEET", "127.0.0.1", server.port, bus)
        share = -(-SLOTS // 3)
        for number, server in enumerate(self.servers[:3]):
            self.ask(server, "ADDSLOTSRANGE", number * share, min((number + 1) * share, SLOTS) - 1)
        for primary, replica in zip(self.servers[:3], self.servers[3:], strict=True):
            wanted = self._id(primary)
            known = self.servers_known_to(replica)
            eventually(lambda: wanted in known(), HEALTHY_SECONDS, self.said)  # noqa: B023
            self.ask(replica, "REPLICATE", wanted)
        self.await_whole()
        return self

    def servers_known_to(self, server: RedisServer) -> Any:
        """A look at the ids that a node knows."""
        return lambda: {node.id for node in self.nodes(server)}

    def ask(self, server: RedisServer, *command: Any) -> Any:
        """The reply of one node to a command of CLUSTER."""
        with asking(server.port) as client:
            return client.execute_command("CLUSTER", *command)

    def nodes(self, server: RedisServer) -> list[Node]:
        """All nodes, as one of them sees them."""
        with asking(server.port) as client:
            client.set_response_callback("CLUSTER NODES", lambda reply, **_: reply)
            reply = client.execute_command("CLUSTER NODES")
        return [_node(line) for line in reply.decode().splitlines()]

    def primary(self, run: str) -> RedisServer:
        """The owner of the run's slot."""
        return self.owner(slot_of(run))

    def owner(self, slot: int) -> RedisServer:
        """Of a slot, as most nodes see it."""
        ports = [
            node.port
            for server in self._awake()
            for node in self.nodes(server)
            if any(slot in slots for slots in node.slots) and "master" in node.flags
        ]
        return self.at(max(ports, key=ports.count))

    def replicas(self, run: str) -> list[RedisServer]:
        """The replica of the owner of the run's slot."""
        nodes = self.nodes(self._awake()[0])
        owner = next(node for node in nodes if any(slot_of(run) in slots for slots in node.slots))
        return [self.at(node.port) for node in nodes if node.primary == owner.id]

    def fail_over(self, run: str) -> None:
        """CLUSTER FAILOVER, which loses nothing, and wait for it."""
        before = self.primary(run)
        [replica] = self.replicas(run)
        self.ask(replica, "FAILOVER")
        eventually(lambda: self.is_settled(before, run), HEALTHY_SECONDS, self.said)

    def watch(self, milliseconds: int) -> None:
        """See `Group.watch`; twice as long, since the nodes ask each other less often than sentinels do."""
        for server in self._awake():
            with asking(server.port) as client:
                client.config_set("cluster-node-timeout", min(2 * milliseconds, CALM))

    def is_settled(self, before: RedisServer, run: str) -> bool:
        """See `Group.is_settled`."""
        slot = slot_of(run)
        owners = {
            node.port
            for server in self._awake()
            for node in self.nodes(server)
            if any(slot in slots for slots in node.slots)
        }
        return len(owners) == 1 and before.port not in owners

    def restart(self, server: RedisServer) -> None:
        """Start a server that was killed; what it is, it learns from the others."""
        server.start()

    def whole(self) -> bool:
        """Whether every node sees three primaries with a replica in step each."""
        return all(self._is_content(server) for server in self.servers)

    def said(self) -> str:
        """The ends of the nodes' logs."""
        return "\n".join(server.said()[-1500:] for server in self.servers)

    def move(self, run: str, target: RedisServer, batch: int = 10) -> int:
        """Move the slot of a run to another primary while it is used, `batch` keys at a time; how many went."""
        slot, source, moved = slot_of(run), self.primary(run), 0
        self.begin_move(run, target)
        while keys := self.ask(source, "GETKEYSINSLOT", slot, batch):
            with asking(source.port) as client:
                client.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
            moved += len(keys)
        for server in (target, source, *self.servers):
            if "master" in next(node.flags for node in self.nodes(server) if "myself" in node.flags):
                self.ask(server, "SETSLOT", slot, "NODE", self._id(target))
        return moved

    def begin_move(self, run: str, target: RedisServer) -> None:
        """Open the run's slot at both ends."""
        slot, source = slot_of(run), self.primary(run)
        self.ask(target, "SETSLOT", slot, "IMPORTING", self._id(source))
        self.ask(source, "SETSLOT", slot, "MIGRATING", self._id(target))

    def _id(self, server: RedisServer) -> str:
        found: bytes = self.ask(server, "MYID")
        return found.decode()

    def _awake(self) -> list[RedisServer]:
        return [server for server in self.servers if server not in self.frozen and not server.ended()]

    def _is_content(self, server: RedisServer) -> bool:
        nodes = self.nodes(server)
        with asking(server.port) as client:
            told: Any = client.info("replication")
        if told["role"] == "master":
            in_step = told.get("slave0", {}).get("state") == "online"
        else:
            in_step = told["master_link_status"] == "up"
        primaries = {node.id for node in nodes if "master" in node.flags}
        return (
            in_step
            and len(nodes) == len(self.servers)
            and sorted(node.primary for node in nodes if "slave" in node.flags) == sorted(primaries)
            and not any(node.flags & {"fail", "fail?", "handshake", "noaddr"} for node in nodes)
            and all(node.linked for node in nodes)
            and sum(len(slots) for node in nodes for slots in node.slots) == SLOTS
        )


def _node(line: str) -> Node:
    name, address, flags, primary, _, _, _, link, *slots = line.split()
    owned = [part.split("-") for part in slots if not part.startswith("[")]
    return Node(
        name,
        int(address.partition("@")[0].rpartition(":")[2]),
        frozenset(flags.split(",")),
        primary,
        link == "connected",
        tuple(range(int(ends[0]), int(ends[-1]) + 1) for ends in owned),
    )
