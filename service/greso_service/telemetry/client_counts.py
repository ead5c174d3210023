"""What clients tell of themselves: the header `Greso-Client: degraded=3, spooled=2`, counts since their last answer."""

from __future__ import annotations

from typing import Final

MEMBERS: Final = ("degraded", "spooled", "delivered", "lost")
"""Calls that a client answered without the service; reports it spooled, delivered from its spool, and lost."""

MOST: Final = 10**9
"""The largest count believed: a client that asks a thousand times a second gets there in 11 days without an answer."""

_LONGEST: Final = 1024  # characters; all members with their largest values take 75
_DIGITS: Final = len(str(MOST))


def parse(header: str) -> dict[str, int]:
    """The known members of the header; what is unknown, malformed or too large is left out, for telemetry fails no one.

    A member given twice counts with its last value, as in a dictionary of RFC 9651.
    """
    found = dict[str, int]()
    if len(header) > _LONGEST:
        return found
    for member in header.split(","):
        name, _, value = member.strip(" \t").partition("=")
        if name in MEMBERS and value.isascii() and value.isdecimal() and len(value) <= _DIGITS and int(value) <= MOST:
            found[name] = int(value)
    return found
