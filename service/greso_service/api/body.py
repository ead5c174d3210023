"""Reading requests: content type, JSON or NDJSON, keys, generation. What is wrong becomes a fault with its place."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import orjson
from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException

from greso_service.api.problems import faults_of
from greso_service.errors import Fault, InvalidInput
from greso_service.given import Given, Idempotency

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")

JSON = "application/json"
NDJSON = "application/x-ndjson"
BYTES = "application/octet-stream"
_AS_IT_IS = "identity"  # the coding of what is not compressed (RFC 9110, 8.4.1)
_LONG = 2**20  # bytes; takes some 5 ms to read
_GENERATION = re.compile(r"[0-9]{1,15}")
_KEY = re.compile(r"[\x21-\x7e]{1,128}")


async def read(request: Request, model: type[M]) -> M:
    """The request's JSON body as `model`.

    Raises `InvalidInput` (400 for what is no JSON, else 422) and HTTP 415 for another content type.
    """
    media_type(request, JSON)
    content = await request.body()
    try:
        return await placed(content, lambda: model.model_validate_json(content))
    except ValidationError as error:
        faults = faults_of(error)
        malformed = error.errors()[0]["type"] == "json_invalid"
        raise InvalidInput(*faults, status=400 if malformed else 422) from None


async def read_lines(request: Request) -> list[Any]:
    """The request's NDJSON body: what stands in each line."""
    content = await request.body()
    return await placed(content, lambda: _lines(content))


def _lines(content: bytes) -> list[Any]:
    values: list[Any] = []
    try:
        values.extend(map(orjson.loads, content.splitlines()))
    except orjson.JSONDecodeError as error:
        raise InvalidInput(Fault(f"/{len(values)}", f"is not JSON: {error}"), status=400) from None
    return values


def media_type(request: Request, *allowed: str) -> str:
    """The request's content type, the first allowed one if it names none.

    Raises HTTP 415 for any other, and for a body that is compressed.
    """
    coding = request.headers.get("content-encoding", _AS_IT_IS).strip().lower()
    if coding not in {_AS_IT_IS, ""}:
        hint = "; `greso import` reads compressed files" if BYTES in allowed else ""
        told = f"send the body uncompressed, without Content-Encoding: {coding}{hint}"
        raise HTTPException(415, told, headers={"Accept-Encoding": _AS_IT_IS})
    given = request.headers.get("content-type", allowed[0]).partition(";")[0].strip().lower()
    if given not in allowed:
        raise HTTPException(415, f"send Content-Type: {' or '.join(allowed)}, not {given}")
    return given


async def given(request: Request) -> Given:
    """What a write came with: its idempotency key, bound to its method, path and body, and its generation."""
    return Given(await _idempotency(request), generation(request))


def generation(request: Request) -> int | None:
    """The generation of the run that the request was made for."""
    text = request.headers.get("greso-generation")
    if text is None:
        return None
    if not _GENERATION.fullmatch(text):
        raise InvalidInput(Fault("/header/greso-generation", "must be the run's generation, a whole number from 0 on"))
    return int(text)


async def _idempotency(request: Request) -> Idempotency | None:
    key = _key(request)
    if key is None:
        return None
    content = await request.body()
    head = _head(request)
    return Idempotency(key, await placed(content, lambda: hashlib.sha256(head + content).digest()))


def _key(request: Request) -> str | None:
    key = request.headers.get("idempotency-key")
    if key is not None and not _KEY.fullmatch(key):
        raise InvalidInput(Fault("/header/idempotency-key", "must be 1 to 128 visible ASCII characters"))
    return key


def _head(request: Request) -> bytes:
    """What a key is bound to beside the body."""
    return f"{request.method} {request.scope['path']}\n".encode()


class Streamed:
    """A write whose body is taken as it comes and kept nowhere."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._key, self._generation = _key(request), generation(request)
        self._digest = hashlib.sha256(_head(request))

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body, piece by piece."""
        async for piece in self._request.stream():
            self._digest.update(piece)
            yield piece

    def given(self) -> Given:
        """What the write came with; when all pieces were taken."""
        once = None if self._key is None else Idempotency(self._key, self._digest.digest())
        return Given(once, self._generation)


async def placed(content: bytes, work: Callable[[], T]) -> T:
    """Do short work at once and long work in a thread, so that other requests don't wait for it."""
    return work() if len(content) < _LONG else await asyncio.to_thread(work)
