"""What a service tells about a run, as it is and folded anew, and what of a trainer's reports is in it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import httpx

from greso_service.history.connect import connect
from greso_service.history.redis import RedisHistory

from ..asgi import within  # noqa: TID252
from ..servers import Service  # noqa: TID252
from .trainer import Trainer

TRIES = 100  # on a loaded machine sentinels think now and then that a server is down


@dataclass(frozen=True)
class Views:
    """All that can be seen of a run: its state, its steps, its map, and each prompt by its name."""

    state: Any
    steps: Any
    map: Any
    prompts: dict[str, Any]


async def _seen(client: httpx.AsyncClient, run: str) -> Views:
    async def get(path: str) -> Any:
        for _ in range(TRIES):
            answer = await client.get(f"/v1/runs/{run}{path}")
            if answer.status_code != 503:
                break
            await asyncio.sleep(0.1)
        assert answer.is_success, answer.text
        return answer.json()

    prompts: dict[str, Any] = {}
    cursor: str | None = ""
    while cursor is not None:
        page = await get(f"/prompts?sort=visits&limit=1000{cursor}")
        prompts |= {prompt["prompt"]: prompt for prompt in page["prompts"]}
        cursor = page["cursor"] and f"&cursor={page['cursor']}"
    return Views(await get(""), await get("/steps?limit=1000"), await get("/map?limit=200"), prompts)


def seen(service: Service, run: str) -> Views:
    """What a running service tells."""

    async def look() -> Views:
        async with httpx.AsyncClient(base_url=service.url, timeout=30, trust_env=False) as client:
            return await _seen(client, run)

    return asyncio.run(look())


def seen_anew(url: str, run: str) -> Views:
    """What a replica of the service tells that has just been started on the Redis at `url`."""
    found: list[Views] = []

    async def story(client: httpx.AsyncClient) -> None:
        found.append(await _seen(client, run))

    within(story, RedisHistory(connect(url, 5.0), deadline=10.0))
    return found[0]


def lost(views: Views, trainer: Trainer) -> list[int]:
    """The acknowledged reports that are not in the state; none may be in it twice, and the totals must agree."""
    found = {
        int(name.removeprefix("only-")): prompt["visits"]
        for name, prompt in views.prompts.items()
        if name.startswith("only-") and prompt["visits"]
    }
    assert set(found.values()) <= {1}, "a report is counted twice"
    assert views.state["totals"]["groups"] == 2 * len(found)
    assert len(found.keys() - trainer.acknowledged.keys()) <= 1, "the one that was under way at the end"
    return sorted(trainer.acknowledged.keys() - found.keys())
