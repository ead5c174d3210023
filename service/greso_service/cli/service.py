"""A running service, asked over HTTP by the commands."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn, Self
from urllib.parse import quote

import httpx

from greso_client import SettingsError
from greso_client import _tls as tls
from greso_service.errors import GresoError
from greso_service.settings import is_loopback

TIMEOUT = 10.0  # seconds
LONG_TIMEOUT = 600.0  # seconds; a history of millions of groups is folded anew

Object = dict[str, Any]


class ServiceError(GresoError):
    """The service could not be asked, or refused."""


class Refused(ServiceError):
    """The service answered with an error status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Service:
    """A running service, read over HTTP; a context manager."""

    def __init__(self, url: str, transport: httpx.BaseTransport | None = None, *, key_file: Path | None = None) -> None:
        self.url = url.rstrip("/")
        key = _key(key_file)
        try:
            parsed = httpx.URL(self.url)
            self._http = httpx.Client(
                base_url=self.url,
                timeout=TIMEOUT,
                transport=transport,
                # A proxy of the environment does not lead to this machine's loopback; its certificates count there.
                trust_env=not is_loopback(parsed.host),
                verify=tls.trusted(parsed.scheme),
                headers={"Authorization": f"Bearer {key}"} if key else {},
            )
        except httpx.InvalidURL as error:
            raise ServiceError(f"{url!r} is no URL ({error}); give --url http://host:port") from None
        except SettingsError as error:
            raise ServiceError(str(error)) from None

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

    def put_pieces(self, pieces: Iterator[bytes], *path: str) -> tuple[Object, int]:
        """Put a file, piece by piece, to `path`; the answer and its status. Errors as for `get`, and those of it."""
        headers = {"Idempotency-Key": secrets.token_hex(16), "Content-Type": "application/x-ndjson"}
        answer = self._answer("PUT", path, content=pieces, headers=headers, timeout=LONG_TIMEOUT)
        return self._content(answer), answer.status_code

    def delete(self, *path: str) -> None:
        """Delete what is at `path`. Errors as for `get`."""
        self._answer("DELETE", path, timeout=LONG_TIMEOUT)

    def lines(
        self,
        *path: str,
        query: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
        silence: float = LONG_TIMEOUT,
    ) -> Iterator[bytes]:
        """The lines of the text at `path`, each with its line feed, as they come. Errors as for `get`.

        `silence`: seconds without any byte after which it is given up.
        """
        timeout = httpx.Timeout(TIMEOUT, read=silence)
        try:
            with self._http.stream("GET", _joined(path), params=query, headers=headers, timeout=timeout) as answer:
                if answer.is_error:
                    answer.read()
                    self._refused(answer)
                rest = b""
                for piece in answer.iter_bytes():
                    *whole, rest = (rest + piece).split(b"\n")
                    yield from (line + b"\n" for line in whole)
                if rest:
                    yield rest
        except httpx.UnsupportedProtocol:
            raise self._no_url() from None
        except httpx.HTTPError as error:
            raise self._unanswered(error) from None

    def _ask(self, method: str, path: tuple[str, ...], **how: Any) -> Object:
        return self._content(self._answer(method, path, **how))

    def _answer(self, method: str, path: tuple[str, ...], **how: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, _joined(path), **how)
        except httpx.UnsupportedProtocol:
            raise self._no_url() from None
        except httpx.HTTPError as error:
            raise self._unanswered(error) from None
        if answer.is_error:
            self._refused(answer)
        return answer

    def _content(self, answer: httpx.Response) -> Object:
        try:
            content = answer.json()
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise ServiceError(f"{self.url} answers, but not as greso does; give another --url")
        return content

    def _refused(self, answer: httpx.Response) -> NoReturn:
        content = self._content(answer)
        told = _as_options(str(content.get("detail") or content.get("title") or f"status {answer.status_code}"))
        if answer.status_code == 401:
            told = f"{self.url} does not let us in: {told}; set GRESO_API_KEY to a valid key, or give --api-key-file"
        raise Refused(answer.status_code, told)

    def _no_url(self) -> ServiceError:
        return ServiceError(f"{self.url!r} is no URL; give --url http://host:port")

    def _unanswered(self, error: httpx.HTTPError) -> ServiceError:
        if wrong := tls.mistake(error):
            return ServiceError(f"the service at {self.url} can't be talked to: {wrong}")
        reason = tls.with_suspicion(str(error) or type(error).__name__, error)
        return ServiceError(
            f"no service answers at {self.url} ({reason}); start it with `greso serve`, or give another --url"
        )


def _key(file: Path | None) -> str:
    """The key in a file, or in the environment; empty if there is none. It is no option: others can see those."""
    if file is None:
        key = os.environ.get("GRESO_API_KEY", "")
    else:
        try:
            key = file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            raise ServiceError(f"--api-key-file {file} can't be read: {reason}") from None
        if not key:
            raise ServiceError(f"--api-key-file {file} is empty; put the key into it")
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ServiceError("the key must be visible ASCII characters on one line: was something copied with it?")
    return key


def _as_options(told: str) -> str:
    """What a service says of a request, for who has given options and not a request."""
    told = re.sub(r"/query/(\w+)", lambda found: "--" + found[1].replace("_", "-"), told)
    return re.sub(r"/path/(\w+)", lambda found: found[1].upper(), told)


def _joined(path: tuple[str, ...]) -> str:
    return "/" + "/".join(map(_encoded, path))


def _encoded(segment: str) -> str:
    # A prompt may be called "..", which as it stands would lead elsewhere.
    return segment.replace(".", "%2E") if segment in {".", ".."} else quote(segment, safe="")
