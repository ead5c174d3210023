"""The routes that the page and `greso top` look at runs with."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Query, Response

from greso_service import views, why
from greso_service.answers import Answer
from greso_service.api import wire_views
from greso_service.api.access import Reader
from greso_service.api.shared import KNOWN_QUERY, PROBLEMS, RunName, json_response, page_of
from greso_service.core.limits import LARGEST_STEP
from greso_service.core.state import RunState
from greso_service.errors import NotFound
from greso_service.history.base import RunKey
from greso_service.runs import Runs

PATIENCE = 1.0
"""Seconds to wait for runs that are not in memory; a run of a million prompts takes longer."""


def router(runs: Runs, version: str, clock: Callable[[], float] = time.time) -> APIRouter:
    """The routes, bound to the use cases they call. `clock`: seconds since 1970, to tell how long a run is idle."""
    routes = APIRouter(prefix="/v1", responses=PROBLEMS, dependencies=KNOWN_QUERY, tags=["overview"])

    @routes.get("/overview", summary="Runs at a glance", responses={200: {"model": wire_views.Overview}})
    async def overview(
        tenant: Reader,
        limit: Annotated[int, Query(ge=1, le=100, description="runs at most")] = 20,
        cursor: Annotated[str | None, Query()] = None,
    ) -> Response:
        """Newest activity first. Runs not in memory are read, as far as there is room; until then they are `cold`.

        So are those on a shard of a Redis Cluster that is away.
        """
        page, following = page_of(await runs.listed(tenant), limit, cursor)
        active = {RunKey(tenant, listed.run): listed.active_ms for listed in page if not listed.away}
        at_hand = await runs.at_hand(list(active), PATIENCE)
        rows = []
        for key in at_hand.ready:
            with suppress(NotFound):  # deleted since the list was made
                rows.append(await runs.look(key, _row(key.run, active[key]), use=False))
        content = {
            "runs": rows,
            "cold": [key.run for key in at_hand.cold] + [listed.run for listed in page if listed.away],
            "unreadable": [key.run for key in at_hand.unreadable],
            "cursor": following,
            "version": version,
        }
        return Response(orjson.dumps(content), media_type="application/json")

    def _row(run: str, active_ms: int) -> Callable[[RunState], dict[str, Any]]:
        return lambda state: views.row(run, state, active_ms, clock())

    @routes.get("/runs/{run}/overview", summary="A run at a glance", responses={200: {"model": wire_views.RunOverview}})
    async def run_overview(run: RunName, tenant: Reader) -> Response:
        """What stands in the overview of all runs, the spec, and what to change."""
        active_ms = next((listed.active_ms for listed in await runs.listed(tenant) if listed.run == run), 0)

        def look(state: RunState) -> Answer:
            return views.overview(run, state, active_ms, clock())

        return json_response(await runs.look(RunKey(tenant, run), look))

    @routes.get("/runs/{run}/curves", summary="Steps as columns", responses={200: {"model": wire_views.Curves}})
    async def curves(
        run: RunName,
        tenant: Reader,
        after: Annotated[int, Query(ge=-1, le=LARGEST_STEP)] = -1,
        points: Annotated[int, Query(ge=10, le=2000, description="points at most")] = 300,
    ) -> Response:
        """The steps after `after`; a point sums as many of them as it takes."""
        return json_response(await runs.look(RunKey(tenant, run), lambda state: views.curves(state, after, points)))

    @routes.get("/runs/{run}/map", summary="The selection map", responses={200: {"model": wire_views.SelectionMap}})
    async def selection_map(
        run: RunName,
        tenant: Reader,
        sort: Literal["streak", "visits", "mean", "last_step", "kind"] = "streak",
        limit: Annotated[int, Query(ge=1, le=256, description="prompts at most")] = 100,
    ) -> Response:
        """What became of a sample of the run's prompts, visit by visit; by descending `sort`."""
        return json_response(
            await runs.look(RunKey(tenant, run), lambda state: views.selection_map(state, sort, limit))
        )

    @routes.get(
        "/runs/{run}/why/{prompt:id}", summary="Why a prompt is skipped", responses={200: {"model": wire_views.Why}}
    )
    async def why_kept(run: RunName, tenant: Reader, prompt: str) -> Response:
        """Whether the step at work keeps the prompt, why, and which step would. The id is percent-encoded."""

        def look(state: RunState) -> Answer:
            found = why.answer(state, prompt)
            if found is None:
                raise NotFound(f"run {run} has no prompt {prompt!r}")
            return found

        return json_response(await runs.look(RunKey(tenant, run), look))

    return routes
