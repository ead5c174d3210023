"""The application: everything put together, once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic.json_schema import models_json_schema
from starlette.routing import BaseRoute

from greso_service.access.endings import Endings
from greso_service.access.watched import WatchedKeys
from greso_service.api import (
    each_step,
    events,
    links,
    overview,
    page,
    problems,
    service,
    time_travel,
    wire,
    wire_requests,
)
from greso_service.api import runs as run_routes
from greso_service.api.access import Access, needed, require_scopes
from greso_service.api.guard import Guard
from greso_service.api.health import Health
from greso_service.errors import GresoError, StartupError
from greso_service.heap import Heap
from greso_service.history.base import History
from greso_service.history.connect import connect
from greso_service.history.redis import RedisHistory
from greso_service.placing import end
from greso_service.runs import Runs
from greso_service.settings import Settings
from greso_service.telemetry import tracing
from greso_service.telemetry.metered import MeteredHistory
from greso_service.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

REFRESH_EVERY = 5.0
"""Seconds: the age at most of what a replica's metrics show of a run that another one serves; less than a scrape's."""

_REQUESTS = (
    wire_requests.RunSpec,
    wire_requests.RunChanges,
    wire_requests.SelectRequest,
    wire_requests.DrawRequest,
    wire_requests.PoolRequest,
    wire_requests.ReportRequest,
    wire_requests.RewindRequest,
    wire_requests.ForkRequest,
)


def create_app(settings: Settings, history: History | None = None) -> FastAPI:
    """The service over `history`, by default the Redis at `settings.redis_url`.

    Raises `StartupError` when the keys can't be read.
    """
    keys = None if settings.keys_file is None else WatchedKeys(settings.keys_file)
    metrics = Metrics(
        version("greso"),
        in_flight_limit=settings.max_in_flight,
        most_runs=settings.metrics_runs,
        snapshot_every=settings.snapshot_every,
        seen=lambda: runs.standing(),  # noqa: PLW0108  # there are no runs yet
    )
    store = MeteredHistory(_redis(settings) if history is None else history, metrics)
    runs = Runs(
        store,
        idempotency_ttl=settings.idempotency_ttl,
        snapshot_every=settings.snapshot_every,
        keep_steps=settings.keep_steps,
        max_live_runs=settings.max_live_runs,
        max_live_bytes=settings.max_live_bytes,
        observe=lambda key, events, added, spec: metrics.runs.wrote(key, events, added, spec.group_size),
    )
    metrics.runs_live.set_function(runs.__len__)
    metrics.runs_live_bytes.set_function(lambda: runs.size)
    health = Health(store, metrics, refused_writes=store.refused_writes)
    endings = Endings(settings, keys)
    metrics.access_ends(endings.key, endings.certificate)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await health.ask()
        works = [health.watch(), _keep_current(runs, store, metrics), endings.remind()]
        works += [keys.watch()] if keys else []
        background = [asyncio.create_task(work) for work in works]
        try:
            yield
        finally:
            health.draining = True
            await end(*background)
            await runs.close()
            if stop_tracing is not None:
                await asyncio.to_thread(stop_tracing)
            await store.close()

    app = FastAPI(
        title="greso",
        version=version("greso"),
        description="Decides, before the expensive rollout, which prompts are worth rolling out (GRESO).",
        lifespan=lifespan,
        redoc_url=None,
        docs_url="/docs" if settings.docs else None,
        openapi_url="/openapi.json" if settings.docs else None,
    )
    app.state.health = health
    # Routes are tried in order: those that every step calls come first.
    routers = [
        each_step.router(runs, settings),
        run_routes.router(runs),
        time_travel.router(runs, settings),
        events.router(runs, settings, lambda: health.draining),
        overview.router(runs, version("greso")),
        service.router(health, version("greso")),
        *([service.metrics_router(metrics)] if settings.metrics else []),
        *([page.router()] if settings.dashboard else []),
    ]
    for router in routers:
        app.router.routes += router.routes  # they are whole; included they would be matched twice for each request
    routes = list(app.routes)
    require_scopes(routes)
    problems.install(app, routes)
    _expect_requests(metrics, routes)
    app.add_middleware(Access, settings=settings, keys=keys)
    app.add_middleware(
        Guard,
        metrics=metrics,
        max_in_flight=settings.max_in_flight,
        max_body_bytes=settings.max_body_bytes,
        max_import_bytes=settings.max_import_bytes,
        keyless=keys is None,
        stopping=lambda: health.draining,
    )
    stop_tracing = tracing.install(app) if settings.otel else None
    app.openapi = lambda: _openapi(app, routes, keyless=keys is None)  # type: ignore[method-assign]
    return app


async def _keep_current(runs: Runs, store: History, metrics: Metrics) -> None:
    """Until cancelled: fold what other replicas write, and look how full the store is, so that metrics are current.

    And give memory back that large requests have left.
    """
    heap = Heap()
    while True:
        for look in (partial(_look_at_memory, store, metrics), runs.refresh):  # one may fail and the other not
            try:
                await look()
            except GresoError as error:
                log.debug("metrics are not current: %s", error)  # Health tells of the outage
            except Exception:
                log.exception("metrics are not current; the service goes on")
        await asyncio.to_thread(heap.give_back)
        await asyncio.sleep(REFRESH_EVERY)


async def _look_at_memory(store: History, metrics: Metrics) -> None:
    if usage := await store.usage():
        metrics.store_memory(*usage)


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


def _expect_requests(metrics: Metrics, routes: Iterable[BaseRoute]) -> None:
    for route in routes:
        if isinstance(route, APIRoute):
            declared = [int(status) for status in route.responses if str(status).startswith("2")]
            for method in route.methods or ():
                metrics.expect_requests(method, route.path, declared or [route.status_code or 200])


def _openapi(app: FastAPI, routes: Iterable[BaseRoute], *, keyless: bool) -> dict[str, Any]:
    """FastAPI's schema plus the request bodies, which the routes read and validate themselves, and the scopes."""
    if app.openapi_schema is None:
        schema = FastAPI.openapi(app)
        _, definitions = models_json_schema(
            [(model, "validation") for model in (*_REQUESTS, wire.Problem)], ref_template="#/components/schemas/{model}"
        )
        schema["components"]["schemas"].update(definitions["$defs"])
        _add_security(schema, routes, keyless=keyless)
        links.add(schema)
        app.openapi_schema = schema
    return app.openapi_schema


def _add_security(schema: dict[str, Any], routes: Iterable[BaseRoute], *, keyless: bool) -> None:
    """Say which scope each operation needs. `{}` beside it: this service, without keys, asks for none."""
    described = "a key of `greso keys add`, for a service that has keys"
    schema["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer", "description": described}}
    for route in routes:
        if (scope := needed(route)) is not None and isinstance(route, APIRoute) and route.include_in_schema:
            for method in route.methods or ():
                schema["paths"][route.path_format][method.lower()]["security"] = [
                    *([{}] if keyless else []),
                    {"key": [scope]},
                ]
