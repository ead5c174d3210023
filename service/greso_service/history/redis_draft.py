"""RedisDraft: the history of a run to be, in a stream of its own that disappears unless it is finished."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

from greso_service.core.mark import START, Mark
from greso_service.history import redis_unreadable
from greso_service.history.base import Appended, Base, Moved, Once, RunKey, Seen
from greso_service.history.redis_parts import DRAFT_GRACE, Parts, Written
from greso_service.history.redis_wire import Evaluate, Script, index_of, key_of, named, once_key, written

READ_BYTES: Final = 4 * 2**20  # of events per command: each stays well inside a command's time-out
_DRAFT_EVENTS = 1000  # of a history per command: Lua takes some thousand values at once

_UNSAID = b""  # the entry of the base's own mark: what was said there is in the snapshot

_EXTEND, _READ, _BEGIN = Script("extend.lua"), Script("read.lua"), Script("begin.lua")


class RedisDraft:
    """See `Draft`. `reached`: what every exchange with Redis goes on in."""

    def __init__(
        self,
        key: RunKey,
        redis: Any,
        reached: Callable[..., AbstractAsyncContextManager[None]],
        evaluate: Evaluate,
        base: Base | None = None,
    ) -> None:
        self._key = key
        self._base = base
        self._redis = redis
        self._reached = reached
        self._evaluate = evaluate
        self._name = key_of(key, f"log:{secrets.token_hex(8)}")
        self._first = self._mark = START if base is None else base.mark

    async def extend(self, payloads: Sequence[bytes]) -> None:
        """See `Draft.extend`."""
        for part in _parted(payloads):
            events: list[Any] = [] if self._mark != self._first or self._base is None else [str(self._mark), _UNSAID]
            for payload in part:
                self._mark = self._mark.then(payload)
                events += [str(self._mark), payload]
            async with self._reached(self._name):
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
        entries, snapshot, mark = self._mark.number, Written(f"{self._name}:base", 0), ""
        if self._base is not None:
            entries += 1 - self._first.number
            snapshot = await Parts(self._redis, self._reached, self._evaluate).write(key, "base", self._base)
            mark = str(self._first)
        args = [str(self._mark), at_ms, *named(once), entries, mark, snapshot.parts]
        async with self._reached(*keys, index_of(key.tenant)):
            # Before the run exists, so that no run exists that the list does not know.
            await self._redis.sadd(index_of(key.tenant), key.run)
            keys += [key_of(key, "base"), snapshot.name]
            reply = await self._evaluate(_BEGIN, keys, args, durable=True)
            return written(reply, self._mark)

    async def abandon(self) -> None:
        """See `Draft.abandon`."""
        async with self._reached(self._name):
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
