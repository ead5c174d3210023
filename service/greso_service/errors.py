"""The service's errors: one small tree, each message says what to do.

GresoError
├── Unauthorized      no valid key (401)
├── Forbidden         a key without the scope, or a request made by a page of another site (403)
├── Misdirected       the request names a host that this service is not (421)
├── InvalidInput      the request's content is wrong (422, or 400 / 413 by `status`)
├── NotFound          no such run or prompt (404)
├── Conflict          the request contradicts what is there (409)
│   └── StaleGeneration  the run was rewound since the writer last knew it (409)
├── KeyReused         an idempotency key came back with another body (422)
├── TooSlow           the body came too slowly (408)
├── Unavailable       the store does not answer; try again (503)
│   ├── Unwritable    the store answers, and takes no writes now; try again (503)
│   └── Overloaded    there is more to do than can be done; try again (503)
├── Unreadable        what the store keeps of a run is no history that this version can read (500)
└── StartupError      the service can't start as configured (exit code 1)
"""

from __future__ import annotations

from dataclasses import dataclass


class GresoError(Exception):
    """Base of everything this service raises on purpose."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a request: where (RFC 6901 JSON pointer into the body) and what."""

    pointer: str
    detail: str


class InvalidInput(GresoError):
    """The request can't be accepted as it is; nothing was applied."""

    def __init__(self, *faults: Fault, status: int = 422) -> None:
        super().__init__("; ".join(f"{fault.pointer or 'body'}: {fault.detail}" for fault in faults))
        self.faults = faults
        self.status = status


class Unauthorized(GresoError):
    """The request carries no key that is valid now."""


class Forbidden(GresoError):
    """The request may not do what it asks for."""


class Misdirected(GresoError):
    """The request was meant for another host."""


class NotFound(GresoError):
    """The named thing does not exist for this tenant."""


class Conflict(GresoError):
    """The request contradicts the present state; nothing was applied."""


class StaleGeneration(Conflict):
    """The write carries the generation of a run that has been rewound since; nothing was applied."""


class KeyReused(GresoError):
    """The idempotency key was used before with another request."""


class Unavailable(GresoError):
    """The store did not answer in time; nothing is known to have been applied."""

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unwritable(Unavailable):
    """The store answers, but it is full, or without the replicas that are to have each write."""


class Overloaded(Unavailable):
    """There is more to do than can be done in time; nothing was applied."""


class TooSlow(GresoError):
    """The request came so slowly that it was given up; nothing was applied."""


class Unreadable(GresoError):
    """What the store keeps of a run can't be read; nothing was applied. The message names the key and what to do."""


class StartupError(GresoError):
    """The service can't start; the message is one line that says what to do."""


def no_run(run: str) -> NotFound:
    """The error for a run that is not there."""
    return NotFound(f"there is no run {run}; create it with PUT /v1/runs/{run}")


def busy(run: str) -> Unavailable:
    """The error for a run that too many write to."""
    return Unavailable(f"run {run} is written to by too many at once; try again")
