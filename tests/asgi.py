"""The application in this process, over any History, without sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

from greso_service.api.app import create_app
from greso_service.history.base import History
from greso_service.history.memory import MemoryHistory
from greso_service.settings import Settings

PROBLEM_FIELDS = {"type", "title", "status", "detail", "instance"}


def within(
    story: Callable[[httpx.AsyncClient], Awaitable[None]], history: History | None = None, **settings: Any
) -> None:
    """Tell a story to a client of a started application with these settings."""

    async def told() -> None:
        app = create_app(Settings(**settings), MemoryHistory() if history is None else history)
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://greso") as client:
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
