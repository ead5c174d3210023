"""RedisHistory: a History in Redis or Valkey, one stream per run. The keys are described in docs/redis-layout.md."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from redis.exceptions import (
    BusyLoadingError,
    ClusterError,
    ConnectionError,  # noqa: A004
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    ResponseError,
    TimeoutError,  # noqa: A004
)

from greso_service.core.mark import Mark
from greso_service.errors import Unavailable
from greso_service.history import memory_usage, redis_unreadable
from greso_service.history.base import Appended, Listed, Moved, Once, RunKey, Seen, Usage
from greso_service.history.codec import CodecError
from greso_service.history.connect import AnyRedis
from greso_service.history.redis_draft import DRAFT_GRACE, READ_BYTES, RedisDraft
from greso_service.history.redis_wire import (
    Script,
    active_ms,
    index_of,
    key_of,
    named,
    once_key,
    run_names,
    seen,
    written,
)

_AWAY = (
    BusyLoadingError,
    ClusterError,
    ConnectionError,
    OSError,  # asyncio's time-out among them
    ReadOnlyError,
    RedisClusterException,
    TimeoutError,
)
_CANT_WRITE = ("MISCONF", "NOREPLICAS", "MASTERDOWN", "TRYAGAIN", "UNBLOCKED", "BUSY")  # passing states of a server
_CHUNK_BYTES = 8 * 2**20  # of a snapshot per command: each stays well inside a command's time-out
_PAUSE = (
    1.0  # seconds of failing at once after a failure, so that an outage costs one time-out a second, not one a call
)


class RedisHistory:
    """Keeps histories in a Redis client that it then owns.

    `deadline`: seconds that one call may take in all. `replicas`: how many must confirm an append within
    `confirm_within` seconds, which must be less than the client's own time-out (0: none is asked; not for clusters).
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
        self._replicas = replicas
        self._confirm_ms = int(confirm_within * 1000)
        self._clock = clock
        self._away_until = 0.0
        self._append = Script("append.lua")
        self._read = Script("read.lua")
        self._remember = Script("remember.lua")
        self._keep = Script("keep.lua")
        self._drop = Script("drop.lua")

    async def append(
        self, key: RunKey, after: Mark, payloads: Sequence[bytes], *, at_ms: int, once: Once | None = None
    ) -> Appended | Moved | Seen:
        """See `History.append`."""
        mark, events = after, []
        for payload in payloads:
            mark = mark.then(payload)
            events += [str(mark), payload]
        keys = [key_of(key, "log"), key_of(key, "head"), once_key(key, once), key_of(key, "onces")]
        args = [str(after), at_ms, *named(once), *events]
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

    async def begin(
        self, key: RunKey, payloads: AsyncIterator[Sequence[bytes]], *, at_ms: int, once: Once | None = None
    ) -> Appended | Moved | Seen:
        """See `History.begin`."""
        draft = self.draft(key)
        async for some in payloads:
            await draft.extend(some)
        return await draft.finish(at_ms=at_ms, once=once)

    def draft(self, key: RunKey) -> RedisDraft:
        """See `History.draft`."""
        return RedisDraft(key, self._redis, self._reached, self._evaluate)

    async def recall(self, key: RunKey, name: str) -> Seen | None:
        """See `History.recall`."""
        once = key_of(key, f"once:{name}")
        async with self._reached(once):
            record = await self._redis.get(once)
            return None if record is None else seen(record)

    async def remember(self, key: RunKey, once: Once) -> None:
        """See `History.remember`."""
        keys = [key_of(key, "head"), once_key(key, once), key_of(key, "onces")]
        async with self._reached(*keys):
            await self._evaluate(self._remember, keys, named(once), durable=True)

    async def save(self, key: RunKey, mark: Mark, snapshot: bytes) -> None:
        """See `History.save`."""
        draft = key_of(key, f"snap:{secrets.token_hex(8)}")
        for part, start in enumerate(range(0, len(snapshot), _CHUNK_BYTES)):
            async with self._reached():
                await self._redis.hset(draft, f"{mark}:{part}", snapshot[start : start + _CHUNK_BYTES])
                await self._redis.expire(draft, DRAFT_GRACE)
        try:
            async with self._reached():
                await self._evaluate(self._keep, [key_of(key, "head"), draft, key_of(key, "snap")], [str(mark)])
        except ResponseError:
            await self._redis.unlink(draft)  # not left to expire: one after another would fill the memory
            raise

    async def load(self, key: RunKey) -> tuple[Mark, bytes] | None:
        """See `History.load`."""
        name = key_of(key, "snap")
        async with self._reached(name):
            text = await self._redis.hget(name, "mark")
        if text is None:
            return None
        try:
            mark, parts = Mark.parse(text), list[bytes]()
        except ValueError:
            raise redis_unreadable.unreadable(name, f"its mark is {text[:50]!r}") from None
        while True:
            async with self._reached(name):
                part = await self._redis.hget(name, f"{mark}:{len(parts)}")
            if part is None:
                return mark, b"".join(parts)
            parts.append(part)

    async def drop(self, key: RunKey, at: Mark | None = None) -> bool:
        """See `History.drop`."""
        onces, head = key_of(key, "onces"), key_of(key, "head")
        index, removed = index_of(key.tenant), -1
        async with self._reached(onces, index):
            await self._redis.scard(index)  # fails before anything is removed if it is of another type
            while removed < 0:
                names = [name.decode() for name in await self._redis.zrange(onces, 0, -1)]
                keys = [
                    onces,
                    head,
                    key_of(key, "log"),
                    key_of(key, "snap"),
                    *(key_of(key, f"once:{name}") for name in names),
                ]
                removed = await self._evaluate(self._drop, keys, ["" if at is None else str(at)])
            await self._redis.srem(index, key.run)
            if await self._redis.exists(head):  # made anew in between, and listed before it was made
                await self._redis.sadd(index, key.run)
        return bool(removed)

    async def runs(self, tenant: str) -> list[Listed]:
        """See `History.runs`."""
        async with self._reached(index_of(tenant)):
            names = run_names(await self._redis.smembers(index_of(tenant)))
            pipeline = self._redis.pipeline(transaction=False)
            for name in names:
                pipeline.hget(key_of(RunKey(tenant, name), "head"), "active")
            actives = await pipeline.execute(raise_on_error=False) if names else []
            times = [active_ms(active) for active in actives]
        listed = [Listed(name, at) for name, at in zip(names, times, strict=True) if at is not None]
        return sorted(listed, key=lambda run: -run.active_ms)

    def where(self, key: RunKey) -> str:
        """See `History.where`."""
        return f"Redis key {key_of(key, 'log')}"

    async def ping(self) -> None:
        """See `History.ping`."""
        async with self._reached(asking=True):
            await self._redis.ping()
        self._away_until = 0.0

    async def usage(self) -> Usage | None:
        """See `History.usage`; of a cluster that of its fullest primary."""
        async with self._reached():
            return await memory_usage.usage(self._redis)

    async def close(self) -> None:
        """See `History.close`."""
        await self._redis.aclose()

    async def _evaluate(self, script: Script, keys: list[str], args: list[Any], *, durable: bool = False) -> Any:
        if durable and self._replicas:
            return await self._evaluate_durably(script, keys, args)
        return await _run(self._redis, script, keys, args)

    async def _evaluate_durably(self, script: Script, keys: list[str], args: list[Any]) -> Any:
        # WAIT speaks of the writes of its own connection, so both go over one, and are repeated together.
        for command in (("EVALSHA", script.sha), ("EVAL", script.text)):
            pipeline = self._redis.pipeline(transaction=False)
            pipeline.execute_command(*command, len(keys), *keys, *args)
            pipeline.execute_command("WAIT", self._replicas, self._confirm_ms)
            reply, confirmed = await pipeline.execute(raise_on_error=False)
            if not isinstance(reply, NoScriptError):
                break
        for failure in (reply, confirmed):
            if isinstance(failure, Exception):
                raise failure
        if confirmed < self._replicas:
            raise Unavailable(
                f"{confirmed} of {self._replicas} replicas confirmed the write; repeat the request with the same"
                " Idempotency-Key"
            )
        return reply

    @asynccontextmanager
    async def _reached(self, *keys: str, asking: bool = False) -> AsyncIterator[None]:
        """What every exchange with Redis goes on in. `keys`: those it is about, the log first."""
        if self._clock() < self._away_until and not asking:
            raise Unavailable("Redis did not answer a moment ago; try again", _PAUSE)
        try:
            async with asyncio.timeout(self._deadline):
                yield
        except _AWAY as error:
            self._away_until = self._clock() + _PAUSE
            raise Unavailable(f"Redis does not answer: {_line(error)}", _PAUSE) from error
        except ResponseError as error:
            if isinstance(error, OutOfMemoryError) or str(error).startswith(_CANT_WRITE):
                raise Unavailable(f"Redis can't take writes now: {_line(error)}", _PAUSE) from error
            async with self._reached():
                explained = await redis_unreadable.explained(self._redis, error, keys)
            if explained is None:
                raise
            raise explained from error
        except CodecError as error:
            raise redis_unreadable.unreadable(next(filter(_is_once, keys)), str(error)) from error


async def _run(redis: Any, script: Script, keys: list[str], args: list[Any]) -> Any:
    try:
        return await redis.evalsha(script.sha, len(keys), *keys, *args)
    except NoScriptError:
        return await redis.eval(script.text, len(keys), *keys, *args)


def _is_once(key: str) -> bool:
    return redis_unreadable.part_of(key) == "once"


def _line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
