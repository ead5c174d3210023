"""Quotas: how a draw is divided among the domains of a run, and what each of them is to give.

Each quota is a share of the prompts that draws take. Domains without one share the rest by the size of their pools, so
that naming one quota says nothing of how the others compare. What a draw can't give exactly, as prompts come whole, is
due in the next: in the long run the shares are exact. What a domain has not got, the others give.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from greso_service.core.pool import Walk
from greso_service.core.spec import RunSpec

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Scope:
    """What a draw takes prompts from: the whole pool (`number` None), or a domain's part of it.

    `members`: uint32[n], its prompts, in the order in which they joined the pool; `share`: of the draw.
    """

    number: int | None
    members: NDArray[np.uint32]
    walk: Walk
    share: float = 1.0


def in_force(spec: RunSpec) -> bool:
    """Whether draws are divided."""
    return any("quota" in domain for domain in spec.domains.values())


def shares(spec: RunSpec, names: Sequence[str], pools: Numbers) -> Floats:
    """float64[n]: each domain's share of a draw, which sum to 1; `pools`: int64[n], the sizes of their pools.

    Without prompts a domain has no share, and its quota goes to the others.
    """
    quotas = np.array([spec.domains.get(name, {}).get("quota", -1.0) for name in names])
    named, filled = quotas >= 0, pools > 0
    given = np.where(named & filled, quotas, 0.0)
    others = np.where(~named & filled, pools, 0).astype(np.float64)
    left = max(1.0 - float(quotas[named].sum()), 0.0)
    if others.sum():
        given += left * others / others.sum()
    total = float(given.sum())
    even: Floats = given / total if total else given
    return even


def shares_of(scopes: Sequence[Scope]) -> tuple[Floats, Floats]:
    """float64[n] each: the scopes' shares, and what is due from them."""
    return np.array([scope.share for scope in scopes]), np.array([scope.walk.due for scope in scopes])


def divided(count: int, share: Floats, due: Floats, room: Numbers) -> tuple[Numbers, Floats]:
    """How many of `count` prompts each domain gives, int64[n], and what is due then.

    `due`: prompts that each was to give before and did not; `room`: int64[n], that each has.
    """
    numbers = np.zeros(share.size, np.int64)
    wanted = share * count + due
    extra = due
    while (left := count - int(numbers.sum())) > 0:
        part = np.where(numbers < room, share, 0.0)
        if not part.sum():
            break
        numbers = np.minimum(numbers + _whole(left, part / part.sum() * left + extra, part > 0), room)
        extra = np.zeros(share.size)
    # What a domain has not got is not due for ever; nor is it due to a domain that gave for another.
    return numbers, np.round(np.clip(np.where(share > 0, wanted - numbers, 0.0), -1.0, 1.0), 9)


def _whole(count: int, wanted: Floats, able: NDArray[np.bool_]) -> Numbers:
    """int64[n] that sum to `count`, each near what is wanted: the largest remainders are rounded up (Hamilton)."""
    least = np.where(able, np.maximum(np.floor(wanted), 0.0), 0.0).astype(np.int64)
    while least.sum() > count:  # where what was too much is not taken back at once
        least[np.argmin(np.where(least > 0, wanted - least, np.inf))] -= 1
    order = np.argsort(np.where(able, least - wanted, np.inf), kind="stable")
    lacking = count - int(least.sum())
    ables = int(np.count_nonzero(able))
    least[order[:ables]] += lacking // ables
    least[order[: lacking % ables]] += 1
    return least
