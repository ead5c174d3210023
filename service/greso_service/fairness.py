"""Whose runs leave the memory when there is no room for all: those of the tenant that holds most.

So no tenant can push out all of another's; with one tenant it is the runs that were not used longest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from greso_service.history.base import RunKey


def leaving(keys: Collection[RunKey], most: int) -> list[RunKey]:
    """Those of the runs, the least recently used first, that leave so that `most` are left."""
    excess = len(keys) - most
    if excess <= 0:
        return []
    held = Counter(key.tenant for key in keys)
    rest, gone = list(keys), list[RunKey]()
    for _ in range(excess):
        key = max(rest, key=lambda each: held[each.tenant])  # the first of several
        rest.remove(key)
        held[key.tenant] -= 1
        gone.append(key)
    return gone


def is_full(keys: Collection[RunKey], tenant: str, most: int) -> bool:
    """Whether one more run of the tenant would make one of its own leave."""
    held = Counter(key.tenant for key in keys)
    return len(keys) >= most and held[tenant] + 1 >= max(held.values(), default=0)
