"""What every request passes first: a request id, the cap on requests in flight, those on its body, the metrics.

Whoever sends or takes bytes too slowly does not keep his place: he is given up after a while (`Pace`), and at once when
there is no place left for others.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Final, NamedTuple

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from greso_service.api import pace as paces
from greso_service.api import problems
from greso_service.api.access import CALLER, Caller
from greso_service.api.pace import RATE, Pace
from greso_service.api.refusal import refusal
from greso_service.api.room import Room
from greso_service.core.limits import RUN
from greso_service.errors import GresoError, InvalidInput, Overloaded, TooSlow
from greso_service.history.base import DEFAULT_TENANT, RunKey
from greso_service.settings import set_by
from greso_service.telemetry import client_counts
from greso_service.telemetry.logs import PAUSE, SELDOM, request_id
from greso_service.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
_RUN_PATH = re.compile(rf"/v1/runs/({RUN})(?:/|$)")  # before the routes are asked
_IMPORT_PATH = re.compile(rf"/v1/runs/{RUN}/import")
_STREAM_PATH = re.compile(rf"/v1/runs/{RUN}/events")  # long and idle, with a cap of their own
_DONE = range(200, 300)  # statuses that say that the run exists
_GONE = 499  # nobody gets it; nginx counts a client that hung up under this number
_ALWAYS = frozenset({"/livez", "/readyz", "/metrics"})  # looked at most of all when the service is overloaded

MOST_LATE: Final = 1.0
"""Seconds that a sender or reader may be late while somebody else needs the place; see `Pace`."""

PIECE: Final = 65_536
"""Bytes of an answer sent at a time: what waits for a slow reader, who keeps his place for it, is hardly more."""

_ids = random.Random()  # noqa: S311  # they need to differ, not to be secret
_LOOK_EVERY = 0.05  # seconds between looks for a place that can be taken from somebody


class BodyTooLarge(InvalidInput):
    """The body exceeds the limit."""

    def __init__(self, limit: Limit) -> None:
        super().__init__(status=413)
        self.args = (
            f"the body is larger than {limit.setting} ({limit.size}), {set_by(limit.setting)}; {limit.advice}",
        )


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
        stopping: Callable[[], bool],
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._max_in_flight = max_in_flight
        self._keyless = keyless
        self._stopping = stopping
        self._room = room = Room(max_in_flight)
        metrics.in_flight_limit.set_function(lambda: room.places)
        self._waiting: set[Pace] = set()  # for the other ends of those that have a place
        self._looked = self._tell = 0.0
        self._limit = Limit("max_body_bytes", max_body_bytes, "send it in parts")
        self._import_limit = Limit("max_import_bytes", max_import_bytes, "set it higher")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection event of the server."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = _header(scope, b"x-request-id")
        name = given if _REQUEST_ID.fullmatch(given) else f"{_ids.getrandbits(64):016x}"
        long = _STREAM_PATH.fullmatch(scope["path"]) is not None
        if not long and not self._admits(scope):
            await self._refuse(scope, send, name)
            return
        token = request_id.set(name)
        send, headers = _tagged(send, self._stopping), Headers(scope=scope)
        try:
            if long:
                await self._measured(scope, receive, send, headers, long=True)
            else:
                self._room.enter()
                try:
                    await self._measured(scope, receive, send, headers, long=False)
                finally:
                    self._room.leave()
        finally:
            request_id.reset(token)

    def _admits(self, scope: Scope) -> bool:
        if not self._room.full or scope["path"] in _ALWAYS:
            return True
        try:
            return self._displaced()
        except Exception:  # whatever is wrong with somebody else's request: this one is told to try again
            log.exception("no place could be taken from anybody", extra=SELDOM)
            return False

    async def _refuse(self, scope: Scope, send: Send, name: str) -> None:
        self._metrics.overloaded.inc()
        self._count_told(scope, _header(scope, b"greso-client"), exists=False)
        answer = refusal(self._room.places, self._max_in_flight)
        if (now := time.monotonic()) >= self._tell:  # not left to the log's filter: it is done as often as it can be
            self._tell = now + PAUSE
            log.warning("%s", answer.why)
        await answer(name, send, close=self._stopping())

    def _displaced(self) -> bool:
        """Whether there is a place again, taken from whoever is the latest to send a body or to take an answer."""
        now = asyncio.get_running_loop().time()
        if not self._waiting or now < self._looked + _LOOK_EVERY:
            return False
        self._looked = now
        latest = max(self._waiting, key=lambda pace: pace.late(now))
        if latest.late(now) < MOST_LATE:
            return False
        self._waiting.discard(latest)
        latest.displace()
        return True

    def _count_told(self, scope: Scope, told: str, *, exists: bool) -> None:
        caller: Caller | None = scope.get(CALLER)
        tenant = caller.tenant if caller else DEFAULT_TENANT if self._keyless else None
        # Nobody's word is taken who has shown no key.
        if tenant and told and (found := _RUN_PATH.match(scope["path"])):
            self._metrics.runs.told(RunKey(tenant, found[1]), client_counts.parse(told), exists=exists)

    async def _measured(self, scope: Scope, receive: Receive, send: Send, headers: Headers, *, long: bool) -> None:
        started, status, answering = time.perf_counter(), 500, 0.0
        pace, size = Pace(paces.READER), 0

        async def watching(message: Message) -> None:
            nonlocal status, answering, size
            if message["type"] == "http.response.start":
                status, answering = message["status"], time.perf_counter()
            if not long:
                self._waiting.add(pace)
            try:
                await pace.of(partial(send, message), size)  # which waits for what was sent before
            except TimeoutError:
                log.warning("an answer is broken off: its reader is too slow", extra={**_whose(scope), **SELDOM})
                raise ClientDisconnect from None
            finally:
                self._waiting.discard(pace)
            size = len(message.get("body", b""))

        send_all = _in_pieces(watching)
        with nullcontext() if long else self._metrics.in_flight.track_inprogress():
            try:
                declared = headers.get("content-length", "0")
                limit = self._import_limit if _IMPORT_PATH.fullmatch(scope["path"]) else self._limit
                if declared.isdecimal() and int(declared) > limit.size:
                    await problems.of(BodyTooLarge(limit))(scope, receive, send_all)
                else:
                    await self._app(scope, self._counted(receive, limit), send_all)
            except ClientDisconnect:
                status = _GONE
            except asyncio.CancelledError:
                # The server gives up what is not answered when its time to stop is over.
                if answering or not self._stopping():
                    raise
                await problems.of(Overloaded("the service stops; try again"))(scope, receive, watching)
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
                await problems.unexpected(error)(scope, receive, watching)
            finally:
                route = getattr(scope.get("route"), "path", "other")
                method = scope["method"] if route != "other" else "other"
                ended = answering if long and answering else time.perf_counter()
                self._metrics.answered(method, route, status, ended - started)
                self._count_told(scope, headers.get("greso-client", ""), exists=status in _DONE and method != "DELETE")

    def _counted(self, receive: Receive, limit: Limit) -> Receive:
        """The body, as long as it is not too large and comes fast enough."""
        read, more, pace = 0, True, Pace(paces.SENDER)

        async def counting() -> Message:
            nonlocal read, more
            if not more:  # what comes now is that the other end hangs up
                return await receive()
            self._waiting.add(pace)
            try:
                message = await pace.of(receive)
            except TimeoutError:
                if pace.displaced:
                    raise Overloaded("the body came slowly, and its place was needed; try again") from None
                raise TooSlow(
                    f"the body came too slowly: {paces.SENDER:g} s later than {RATE // 1024} KiB a second"
                ) from None
            finally:
                self._waiting.discard(pace)
            size = len(message.get("body", b""))
            pace.came(size)
            read, more = read + size, message.get("more_body", False)
            if read > limit.size:
                raise BodyTooLarge(limit)
            return message

        return counting


def _header(scope: Scope, wanted: bytes) -> str:
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == wanted), "")


def _whose(scope: Scope) -> dict[str, object]:
    run, caller = scope.get("path_params", {}).get("run"), scope.get(CALLER)
    return {} if run is None or caller is None else {"tenant": caller.tenant, "run": run}


def _in_pieces(send: Send) -> Send:
    """With bodies in pieces: each waits for those before it to be taken, and so does the end of a long body."""

    async def sending(message: Message) -> None:
        body = message.get("body", b"")
        if len(body) <= PIECE:
            await send(message)
            return
        for start in range(0, len(body), PIECE):
            await send({**message, "body": body[start : start + PIECE], "more_body": True})
        if not message.get("more_body", False):
            await send({**message, "body": b""})

    return sending


def _tagged(send: Send, stopping: Callable[[], bool]) -> Send:
    async def tagging(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["X-Request-Id"] = request_id.get()
            if stopping():
                headers["Connection"] = "close"  # whoever has more to ask looks for another replica
        await send(message)

    return tagging
