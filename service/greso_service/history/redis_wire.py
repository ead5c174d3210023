"""What goes to Redis and comes back: the names of keys, the scripts, their arguments and replies."""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Awaitable, Iterable
from importlib.resources import files
from typing import Any, Protocol

from greso_service.core.limits import RUN_NAME
from greso_service.core.mark import Mark
from greso_service.errors import Unavailable
from greso_service.history.base import Appended, Moved, Once, RunKey, Seen
from greso_service.history.codec import CodecError, decompressed

_DIGEST_BYTES = 32
_PLAIN, _COMPRESSED = b"0", b"1"  # how an idempotency record keeps its answer
_LARGE_ANSWER = 4096  # bytes: from here on compressed, since it is kept for a day and hardly ever read


class Script:
    """A Lua script of this package, by its file's name."""

    def __init__(self, name: str) -> None:
        self.text = files(__package__).joinpath(name).read_text()
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


class Evaluate(Protocol):
    """Runs a script; `durable`: as the operator's setting of durability asks."""

    def __call__(self, script: Script, keys: list[str], args: list[Any], *, durable: bool = False) -> Awaitable[Any]:
        """Its reply."""
        ...


def key_of(key: RunKey, part: str) -> str:
    """The name of a key of a run."""
    # The braces make all keys of a run hash to one slot of a cluster. A run's name can't hold a brace or a slash.
    return f"greso:{{{key.tenant}/{key.run}}}:{part}"


def index_of(tenant: str) -> str:
    """The name of the key that lists a tenant's runs."""
    return f"greso:{{{tenant}}}:runs"


def run_names(members: Iterable[bytes]) -> list[str]:
    """The names of runs in a tenant's index, in order; what can't be one is left out."""
    names = (member.decode(errors="replace") for member in members)
    return sorted(name for name in names if re.fullmatch(RUN_NAME, name))


def once_key(key: RunKey, once: Once | None) -> str:
    """The name of the key that holds an idempotency record."""
    return key_of(key, f"once:{once.key if once else ''}")


def named(once: Once | None) -> list[Any]:
    """The arguments with which a script keeps an idempotency key."""
    return [once.key, once.digest + _packed(once.answer), once.ttl] if once else ["", b"", 0]


def seen(record: bytes) -> Seen:
    """What an idempotency record says. Raises `CodecError`."""
    if len(record) <= _DIGEST_BYTES or record[_DIGEST_BYTES : _DIGEST_BYTES + 1] not in {_PLAIN, _COMPRESSED}:
        raise CodecError("is no record of an idempotency key")
    return Seen(record[:_DIGEST_BYTES], _unpacked(record[_DIGEST_BYTES:]))


def written(reply: Any, mark: Mark) -> Appended | Moved | Seen:
    """What a script that writes answers; `mark`: of the last event that it was to write.

    Raises `Unavailable` and `CodecError`.
    """
    match reply:
        case [b"incomplete"]:
            raise Unavailable("the draft of the new run was lost while it was written; try again")
        case [b"seen", record]:
            return seen(record)
        case [b"moved"]:
            return Moved()
        case _:
            return Appended(mark)


def _packed(answer: bytes) -> bytes:
    small = len(answer) < _LARGE_ANSWER
    return _PLAIN + answer if small else _COMPRESSED + zlib.compress(answer, 1)


def _unpacked(record: bytes) -> bytes:
    return record[1:] if record[:1] == _PLAIN else decompressed(record[1:])
