"""The routes that a trainer calls each step: select, pool, draw, report."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from greso_service.api import body, reports, uploads, wire, wire_requests
from greso_service.api.access import Writer
from greso_service.api.shared import KNOWN_QUERY, PROBLEMS, RunName, json_response, keyed
from greso_service.api.straight import Straight
from greso_service.errors import Fault, InvalidInput
from greso_service.history.base import RunKey
from greso_service.runs import Runs
from greso_service.settings import Settings, set_by


def router(runs: Runs, settings: Settings) -> APIRouter:
    """The routes, bound to the use cases they call."""
    routes = APIRouter(prefix="/v1/runs", responses=PROBLEMS, dependencies=KNOWN_QUERY, route_class=Straight)

    def limited(pointer: str, count: int, limit: int, setting: str) -> None:
        if count > limit:
            raise InvalidInput(Fault(pointer, f"has {count} entries; {setting} is {limit}, {set_by(setting)}"))

    @routes.post(
        "/{run}/select",
        tags=["each step"],
        summary="Which candidates to roll out",
        openapi_extra=keyed("SelectRequest"),
        responses={200: {"model": wire.Selection}},
    )
    async def select(run: RunName, tenant: Writer, request: Request) -> Response:
        """With `limit`, a filter judges in order until it has kept that many; a ranking takes the best of all."""
        asked = await body.read(request, wire_requests.SelectRequest)
        limited("/prompts", len(asked.prompts), settings.max_prompts, "max_prompts")
        if asked.limit is not None and asked.at_least > asked.limit:
            raise InvalidInput(Fault("/at_least", f"exceeds limit ({asked.limit})"))
        answer = await runs.select(
            RunKey(tenant, run),
            asked.step,
            asked.prompts,
            limit=asked.limit,
            at_least=asked.at_least,
            explain=asked.explain,
            given=await body.given(request),
        )
        return json_response(answer)

    @routes.put(
        "/{run}/pool",
        tags=["each step"],
        summary="Add prompts to the pool",
        openapi_extra=keyed("PoolRequest", ndjson=True),
        responses={200: {"model": wire.Pool}},
    )
    async def pool(run: RunName, tenant: Writer, request: Request) -> Response:
        """Known prompts are ignored. All are added or, if one is refused, none."""
        most = settings.max_pool_upload
        upload, given = await uploads.read(request, most), await body.given(request)
        key, rates, domains = RunKey(tenant, run), upload.rates, upload.domains
        if upload.from_run is not None:
            source = RunKey(tenant, upload.from_run)
            answer = await runs.import_prompts(
                key, source, upload.prompts, given, rates=rates, domains=domains, most=most
            )
        else:
            answer = await runs.add_prompts(
                key, upload.prompts or [], upload.pointer, given, rates=rates, domains=domains
            )
        return json_response(answer)

    @routes.post(
        "/{run}/draw",
        tags=["each step"],
        summary="Walk the pool for prompts to roll out",
        openapi_extra=keyed("DrawRequest"),
        responses={200: {"model": wire.Draw}},
    )
    async def draw(run: RunName, tenant: Writer, request: Request) -> Response:
        """Each epoch is a fresh permutation of the pool; no position is given twice."""
        asked = await body.read(request, wire_requests.DrawRequest)
        if (asked.count or 0) > settings.max_prompts:
            most = f"max_prompts is {settings.max_prompts}, {set_by('max_prompts')}"
            raise InvalidInput(Fault("/count", f"is {asked.count}; {most}"))
        return json_response(await runs.draw(RunKey(tenant, run), asked.step, asked.count, await body.given(request)))

    @routes.post(
        "/{run}/report",
        tags=["each step"],
        summary="What the rollouts earned",
        openapi_extra=keyed("ReportRequest"),
        responses={200: {"model": wire.Report}},
    )
    async def report(run: RunName, tenant: Writer, request: Request) -> Response:
        """Send outcome rewards (right or wrong), not ones shaped with length or format bonuses."""
        asked = await reports.read(request)
        limited("/results", len(asked.prompts), settings.max_prompts, "max_prompts")
        if max(map(len, asked.rewards), default=0) > settings.max_rewards:
            place = next(row for row, group in enumerate(asked.rewards) if len(group) > settings.max_rewards)
            limited(f"/results/{place}/rewards", len(asked.rewards[place]), settings.max_rewards, "max_rewards")
        answer = await runs.report(
            RunKey(tenant, run),
            asked.step,
            asked.prompts,
            asked.rewards,
            final=asked.final,
            seconds=asked.seconds,
            given=await body.given(request),
        )
        return json_response(answer)

    return routes
