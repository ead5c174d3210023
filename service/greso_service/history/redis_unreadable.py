"""When what is in Redis under a run's keys is not what greso wrote: which key it is, and what to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from redis.exceptions import ResponseError

from greso_service.core.mark import Mark
from greso_service.errors import Unreadable

WRONG_TYPE: Final = "WRONGTYPE"
FOREIGN: Final = "UNREADABLE"
"""How errors of the scripts begin that have looked at the log and its head."""

_BEHIND: Final = "equal or smaller than the target stream top item"  # XADD: the log goes on behind its head's mark

_TYPES: Final = {
    "log": "stream",
    "head": "hash",
    "once": "string",
    "onces": "zset",
    "snap": "hash",
    "base": "hash",
    "runs": "set",
}
_MEND: Final = {
    "log": "restore Redis from a backup, or delete the run and import an export of it",
    "once": "delete the key: a request that comes again with this Idempotency-Key then counts as a new one",
    "onces": "delete the key: idempotency keys of the run then stay until they expire, even if the run is deleted",
    "snap": "delete the key: it only shortens starts",
    "runs": "delete the key, and SADD the names of the tenant's runs to it",
}


def part_of(key: str) -> str:
    """What a key of a run, or of a tenant, holds: `log`, `head`, ... Neither name can hold a brace or a colon."""
    return key.partition("}:")[2].partition(":")[0]


def unreadable(key: str, detail: str) -> Unreadable:
    """The error for a key in Redis."""
    return Unreadable(f"Redis key {key}: {detail}. Something else wrote to it, or data was lost; {_mending(key)}")


async def explained(redis: Any, error: ResponseError, keys: Sequence[str]) -> Unreadable | None:
    """What is wrong with one of the keys that a command was given, if that is what the error is about.

    Raises what asking Redis raises.
    """
    text = str(error).removeprefix("ERR ")
    if WRONG_TYPE in text:
        for key in keys:
            kind, expected = (await redis.type(key)).decode(), _TYPES[part_of(key)]
            if kind not in {"none", expected}:
                return unreadable(key, f"is a {kind}, not a {expected}")
    if text.startswith(FOREIGN):
        # Redis adds the script and the line to it.
        return unreadable(keys[0], text.removeprefix(FOREIGN).partition(" script:")[0].strip())
    if _BEHIND in text:
        return unreadable(keys[0], "has entries behind the last one that head knows")
    return None


def payloads(log: str, after: Mark, events: Sequence[bytes]) -> list[bytes]:
    """The payloads of ids and payloads in turn, as read.lua gives them. Raises `Unreadable` if an id is not its mark.

    So a damaged event is found before it is folded: the mark chains the checksums of all payloads up to it.
    """
    return list(_checked(log, after, events))


def _checked(log: str, mark: Mark, events: Sequence[bytes]) -> Iterator[bytes]:
    for text, payload in zip(events[::2], events[1::2], strict=True):
        mark = mark.then(payload)
        if text != str(mark).encode():
            raise unreadable(
                log, f"its entry {text.decode()} is not event {mark}: entries were changed, or are missing"
            )
        yield payload


def _mending(key: str) -> str:
    return _MEND.get(part_of(key), _MEND["log"])
