"""The client of a Redis Cluster while the cluster is half made, grows, and moves: what redis-py alone trips over."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import RedisCluster
from redis.crc import key_slot

from greso_service.core.mark import START
from greso_service.errors import Unavailable
from greso_service.history.base import Appended, Listed, RunKey
from greso_service.history.connect import connect
from greso_service.history.redis import RedisHistory

from ..faults.proxy import Proxy  # noqa: TID252
from ..servers import RedisServer, eventually, free_port  # noqa: TID252

KEY = RunKey("default", "run")
SLOT = key_slot(b"default/run")


class Node(RedisServer):
    """A server that may be made part of a cluster."""

    def __init__(self, folder: Path) -> None:
        self.bus = free_port()
        super().__init__(
            folder, "--cluster-enabled", "yes", "--cluster-port", str(self.bus), "--appendfsync", "no",
            "--cluster-require-full-coverage", "no",
        )  # fmt: skip

    def ask(self, *command: Any) -> Any:
        """The reply to a command of CLUSTER."""
        with self.client() as client:
            return client.execute_command("CLUSTER", *command)

    def announce(self, port: int) -> None:
        """Tell clients to come by another port."""
        with self.client() as client:
            client.config_set("cluster-announce-port", port)

    def meet(self, other: Node) -> None:
        """Be in one cluster with another node, and wait until both take commands."""
        self.ask("MEET", "127.0.0.1", other.port, other.bus)
        mine = self.ask("MYID")
        eventually(lambda: mine in other.ask("NODES") and other.is_well() and self.is_well(), 30)

    def is_well(self) -> bool:
        """Whether it takes commands."""
        return "cluster_state:ok" in self.ask("INFO").decode()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    one = Node(tmp_path / "one").start()
    yield one
    one.close()


@pytest.fixture
def another(tmp_path: Path) -> Iterator[Node]:
    one = Node(tmp_path / "another").start()
    yield one
    one.close()


def over(node: Node, story: Callable[[Any, RedisHistory], Awaitable[None]]) -> None:
    async def told() -> None:
        client = connect(f"redis+cluster://127.0.0.1:{node.port}", 1.0)
        history = RedisHistory(client, deadline=5.0)
        try:
            await story(client, history)
        finally:
            await history.close()

    asyncio.run(told())


async def refused(history: RedisHistory) -> None:
    with pytest.raises(Unavailable):
        await history.append(KEY, START, [b"a"], at_ms=1)
    history._away_until.clear()


async def in_the_end(history: RedisHistory) -> None:
    for _ in range(100):
        try:
            assert isinstance(await history.append(KEY, START, [b"a"], at_ms=1), Appended)
        except Unavailable:
            history._away_until.clear()
            await asyncio.sleep(0.05)
        else:
            return
    pytest.fail("the client did not find out")


def test_a_slot_that_no_node_has_yet_is_a_refusal_and_looked_for_again(node: Node) -> None:
    """It was a KeyError, a 500 for the client, until the service was restarted."""
    others = [slot for slot in range(16_384) if slot != SLOT]
    node.ask("ADDSLOTS", *others)
    eventually(node.is_well)

    async def story(_client: Any, history: RedisHistory) -> None:
        await refused(history)
        node.ask("ADDSLOTS", SLOT)
        await in_the_end(history)

    over(node, story)


def test_for_a_slot_that_no_node_has_the_map_is_made_anew_once_a_second(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others' commands lose their connections to the nodes each time."""
    node.ask("ADDSLOTS", *(slot for slot in range(16_384) if slot != SLOT))
    eventually(node.is_well)
    maps, now, close = 0, 10.0, RedisCluster.aclose

    async def counted(cluster: Any) -> None:
        nonlocal maps
        maps += 1
        await close(cluster)

    monkeypatch.setattr(RedisCluster, "aclose", counted)

    async def story(client: Any, history: RedisHistory) -> None:
        nonlocal now
        client._clock = lambda: now
        for _ in range(5):
            await refused(history)
        assert maps == 1
        now += 1
        await refused(history)
        assert maps == 2

    over(node, story)


@pytest.mark.parametrize(("kind", "about"), [(KeyError, ["field"]), (IndexError, [3]), (KeyError, [])])
def test_a_mistake_about_a_reply_is_told_as_it_is(
    kind: type[Exception], about: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def mistaken(*_: Any, **__: Any) -> None:
        raise kind(*about)

    async def known(*_: Any, **__: Any) -> None:
        """There is a map."""

    monkeypatch.setattr(RedisCluster, "execute_command", mistaken)
    monkeypatch.setattr(RedisCluster, "initialize", known)

    async def story() -> None:
        client: Any = connect("redis+cluster://127.0.0.1:1", 1.0)
        with pytest.raises(kind):
            await client.get("key")
        await client.aclose()

    asyncio.run(story())


def test_a_cluster_without_any_slot_is_a_refusal_and_found_when_it_has_them(node: Node) -> None:
    async def story(_client: Any, history: RedisHistory) -> None:
        await refused(history)
        await refused(history)
        node.ask("ADDSLOTSRANGE", 0, 16_383)
        eventually(node.is_well)
        await in_the_end(history)

    over(node, story)


def test_the_address_that_was_given_is_asked_again_when_those_that_the_cluster_told_are_gone(node: Node) -> None:
    """As after a restart of all pods: the service's name for them is right still, their addresses are others."""
    node.ask("ADDSLOTSRANGE", 0, 16_383)
    eventually(node.is_well)

    async def story(_client: Any, history: RedisHistory) -> None:
        before, after = Proxy(node.port), Proxy(node.port)
        await before.start()
        node.announce(before.port)
        await in_the_end(history)
        await before.close()
        await after.start()
        node.announce(after.port)
        await refused(history)
        await in_the_end(history)
        await after.close()

    over(node, story)


def test_a_slot_on_its_way_to_a_node_that_has_none_is_followed(node: Node, another: Node) -> None:
    """That node is not in the map of the slots: following the redirection was an AttributeError, a 500."""
    node.ask("ADDSLOTSRANGE", 0, 16_383)
    node.meet(another)
    source, target = node.ask("MYID"), another.ask("MYID")
    another.ask("SETSLOT", SLOT, "IMPORTING", source)
    node.ask("SETSLOT", SLOT, "MIGRATING", target)

    async def story(_client: Any, history: RedisHistory) -> None:
        assert await history.load(KEY) is None

    over(node, story)


def test_a_shard_is_used_by_a_service_that_starts_while_the_first_one_is_frozen(node: Node, another: Node) -> None:
    another.ask("ADDSLOTSRANGE", 0, SLOT - 1)
    node.ask("ADDSLOTSRANGE", SLOT, 16_383)
    node.meet(another)
    another.signal(signal.SIGSTOP)

    async def story(_client: Any, history: RedisHistory) -> None:
        assert await history.load(KEY) is None

    over(node, story)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
def test_the_list_of_runs_is_whole_while_a_shard_is_away(node: Node, another: Node, how: signal.Signals) -> None:
    """Nobody shall take a run for deleted; nor shall the others' pages stay empty, since they begin with the list."""
    half = 16_384 // 2
    index_first = key_slot(b"default") < half
    node.ask("ADDSLOTSRANGE", *((0, half - 1) if index_first else (half, 16_383)))
    another.ask("ADDSLOTSRANGE", *((half, 16_383) if index_first else (0, half - 1)))
    node.meet(another)
    names = [f"run-{number}" for number in range(10)]
    gone = {name for name in names if (key_slot(f"default/{name}".encode()) < half) != index_first}
    assert 0 < len(gone) < len(names)

    async def story(_client: Any, history: RedisHistory) -> None:
        for number, name in enumerate(names, 1):
            await history.append(RunKey("default", name), START, [b"a"], at_ms=number)
        whole = [Listed(name, number) for number, name in enumerate(names, 1)]
        assert await history.runs("default") == whole[::-1]
        another.signal(how)
        there = [run for run in whole if run.run not in gone]
        away = [Listed(name, 0, away=True) for name in sorted(gone)]
        assert await history.runs("default") == [*there[::-1], *away]
        some = RunKey("default", there[0].run)
        assert await history.read(some, START, 1) == [b"a"]

    over(node, story)
