"""What requests tell the service of their client, read as the service reads it."""

from __future__ import annotations

import collections

import httpx

from greso_client import Counters

Told = collections.Counter[str]


def news(request: httpx.Request) -> Told:
    """What a request tells, in the words of the contract."""
    members = request.headers.get("greso-client", "")
    return Told(
        {name: int(count) for name, _, count in (member.partition("=") for member in members.split(", ") if member)}
    )


def told(requests: list[httpx.Request]) -> Told:
    return sum(map(news, requests), Told())


def happened(counters: Counters) -> Told:
    """The counters under the names in which they are told; without zeros, as the sum of what was told."""
    return +Told(
        degraded=counters.degraded,
        spooled=counters.spooled,
        delivered=counters.delivered,
        lost=counters.refused + counters.dropped,
    )
