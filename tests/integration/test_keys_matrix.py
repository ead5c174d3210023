"""Every route of the application against every wrong key. A new route stands here by itself, and must be closed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.routing import Route

from greso_service.access import key_file
from greso_service.access import keys as access
from greso_service.access.keys import SCOPES, Keyring, Scope
from greso_service.access.watched import WatchedKeys
from greso_service.api import page
from greso_service.api.access import CALLER, Access, Caller, is_open, needed
from greso_service.api.app import create_app
from greso_service.history.memory import MemoryHistory
from greso_service.settings import load

from ..asgi import answered, client_of, problem  # noqa: TID252
from ..keys import KeyFile, bearer  # noqa: TID252

Headers = list[tuple[str, str]]
JSON = ("Content-Type", "application/json")

OPEN = {
    "/", "/dashboard/{file}", "/docs", "/docs/oauth2-redirect", "/livez", "/openapi.json", "/readyz", "/version",
}  # fmt: skip

# What each call needs, by the contract: each step's calls and what makes a run write, looking reads.
ADMIN = {"DELETE /v1/runs/{run}", "POST /v1/runs/{run}/rewind", "PUT /v1/runs/{run}/import"}

BODIES: dict[str, Any] = {
    "PUT /v1/runs/{run}": {},
    "PATCH /v1/runs/{run}": {"train_batch_size": 7},
    "POST /v1/runs/{run}/select": {"step": 1, "prompts": ["a"]},
    "PUT /v1/runs/{run}/pool": {"prompts": ["b"]},
    "POST /v1/runs/{run}/draw": {"step": 1},
    "POST /v1/runs/{run}/report": {"step": 1, "results": [{"prompt": "a", "rewards": [0, 1]}]},
    "POST /v1/runs/{run}/rewind": {"step": 0},
    "POST /v1/runs/{run}/fork": {"run": "forked"},
}
MAKES_A_RUN = {"PUT /v1/runs/{run}", "PUT /v1/runs/{run}/import"}
"""Where a run of another tenant is no hindrance: the name is free for this one."""


class World:
    """An application with keys of two tenants, and a run of the first."""

    def __init__(self, folder: Path) -> None:
        self.file = KeyFile(folder / "keys.json")
        self.keys: dict[Scope, str] = {scope: self.file.add("team-a", scope) for scope in SCOPES}
        self.other = self.file.add("team-b", "admin")
        self.expired = _expired(self.file)
        self.revoked = self.file.add("team-a", "admin", name="gone")
        self.file.revoke("gone")
        self.app = create_app(load({"keys_file": str(self.file.path)}), MemoryHistory())

    def wrong(self) -> dict[str, list[tuple[str, str]]]:
        """Headers that let nobody in, by what is wrong with them."""
        good = self.keys["admin"]
        values = {
            "an empty header": [""],
            "no key": ["Bearer"],
            "an empty key": ["Bearer "],
            "garbage": ["Bearer \xff\x00garbage"],
            "a guess": ["Bearer " + access.PREFIX + "A" * 43],
            "another scheme": [f"Basic {good}"],
            "no scheme": [good],
            "a key cut short": [f"Bearer {good[:-1]}"],
            "a key and more": [f"Bearer {good}x"],
            "in capitals": [f"Bearer {good.upper()}"],
            "two keys": [f"Bearer {good}, Bearer {good}"],
            "two headers": [f"Bearer {good}", f"Bearer {good}"],
            "its digest, which stands in the file": [f"Bearer {access.digest(good)}"],
            "an expired key": [f"Bearer {self.expired}"],
            "a revoked key": [f"Bearer {self.revoked}"],
        }
        return {"no header": [], **{what: [("Authorization", v) for v in given] for what, given in values.items()}}


def _expired(file: KeyFile) -> str:
    return file.add("team-a", "admin", expires=datetime.now(UTC) - timedelta(seconds=1))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("keys"))


def calls(app: FastAPI) -> Iterator[tuple[str, Route]]:
    """`METHOD template` of each call that the application routes, and the route."""
    for route in app.routes:
        assert isinstance(route, Route)
        for method in sorted(route.methods or ()):
            yield f"{method} {route.path}", route


ROUTES = dict(calls(create_app(load(), MemoryHistory())))
CLOSED = {call: route for call, route in ROUTES.items() if route.path not in OPEN}


def path_of(route: Route) -> str:
    return route.path.replace("{run}", "r").replace("{prompt:id}", "secret-prompt")


def holding(token: str) -> Headers:
    """The headers that carry a key."""
    return list(bearer(token).items())


async def ask(app: FastAPI, call: str, headers: Headers) -> httpx.Response:
    """The answer to a call on the run `r`."""
    route = CLOSED[call]
    body = json.dumps(BODIES.get(call, {})).encode()
    return await answered(app, call.partition(" ")[0], path_of(route), [*headers, JSON], body)


async def begun(client: httpx.AsyncClient, world: World) -> bytes:
    """Team A's run, made anew; its history."""
    write, admin = bearer(world.keys["write"]), bearer(world.keys["admin"])
    for key in (admin, bearer(world.other)):
        for run in (await client.get("/v1/runs", headers=key)).json()["runs"]:
            assert (await client.delete(f"/v1/runs/{run['run']}", headers=key)).status_code == 204
    assert (await client.put("/v1/runs/r", json={"train_batch_size": 1}, headers=write)).status_code == 201
    results = [{"prompt": "secret-prompt", "rewards": [0, 1]}]
    body = {"step": 0, "results": results, "final": True}
    assert (await client.post("/v1/runs/r/report", json=body, headers=write)).status_code == 200
    return await exported(client, world)


async def exported(client: httpx.AsyncClient, world: World) -> bytes:
    answer = await client.get("/v1/runs/r/export", headers=bearer(world.keys["read"]))
    assert answer.status_code == 200
    return answer.content


def test_the_open_routes_are_these_and_no_others() -> None:
    assert {route.path for route in ROUTES.values() if is_open(route.path)} == OPEN
    assert len(CLOSED) > 20


@pytest.mark.parametrize("call", CLOSED)
def test_each_call_needs_the_scope_that_the_contract_says(call: str) -> None:
    least = "read" if call.startswith("GET ") else "admin" if call in ADMIN else "write"
    assert needed(CLOSED[call]) == least


def test_no_wrong_key_opens_a_route_or_changes_anything(world: World) -> None:
    async def story() -> None:
        async with client_of(world.app) as client:
            before = await begun(client, world)
            for call in CLOSED:
                for what, headers in world.wrong().items():
                    answer = await ask(world.app, call, headers)
                    assert answer.status_code == 401, f"{call} with {what}: {answer.status_code} {answer.text[:200]}"
                    assert answer.headers["www-authenticate"] == "Bearer"
                    problem(answer, 401)
                    for secret in (*world.keys.values(), world.expired, world.revoked, "secret-prompt"):
                        assert secret not in answer.text
            assert await exported(client, world) == before

    asyncio.run(story())


def test_a_lesser_scope_is_refused_by_its_name_and_changes_nothing(world: World) -> None:
    async def story() -> None:
        async with client_of(world.app) as client:
            before = await begun(client, world)
            for call, route in CLOSED.items():
                least = needed(route)
                assert least is not None
                for scope in SCOPES[: SCOPES.index(least)]:
                    told = problem(await ask(world.app, call, holding(world.keys[scope])), 403)["detail"]
                    assert told == f"this needs a key with the scope {least}; the key given has {scope}", call
            assert await exported(client, world) == before

    asyncio.run(story())


def test_the_scope_needed_and_every_wider_one_are_let_in(world: World) -> None:
    async def story() -> None:
        async with client_of(world.app) as client:
            for call, route in CLOSED.items():
                least = needed(route)
                assert least is not None
                for scope in SCOPES[SCOPES.index(least) :]:
                    await begun(client, world)
                    answer = await ask(world.app, call, holding(world.keys[scope]))
                    assert answer.status_code not in {401, 403, 404, 405, 500}, f"{call} with {scope}: {answer.text}"

    asyncio.run(story())


def test_a_run_of_another_tenant_is_as_if_it_did_not_exist(world: World) -> None:
    async def story() -> None:
        async with client_of(world.app) as client:
            for call, route in CLOSED.items():
                before = await begun(client, world)
                answer = await ask(world.app, call, holding(world.other))
                assert "secret-prompt" not in answer.text.replace("no prompt 'secret-prompt'", ""), call
                if "{run}" in route.path and call not in MAKES_A_RUN:
                    there = problem(answer, 404)["detail"]
                    assert there == "there is no run r; create it with PUT /v1/runs/r", call
                assert await exported(client, world) == before, call

    asyncio.run(story())


@pytest.mark.parametrize("call", CLOSED)
def test_nothing_of_the_body_is_read_before_the_key_is_looked_at(call: str, world: World) -> None:
    async def refused(headers: Headers) -> int:
        method, path = call.partition(" ")[0], path_of(CLOSED[call])
        return (await answered(world.app, method, path, [*headers, JSON], None)).status_code

    assert asyncio.run(refused([])) == 401
    if needed(CLOSED[call]) != "read":
        assert asyncio.run(refused(holding(world.keys["read"]))) == 403


@pytest.mark.parametrize("path", sorted(OPEN))
def test_probes_and_static_files_need_no_key_and_tell_of_no_run(path: str, world: World) -> None:
    async def story() -> None:
        async with client_of(world.app) as client:
            await begun(client, world)
            answer = await client.get(path.replace("{file}", "app.js"))
            assert answer.status_code in {200, 503}  # not ready: this application was not started
            assert "team-a" not in answer.text
            assert "secret-prompt" not in answer.text

    asyncio.run(story())


def test_what_is_routed_nowhere_needs_a_key_all_the_same(world: World) -> None:
    async def story() -> None:
        async with client_of(world.app) as client:
            for path in (
                "/v1",
                "/v1/runs/",
                "/v2/runs",
                "/metrics/",
                "//v1/runs",
                "/dashboard",
                "/livez/",
                "/v1/nothing",
            ):
                problem(await client.get(path), 401)
            problem(await client.get("/v1/nothing", headers=bearer(world.keys["read"])), 404)
            problem(await client.request("OPTIONS", "/v1/runs"), 401)

    asyncio.run(story())


@pytest.mark.parametrize("keyless", [False, True], ids=["with keys", "without"])
def test_the_description_tells_the_scopes_and_whether_a_key_is_needed(world: World, keyless: bool) -> None:
    described = (create_app(load(), MemoryHistory()) if keyless else world.app).openapi()
    assert described["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    told = {
        f"{method.upper()} {path}": operation.get("security")
        for path, methods in described["paths"].items()
        for method, operation in methods.items()
    }
    for call, route in ROUTES.items():
        if (name := call.replace(":id}", "}")) in told:
            needs = [*([{}] if keyless else []), {"key": [needed(route)]}]
            assert told[name] == (None if is_open(route.path) else needs)


@pytest.mark.parametrize("path", ["/v1/runs/{run}/new", "/elsewhere"])
def test_an_application_with_a_route_that_names_no_scope_does_not_start(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = page.router

    async def nothing() -> None:
        return None

    def with_another() -> Any:
        routes = made()
        routes.add_api_route(path, nothing)
        return routes

    monkeypatch.setattr(page, "router", with_another)
    with pytest.raises(AssertionError, match="must have a parameter for its scope"):
        create_app(load(), MemoryHistory())


def test_a_key_that_expires_is_refused_from_that_moment_on(tmp_path: Path) -> None:
    now = datetime(2026, 12, 1, tzinfo=UTC)
    key, token = access.made(tenant="t", scopes=["read"], name="n", now=now, expires=now + timedelta(hours=1))
    (tmp_path / "keys.json").write_text(Keyring([key]).dumps())
    app = create_app(load({"keys_file": str(tmp_path / "keys.json")}), MemoryHistory())
    [clocked] = [each for each in app.user_middleware if "keys" in each.kwargs]
    clocked.kwargs["clock"] = lambda: now

    async def story() -> None:
        nonlocal now
        async with client_of(app) as client:
            now += timedelta(minutes=59, seconds=59)
            assert (await client.get("/v1/runs", headers=bearer(token))).status_code == 200
            now += timedelta(seconds=1)
            detail = problem(await client.get("/v1/runs", headers=bearer(token)), 401)["detail"]
            assert detail == f"the key {key.id} has expired; ask for a new one"

    asyncio.run(story())


def test_a_long_answer_can_ask_whether_its_key_still_holds(tmp_path: Path) -> None:
    now = datetime(2026, 12, 1, tzinfo=UTC)
    file = KeyFile(tmp_path / "keys.json")
    revoked = file.add("t", "read", name="revoked")
    key, expiring = access.made(tenant="t", scopes=["read"], name="n", now=now, expires=now + timedelta(hours=1))
    key_file.change(file.path, lambda ring: ring.with_key(key))
    watched, callers = WatchedKeys(file.path), list[Caller]()

    async def routes(scope: Any, _receive: Any, _send: Any) -> None:
        callers.append(scope[CALLER])

    guarded = Access(routes, settings=load(), keys=watched, clock=lambda: now)
    for token in (revoked, expiring):
        scope = {"type": "http", "path": "/v1/runs", "headers": [(b"authorization", f"Bearer {token}".encode())]}
        asyncio.run(guarded(scope, asyncio.sleep, asyncio.sleep))  # type: ignore[arg-type]  # neither is called
    assert [caller.welcome() for caller in callers] == [True, True]
    file.revoke("revoked")
    watched.look()
    assert [caller.welcome() for caller in callers] == [False, True]
    now += timedelta(hours=1)
    assert [caller.welcome() for caller in callers] == [False, False]
