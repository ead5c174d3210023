"""RedisHistory: a History in Redis or Valkey, one stream per run. The keys are described in docs/redis-layout.md."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
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

from greso_service.core.mark import START, Mark
from greso_service.errors import Unavailable
from greso_service.history import memory_usage
from greso_service.history.base import Appended, Listed, Moved, Once, RunKey, Seen, Usage
from greso_service.history.connect import AnyRedis

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
_DIGEST_BYTES = 32
_PLAIN, _COMPRESSED = b"0", b"1"  # how an idempotency record keeps its answer
_LARGE_ANSWER = 4096  # bytes: from here on compressed, since it is kept for a day and hardly ever read
_CHUNK_BYTES = 8 * 2**20  # of a snapshot per command: each stays well inside a command's time-out
_READ_BYTES = 4 * 2**20  # of events per read, likewise
_DRAFT_GRACE = 300  # seconds until the parts of a snapshot or a history that was never finished disappear
_DRAFT_EVENTS = 1000  # of a history per command: Lua takes some thousand values at once
_PAUSE = (
    1.0  # seconds of failing at once after a failure, so that an outage costs one time-out a second, not one a call
)


class _Script:
    def __init__(self, name: str) -> None:
        self.text = files(__package__).joinpath(name).read_text()
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


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
        self._append = _Script("append.lua")
        self._read = _Script("read.lua")
        self._extend = _Script("extend.lua")
        self._begin = _Script("begin.lua")
        self._remember = _Script("remember.lua")
        self._keep = _Script("keep.lua")
        self._drop = _Script("drop.lua")

    async def append(
        self, key: RunKey, after: Mark, payloads: Sequence[bytes], *, at_ms: int, once: Once | None = None
    ) -> Appended | Moved | Seen:
        """See `History.append`."""
        mark, events = after, []
        for payload in payloads:
            mark = mark.then(payload)
            events += [str(mark), payload]
        keys = [_key(key, "log"), _key(key, "head"), _once_key(key, once), _key(key, "onces")]
        args = [str(after), at_ms, *_named(once), *events]
        async with self._reached():
            if after.number == 0:
                # Before the run exists, so that no run exists that the list does not know.
                await self._redis.sadd(_index(key.tenant), key.run)
            reply = await self._evaluate(self._append, keys, args, durable=True)
        return _written(reply, mark)

    async def read(self, key: RunKey, after: Mark, limit: int) -> list[bytes] | None:
        """See `History.read`."""
        async with self._reached():
            keys = [_key(key, "log"), _key(key, "head")]
            payloads: list[bytes] | None = await self._evaluate(self._read, keys, [str(after), limit, _READ_BYTES])
        return payloads

    async def begin(
        self, key: RunKey, payloads: AsyncIterator[Sequence[bytes]], *, at_ms: int, once: Once | None = None
    ) -> Appended | Moved | Seen:
        """See `History.begin`."""
        draft, mark = _key(key, f"log:{secrets.token_hex(8)}"), START
        async for some in payloads:
            for part in _parted(some):
                events: list[Any] = []
                for payload in part:
                    mark = mark.then(payload)
                    events += [str(mark), payload]
                async with self._reached():
                    await self._evaluate(self._extend, [draft], [_DRAFT_GRACE, *events])
        keys = [_key(key, "log"), _key(key, "head"), _once_key(key, once), _key(key, "onces"), draft]
        async with self._reached():
            await self._redis.sadd(_index(key.tenant), key.run)
            reply = await self._evaluate(self._begin, keys, [str(mark), at_ms, *_named(once)], durable=True)
        return _written(reply, mark)

    async def recall(self, key: RunKey, name: str) -> Seen | None:
        """See `History.recall`."""
        async with self._reached():
            record = await self._redis.get(_key(key, f"once:{name}"))
        return None if record is None else _seen(record)

    async def remember(self, key: RunKey, once: Once) -> None:
        """See `History.remember`."""
        keys = [_key(key, "head"), _once_key(key, once), _key(key, "onces")]
        async with self._reached():
            await self._evaluate(self._remember, keys, _named(once), durable=True)

    async def save(self, key: RunKey, mark: Mark, snapshot: bytes) -> None:
        """See `History.save`."""
        draft = _key(key, f"snap:{secrets.token_hex(8)}")
        for part, start in enumerate(range(0, len(snapshot), _CHUNK_BYTES)):
            async with self._reached():
                await self._redis.hset(draft, f"{mark}:{part}", snapshot[start : start + _CHUNK_BYTES])
                await self._redis.expire(draft, _DRAFT_GRACE)
        try:
            async with self._reached():
                await self._evaluate(self._keep, [_key(key, "head"), draft, _key(key, "snap")], [str(mark)])
        except ResponseError:
            await self._redis.unlink(draft)  # not left to expire: one after another would fill the memory
            raise

    async def load(self, key: RunKey) -> tuple[Mark, bytes] | None:
        """See `History.load`."""
        name = _key(key, "snap")
        async with self._reached():
            text = await self._redis.hget(name, "mark")
        if text is None:
            return None
        mark, parts = Mark.parse(text), list[bytes]()
        while True:
            async with self._reached():
                part = await self._redis.hget(name, f"{mark}:{len(parts)}")
            if part is None:
                return mark, b"".join(parts)
            parts.append(part)

    async def drop(self, key: RunKey, at: Mark | None = None) -> bool:
        """See `History.drop`."""
        onces, head = _key(key, "onces"), _key(key, "head")
        removed = -1
        async with self._reached():
            while removed < 0:
                names = [name.decode() for name in await self._redis.zrange(onces, 0, -1)]
                keys = [
                    onces,
                    head,
                    _key(key, "log"),
                    _key(key, "snap"),
                    *(_key(key, f"once:{name}") for name in names),
                ]
                removed = await self._evaluate(self._drop, keys, ["" if at is None else str(at)])
            await self._redis.srem(_index(key.tenant), key.run)
            if await self._redis.exists(head):  # made anew in between, and listed before it was made
                await self._redis.sadd(_index(key.tenant), key.run)
        return bool(removed)

    async def runs(self, tenant: str) -> list[Listed]:
        """See `History.runs`."""
        async with self._reached():
            names = sorted(name.decode() for name in await self._redis.smembers(_index(tenant)))
            pipeline = self._redis.pipeline(transaction=False)
            for name in names:
                pipeline.hget(_key(RunKey(tenant, name), "head"), "active")
            actives = await pipeline.execute() if names else []
        listed = [Listed(name, int(active)) for name, active in zip(names, actives, strict=True) if active is not None]
        return sorted(listed, key=lambda run: -run.active_ms)

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

    async def _evaluate(self, script: _Script, keys: list[str], args: list[Any], *, durable: bool = False) -> Any:
        if durable and self._replicas:
            return await self._evaluate_durably(script, keys, args)
        return await _run(self._redis, script, keys, args)

    async def _evaluate_durably(self, script: _Script, keys: list[str], args: list[Any]) -> Any:
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
    async def _reached(self, *, asking: bool = False) -> AsyncIterator[None]:
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
            raise


async def _run(redis: Any, script: _Script, keys: list[str], args: list[Any]) -> Any:
    try:
        return await redis.evalsha(script.sha, len(keys), *keys, *args)
    except NoScriptError:
        return await redis.eval(script.text, len(keys), *keys, *args)


def _once_key(key: RunKey, once: Once | None) -> str:
    return _key(key, f"once:{once.key if once else ''}")


def _named(once: Once | None) -> list[Any]:
    """The arguments with which a script keeps an idempotency key."""
    return [once.key, once.digest + _packed(once.answer), once.ttl] if once else ["", b"", 0]


def _seen(record: bytes) -> Seen:
    return Seen(record[:_DIGEST_BYTES], _unpacked(record[_DIGEST_BYTES:]))


def _written(reply: Any, mark: Mark) -> Appended | Moved | Seen:
    match reply:
        case [b"incomplete"]:
            raise Unavailable("the draft of the new run was lost while it was written; try again")
        case [b"seen", record]:
            return _seen(record)
        case [b"moved"]:
            return Moved()
        case _:
            return Appended(mark)


def _parted(payloads: Sequence[bytes]) -> Iterator[list[bytes]]:
    """The payloads in parts, each small enough for one command within its time-out."""
    part: list[bytes] = []
    size = 0
    for payload in payloads:
        part.append(payload)
        size += len(payload)
        if size >= _READ_BYTES or len(part) == _DRAFT_EVENTS:
            yield part
            part, size = [], 0
    if part:
        yield part


def _packed(answer: bytes) -> bytes:
    small = len(answer) < _LARGE_ANSWER
    return _PLAIN + answer if small else _COMPRESSED + zlib.compress(answer, 1)


def _unpacked(record: bytes) -> bytes:
    return record[1:] if record[:1] == _PLAIN else zlib.decompress(record[1:])


def _line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _key(key: RunKey, part: str) -> str:
    # The braces make all keys of a run hash to one slot of a cluster. A run's name can't hold a brace or a slash.
    return f"greso:{{{key.tenant}/{key.run}}}:{part}"


def _index(tenant: str) -> str:
    return f"greso:{{{tenant}}}:runs"
