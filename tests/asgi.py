"""The application in this process, over any History, without sockets."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
from fastapi import FastAPI

from greso_service.api.app import create_app
from greso_service.history.base import History
from greso_service.history.memory import MemoryHistory
from greso_service.settings import load

Story = Callable[[httpx.AsyncClient], Awaitable[None]]

PROBLEM_FIELDS = {"type", "title", "status", "detail", "instance"}


@functools.cache
def _shared() -> FastAPI:
    # Building one takes a tenth of a second, too long for each of hundreds of tests.
    return create_app(load(), MemoryHistory())


def client_of(app: FastAPI) -> httpx.AsyncClient:
    """A client that gets the application's answers, also to what fails in it."""
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url="http://greso", trust_env=False
    )


def over_shared(story: Story) -> None:
    """Tell a story to a client of the application with default settings, which has no runs before and after."""

    async def told() -> None:
        async with client_of(_shared()) as client:
            try:
                await story(client)
            finally:
                for run in (await client.get("/v1/runs", params={"limit": 1000})).json()["runs"]:
                    await client.delete(f"/v1/runs/{run['run']}")

    asyncio.run(told())


def within(story: Story, history: History | None = None, **settings: Any) -> None:
    """Tell a story to a client of a started application of its own."""

    async def told() -> None:
        app = create_app(load(settings), MemoryHistory() if history is None else history)
        async with app.router.lifespan_context(app), client_of(app) as client:
            await story(client)

    asyncio.run(told())


def problem(answer: httpx.Response, status: int) -> Any:
    """The problem that an answer must be, checked for its form."""
    assert answer.status_code == status, answer.text[:2000]
    assert answer.headers["content-type"] == "application/problem+json"
    content = answer.json()
    assert PROBLEM_FIELDS <= content.keys() <= PROBLEM_FIELDS | {"errors"}
    assert content["status"] == status
    assert content["type"].startswith("urn:greso:problem:")
    assert content["title"]
    assert content["detail"]
    assert content["instance"] == answer.headers["x-request-id"] != ""
    for error in content.get("errors", []):
        assert set(error) == {"pointer", "detail"}
        assert error["pointer"] == "" or error["pointer"].startswith("/")
        assert error["detail"]
    return content


def pointers(content: Any) -> list[str]:
    """Where a problem says that the request was wrong."""
    return [error["pointer"] for error in content.get("errors", [])]
