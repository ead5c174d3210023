"""RedisHistory: a History in Redis or Valkey, one stream per run. The keys are described in docs/redis-layout.md."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import RedisCluster
from redis.exceptions import OutOfMemoryError, ResponseError

from greso_service.core.mark import START, Mark
from greso_service.errors import Unavailable, Unwritable
from greso_service.history import memory_usage, redis_unreadable
from greso_service.history.base import Appended, Base, Extent, Listed, Moved, Once, RunKey, Seen, Usage
from greso_service.history.codec import CodecError
from greso_service.history.connect import AnyRedis, find_primary
from greso_service.history.redis_draft import READ_BYTES, RedisDraft
from greso_service.history.redis_durable import Confirmed, run
from greso_service.history.redis_listed import AWAY, listed
from greso_service.history.redis_parts import Parts
from greso_service.history.redis_wire import (
    Script,
    index_of,
    key_of,
    named,
    once_key,
    run_names,
    seen,
    written,
)

_CANT_WRITE = re.compile(  # passing states of a server; Redis 6.2 says of which line of a script first
    r"(?:^|: -)(?:MISCONF|NOREPLICAS|MASTERDOWN|TRYAGAIN|UNBLOCKED|BUSY|READONLY|OOM) |^WAIT cannot be used with"
)
_SCRIPT = re.compile(r"^.*@user_script: ?\d+: -?|[. ]*script: .*@user_script:.*$")  # where in ours: of use to nobody
_PAUSE = (
    1.0  # seconds of failing at once after a failure, so that an outage costs one time-out a second, not one a call
)
_MOST_AWAY = 10_000  # runs of a cluster remembered to be away; more may be asked for than there are


class RedisHistory:
    """Keeps histories in a Redis client that it then owns.

    `deadline`: seconds that one call may take in all. `replicas`: how many must confirm an append within
    `confirm_within` seconds, which must be less than the client's own time-out (0: none is asked).
    """

    def __init__(
        self,
        redis: AnyRedis,
        *,
        deadline: float,
        replicas: int = 0,
        confirm_within: float = 0.4,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._redis: Any = redis  # its type stubs tell sync from async by overloads that a union defeats
        self._deadline = deadline
        self._confirmed = Confirmed(redis, replicas, int(confirm_within * 1000)) if replicas else None
        self._clock = clock
        self._away_until: dict[str, float] = {}
        self._parts = Parts(redis, self._reached, self._evaluate)
        self._append = Script("append.lua")
        self._recall = Script("recall.lua")
        self._confirm = Script("confirm.lua")
        self._read = Script("read.lua")
        self._remember = Script("remember.lua")
        self._keep = Script("keep.lua")
        self._drop = Script("drop.lua")
        self._extent = Script("extent.lua")
        self._mark = Script("mark.lua")
        self._trim = Script("trim.lua")

    async def append(
        self,
        key: RunKey,
        after: Mark,
        payloads: Sequence[bytes],
        *,
        at_ms: int,
        once: Once | None = None,
        base: Mark | None = None,
    ) -> Appended | Moved | Seen:
        """See `History.append`."""
        mark, events = after, []
        for payload in payloads:
            mark = mark.then(payload)
            events += [str(mark), payload]
        keys = [key_of(key, "log"), key_of(key, "head"), once_key(key, once), key_of(key, "onces")]
        args = [str(after), at_ms, *named(once), "" if base is None else str(base), *events]
        async with self._reached(*keys, index_of(key.tenant)):
            if after.number == 0:
                # Before the run exists, so that no run exists that the list does not know.
                await self._redis.sadd(index_of(key.tenant), key.run)
            return written(await self._evaluate(self._append, keys, args, durable=True), mark)

    async def read(self, key: RunKey, after: Mark, limit: int) -> list[bytes] | None:
        """See `History.read`."""
        keys = [key_of(key, "log"), key_of(key, "head")]
        async with self._reached(*keys):
            events = await self._evaluate(self._read, keys, [str(after), limit, READ_BYTES])
        return None if events is None else redis_unreadable.payloads(keys[0], after, events)

    async def extent(self, key: RunKey) -> Extent | None:
        """See `History.extent`."""
        keys = [key_of(key, "log"), key_of(key, "head")]
        async with self._reached(*keys):
            marks = await self._evaluate(self._extent, keys, [])
        try:
            return Extent(*map(Mark.parse, marks)) if marks else None
        except ValueError:
            raise redis_unreadable.unreadable(keys[1], f"its mark is {marks[1][:50]!r}") from None

    async def mark_at(self, key: RunKey, number: int) -> Mark | None:
        """See `History.mark_at`."""
        log = key_of(key, "log")
        async with self._reached(log):
            mark = await self._evaluate(self._mark, [log], [number])
        return Mark.parse(mark) if mark else None

    async def base(self, key: RunKey) -> Base | None:
        """See `History.base`; empty if it is lost."""
        while (extent := await self.extent(key)) is not None and extent.base != START:
            base = await self._parts.read(key, "base")
            if base is not None and base.mark == extent.base:
                return base
            if await self.extent(key) == extent:  # and not trimmed meanwhile
                return Base(extent.base, b"")
        return None

    async def trim(self, key: RunKey, base: Base, *, before: Mark, end: Mark) -> bool:
        """See `History.trim`."""
        draft = await self._parts.write(key, "base", base)
        keys = [key_of(key, "log"), key_of(key, "head"), draft.name, key_of(key, "base"), key_of(key, "snap")]
        try:
            async with self._reached(*keys):
                args = [str(base.mark), str(before), str(end), draft.parts]
                return bool(await self._evaluate(self._trim, keys, args))
        except ResponseError:
            await self._parts.forget(draft)
            raise

    async def begin(
        self,
        key: RunKey,
        payloads: AsyncIterator[Sequence[bytes]],
        *,
        at_ms: int,
        once: Once | None = None,
        base: Base | None = None,
    ) -> Appended | Moved | Seen:
        """See `History.begin`."""
        draft = self.draft(key, base)
        try:
            async for some in payloads:
                await draft.extend(some)
        except BaseException:  # not left to expire: one try after another would fill the memory
            await draft.abandon()
            raise
        return await draft.finish(at_ms=at_ms, once=once)

    def draft(self, key: RunKey, base: Base | None = None) -> RedisDraft:
        """See `History.draft`."""
        return RedisDraft(key, self._redis, self._reached, self._evaluate, base)

    async def recall(self, key: RunKey, name: str) -> Seen | None:
        """See `History.recall`."""
        names = [key_of(key, f"once:{name}"), key_of(key, "head")]
        async with self._reached(*names):
            record = await self._redis.get(names[0])
            if record is not None and self._confirmed is not None:  # written, and not yet confirmed perhaps
                record = await self._confirmed.evaluate(self._recall, names, [])
            return None if record is None else seen(record)

    async def remember(self, key: RunKey, once: Once) -> None:
        """See `History.remember`."""
        keys = [key_of(key, "head"), once_key(key, once), key_of(key, "onces")]
        async with self._reached(*keys):
            await self._evaluate(self._remember, keys, named(once), durable=True)

    async def confirm(self, key: RunKey) -> None:
        """See `History.confirm`."""
        if self._confirmed is not None:
            head = key_of(key, "head")
            async with self._reached(head):
                await self._confirmed.evaluate(self._confirm, [head], [])

    async def save(self, key: RunKey, mark: Mark, snapshot: bytes) -> None:
        """See `History.save`."""
        draft = await self._parts.write(key, "snap", Base(mark, snapshot))
        try:
            keys = [key_of(key, "head"), draft.name, key_of(key, "snap")]
            async with self._reached(*keys):
                await self._evaluate(self._keep, keys, [str(mark)])
        except ResponseError:
            await self._parts.forget(draft)
            raise

    async def load(self, key: RunKey) -> tuple[Mark, bytes] | None:
        """See `History.load`."""
        return await self._parts.read(key, "snap")

    async def drop(self, key: RunKey, at: Mark | None = None) -> bool:
        """See `History.drop`."""
        onces, head = key_of(key, "onces"), key_of(key, "head")
        index, removed = index_of(key.tenant), -1
        async with self._reached(onces, index):
            await self._redis.scard(index)  # fails before anything is removed if it is of another type
            there = await self._redis.exists(head)
            while removed < 0:
                names = [name.decode() for name in await self._redis.zrange(onces, 0, -1)]
                keys = [
                    onces,
                    head,
                    key_of(key, "log"),
                    key_of(key, "snap"),
                    key_of(key, "base"),
                    *(key_of(key, f"once:{name}") for name in names),
                ]
                removed = await self._evaluate(self._drop, keys, ["" if at is None else str(at)])
            await self._redis.srem(index, key.run)
            if stays := await self._redis.exists(head):  # another history, or made anew in between, and listed before
                await self._redis.sadd(index, key.run)
        # The client sends again what got no reply, and then there is nothing left to remove.
        return bool(removed or (there and not stays))

    async def runs(self, tenant: str) -> list[Listed]:
        """See `History.runs`."""
        async with self._reached(index_of(tenant)):
            names = run_names(await self._redis.smembers(index_of(tenant)))
            found = await listed(self._redis, tenant, names, self._deadline / 3)
        return sorted(found, key=lambda run: (-run.active_ms, run.run))  # as pages go on

    def where(self, key: RunKey) -> str:
        """See `History.where`."""
        return f"Redis key {key_of(key, 'log')}"

    async def ping(self) -> None:
        """See `History.ping`."""
        async with self._reached(asking=True):
            await find_primary(self._redis, self._deadline / 2)
            await self._redis.ping()
        self._away_until.pop("", None)

    async def usage(self) -> Usage | None:
        """See `History.usage`; of a cluster that of its fullest primary."""
        async with self._reached():
            return await memory_usage.usage(self._redis)

    async def close(self) -> None:
        """See `History.close`."""
        if self._confirmed is not None:
            await self._confirmed.close()
        await self._redis.aclose()

    async def _evaluate(self, script: Script, keys: list[str], args: list[Any], *, durable: bool = False) -> Any:
        if durable and self._confirmed is not None:
            return await self._confirmed.evaluate(script, keys, args)
        return await run(self._redis, script, keys, args)

    @asynccontextmanager
    async def _reached(self, *keys: str, asking: bool = False) -> AsyncIterator[None]:
        """What every exchange with Redis goes on in. `keys`: those it is about, the log first."""
        # Of a cluster one shard may be away, and whose runs are there nobody here knows for sure.
        place = keys[0].partition("}")[0] if keys and isinstance(self._redis, RedisCluster) else ""
        if self._clock() < self._away_until.get(place, 0.0) and not asking:
            raise Unavailable("Redis did not answer a moment ago; try again", _PAUSE)
        if len(self._away_until) > _MOST_AWAY:
            self._away_until.clear()
        try:
            async with asyncio.timeout(self._deadline):
                yield
        except AWAY as error:
            self._away_until[place] = self._clock() + _PAUSE
            raise Unavailable(f"Redis does not answer: {_line(error)}", _PAUSE) from error
        except ResponseError as error:
            if isinstance(error, OutOfMemoryError) or _CANT_WRITE.search(str(error)):
                raise Unwritable(f"Redis can't take writes now: {_line(error)}", _PAUSE) from error
            async with self._reached(*keys):
                explained = await redis_unreadable.explained(self._redis, error, keys)
            if explained is None:
                raise
            raise explained from error
        except CodecError as error:
            raise redis_unreadable.unreadable(next(filter(_is_once, keys)), str(error)) from error


def _is_once(key: str) -> bool:
    return redis_unreadable.part_of(key) == "once"


def _line(error: BaseException) -> str:
    return _SCRIPT.sub("", (str(error) or type(error).__name__).splitlines()[0])
