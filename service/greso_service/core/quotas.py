"""Quotas: how a draw is divided among the domains of a run, and what each of them is to give.

Each quota is a share of the prompts that draws take. Domains without one share the rest by the size of their pools, so
that naming one quota says nothing of how the others compare. What a draw can't give exactly, as prompts come whole, is
due in the next, one prompt at most. What a domain has not got, the others give, and it is not made up for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from greso_service.core.domains import Domain
from greso_service.core.pool import Walk
from greso_service.core.prompts import Index
from greso_service.core.spec import RunSpec

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Scope:
    """What a draw takes prompts from: the whole pool (`number` None), or a domain's part of it.

    `size`: its prompts; `share`: of the draw.
    """

    number: int | None
    size: int
    walk: Walk
    share: float = 1.0


def in_force(spec: RunSpec) -> bool:
    """Whether draws are divided."""
    return any("quota" in domain for domain in spec.domains.values())


def shares(spec: RunSpec, domains: Sequence[Domain]) -> list[float]:
    """Each domain's share of a draw; they sum to 1, or are all 0.

    What the quotas of domains with prompts leave, the others share by size; without others it is shared as the quotas.
    """
    quota = [spec.domains.get(domain.name, {}).get("quota") for domain in domains]
    sizes = [domain.pooled if own is None else 0 for domain, own in zip(domains, quota, strict=True)]
    left = max(1.0 - math.fsum(own or 0.0 for own in quota), 0.0)
    given = [left * size / (sum(sizes) or 1) if own is None else own for size, own in zip(sizes, quota, strict=True)]
    total = math.fsum(given)
    return [own / total if total else 0.0 for own in given]


def shares_of(scopes: Sequence[Scope]) -> tuple[Floats, Floats]:
    """float64[n] each: the scopes' shares, and what is due from them."""
    return np.array([scope.share for scope in scopes]), np.array([scope.walk.due for scope in scopes])


def divided(count: int, share: Floats, due: Floats, room: Numbers) -> tuple[Numbers, Floats]:
    """How many of `count` prompts each domain gives, int64[n], and what is due then.

    `due`: prompts that each was to give before and did not; `room`: int64[n], that each has.
    """
    due = np.clip(due, -1.0, 1.0)
    numbers = np.zeros(share.size, np.int64)
    wanted = share * count + due
    extra = due
    while (left := count - int(numbers.sum())) > 0:
        part = np.where(numbers < room, share, 0.0)
        if not part.sum():
            break
        numbers = np.minimum(numbers + _whole(left, part / part.sum() * left + extra, part > 0), room)
        extra = np.zeros(share.size)
    # What a domain has not got is not due for ever, nor is it due to a domain that gave for another.
    return numbers, np.round(np.clip(np.where(share > 0, wanted - numbers, 0.0), -1.0, 1.0), 9)


def mixed(numbers: Sequence[int]) -> Index:
    """int64: how to order so many prompts of each domain, one domain's behind the other's, so that they take turns.

    Each beginning of the draw then has the draw's mix: trainers cut off at its end what they do not need.
    """
    turns = [(np.arange(number) + 0.5) / number for number in numbers if number]
    return np.argsort(np.concatenate([*turns, np.zeros(0)]), kind="stable")


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
