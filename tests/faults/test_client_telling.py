"""What clients went through without the service stands in the service's metrics once it is back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from greso_client import AsyncClient, Client, Group

from ..servers import Service  # noqa: TID252 - tests are no installed package

GROUPS = [Group("a", [0.0, 1.0])]
OUTAGE = 5  # reports made while the service is away
TOLD = {
    "client_degraded_answers": OUTAGE + 1,  # and one select
    "client_spooled_reports": OUTAGE,
    "client_delivered_reports": OUTAGE,
    "client_lost_reports": 0,
}


def told(service: Service, run: str) -> dict[str, int]:
    """The client's counters of a run as Prometheus scrapes them."""
    lines = dict(line.rsplit(" ", 1) for line in service.call("GET", "/metrics").text.splitlines())
    return {name: int(float(lines[f'greso_{name}_total{{run="{run}"}}'])) for name in TOLD}


@pytest.fixture
def service(start_service: Callable[..., Service]) -> Service:
    service = start_service()
    service.json("PUT", "/v1/runs/r", {})
    return service


def test_an_outage_that_a_client_went_through_is_in_the_metrics(service: Service, tmp_path: Path) -> None:
    with Client(service.url, run="r", budget=3.0, spool=tmp_path / "spool") as client:
        client.report(0, GROUPS)
        service.kill()
        assert client.select(1, ["a"]).degraded
        assert all(client.report(step, GROUPS).degraded for step in range(OUTAGE))
        service.start()
        assert client.flush(within=30)
    assert told(service, "r") == TOLD


def test_the_async_client_tells_it_too(service: Service, tmp_path: Path) -> None:
    async def train() -> None:
        async with AsyncClient(service.url, run="r", budget=3.0, spool=tmp_path / "spool") as client:
            await client.report(0, GROUPS)
            service.kill()
            assert (await client.select(1, ["a"])).degraded
            for step in range(OUTAGE):
                assert (await client.report(step, GROUPS)).degraded
            await asyncio.to_thread(service.start)
            assert await client.flush(within=30)

    asyncio.run(train())
    assert told(service, "r") == TOLD


def test_a_report_that_is_refused_on_delivery_is_told_as_lost(service: Service, tmp_path: Path) -> None:
    with Client(service.url, run="r", budget=3.0, spool=tmp_path / "spool") as client:
        client.state()
        service.kill()
        assert client.report(0, GROUPS).degraded
        service.start()
        assert service.json("POST", "/v1/runs/r/report", {"step": 0, "results": [], "final": True})
        service.json("POST", "/v1/runs/r/rewind", {"step": 0}, "another-trainer")  # which fences this one
        assert client.flush(within=30)
    assert told(service, "r") == {
        "client_degraded_answers": 1,
        "client_spooled_reports": 1,
        "client_delivered_reports": 0,
        "client_lost_reports": 1,
    }
