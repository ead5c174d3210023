"""Reading requests: content type, JSON or NDJSON, idempotency key. Whatever is wrong becomes a fault with its place."""

from __future__ import annotations

import hashlib
import re
from typing import TypeVar

import orjson
from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException

from greso_service.api.problems import faults_of
from greso_service.errors import Fault, InvalidInput
from greso_service.runs import Idempotency

M = TypeVar("M", bound=BaseModel)

JSON = "application/json"
NDJSON = "application/x-ndjson"
_KEY = re.compile(r"[\x21-\x7e]{1,128}")


async def read(request: Request, model: type[M]) -> M:
    """The request's JSON body as `model`.

    Raises `InvalidInput` (400 for what is no JSON, else 422) and HTTP 415 for another content type.
    """
    media_type(request, JSON)
    try:
        return model.model_validate_json(await request.body())
    except ValidationError as error:
        faults = faults_of(error)
        malformed = error.errors()[0]["type"] == "json_invalid"
        raise InvalidInput(*faults, status=400 if malformed else 422) from None


async def read_lines(request: Request) -> list[str]:
    """The request's NDJSON body: one JSON string a line."""
    prompts = []
    for number, line in enumerate((await request.body()).splitlines()):
        try:
            prompt = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise InvalidInput(Fault(f"/{number}", f"is not JSON: {error}"), status=400) from None
        if not isinstance(prompt, str):
            raise InvalidInput(Fault(f"/{number}", "must be a JSON string, the prompt's id"))
        prompts.append(prompt)
    return prompts


def media_type(request: Request, *allowed: str) -> str:
    """The request's content type, the first allowed one if it names none. Raises HTTP 415 for any other."""
    given = request.headers.get("content-type", allowed[0]).partition(";")[0].strip().lower()
    if given not in allowed:
        raise HTTPException(415, f"send Content-Type: {' or '.join(allowed)}, not {given}")
    return given


async def idempotency(request: Request) -> Idempotency | None:
    """The request's idempotency key, bound to its method, path and body."""
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    if not _KEY.fullmatch(key):
        raise InvalidInput(Fault("/header/idempotency-key", "must be 1 to 128 visible ASCII characters"))
    digest = hashlib.sha256(f"{request.method} {request.url.path}\n".encode())
    digest.update(await request.body())
    return Idempotency(key, digest.digest())
