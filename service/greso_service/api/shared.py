"""What all routes share: the tenant, parameters, the description of bodies and errors."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import Depends, Path, Query, Request, Response

from greso_service.answers import Answer
from greso_service.api import body
from greso_service.api.problems import MOST_FAULTS
from greso_service.core.limits import RUN_NAME
from greso_service.errors import Fault, InvalidInput
from greso_service.history.base import Listed

RunName = Annotated[str, Path(pattern=RUN_NAME, description="letters, digits, `.`, `_`, `-`; 128 at most")]
Limit = Annotated[int, Query(ge=1, le=1000, description="rows at most")]

_PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}

PROBLEMS: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": "refused, nothing was applied", "content": _PROBLEM},
    "5XX": {"description": "failed; 503 may be repeated", "content": _PROBLEM},
}


_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "the same key with the same body gets the first answer again and has no second effect; after a"
    " rewind, too, so a key that is made of step and round needs the generation: g0-step-1-round-1",
    "schema": {"type": "string", "pattern": "^[!-~]{1,128}$"},
}
_GENERATION = {
    "name": "Greso-Generation",
    "in": "header",
    "description": "the run's generation as the writer knows it: after a rewind by somebody else the answer is 409",
    "schema": {"type": "integer", "minimum": 0},
}

FENCED: dict[str, Any] = {"parameters": [_GENERATION]}
"""OpenAPI of a write without a body of its own reading."""


def takes(model: str, *, ndjson: bool = False) -> dict[str, Any]:
    """OpenAPI of a write that reads its body itself, as the named schema."""
    content: dict[str, Any] = {body.JSON: {"schema": {"$ref": f"#/components/schemas/{model}"}}}
    if ndjson:
        line = "a line for each prompt: its id as a JSON string, or an object as PoolPrompt"
        content[body.NDJSON] = {"schema": {"type": "string", "description": line}}
    return {"requestBody": {"required": True, "content": content}, **FENCED}


def keyed(model: str, *, ndjson: bool = False) -> dict[str, Any]:
    """The same, for a route that honours Idempotency-Key."""
    return {**takes(model, ndjson=ndjson), "parameters": [_KEY, _GENERATION]}


def keyed_lines(description: str) -> dict[str, Any]:
    """OpenAPI of a write that honours Idempotency-Key and takes NDJSON, by its own name or as the bytes of a file."""
    content = {
        body.NDJSON: {"schema": {"type": "string", "description": description}},
        body.BYTES: {"schema": {"type": "string", "format": "binary", "description": description}},
    }
    return {"requestBody": {"required": True, "content": content}, "parameters": [_KEY, _GENERATION]}


def json_response(answer: Answer, status: int = 200) -> Response:
    """An answer as an HTTP response."""
    headers = {"Idempotent-Replayed": "true"} if answer.replayed else None
    return Response(answer.body, status, headers=headers, media_type="application/json")


def page_of(listed: Sequence[Listed], limit: int, cursor: str | None) -> tuple[Sequence[Listed], str | None]:
    """At most `limit` runs behind the cursor, and the cursor of the next page, None at the end."""
    if cursor is not None:
        active_ms, name = _parse_cursor(cursor)
        listed = [run for run in listed if (-run.active_ms, run.run) > (-active_ms, name)]
    page, more = listed[:limit], len(listed) > limit
    following = base64.urlsafe_b64encode(f"{page[-1].active_ms} {page[-1].run}".encode()).decode() if more else None
    return page, following


def _parse_cursor(cursor: str) -> tuple[int, str]:
    try:
        active_ms, name = base64.urlsafe_b64decode(cursor).decode().split(" ")
        return int(active_ms), name
    except (ValueError, binascii.Error):
        raise InvalidInput(Fault("/query/cursor", "is not a cursor that this service gave")) from None


async def known_query(request: Request) -> None:
    """A dependency of routes: refuses parameters that they don't know. One that is misspelt would do nothing."""
    if request.scope["query_string"]:
        known = {parameter.alias for parameter in request.scope["route"].dependant.query_params}
        if strays := sorted(set(request.query_params) - known):
            there = f"there are {', '.join(sorted(known))}" if known else "there are none here"
            places = (name.replace("~", "~0").replace("/", "~1") for name in strays[:MOST_FAULTS])
            raise InvalidInput(*(Fault(f"/query/{place}", f"unknown parameter; {there}") for place in places))


KNOWN_QUERY: list[Any] = [Depends(known_query)]
