"""Errors as RFC 9457 problem details: every status, one shape."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Route

from greso_service.core.limits import RUN_NAME
from greso_service.errors import (
    Conflict,
    Fault,
    Forbidden,
    GresoError,
    InvalidInput,
    KeyReused,
    Misdirected,
    NotFound,
    Overloaded,
    StaleGeneration,
    TooSlow,
    Unauthorized,
    Unavailable,
    Unreadable,
)
from greso_service.telemetry.logs import SELDOM, request_id

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
MOST_FAULTS = 20
"""Faults listed in one answer: enough to see the pattern, not as large as the bad request itself."""

_TYPES = {
    400: "malformed-json",
    401: "unauthorized",
    403: "forbidden",
    404: "not-found",
    405: "method-not-allowed",
    408: "request-timeout",
    409: "conflict",
    413: "too-large",
    415: "unsupported-media-type",
    421: "misdirected-request",
    422: "invalid-request",
    500: "internal-error",
    503: "unavailable",
}


_STATUSES: dict[type[GresoError], tuple[int, str]] = {
    Forbidden: (403, ""),
    NotFound: (404, ""),
    TooSlow: (408, ""),
    StaleGeneration: (409, "stale-generation"),
    Conflict: (409, ""),
    Misdirected: (421, ""),
    Unreadable: (500, "unreadable-history"),
}
"""Of errors with nothing but their message to tell, and their types where these don't go with the status."""


def problem(
    status: int, detail: str, *, faults: Sequence[Fault] = (), headers: Mapping[str, str] | None = None, type: str = ""
) -> Response:
    """The answer for an error; `type` (a suffix of the URN) overrides the one that goes with the status."""
    content: dict[str, Any] = {
        "type": f"urn:greso:problem:{type or _TYPES.get(status, 'http-error')}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": request_id.get(),
    }
    if faults:
        content["errors"] = [{"pointer": fault.pointer, "detail": fault.detail} for fault in faults[:MOST_FAULTS]]
    return Response(orjson.dumps(content), status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


def faults_of(error: ValidationError | RequestValidationError) -> list[Fault]:
    """Pydantic's complaints as faults; a JSON pointer for a body, /query/... or /path/... for parameters."""
    return [Fault(_pointer(one["loc"]), _message(one)) for one in error.errors()[:MOST_FAULTS]]


def _pointer(location: Sequence[int | str]) -> str:
    # Of a mapping's key that is wrong pydantic says so behind the key; what is wrong has no further place.
    parts = [part for part in location if part != "[key]"]
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


_PATTERNS = {RUN_NAME: "must be 1 to 128 letters, digits, '.', '_' or '-', the first a letter or digit"}
"""What a name must be that does not match, in words."""


def _message(error: Any) -> str:
    if error["type"] == "extra_forbidden":
        return "unknown field"
    if (words := _PATTERNS.get(error.get("ctx", {}).get("pattern"))) is not None:
        return words
    message = str(error["msg"]).removeprefix("Input ")
    return message[:1].lower() + message[1:]


def install(app: FastAPI, routes: Sequence[BaseRoute]) -> None:
    """Make every error of the application a problem. `routes`: all there are, to tell what is allowed where."""

    async def http(request: Request, error: Exception) -> Response:
        return _http(request, error, routes)

    app.add_exception_handler(GresoError, _greso)
    app.add_exception_handler(RequestValidationError, _parameters)
    app.add_exception_handler(HTTPException, http)


def of(error: GresoError) -> Response:
    """The answer for one of our own errors."""
    match error:
        case InvalidInput(faults=faults, status=status):
            return problem(status, str(error), faults=faults)
        case KeyReused():
            fault = Fault("/header/idempotency-key", "was used before with another request")
            return problem(422, str(error), faults=[fault], type="idempotency-key-reused")
        case Unauthorized():
            return problem(401, str(error), headers={"WWW-Authenticate": "Bearer"})
        case Unavailable(retry_after=seconds):
            return problem(503, str(error), headers={"Retry-After": str(math.ceil(seconds))})
    for kind, (code, name) in _STATUSES.items():
        if isinstance(error, kind):
            # What else would come of a body that came too slowly need not come.
            headers = {"Connection": "close"} if kind is TooSlow else None
            return problem(code, str(error), type=name, headers=headers)
    raise error


async def _greso(request: Request, error: Exception) -> Response:
    assert isinstance(error, GresoError)  # noqa: S101 - registered for it
    if isinstance(error, Unavailable) and not isinstance(error, Overloaded):
        request.app.state.health.refused(error)
    if isinstance(error, Unreadable):
        log.error("%s", error, extra=SELDOM)
    return of(error)


async def _parameters(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for it
    faults = faults_of(error)
    return problem(422, "; ".join(f"{fault.pointer}: {fault.detail}" for fault in faults), faults=faults)


def _http(request: Request, error: Exception, routes: Sequence[BaseRoute]) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for it
    detail, headers = error.detail, error.headers
    if error.status_code == 404:
        known = f"; see {request.app.docs_url}" if request.app.docs_url else ""
        detail = f"there is nothing at {request.url.path}{known}"
    elif error.status_code == 405:
        allowed = ", ".join(sorted(_methods(request.scope["path"], routes)))
        detail, headers = f"{request.method} is not allowed here; {allowed} are", {"Allow": allowed}
    return problem(error.status_code, detail, headers=headers)


def _methods(path: str, routes: Sequence[BaseRoute]) -> set[str]:
    here = [route for route in routes if isinstance(route, Route) and route.path_regex.match(path)]
    return {method for route in here for method in route.methods or ()}


def unexpected(error: Exception) -> Response:
    """The answer for an error that nobody foresaw."""
    return problem(500, f"an error in greso ({type(error).__name__}); its log has the details under this request id")
