"""Whose runs leave the memory when there is no room for all: those of the tenant that holds most.

So no tenant can push out all of another's; with one tenant it is the runs that were not used longest.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict, deque
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

    def has(self, runs: int, size: int) -> bool:
        """Whether there is room for so many runs of so many bytes in all."""
        return runs <= self.runs and (self.bytes is None or size <= self.bytes)

    def leaving(self, held: Held) -> list[RunKey]:
        """The runs that leave so that the others have room. A last one needs no room in bytes: it stays."""
        gone = _given_up(dict.fromkeys(held, 1), len(held) - self.runs)
        if self.bytes is None:
            return gone
        left = dict(held)
        for key in gone:
            del left[key]
        return gone + _given_up(left, sum(left.values()) - self.bytes, least=1)

    def is_full(self, held: Held, tenant: str) -> bool:
        """Whether one more run of the tenant would make one of its own leave, or, in bytes, anybody's."""
        runs = Counter(key.tenant for key in held)
        full = len(held) >= self.runs and runs[tenant] + 1 >= max(runs.values(), default=0)
        return full or (self.bytes is not None and sum(held.values()) >= self.bytes)


def _given_up(sizes: Held, excess: int, least: int = 0) -> list[RunKey]:
    """Runs as large as the excess, each the first of the tenant that holds most then; `least`: how many stay."""
    if excess <= 0:
        return []
    runs, taken = defaultdict[str, deque[tuple[int, RunKey]]](deque), Counter[str]()
    for place, (key, size) in enumerate(sizes.items()):
        runs[key.tenant].append((place, key))
        taken[key.tenant] += size
    # The tenant that holds most first, of several the one whose run was not used longest.
    order = [(-taken[tenant], queue[0][0], tenant) for tenant, queue in runs.items()]
    heapq.heapify(order)
    gone = list[RunKey]()
    while excess > 0 and len(sizes) - len(gone) > least:
        minus, _, tenant = order[0]
        _, key = runs[tenant].popleft()
        gone.append(key)
        excess -= sizes[key]
        if runs[tenant]:
            heapq.heapreplace(order, (minus + sizes[key], runs[tenant][0][0], tenant))
        else:
            heapq.heappop(order)
    return gone
