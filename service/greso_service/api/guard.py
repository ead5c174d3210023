"""What every request passes first: a request id, the cap on requests in flight, the cap on the body, the metrics."""

from __future__ import annotations

import logging
import re
import secrets
import time
from contextlib import nullcontext
from typing import NamedTuple

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from greso_service.api import problems
from greso_service.api.access import CALLER, Caller
from greso_service.core.limits import RUN_NAME
from greso_service.errors import GresoError, InvalidInput, Unavailable
from greso_service.history.base import DEFAULT_TENANT, RunKey
from greso_service.telemetry import client_counts
from greso_service.telemetry.logs import SELDOM, request_id
from greso_service.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
_RUN_PATH = re.compile(rf"/v1/runs/({RUN_NAME.strip('^$')})(?:/|$)")  # before the routes are asked
_IMPORT_PATH = re.compile(rf"/v1/runs/{RUN_NAME.strip('^$')}/import")
_STREAM_PATH = re.compile(rf"/v1/runs/{RUN_NAME.strip('^$')}/events")  # long and idle, with a cap of their own
_DONE = range(200, 300)  # statuses that say that the run exists
_GONE = 499  # nobody gets it; nginx counts a client that hung up under this number
_ALWAYS = frozenset({"/livez", "/readyz", "/metrics"})  # looked at most of all when the service is overloaded


class BodyTooLarge(InvalidInput):
    """The body exceeds the limit."""

    def __init__(self, limit: Limit) -> None:
        super().__init__(status=413)
        self.args = (f"the body is larger than {limit.setting} ({limit.size}); {limit.advice}",)


class Limit(NamedTuple):
    """The largest body of a request, in bytes, and the setting that says so."""

    setting: str
    size: int
    advice: str


class Guard:
    """ASGI middleware around the whole application."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: Metrics,
        max_in_flight: int,
        max_body_bytes: int,
        max_import_bytes: int,
        keyless: bool,
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._max_in_flight = max_in_flight
        self._keyless = keyless
        self._limit = Limit("max_body_bytes", max_body_bytes, "send it in parts")
        self._import_limit = Limit("max_import_bytes", max_import_bytes, "set it higher")
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection event of the server."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        token = request_id.set(given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8))
        try:
            long = _STREAM_PATH.fullmatch(scope["path"]) is not None
            if self._in_flight >= self._max_in_flight and not long and scope["path"] not in _ALWAYS:
                self._metrics.overloaded.inc()
                self._count_told(scope, headers, exists=False)
                overload = Unavailable(f"more than max_in_flight ({self._max_in_flight}) requests at once; try again")
                log.warning("%s", overload, extra=SELDOM)
                await problems.of(overload)(scope, receive, _tagged(send))
                return
            self._in_flight += not long
            try:
                await self._measured(scope, receive, send, headers, long=long)
            finally:
                self._in_flight -= not long
        finally:
            request_id.reset(token)

    def _count_told(self, scope: Scope, headers: Headers, *, exists: bool) -> None:
        caller: Caller | None = scope.get(CALLER)
        tenant = caller.tenant if caller else DEFAULT_TENANT if self._keyless else None
        # Nobody's word is taken who has shown no key.
        if tenant and (told := headers.get("greso-client")) and (found := _RUN_PATH.match(scope["path"])):
            self._metrics.runs.told(RunKey(tenant, found[1]), client_counts.parse(told), exists=exists)

    async def _measured(self, scope: Scope, receive: Receive, send: Send, headers: Headers, *, long: bool) -> None:
        started, status, answering = time.perf_counter(), 500, 0.0

        async def watching(message: Message) -> None:
            nonlocal status, answering
            if message["type"] == "http.response.start":
                status, answering = message["status"], time.perf_counter()
            await send(message)

        with nullcontext() if long else self._metrics.in_flight.track_inprogress():
            try:
                declared = headers.get("content-length", "0")
                limit = self._import_limit if _IMPORT_PATH.fullmatch(scope["path"]) else self._limit
                if declared.isdecimal() and int(declared) > limit.size:
                    await problems.of(BodyTooLarge(limit))(scope, receive, _tagged(watching))
                else:
                    await self._app(scope, _counted(receive, limit), _tagged(watching))
            except ClientDisconnect:
                status = _GONE
            except Exception as error:
                # The template of its path, since the path itself may hold a prompt's id.
                route = getattr(scope.get("route"), "path", "other")
                if answering and isinstance(error.__cause__, GresoError):
                    # An export in an outage. The server hangs up, so that it isn't taken for whole.
                    log.error("%s %s broke off: %s", scope["method"], route, error.__cause__, extra=_whose(scope))
                    return
                log.exception("%s %s failed", scope["method"], route, extra=_whose(scope))
                if answering:
                    raise
                await problems.unexpected(error)(scope, receive, _tagged(watching))
            finally:
                route = getattr(scope.get("route"), "path", "other")
                method = scope["method"] if route != "other" else "other"
                ended = answering if long and answering else time.perf_counter()
                self._metrics.answered(method, route, status, ended - started)
                self._count_told(scope, headers, exists=status in _DONE and method != "DELETE")


def _counted(receive: Receive, limit: Limit) -> Receive:
    read = 0

    async def counting() -> Message:
        nonlocal read
        message = await receive()
        read += len(message.get("body", b""))
        if read > limit.size:
            raise BodyTooLarge(limit)
        return message

    return counting


def _whose(scope: Scope) -> dict[str, str]:
    run, caller = scope.get("path_params", {}).get("run"), scope.get(CALLER)
    return {} if run is None or caller is None else {"tenant": caller.tenant, "run": run}


def _tagged(send: Send) -> Send:
    async def tagging(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message)["X-Request-Id"] = request_id.get()
        await send(message)

    return tagging
