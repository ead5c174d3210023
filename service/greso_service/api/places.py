"""Places for what takes long: so many at once, and each tenant as many as any other."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Final

from starlette.exceptions import HTTPException

from greso_service.settings import set_by

PATIENCE: Final = 2.0
"""Seconds that a place is waited for, by those who wait."""


class Place:
    """A place that a tenant has. `wanted`: another tenant, who has fewer, is to get it."""

    __slots__ = ("tenant", "wanted")

    def __init__(self, tenant: str) -> None:
        self.tenant = tenant
        self.wanted = False


class Places:
    """The places that are taken. `name`: of the setting that says how many there are; `what` they are for."""

    def __init__(self, most: int, name: str, what: str, *, yielding: bool = False) -> None:
        self._most, self._name, self._what, self._yielding = most, name, what, yielding
        self._taken: list[Place] = []  # the newest last
        self._waiting: list[tuple[str, asyncio.Future[Place]]] = []  # tenants; who has waited longest first

    def __len__(self) -> int:
        return len(self._taken)

    def enter(self, tenant: str) -> Place:
        """Take a place; if all are taken, that of a tenant who has more of them. Raises HTTP 503.

        So one tenant may have all, as long as no other comes. Who has a place that is wanted, must see to it.
        """
        if (place := self._take(tenant)) is None:
            raise self._refusal()
        return place

    async def enter_soon(self, tenant: str) -> Place:
        """The same, but wait `PATIENCE` seconds for a place that is left before it is refused."""
        if (place := self._take(tenant)) is not None:
            return place
        coming: asyncio.Future[Place] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter := (tenant, coming))
        try:
            async with asyncio.timeout(PATIENCE):
                return await coming
        except BaseException as error:
            if coming.done() and not coming.cancelled():  # it came in the same moment, and nobody takes it
                self.leave(coming.result())
            if isinstance(error, TimeoutError):
                raise self._refusal() from None
            raise
        finally:
            self._waiting.remove(waiter)

    def leave(self, place: Place) -> None:
        """Give it back: to who waits for one, first to those whose tenant has the fewest."""
        if place not in self._taken:
            return
        self._taken.remove(place)
        if waiting := [(tenant, future) for tenant, future in self._waiting if not future.done()]:
            held = Counter(place.tenant for place in self._taken)
            tenant, future = min(waiting, key=lambda waiter: held[waiter[0]])
            future.set_result(self._took(tenant))

    def _take(self, tenant: str) -> Place | None:
        if len(self._taken) >= self._most:
            place = self._of_another(tenant) if self._yielding else None
            if place is None:
                return None
            place.wanted = True
            self._taken.remove(place)
        return self._took(tenant)

    def _took(self, tenant: str) -> Place:
        self._taken.append(Place(tenant))
        return self._taken[-1]

    def _refusal(self) -> HTTPException:
        # For want of places, not of the store: nothing for the log.
        detail = f"more than {self._name} ({self._most}) {self._what} at once, {set_by(self._name)}; try again"
        return HTTPException(503, detail, {"Retry-After": "5"})

    def _of_another(self, tenant: str) -> Place | None:
        """The newest place of the tenant who has most, if he will still have no fewer than this one."""
        held = Counter(place.tenant for place in self._taken)
        if not held or max(held.values()) <= held[tenant] + 1:
            return None
        return next(place for place in reversed(self._taken) if held[place.tenant] == max(held.values()))
