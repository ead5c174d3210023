"""The API key as the service sees it: refused at the first contact it is a mistake of the caller, later an outage."""

from __future__ import annotations

import dataclasses
from typing import NoReturn

from greso_client._errors import ForbiddenError, UnavailableError
from greso_client._requests import Request


class KeyRefusedError(UnavailableError):
    """The service refuses a key in the middle of a training: it was revoked or has expired, and nothing is said of any
    report.

    `refusal`: what the service said.
    """

    def __init__(self, refusal: ForbiddenError) -> None:
        super().__init__(str(refusal), status=refusal.status, transient=False)
        self.refusal = refusal

    def without(self, more: str) -> ForbiddenError:
        """The refusal, for who can't go on without the service, and why not."""
        problem = self.refusal.problem
        return ForbiddenError(dataclasses.replace(problem, detail=f"{problem.detail or problem.title}; {more}"))


class Access:
    """What the service has let this client do so far, or the client has done without it. Safe between threads: what it
    was allowed it stays.
    """

    def __init__(self) -> None:
        self._known = False
        self._writes = False

    def granted(self, request: Request) -> None:
        """The service did what was asked for."""
        self._known = True
        self._writes = self._writes or request.method != "GET"

    def went_on(self) -> None:
        """A training has gone on without the service: there is something to lose now, whoever refuses what."""
        self._known = self._writes = True

    def lost(self, refusal: ForbiddenError) -> KeyRefusedError | None:
        """What a refusal is to a training that was let in before, or went on without the service; None if neither.

        401 is about the key, 403 about its scope: a key that only ever could read is the wrong one for a training.
        """
        had = self._writes if refusal.status == 403 else self._known
        return KeyRefusedError(refusal) if had else None


def tell(error: UnavailableError) -> NoReturn:
    """Raise an outage to a caller who wants to know of them: a refused key by its own name."""
    if isinstance(error, KeyRefusedError):
        raise error.refusal from None
    raise error
