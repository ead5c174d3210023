"""Which domain prompts of an upload join: once and for all, so that what a domain counts stays what it is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from greso_service.core.events import Joined
from greso_service.core.prompts import Index
from greso_service.core.spec import MOST_DOMAINS
from greso_service.core.state import RunState
from greso_service.errors import Fault, InvalidInput

_UNSAID = -1


@dataclass(frozen=True, slots=True)
class Named:
    """The domains that m of an upload's prompts are said to be of. `row`: int64[m], their places in the upload."""

    row: Index
    domain: Sequence[str]


class Joining:
    """Makes the events with which an upload's prompts join their domains, chunk by chunk. Raises `InvalidInput`.

    `place`: int64[n], where each row of the upload is among its `size` distinct prompts.
    """

    def __init__(self, state: RunState, said: Named, place: Index, size: int, pointer: str) -> None:
        self._state, self._pointer = state, pointer
        known = {domain.name: number for number, domain in enumerate(state.domains) if number}
        self._names = [*known, *(name for name in dict.fromkeys(said.domain) if name not in known)]
        self._begun = len(known)
        if len(self._names) > MOST_DOMAINS:
            row = said.row[said.domain.index(self._names[MOST_DOMAINS])]
            detail = f"would be one domain too many; a run has {MOST_DOMAINS} at most"
            raise InvalidInput(Fault(f"{pointer}/{row}/domain", detail))
        numbers = {name: number for number, name in enumerate(self._names, 1)}
        number = np.fromiter((numbers[name] for name in said.domain), np.int16, len(said.domain))
        self._row = np.full(size, _UNSAID)
        self._row[place[said.row][::-1]] = said.row[::-1]  # the first row that says something of a prompt
        self._number = np.full(size, _UNSAID, np.int16)
        self._number[place[said.row][::-1]] = number[::-1]
        if (again := np.flatnonzero(self._number[place[said.row]] != number)).size:
            self._refuse(int(said.row[again[0]]), "is given two domains")

    def _refuse(self, row: int, detail: str) -> NoReturn:
        raise InvalidInput(Fault(f"{self._pointer}/{row}/domain", detail))

    def of(self, part: slice, index: Index) -> Joined | None:
        """The event for some of the distinct prompts, whose indices these are; None if they join nothing."""
        number, rows = self._number[part], np.flatnonzero(self._number[part] != _UNSAID)
        known = rows[index[rows] < self._state.table.size]
        before = np.zeros(number.size, np.int16)
        before[known] = self._state.prompts.domain[index[known]]
        moved = rows[(before[rows] > 0) & (before[rows] != number[rows])]
        if moved.size:
            name = self._names[before[moved[0]] - 1]
            row = int(self._row[part][moved[0]])
            self._refuse(row, f"the prompt is in the pool as one of domain {name}, and can't change it")
        rows = rows[before[rows] == 0]
        if not rows.size:
            return None
        joined: NDArray[np.uint8] = number[rows].astype(np.uint8)
        most = max(int(joined.max()), self._begun)
        new = tuple(self._names[self._begun : most])
        self._begun = most
        return Joined(new, index[rows], joined)
