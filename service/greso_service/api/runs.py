"""The routes that manage runs and look at them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

import orjson
from fastapi import APIRouter, Query, Request, Response
from starlette.convertors import Convertor, register_url_convertor

from greso_service.answers import PromptQuery
from greso_service.api import body, wire, wire_requests
from greso_service.api.access import Admin, Reader, Writer
from greso_service.api.shared import FENCED, KNOWN_QUERY, PROBLEMS, Limit, RunName, json_response, page_of, takes
from greso_service.core.limits import LARGEST_STEP
from greso_service.given import Given
from greso_service.history.base import RunKey
from greso_service.runs import Runs


class _IdConvertor(Convertor[str]):
    """A prompt's id in a path: any characters, slashes and line breaks included."""

    regex = "(?s:.*)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("id", _IdConvertor())


def router(runs: Runs) -> APIRouter:
    """The routes, bound to the use cases they call."""
    routes = APIRouter(prefix="/v1/runs", responses=PROBLEMS, dependencies=KNOWN_QUERY)

    @routes.put(
        "/{run}",
        tags=["runs"],
        summary="Create a run",
        openapi_extra=takes("RunSpec"),
        responses={200: {"model": wire.Run}, 201: {"model": wire.Run}},
    )
    async def create(run: RunName, tenant: Writer, request: Request) -> Response:
        """201 created; 200 when it exists with an equal spec; 409 when it differs."""
        spec = await body.read(request, wire_requests.RunSpec)
        answer, created = await runs.create(RunKey(tenant, run), spec.model_dump(exclude_unset=True), _given(request))
        return json_response(answer, 201 if created else 200)

    @routes.patch(
        "/{run}",
        tags=["runs"],
        summary="Change tunables of a live run",
        openapi_extra=takes("RunChanges"),
        responses={200: {"model": wire.Run}},
    )
    async def change(run: RunName, tenant: Writer, request: Request) -> Response:
        """`group_size`, `seed` and `streak_rule` can't change; `p_easy` and `p_hard` set the exploration in force."""
        changes = await body.read(request, wire_requests.RunChanges)
        fields = changes.model_dump(exclude_unset=True)
        return json_response(await runs.change(RunKey(tenant, run), fields, _given(request)))

    @routes.get("", tags=["runs"], summary="List runs", responses={200: {"model": wire.RunList}})
    async def listed(tenant: Reader, limit: Limit = 100, cursor: Annotated[str | None, Query()] = None) -> Response:
        """Newest activity first."""
        page, following = page_of(await runs.listed(tenant), limit, cursor)
        rows = [{"run": run.run, "active_at": datetime.fromtimestamp(run.active_ms / 1000, UTC)} for run in page]
        return Response(orjson.dumps({"runs": rows, "cursor": following}), media_type="application/json")

    @routes.get("/{run}", tags=["runs"], summary="Spec and state", responses={200: {"model": wire.Run}})
    async def show(run: RunName, tenant: Reader) -> Response:
        """Spec and state of a run."""
        return json_response(await runs.show(RunKey(tenant, run)))

    @routes.delete("/{run}", tags=["runs"], summary="Delete a run", status_code=204, openapi_extra=FENCED)
    async def delete(run: RunName, tenant: Admin, request: Request) -> Response:
        """All its keys are gone."""
        await runs.delete(RunKey(tenant, run), _given(request))
        return Response(status_code=204)

    @routes.get("/{run}/steps", tags=["looking"], summary="Step by step", responses={200: {"model": wire.StepList}})
    async def steps(
        run: RunName,
        tenant: Reader,
        *,
        after: Annotated[int, Query(ge=-1, le=LARGEST_STEP)] = -1,
        limit: Limit = 100,
        domain: Annotated[str | None, Query(description="as one domain saw them; empty: prompts without one")] = None,
    ) -> Response:
        """The steps after `after`, in order."""
        return json_response(await runs.steps(RunKey(tenant, run), after, limit, domain))

    @routes.get("/{run}/prompts", tags=["looking"], summary="Prompts", responses={200: {"model": wire.PromptList}})
    async def prompts(
        run: RunName,
        tenant: Reader,
        *,
        kind: wire.Kind | None = None,
        sort: Literal["streak", "last_step", "mean", "visits"] = "streak",
        limit: Limit = 100,
        cursor: Annotated[str | None, Query()] = None,
        search: Annotated[str, Query(max_length=256, description="only ids that contain this, by case")] = "",
        domain: Annotated[str | None, Query(description="only those of it; empty: those without one")] = None,
    ) -> Response:
        """By descending `sort`; give `cursor` of one page to get the next."""
        query = PromptQuery(kind, sort, limit, cursor, search, domain)
        return json_response(await runs.prompts(RunKey(tenant, run), query))

    @routes.get(
        "/{run}/prompts/{prompt:id}",
        tags=["looking"],
        summary="One prompt and its recent groups",
        responses={200: {"model": wire.PromptDetail}},
    )
    async def prompt(run: RunName, tenant: Reader, prompt: str) -> Response:
        """The prompt's id is percent-encoded."""
        return json_response(await runs.prompt(RunKey(tenant, run), prompt))

    return routes


def _given(request: Request) -> Given:
    return Given(generation=body.generation(request))
