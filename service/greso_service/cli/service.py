"""A running service, asked over HTTP by the commands."""

from __future__ import annotations

import secrets
from typing import Any, Self
from urllib.parse import quote

import httpx

from greso_service.errors import GresoError
from greso_service.settings import is_loopback

TIMEOUT = 10.0  # seconds
LONG_TIMEOUT = 600.0  # seconds; a history of millions of groups is folded anew

Object = dict[str, Any]


class ServiceError(GresoError):
    """The service could not be asked, or refused."""


class Service:
    """A running service, read over HTTP; a context manager."""

    def __init__(self, url: str, transport: httpx.BaseTransport | None = None) -> None:
        self.url = url.rstrip("/")
        try:
            # A proxy of the environment does not lead to this machine's loopback.
            trust_env = not is_loopback(httpx.URL(self.url).host)
            self._http = httpx.Client(base_url=self.url, timeout=TIMEOUT, transport=transport, trust_env=trust_env)
        except httpx.InvalidURL as error:
            raise ServiceError(f"{url!r} is no URL ({error}); give --url http://host:port") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get(self, *path: str, **query: str | int) -> Object:
        """The JSON object at `path` (segments, encoded here).

        Raises:
            ServiceError: unreachable, refused (with the service's reason), or not a greso service.
        """
        return self._ask("GET", path, params=query)

    def post(self, *path: str, **body: str | int | None) -> Object:
        """Post `body` to `path` and return the answer; fields that are None are left out. Errors as for `get`."""
        given = {name: value for name, value in body.items() if value is not None}
        headers = {"Idempotency-Key": secrets.token_hex(16)}
        return self._ask("POST", path, json=given, headers=headers, timeout=LONG_TIMEOUT)

    def _ask(self, method: str, path: tuple[str, ...], **how: Any) -> Object:
        try:
            answer = self._http.request(method, "/" + "/".join(map(_encoded, path)), **how)
        except httpx.UnsupportedProtocol:
            raise ServiceError(f"{self.url!r} is no URL; give --url http://host:port") from None
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise ServiceError(
                f"no service answers at {self.url} ({reason}); start it with `greso serve`, or give another --url"
            ) from None
        try:
            content = answer.json()
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise ServiceError(f"{self.url} answers, but not as greso does; give another --url")
        if answer.is_error:
            raise ServiceError(str(content.get("detail") or content.get("title") or f"status {answer.status_code}"))
        return content


def _encoded(segment: str) -> str:
    # A prompt may be called "..", which as it stands would lead elsewhere.
    return segment.replace(".", "%2E") if segment in {".", ".."} else quote(segment, safe="")
