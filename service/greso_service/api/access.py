"""Who asks, and what for: every request passes here before it is routed, let alone its body read.

With keys: whatever is not in `OPEN` needs one, so that a route that nobody thought about is closed, and a route names
the scope that it needs by the parameter with which it gets its tenant (`Reader`, `Writer`, `Admin`). Without keys there
is one tenant; what is guarded against then is a web page that has the browser of somebody who can reach the service ask
in its place.
"""

from __future__ import annotations

import ipaddress
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Final
from urllib.parse import urlsplit

from fastapi import Depends, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from greso_service.access.keys import SCOPES
from greso_service.access.keys import Scope as KeyScope
from greso_service.access.watched import LOOK_EVERY, WatchedKeys
from greso_service.api import problems
from greso_service.errors import Forbidden, GresoError, Misdirected, NotFound, Unauthorized
from greso_service.history.base import DEFAULT_TENANT
from greso_service.settings import Settings, is_loopback
from greso_service.telemetry.logs import SELDOM

log = logging.getLogger(__name__)

CALLER: Final = "greso.caller"
"""Where in an ASGI scope the `Caller` stands once it is known."""

METRICS: Final = "/metrics"

OPEN: Final = frozenset({"/", "/livez", "/readyz", "/version", "/docs", "/docs/oauth2-redirect", "/openapi.json"})
"""Paths that need no key: probes, and what is the same wherever greso is installed."""

OPEN_BELOW: Final = "/dashboard/"
"""The page's files are the same everywhere, too; what they show, they ask for with a key."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. `all_metrics`: may see those of every tenant. `welcome`: whether that still holds, for long answers."""

    tenant: str
    scope: KeyScope
    all_metrics: bool = False
    welcome: Callable[[], bool] = lambda: True


_NOBODY = Caller(DEFAULT_TENANT, "read")  # where no key is needed
_WITHOUT_KEYS = Caller(DEFAULT_TENANT, "admin", all_metrics=True)


class Needs:
    """A dependency of a route: gives the caller's tenant. Raises `Forbidden` if the caller's key lacks the scope."""

    def __init__(self, scope: KeyScope) -> None:
        self.scope = scope

    async def __call__(self, request: Request) -> str:
        """Give the tenant."""
        return self.tenant(request.scope)

    def tenant(self, scope: Scope) -> str:
        """The tenant of who asks, in an ASGI scope."""
        caller: Caller = scope[CALLER]
        if SCOPES.index(caller.scope) < SCOPES.index(self.scope):
            raise Forbidden(f"this needs a key with the scope {self.scope}; the key given has {caller.scope}")
        return caller.tenant


Reader = Annotated[str, Depends(Needs("read"))]
Writer = Annotated[str, Depends(Needs("write"))]
Admin = Annotated[str, Depends(Needs("admin"))]


def needed(route: BaseRoute) -> KeyScope | None:
    """The scope that a route needs; None for one that needs no key."""

    def scopes(dependant: Dependant) -> Iterable[KeyScope]:
        if isinstance(dependant.call, Needs):
            yield dependant.call.scope
        for each in dependant.dependencies:
            yield from scopes(each)

    return max(scopes(route.dependant), key=SCOPES.index, default=None) if isinstance(route, APIRoute) else None


def require_scopes(routes: Iterable[BaseRoute]) -> None:
    """Refuse to serve a route that is not open and forgot to name a scope: any key would do for it."""
    for route in routes:
        if not isinstance(route, Route) or (needed(route) is None) != is_open(route.path):
            raise AssertionError(f"{route} must have a parameter for its scope (Reader, Writer, Admin), or be open")


def is_open(path: str) -> bool:
    """Whether a path needs no key."""
    return path in OPEN or path.startswith(OPEN_BELOW)


class Access:
    """ASGI middleware around the routes: says who asks, or refuses."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        settings: Settings,
        keys: WatchedKeys | None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._app = app
        self._keys = keys
        self._clock = clock
        self._metrics_port = settings.metrics_port
        self._hosts = frozenset(filter(None, settings.allowed_hosts.replace(" ", "").lower().split(",")))
        self._by_origin = keys is None and self._hosts != {"*"}
        self._by_name = self._by_origin and (is_loopback(settings.host) or bool(self._hosts))
        self._metrics_by_name = is_loopback(settings.metrics_host) and self._hosts != {"*"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection event of the server."""
        if scope["type"] == "http":
            try:
                scope[CALLER] = self._caller(scope)
            except GresoError as error:
                if not isinstance(error, NotFound):
                    log.warning("refused a request of %s: %s", _address(scope), error, extra=SELDOM)
                await problems.of(error)(scope, receive, send)
                return
            if self._keys is not None:
                receive = _still_welcome(receive, scope[CALLER])
        await self._app(scope, receive, send)

    def _caller(self, scope: Scope) -> Caller:
        headers, path = Headers(scope=scope), scope["path"]
        if self._metrics_port is not None:
            if (scope.get("server") or ("", None))[1] == self._metrics_port:
                if path != METRICS:
                    raise NotFound(f"there is nothing but {METRICS} on this port")
                if self._metrics_by_name:
                    self._require_host(headers)
                return _WITHOUT_KEYS
            if path == METRICS:
                raise NotFound(f"{METRICS} has a port of its own here (--metrics-port)")
        if self._keys is None:
            if self._by_name:
                self._require_host(headers)
            if self._by_origin:
                self._require_origin(headers)
            return _WITHOUT_KEYS
        return _NOBODY if is_open(path) else self._holder(headers, self._keys)

    def _holder(self, headers: Headers, keys: WatchedKeys) -> Caller:
        given = headers.getlist("authorization")
        scheme, _, token = (given[0] if len(given) == 1 else "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthorized("this needs a key: send Authorization: Bearer <key>")
        key = keys.ring.find(token.strip(" "))
        if key is None:
            raise Unauthorized("there is no such key; it may have been revoked")
        if key.expired(self._clock()):
            raise Unauthorized(f"the key {key.id} has expired; ask for a new one")
        return Caller(key.tenant, key.scope, welcome=lambda: key in keys.ring.keys and not key.expired(self._clock()))

    def _require_host(self, headers: Headers) -> None:
        """A page can have its own name resolve to this machine's address (DNS rebinding), yet not choose the header."""
        host = headers.get("host")
        if host is not None and not self._is_ours(_name(host)):
            raise Misdirected(
                f"this service without keys is not asked as {_name(host)!r}; use its address or localhost, or name the"
                " host in --allowed-hosts"
            )

    def _require_origin(self, headers: Headers) -> None:
        """Browsers name the page that asks; a page of another site may not, and can't leave the header out."""
        origin = headers.get("origin")
        if origin is None:
            # What a page of another site embeds or fetches without reading it. A link to here is another thing.
            if headers.get("sec-fetch-site") != "cross-site" or headers.get("sec-fetch-mode") == "navigate":
                return
        elif (place := _place(origin)) and (place == headers.get("host", "").lower() or _name(place) in self._hosts):
            return
        raise Forbidden("this service without keys answers no pages of other sites; name their host in --allowed-hosts")

    def _is_ours(self, name: str) -> bool:
        # No public DNS gives out a name without a dot, and `localhost` leads nowhere but here (RFC 6761).
        return "." not in name or name.endswith(".localhost") or name in self._hosts or _is_address(name)


def _still_welcome(receive: Receive, caller: Caller) -> Receive:
    """The body, as long as the key is good: one that is revoked while a long body comes does not count at its end."""
    looked = time.monotonic()

    async def looking() -> Message:
        nonlocal looked
        message = await receive()
        if message["type"] == "http.request" and (now := time.monotonic()) >= looked + LOOK_EVERY:
            looked = now
            if not caller.welcome():
                raise Unauthorized("the key was revoked or has expired while the request came")
        return message

    return looking


def _name(host: str) -> str:
    """A Host header without its port, in lower case; without the brackets of an IPv6 address."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].removesuffix(".")


def _place(origin: str) -> str:
    """The host and port of an origin; empty for one that has none, such as `null`."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:  # brackets that are no IPv6 address
        return ""


@lru_cache(maxsize=64)
def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _address(scope: Scope) -> str:
    return (scope.get("client") or ("an unknown address",))[0]
