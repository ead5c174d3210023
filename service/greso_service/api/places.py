"""Places for what takes long: so many at once, and each tenant as many as any other."""

from __future__ import annotations

from collections import Counter

from starlette.exceptions import HTTPException


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

    def __len__(self) -> int:
        return len(self._taken)

    def enter(self, tenant: str) -> Place:
        """Take a place; if all are taken, that of a tenant who has more of them. Raises HTTP 503.

        So one tenant may have all, as long as no other comes. Who has a place that is wanted, must see to it.
        """
        if len(self._taken) >= self._most:
            place = self._of_another(tenant) if self._yielding else None
            if place is None:  # for want of places, not of the store: nothing for the log
                detail = f"more than {self._name} ({self._most}) {self._what} at once; try again"
                raise HTTPException(503, detail, {"Retry-After": "5"})
            place.wanted = True
            self._taken.remove(place)
        self._taken.append(Place(tenant))
        return self._taken[-1]

    def leave(self, place: Place) -> None:
        """Give it back."""
        if place in self._taken:
            self._taken.remove(place)

    def _of_another(self, tenant: str) -> Place | None:
        """The newest place of the tenant who has most, if he will still have no fewer than this one."""
        held = Counter(place.tenant for place in self._taken)
        if not held or max(held.values()) <= held[tenant] + 1:
            return None
        return next(place for place in reversed(self._taken) if held[place.tenant] == max(held.values()))
