"""RedisDraft: the history of a run to be, in a stream of its own that disappears unless it is finished."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Protocol

from greso_service.core.mark import START, Mark
from greso_service.history import redis_unreadable
from greso_service.history.base import Appended, Moved, Once, RunKey, Seen
from greso_service.history.redis_wire import Script, index_of, key_of, named, once_key, written

DRAFT_GRACE: Final = 300  # seconds until the parts of a snapshot or a history that was never finished disappear
READ_BYTES: Final = 4 * 2**20  # of events per command: each stays well inside a command's time-out
_DRAFT_EVENTS = 1000  # of a history per command: Lua takes some thousand values at once

_EXTEND, _READ, _BEGIN = Script("extend.lua"), Script("read.lua"), Script("begin.lua")


class Evaluate(Protocol):
    """Runs a script; `durable`: as the operator's setting of durability asks."""

    def __call__(self, script: Script, keys: list[str], args: list[Any], *, durable: bool = False) -> Awaitable[Any]:
        """Its reply."""
        ...


class RedisDraft:
    """See `Draft`. `reached`: what every exchange with Redis goes on in."""

    def __init__(
        self, key: RunKey, redis: Any, reached: Callable[..., AbstractAsyncContextManager[None]], evaluate: Evaluate
    ) -> None:
        self._key = key
        self._redis = redis
        self._reached = reached
        self._evaluate = evaluate
        self._name = key_of(key, f"log:{secrets.token_hex(8)}")
        self._mark = START

    async def extend(self, payloads: Sequence[bytes]) -> None:
        """See `Draft.extend`."""
        for part in _parted(payloads):
            events: list[Any] = []
            for payload in part:
                self._mark = self._mark.then(payload)
                events += [str(self._mark), payload]
            async with self._reached():
                await self._evaluate(_EXTEND, [self._name], [DRAFT_GRACE, *events])

    async def read(self, after: Mark, limit: int) -> list[bytes] | None:
        """See `Draft.read`."""
        async with self._reached(self._name):  # a draft has no head
            events = await self._evaluate(_READ, [self._name], [str(after), limit, READ_BYTES])
        return None if events is None else redis_unreadable.payloads(self._name, after, events)

    async def finish(self, *, at_ms: int, once: Once | None = None) -> Appended | Moved | Seen:
        """See `Draft.finish`."""
        key = self._key
        keys = [key_of(key, "log"), key_of(key, "head"), once_key(key, once), key_of(key, "onces"), self._name]
        async with self._reached(*keys, index_of(key.tenant)):
            # Before the run exists, so that no run exists that the list does not know.
            await self._redis.sadd(index_of(key.tenant), key.run)
            reply = await self._evaluate(_BEGIN, keys, [str(self._mark), at_ms, *named(once)], durable=True)
            return written(reply, self._mark)

    async def abandon(self) -> None:
        """See `Draft.abandon`."""
        async with self._reached():
            await self._redis.unlink(self._name)


def _parted(payloads: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """The payloads in parts, each small enough for a command within its time-out; an empty one if there are none."""
    part: list[bytes] = []
    size = 0
    for payload in payloads:
        part.append(payload)
        size += len(payload)
        if size >= READ_BYTES or len(part) == _DRAFT_EVENTS:
            yield part
            part, size = [], 0
    if part or not payloads:
        yield part
