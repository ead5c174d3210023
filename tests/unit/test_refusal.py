"""The answer to those for whom there is no place is a problem like every other."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from greso_service.api.refusal import refusal

from ..asgi import problem  # noqa: TID252


def answered(places: int, most: int, name: str, *, close: bool = False) -> httpx.Response:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(refusal(places, most)(name, send, close=close))
    start, body = sent
    assert dict(start["headers"])[b"content-length"] == str(len(body["body"])).encode()
    return httpx.Response(start["status"], headers=start["headers"], content=body["body"])


@pytest.mark.parametrize("name", ["0123456789abcdef", 'a"quote', "back\\slash", "~" * 128])
def test_it_names_the_request(name: str) -> None:
    told = problem(answered(8, 8, name), 503)
    assert told["instance"] == name
    assert told["type"] == "urn:greso:problem:unavailable"
    assert list(told) == ["type", "title", "status", "detail", "instance"]


def test_it_says_why_and_when_to_come_again() -> None:
    most = answered(8, 8, "x")
    assert problem(most, 503)["detail"].startswith(
        "more than max_in_flight (8) requests at once, set by --max-in-flight"
    )
    fewer = answered(5, 8, "x")
    assert problem(fewer, 503)["detail"].startswith(
        "more than 5 (so many are answered in time; max_in_flight (8) is the"
    )
    assert int(most.headers["retry-after"]) >= 1
    assert "connection" not in most.headers


def test_a_service_that_stops_hangs_up() -> None:
    assert answered(8, 8, "x", close=True).headers["connection"] == "close"
    assert "connection" not in answered(8, 8, "x").headers
