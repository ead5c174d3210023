"""The circuit breaker: once a call has spent its whole budget in vain, the next ones don't try until a pause is over.

So a dead service costs a trainer one budget, and after that one attempt per pause; the pauses double from 5 to 60 s.
The breaker also is what knows when an outage begins and ends, so it writes the log lines about it.
"""

from __future__ import annotations

import logging
import math
import threading
from dataclasses import dataclass
from enum import Enum

from greso_client._access import KeyRefusedError
from greso_client._errors import UnavailableError
from greso_client._tls import NoTlsError

log = logging.getLogger("greso_client")

FIRST_PAUSE = 5.0
LONGEST_PAUSE = 60.0
LINE_EVERY = 30.0
# Calls in a row that may fail at once (HTTP 500) before the breaker opens; one that spent its budget opens it alone.
CHEAP_FAILURES = 3


@dataclass(frozen=True, slots=True)
class _Trouble:
    """How an outage of a kind is told."""

    is_: str
    is_still: str
    advice: str
    level: int = logging.WARNING


_AWAY = _Trouble("is away", "is still away", "Check that `greso serve` runs and that the URL is right.")
# These don't pass by themselves.
_REFUSES = _Trouble(
    "refuses the API key",
    "still refuses the API key",
    "Have the key renewed, or resume with a good one (api_key, GRESO_API_KEY).",
    logging.ERROR,
)
_NO_TLS = _Trouble("can't be talked to", "still can't be talked to", "It is there; TLS does not fit.", logging.ERROR)


def _trouble(error: UnavailableError) -> _Trouble:
    if isinstance(error, KeyRefusedError):
        return _REFUSES
    return _NO_TLS if isinstance(error, NoTlsError) else _AWAY


class Permit(Enum):
    """What a call may do: try with retries, try once (`PROBE`), or not try at all."""

    TRY = "try"
    PROBE = "probe"
    DENY = "deny"


class Breaker:
    """Closed (all calls go), or open since an outage began (one probe per pause goes). Safe between threads.

    Times are seconds of a monotonic clock, given by the caller.
    """

    def __init__(self, url: str, goes_on: str) -> None:
        self._url = url
        self._goes_on = goes_on
        self._lock = threading.Lock()
        # An outage begins with the first failure, and opens the breaker then or a few failures later.
        self._since: float | None = None
        self._open = False
        self._announced = False
        self._failures = 0
        self._pause = FIRST_PAUSE
        self._next_probe = 0.0
        self._next_line = -math.inf
        self._degraded = 0
        self._trouble, self._reason = _AWAY, ""
        self._only_writes = False

    @property
    def is_open(self) -> bool:
        """Whether an outage goes on, as far as is known."""
        return self._open

    def permit(self, now: float) -> Permit:
        """Whether a call that starts now may go to the service."""
        with self._lock:
            if not self._open:
                return Permit.TRY
            if now < self._next_probe:
                return Permit.DENY
            # Taken before it is known how the probe ends: a probe that is cancelled half-way blocks nobody.
            self._next_probe = now + self._pause
            return Permit.PROBE

    def failed(self, now: float, error: UnavailableError) -> None:
        """A call gave up on the service."""
        with self._lock:
            self._trouble = _trouble(error)
            self._reason = str(error)
            # Of a key that may only look now: that it looks is no end of it.
            self._only_writes = self._trouble is _REFUSES and error.status == 403
            if self._since is None:
                self._since = now
                self._failures = self._degraded = 0
                # A service that fails now and then would otherwise write two lines each time.
                self._announced = now >= self._next_line
                if self._announced:
                    self._next_line = now + LINE_EVERY
                    log.log(
                        self._trouble.level, "greso service at %s %s (%s). %s %s",
                        self._url, self._trouble.is_, error, self._goes_on, self._trouble.advice,
                    )  # fmt: skip
            self._failures += 1
            if self._open:
                self._pause = min(2 * self._pause, LONGEST_PAUSE)
            elif error.transient or error.retry_after or self._failures >= CHEAP_FAILURES:
                self._open, self._pause = True, FIRST_PAUSE
            asked = min(error.retry_after or 0.0, LONGEST_PAUSE)
            self._next_probe = now + max(self._pause, asked)

    def answered(self, now: float, *, wrote: bool) -> None:
        """The service answered, if only to refuse. `wrote`: it did what was asked, and that was no mere look."""
        with self._lock:
            if self._since is None or (self._only_writes and not wrote):
                return
            if self._announced:
                log.warning(
                    "greso service at %s is back after %.0f s (%d calls went on without it)",
                    self._url, now - self._since, self._degraded,
                )  # fmt: skip
            self._since, self._open = None, False

    def degraded(self, now: float) -> None:
        """A call was answered without the service."""
        with self._lock:
            self._degraded += 1
            if self._since is not None and now >= self._next_line:
                self._next_line = now + LINE_EVERY
                self._announced = True
                log.log(
                    self._trouble.level, "greso service at %s %s after %.0f s (%s); %d calls went on without it",
                    self._url, self._trouble.is_still, now - self._since, self._reason, self._degraded,
                )  # fmt: skip
