"""Whose runs leave the memory when there is no room for all: those of the tenant that holds most.

So no tenant can push out all of another's; with one tenant it is the runs that were not used longest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from greso_service.history.base import RunKey

Held = Mapping[RunKey, int]
"""Runs in memory and the bytes that each takes, the least recently used first."""


@dataclass(frozen=True, slots=True)
class Room:
    """How many runs may be in memory, and how many bytes they may take in all (None: any number)."""

    runs: int
    bytes: int | None = None

    def leaving(self, held: Held) -> list[RunKey]:
        """The runs that leave so that the others have room. The one used last needs no room in bytes: it stays."""
        gone = _given_up(list(held), dict.fromkeys(held, 1), len(held) - self.runs)
        if self.bytes is None:
            return gone
        left = {key: size for key, size in held.items() if key not in gone}
        return gone + _given_up(list(left)[:-1], left, sum(left.values()) - self.bytes)

    def is_full(self, held: Held, tenant: str) -> bool:
        """Whether one more run of the tenant would make one of its own leave, or, in bytes, anybody's."""
        runs = Counter(key.tenant for key in held)
        full = len(held) >= self.runs and runs[tenant] + 1 >= max(runs.values(), default=0)
        return full or (self.bytes is not None and sum(held.values()) >= self.bytes)


def _given_up(runs: list[RunKey], sizes: Held, excess: int) -> list[RunKey]:
    """The first of the runs, those of the tenant that holds most, that are as large as the excess."""
    taken, gone = Counter[str](), list[RunKey]()
    for key, size in sizes.items():
        taken[key.tenant] += size
    while excess > 0 and runs:
        key = max(runs, key=lambda each: taken[each.tenant])  # the first of several
        runs.remove(key)
        taken[key.tenant] -= sizes[key]
        excess -= sizes[key]
        gone.append(key)
    return gone
