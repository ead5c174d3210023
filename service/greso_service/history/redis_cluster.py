"""Cluster: redis-py's client of a Redis Cluster, without errors of its own that a changing cluster brings out in it.

Where its map of the slots lacks one it fails with a KeyError, again and again, and never looks for a new map; where a
slot is on its way to a node that has none yet, with an AttributeError. And the addresses that the cluster told take the
place of those that it was given: once they are all gone it would not find back. And with each new map it asks the first
primary for all commands that there are: if that one is away, nothing goes on anywhere.
"""

from __future__ import annotations

import time
from typing import Any, Final

from redis._parsers import AsyncCommandsParser
from redis.asyncio import RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.cluster import PRIMARY
from redis.exceptions import RedisClusterException, SlotNotCoveredError

_PATIENCE: Final = 1.0
"""Seconds between new maps for want of a slot: each takes the connections to all nodes away from whoever uses them."""


class _Keys(AsyncCommandsParser):
    """Which keys a command names, as far as it matters where to send it, and without asking: its first argument."""

    async def initialize(self, node: ClusterNode | None = None) -> None:
        """There is nothing to learn."""

    async def get_keys(self, *args: Any) -> tuple[str, ...]:
        """The first; all others are in the same slot. Scripts, whose keys come later, are not looked at here."""
        return (args[1],)


class Cluster(RedisCluster):
    """See the module."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands_parser = _Keys()
        self._clock = time.monotonic
        self._mapped_anew = -_PATIENCE

    async def initialize(self, *args: Any, **options: Any) -> RedisCluster:
        """Learn which node has which slots, unless that is known."""
        try:
            return await super().initialize(*args, **options)
        except (LookupError, RedisClusterException) as error:
            for node in self.startup_nodes:
                self.nodes_manager.startup_nodes.setdefault(node.name, node)
            if isinstance(error, LookupError):
                raise SlotNotCoveredError("no node of the cluster has any slot") from error
            raise

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """The reply to a command."""
        await self.initialize()  # without a map redis-py asks any node, which may be one that is away
        try:
            return await super().execute_command(*args, **options)
        except KeyError as error:
            if not error.args or not isinstance(error.args[0], int):
                raise  # it is no slot that is missed
            now = self._clock()
            if now - self._mapped_anew >= _PATIENCE:
                self._mapped_anew = now
                await self.aclose()  # the next command looks for a new map
            raise SlotNotCoveredError(f"no node is known to have the slot of {args[0]}'s key") from error

    def get_node(
        self, host: str | None = None, port: int | None = None, node_name: str | None = None
    ) -> ClusterNode | None:
        """A node; by its name (`host:port`) one that is met for the first time, too, as a redirection may tell it."""
        node = super().get_node(host, port, node_name)
        if node is None and node_name:
            host, _, number = node_name.rpartition(":")
            node = ClusterNode(host, int(number), PRIMARY, **self.nodes_manager.connection_kwargs)
            self.nodes_manager.set_nodes(self.nodes_manager.nodes_cache, {node.name: node})
        return node
