"""The routes of the service itself: is it alive, is it ready, what is it, its metrics."""

from __future__ import annotations

import orjson
from fastapi import APIRouter, Request, Response

from greso_service.api import wire
from greso_service.api.access import CALLER, METRICS, Caller, Reader
from greso_service.api.health import Health
from greso_service.api.shared import PROBLEMS
from greso_service.telemetry.metrics import CONTENT_TYPE, Metrics


def router(health: Health, version: str) -> APIRouter:
    """The routes, bound to what they tell of."""
    routes = APIRouter(tags=["service"])

    @routes.get("/livez", summary="Alive?", responses={200: {"model": wire.Alive}})
    async def livez() -> Response:
        """The process answers; nothing else is touched."""
        return Response(b'{"alive":true}', media_type="application/json")

    @routes.get("/readyz", summary="Ready?", responses={200: {"model": wire.Readiness}, 503: {"model": wire.Readiness}})
    async def readyz() -> Response:
        """200 only when started, not draining and Redis answered lately. That Redis refuses writes, `writes` says."""
        ready = health.ready()
        content = orjson.dumps({"ready": ready, "components": health.components()})
        return Response(content, 200 if ready else 503, media_type="application/json")

    for path, answer in (("/livez", livez), ("/readyz", readyz)):  # some probes ask so; the answer has no body then
        routes.add_api_route(path, answer, methods=["HEAD"], include_in_schema=False)

    @routes.get("/version", summary="Version", responses={200: {"model": wire.Version}})
    async def version_() -> Response:
        """What runs here."""
        return Response(orjson.dumps({"version": version, "api": "v1"}), media_type="application/json")

    return routes


def metrics_router(metrics: Metrics) -> APIRouter:
    """The route of the metrics, which may be closed."""
    routes = APIRouter(tags=["service"], responses=PROBLEMS)

    @routes.get(METRICS, summary="Prometheus metrics", response_class=Response)
    async def exposition(tenant: Reader, request: Request) -> Response:
        """The Prometheus text format. With keys: the runs of the key's tenant, and what is not about runs."""
        caller: Caller = request.scope[CALLER]
        content = metrics.exposition(None if caller.all_metrics else tenant)
        return Response(content, headers={"Content-Type": CONTENT_TYPE})

    return routes
