"""The routes that go back in a run's history, give it out, or take it in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from greso_service.api import body, wire, wire_requests
from greso_service.api.access import Admin, Reader, Writer
from greso_service.api.places import Place, Places
from greso_service.api.shared import KNOWN_QUERY, PROBLEMS, RunName, json_response, keyed, keyed_lines
from greso_service.errors import Overloaded
from greso_service.history import exported
from greso_service.history.base import RunKey
from greso_service.runs import Runs
from greso_service.settings import Settings

SHORT: Final = 2**20
"""Bytes of an import that needs no place: it takes no longer than many another request."""

_LINES = {exported.MEDIA_TYPE: {"schema": {"type": "string", "description": "one JSON object a line"}}}


def router(runs: Runs, settings: Settings) -> APIRouter:
    """The routes, bound to the use cases they call."""
    routes = APIRouter(prefix="/v1/runs", responses=PROBLEMS, dependencies=KNOWN_QUERY, tags=["time travel"])
    imports = Places(settings.max_imports, "max_imports", "imports", yielding=True)

    @routes.post(
        "/{run}/rewind",
        summary="Go back to a completed step",
        openapi_extra=keyed("RewindRequest"),
        responses={200: {"model": wire.Run}},
    )
    async def rewind(run: RunName, tenant: Admin, request: Request) -> Response:
        """For a trainer that resumes from its checkpoint: the state as it was when the step completed, generation + 1.

        All that came after is forgotten. Writes that carry the older generation answer 409 from now on.
        """
        asked = await body.read(request, wire_requests.RewindRequest)
        return json_response(await runs.rewind(RunKey(tenant, run), asked.step, await body.given(request)))

    @routes.post(
        "/{run}/fork",
        summary="Begin a new run from this one",
        openapi_extra=keyed("ForkRequest"),
        responses={201: {"model": wire.Run}},
        status_code=201,
    )
    async def fork(run: RunName, tenant: Writer, request: Request) -> Response:
        """The new run begins as this one was when the step completed, or as it is now; 409 when it exists."""
        asked = await body.read(request, wire_requests.ForkRequest)
        answer = await runs.fork(RunKey(tenant, run), asked.run, asked.step, await body.given(request))
        return json_response(answer, 201)

    @routes.get(
        "/{run}/export",
        summary="The whole history",
        response_class=Response,
        responses={
            200: {"description": "a manifest, the events, and a line with count and checksum", "content": _LINES}
        },
    )
    async def export(run: RunName, tenant: Reader) -> Response:
        """As it is when the call arrives. What breaks off, without the last line, is not whole."""
        name = f'attachment; filename="{run}.ndjson"'
        pieces = await runs.export(RunKey(tenant, run))
        return StreamingResponse(pieces, media_type=exported.MEDIA_TYPE, headers={"Content-Disposition": name})

    @routes.put(
        "/{run}/import",
        summary="A run from an export",
        openapi_extra=keyed_lines("what an export gave, from its manifest to its last line"),
        responses={200: {"model": wire.Run}, 201: {"model": wire.Run}},
        status_code=201,
    )
    async def import_(run: RunName, tenant: Admin, request: Request) -> Response:
        """All of it or, if anything is off, nothing. 200 when the run exists with the same history, else 409."""
        body.media_type(request, body.NDJSON, body.BYTES)
        upload = body.Streamed(request)
        place: Place | None = None

        async def pieces() -> AsyncIterator[bytes]:
            nonlocal place
            size = 0
            async for piece in upload.pieces():
                size += len(piece)
                if size > SHORT and place is None:
                    place = await imports.enter_soon(tenant)
                if place is not None and place.wanted:
                    raise Overloaded("the import's place (max_imports) went to a tenant who has fewer; try again")
                yield piece

        try:
            answer, made = await runs.import_history(RunKey(tenant, run), pieces(), upload.given)
        finally:
            if place is not None:
                imports.leave(place)
        return json_response(answer, 201 if made else 200)

    return routes
