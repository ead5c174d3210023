"""The application: everything put together, once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version
from typing import Any

import orjson
from fastapi import FastAPI, Response
from fastapi.responses import RedirectResponse
from pydantic.json_schema import models_json_schema

from greso_service.api import each_step, problems, time_travel, wire
from greso_service.api import runs as run_routes
from greso_service.api.guard import Guard
from greso_service.api.health import Health
from greso_service.errors import StartupError
from greso_service.history.base import History
from greso_service.history.connect import connect
from greso_service.history.redis import RedisHistory
from greso_service.runs import Runs
from greso_service.settings import Settings
from greso_service.telemetry.metrics import CONTENT_TYPE, Metrics

_REQUESTS = (
    wire.RunSpec,
    wire.RunChanges,
    wire.SelectRequest,
    wire.DrawRequest,
    wire.PoolRequest,
    wire.ReportRequest,
    wire.RewindRequest,
    wire.ForkRequest,
)


def create_app(settings: Settings, history: History | None = None) -> FastAPI:
    """The service over `history`, by default the Redis at `settings.redis_url`."""
    metrics = Metrics(version("greso"))
    store = _redis(settings) if history is None else history
    runs = Runs(
        store,
        idempotency_ttl=settings.idempotency_ttl,
        snapshot_every=settings.snapshot_every,
        max_live_runs=settings.max_live_runs,
        observe=lambda _key, added: metrics.count(added),
    )
    health = Health(store, metrics)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await health.ask()
        watching = asyncio.create_task(health.watch())
        try:
            yield
        finally:
            health.draining = True
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching
            await runs.close()
            await store.close()

    app = FastAPI(
        title="greso",
        version=version("greso"),
        description="Decides, before the expensive rollout, which prompts are worth rolling out (GRESO).",
        lifespan=lifespan,
        redoc_url=None,
    )
    app.state.health = health
    # Routes are tried in order: those that every step calls come first.
    routers = [each_step.router(runs, settings), run_routes.router(runs), time_travel.router(runs)]
    for router in routers:
        app.include_router(router)
    _add_service_routes(app, health, metrics)
    problems.install(app, [*app.routes, *(route for router in routers for route in router.routes)])
    app.add_middleware(
        Guard, metrics=metrics, max_in_flight=settings.max_in_flight, max_body_bytes=settings.max_body_bytes
    )
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def _redis(settings: Settings) -> History:
    if settings.redis_url is None:
        raise StartupError("set GRESO_REDIS_URL, or start with `greso serve`, which brings a Redis of its own")
    kind, _, number = settings.durability.partition(":")
    return RedisHistory(
        connect(settings.redis_url, settings.redis_timeout),
        deadline=settings.deadline,
        replicas=int(number) if kind == "replicas" else 0,
        confirm_within=0.8 * settings.redis_timeout,
    )


def _add_service_routes(app: FastAPI, health: Health, metrics: Metrics) -> None:
    @app.get("/livez", tags=["service"], summary="Alive?", responses={200: {"model": wire.Alive}})
    async def livez() -> Response:
        """The process answers; nothing else is touched."""
        return Response(b'{"alive":true}', media_type="application/json")

    @app.get(
        "/readyz",
        tags=["service"],
        summary="Ready?",
        responses={200: {"model": wire.Readiness}, 503: {"model": wire.Readiness}},
    )
    async def readyz() -> Response:
        """200 only when started, not draining and Redis answered lately."""
        components = health.components()
        ready = all(component["ok"] for component in components.values())
        content = orjson.dumps({"ready": ready, "components": components})
        return Response(content, 200 if ready else 503, media_type="application/json")

    @app.get("/version", tags=["service"], summary="Version", responses={200: {"model": wire.Version}})
    async def version_() -> Response:
        """What runs here."""
        return Response(orjson.dumps({"version": app.version, "api": "v1"}), media_type="application/json")

    @app.get("/metrics", tags=["service"], summary="Prometheus metrics", response_class=Response)
    async def exposition() -> Response:
        """The Prometheus text format."""
        return Response(metrics.exposition(), headers={"Content-Type": CONTENT_TYPE})

    @app.get("/", include_in_schema=False)
    async def root() -> Response:
        """The description of the API."""
        return RedirectResponse("/docs")


def _openapi(app: FastAPI) -> dict[str, Any]:
    """FastAPI's schema plus the request bodies, which the routes read and validate themselves."""
    if app.openapi_schema is None:
        schema = FastAPI.openapi(app)
        _, definitions = models_json_schema(
            [(model, "validation") for model in (*_REQUESTS, wire.Problem)], ref_template="#/components/schemas/{model}"
        )
        schema["components"]["schemas"].update(definitions["$defs"])
        app.openapi_schema = schema
    return app.openapi_schema
