"""A reply of whatever is at the other end, read without any I/O: it becomes a value or an error."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

from greso_client._errors import GresoError, Problem, ProblemDetail, ProtocolError, UnavailableError, refusal
from greso_client._fields import Json, text

R = TypeVar("R")

# What a body that isn't the contract's can make a reader of it raise; the last two: numbers and nesting without end.
UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)

# What a service that is there but busy or restarting answers; asking again soon may help (RFC 9110, 15.6).
_BUSY = frozenset({502, 503, 504})
# Neither the caller's fault nor the service's own answers: what gateways on the way say when they are busy.
_GATEWAY_BUSY = frozenset({408, 425, 429})


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `headers` by lower-case name."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def is_of_service(self) -> bool:
        """Whether the service gave it, as far as its kind tells: what a gateway says by itself hardly ever is JSON."""
        kind = self.headers.get("content-type", "")
        if 200 <= self.status < 300:
            return self.status == 204 or kind.startswith("application/json")
        return kind.startswith("application/problem+json")


def read(answer: Answer, reader: Callable[[Json], R]) -> R:
    """The value in an answer. Raises what it means otherwise: `RefusedError`, `UnavailableError`, `ProtocolError`."""
    if not 200 <= answer.status < 300:
        raise _error(answer)
    try:
        body = {} if answer.status == 204 else json.loads(answer.body)
        if not isinstance(body, dict):
            raise TypeError("it is no object")
        return reader(body)
    except UNREADABLE as error:
        start = answer.body[:80].decode("utf-8", "replace")
        raise ProtocolError(
            f"the answer is not what the contract says ({type(error).__name__}: {error}); it begins {start!r}. "
            "Does the URL lead to a greso service of this version?"
        ) from error


def _error(answer: Answer) -> GresoError:
    problem = _problem(answer)
    said = str(problem or _page(answer))
    if answer.status in _BUSY or answer.status in _GATEWAY_BUSY or answer.status >= 500:
        return UnavailableError(
            said,
            status=answer.status,
            retry_after=_retry_after(answer),
            transient=answer.status in _BUSY,
            problem=problem if answer.is_of_service else None,
        )
    if answer.status < 400:
        return ProtocolError(f"HTTP {answer.status} where an answer of the service was expected: is the URL right?")
    if problem is None:
        return ProtocolError(
            f"{said} (no error of a greso service looks like this: is the URL right, or does a proxy answer?)",
            status=answer.status,
        )
    return refusal(problem)


def _problem(answer: Answer) -> Problem | None:
    """The problem document in an error answer; None when there is none, so that the service can't have sent it."""
    try:
        body = json.loads(answer.body)
        if body["status"] != answer.status:
            return None
        errors = tuple(
            ProblemDetail(str(error.get("pointer", "")), str(error.get("detail", "")))
            for error in body.get("errors", ())
        )
        return Problem(
            status=answer.status,
            title=text(body, "title"),
            detail=str(body.get("detail") or ""),
            type=str(body.get("type") or "about:blank"),
            instance=str(body.get("instance") or ""),
            errors=errors,
        )
    except UNREADABLE:
        return None


def _page(answer: Answer) -> Problem:
    """What anybody else answered."""
    return Problem(answer.status, "error", answer.body[:200].decode("utf-8", "replace"))


def _retry_after(answer: Answer) -> float | None:
    """Seconds to wait, from either form of the header (RFC 9110, 10.2.3)."""
    value = answer.headers.get("retry-after")
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        pass
    else:
        return None if math.isnan(seconds) else max(0.0, seconds)
    try:
        moment = parsedate_to_datetime(value)
        return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
    except UNREADABLE:  # no date, or one beyond the calendar
        return None
