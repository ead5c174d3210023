"""The routes of each step take a way of their own, and whatever is odd in a request takes FastAPI's."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute

from ..asgi import over_shared, problem  # noqa: TID252

CALLS: dict[str, tuple[str, Any]] = {
    "select": ("POST", {"step": 1, "prompts": ["a"]}),
    "pool": ("PUT", {"prompts": ["a"]}),
    "draw": ("POST", {"step": 1, "count": 1}),
    "report": ("POST", {"step": 1, "results": [{"prompt": "a", "rewards": [0, 1]}]}),
}


@pytest.fixture
def fastapis(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What goes FastAPI's way: the last words of paths."""
    paths: list[str] = []
    handle = APIRoute.handle

    async def noting(self: APIRoute, scope: Any, receive: Any, send: Any) -> None:
        paths.append(scope["path"].rpartition("/")[2])
        await handle(self, scope, receive, send)

    monkeypatch.setattr(APIRoute, "handle", noting)
    return paths


def test_the_calls_of_a_step_go_straight(fastapis: list[str]) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        await client.put("/v1/runs/straight", json={})
        fastapis.clear()
        for name in ("pool", "draw", "select", "report"):
            method, body = CALLS[name]
            answer = await client.request(method, f"/v1/runs/straight/{name}", json=body)
            assert answer.status_code == 200
        assert not fastapis

    over_shared(story)


@pytest.mark.parametrize("name", CALLS)
def test_what_is_odd_does_not(fastapis: list[str], name: str) -> None:
    method, body = CALLS[name]

    async def story(client: httpx.AsyncClient) -> None:
        unknown = await client.request(method, f"/v1/runs/straight/{name}?x=1", json=body)
        assert problem(unknown, 422)["errors"][0]["pointer"] == "/query/x"
        named = await client.request(method, f"/v1/runs/-/{name}", json=body)
        assert problem(named, 422)["errors"][0]["pointer"] == "/path/run"
        assert fastapis == [name, name]
        assert problem(await client.get(f"/v1/runs/straight/{name}"), 405)

    over_shared(story)
