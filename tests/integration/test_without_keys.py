"""A service without keys answers those who reach its machine, and no web page that borrows their browser."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greso_service.api.app import create_app
from greso_service.history.memory import MemoryHistory
from greso_service.settings import load

from ..asgi import answered, problem  # noqa: TID252


def asked(
    host: str | None, /, method: str = "GET", path: str = "/v1/runs", origin: str | None = None, **options: Any
) -> httpx.Response:
    """The answer to one request that names this host and comes from a page of this origin."""
    app = create_app(load(options), MemoryHistory())

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
            request = client.build_request(method, path, content=b"{}" if method in {"PUT", "POST"} else None)
            del request.headers["host"]
            if host is not None:
                request.headers["host"] = host
            if origin is not None:
                request.headers["origin"] = origin
            return await client.send(request)

    return asyncio.run(ask())


APP = create_app(load(), MemoryHistory())
ANY = {"host": "0.0.0.0", "allow_unauthenticated": "true"}


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.0.0.1:8080", "[::1]:8080", "localhost:8080", "LOCALHOST", "greso.localhost:8080",
        "greso:8080", "10.1.2.3:8080", "[fe80::1]", "localhost.", None,
    ],
)  # fmt: skip
def test_it_is_asked_by_address_by_localhost_and_by_names_of_no_domain(host: str | None) -> None:
    assert asked(host).status_code == 200
    assert asked(host, "PUT", "/v1/runs/r").status_code == 201


@pytest.mark.parametrize("path", ["/v1/runs", "/", "/metrics", "/livez", "/docs", "/nowhere"])
@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil.example", "evil.example."]
)
def test_a_name_that_a_domain_may_have_led_here_is_refused(host: str, path: str) -> None:
    detail = problem(asked(host, path=path), 421)["detail"]
    assert "is not asked as" in detail
    assert "--allowed-hosts" in detail


def test_hosts_that_are_named_are_served() -> None:
    named = {"allowed_hosts": "greso.example, Other.example"}
    for host in ("greso.example", "GRESO.example:443", "other.example", "127.0.0.1"):
        assert asked(host, **named).status_code == 200
    problem(asked("evil.example", **named), 421)
    assert asked("evil.example", allowed_hosts="*").status_code == 200


def test_one_that_listens_for_all_serves_all_unless_hosts_are_named() -> None:
    assert asked("greso.greso.svc:8080", **ANY).status_code == 200
    assert asked("greso.greso:8080", **ANY, allowed_hosts="greso.greso").status_code == 200
    problem(asked("evil.example", **ANY, allowed_hosts="greso"), 421)
    problem(asked("10.1.2.3:8080", "PUT", "/v1/runs/r", "https://evil.example", **ANY), 403)
    assert asked("10.1.2.3", "PUT", "/v1/runs/r", "https://a.b", **ANY, allowed_hosts="*").status_code == 201


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("localhost:9999", "http://localhost:9999"),  # through a tunnel
        ("[::1]:8080", "http://[::1]:8080"),
        ("localhost", "http://localhost"),
    ],
)
def test_its_own_page_is_answered(host: str, origin: str) -> None:
    assert asked(host, origin=origin).status_code == 200
    assert asked(host, "PUT", "/v1/runs/r", origin).status_code == 201


@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "PATCH", "DELETE"])
@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "http://127.0.0.1:3000",
        "http://localhost:8080",
        "",
        "http://127.0.0.1:8080.evil",
    ],
)
def test_a_page_of_another_site_is_refused(method: str, origin: str) -> None:
    answer = asked("127.0.0.1:8080", method, "/v1/runs/r", origin)
    assert "answers no pages of other sites" in problem(answer, 403)["detail"]
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    ("site", "mode", "status"),
    [
        ("cross-site", "no-cors", 403),
        ("cross-site", "navigate", 200),
        ("same-origin", "cors", 200),
        ("none", "navigate", 200),
    ],
)
def test_what_a_page_of_another_site_embeds_is_refused_and_a_link_is_followed(
    site: str, mode: str, status: int
) -> None:
    headers = [("Host", "localhost"), ("Sec-Fetch-Site", site), ("Sec-Fetch-Mode", mode)]
    assert asyncio.run(answered(APP, "GET", "/v1/runs", headers, b"")).status_code == status


def test_a_proxy_that_renames_the_host_can_name_its_own() -> None:
    behind = {"allowed_hosts": "greso.example"}
    assert asked("127.0.0.1:8080", "PUT", "/v1/runs/r", "https://greso.example", **behind).status_code == 201
    problem(asked("127.0.0.1:8080", "PUT", "/v1/runs/r", "https://evil.example", **behind), 403)


def test_a_key_that_is_sent_without_need_is_no_matter() -> None:
    app = create_app(load(), MemoryHistory())

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            return await client.get("/v1/runs", headers={"Authorization": "Bearer whatever"})

    assert asyncio.run(ask()).status_code == 200


@settings(max_examples=300)
@given(st.sampled_from(["host", "origin", "authorization", "x-request-id"]), st.binary(max_size=60))
def test_no_header_makes_it_stumble(name: str, value: bytes) -> None:
    answer = asyncio.run(answered(APP, "GET", "/v1/runs", [(name, value.decode("latin-1"))], b""))
    assert answer.status_code in {200, 403, 421}


@pytest.mark.parametrize("origin", ["http://[", "http://[::1", "http://]", "//", "http://", "http://[v1.x]"])
def test_an_origin_that_is_none_is_foreign(origin: str) -> None:
    problem(asyncio.run(answered(APP, "GET", "/v1/runs", [("Host", "localhost"), ("Origin", origin)], b"")), 403)


@pytest.mark.parametrize(
    ("setting", "paths"),
    [("docs", ["/docs", "/openapi.json"]), ("dashboard", ["/", "/dashboard/app.js"]), ("metrics", ["/metrics"])],
)
def test_what_is_closed_is_not_there(setting: str, paths: list[str]) -> None:
    for path in paths:
        assert asked("localhost", path=path).status_code == 200
        problem(asked("localhost", path=path, **{setting: "false"}), 404)
    assert asked("localhost", path="/v1/runs", **{setting: "false"}).status_code == 200
