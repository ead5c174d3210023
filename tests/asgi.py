"""The application in this process, over any History, without sockets."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Iterable
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


async def answered(
    app: FastAPI, method: str, path: str, headers: Iterable[tuple[str, str]], body: bytes | None
) -> httpx.Response:
    """The answer to one request, byte for byte as given, of a client that hangs up then: a stream ends at once.

    A body of None must not be asked for.
    """
    messages: list[Any] = [{"type": "http.request", "body": body}, {"type": "http.disconnect"}]
    sent: list[Any] = []

    async def receive() -> Any:
        assert body is not None, "the body was asked for"
        return messages.pop(0) if len(messages) > 1 else messages[0]

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http", "root_path": "",
        "method": method, "path": path, "raw_path": path.encode(), "query_string": b"", "state": {},
        "client": ("127.0.0.1", 50_000), "server": ("127.0.0.1", 8080),
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers],
    }  # fmt: skip
    await asyncio.wait_for(app(scope, receive, send), 30)
    content = b"".join(message.get("body", b"") for message in sent[1:])
    return httpx.Response(sent[0]["status"], headers=sent[0]["headers"], content=content)


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
