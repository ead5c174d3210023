"""Replicas behind a load balancer, restarted in turn under load: clients that ask twice notice nothing."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ..servers import STOP_SECONDS, RedisServer, Service, eventually  # noqa: TID252
from .balancing import Balancer

CLIENTS = 4


class Reporter:
    """`reporting.py`, running."""

    def __init__(self, url: str, name: str) -> None:
        script = Path(__file__).with_name("reporting.py")
        self.process = subprocess.Popen(
            [sys.executable, script, url, "r", name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def begun(self) -> bool:
        """Whether it has had a first answer; waits for it."""
        assert self.process.stdout is not None
        return self.process.stdout.readline() == "reporting\n"

    def stop(self) -> Any:
        """End it; what became of its reports."""
        said, _ = self.process.communicate(timeout=60)  # closes its input
        return json.loads(said)

    def kill(self) -> None:
        """Whatever it does."""
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def replicas(redis_at: RedisServer, start_service: Callable[..., Service]) -> list[Service]:
    started = [start_service("--redis-url", redis_at.url, "--drain", "1") for _ in range(2)]
    started[0].json("PUT", "/v1/runs/r", {"train_batch_size": 25})
    return started


@pytest.fixture
def balancer(replicas: list[Service]) -> Iterator[Balancer]:
    with Balancer([replica.port for replica in replicas]) as running:
        eventually(lambda: len(running.ready) == len(replicas))
        yield running


def groups(service: Service) -> int:
    return int(service.json("GET", "/v1/runs/r")["totals"]["groups"])


def prompts(service: Service) -> dict[str, int]:
    """How often each was reported."""
    visits, query = dict[str, int](), ""
    while True:
        page = service.json("GET", f"/v1/runs/r/prompts?limit=1000{query}")
        visits |= {row["prompt"]: row["visits"] for row in page["prompts"]}
        if page["cursor"] is None:
            return visits
        query = f"&cursor={page['cursor']}"


def went_on(service: Service, reports: int = 30) -> None:
    goal = groups(service) + reports
    eventually(lambda: groups(service) >= goal, 60)


@pytest.mark.slow
def test_a_rolling_restart_loses_no_report_and_shows_no_error(replicas: list[Service], balancer: Balancer) -> None:
    clients = [Reporter(balancer.url, f"client{number}") for number in range(CLIENTS)]
    try:
        assert all(client.begun() for client in clients)
        for stopped, other in (replicas, replicas[::-1]):
            went_on(other)
            stopped.signal(signal.SIGTERM)
            eventually(lambda port=stopped.port: port not in balancer.ready, 30)  # type: ignore[misc]
            assert stopped.process is not None
            assert stopped.process.wait(STOP_SECONDS) == 0, stopped.said()
            went_on(other)
            stopped.start()
            eventually(lambda port=stopped.port: port in balancer.ready, 30)  # type: ignore[misc]
        went_on(replicas[0])
        became = [client.stop() for client in clients]
    finally:
        for client in clients:
            client.kill()
    assert [each["refused"] for each in became] == [[]] * CLIENTS
    acknowledged = [prompt for each in became for prompt in each["acknowledged"]]
    assert prompts(replicas[0]) == prompts(replicas[1]) == dict.fromkeys(acknowledged, 1)
    assert "Traceback" not in replicas[0].said() + replicas[1].said()


def test_readiness_is_red_while_a_service_that_is_told_to_stop_goes_on(start_service: Callable[..., Service]) -> None:
    service = start_service("--drain", "600")
    service.json("PUT", "/v1/runs/r", {})
    service.signal(signal.SIGTERM)
    eventually(lambda: not service.ready())
    report = service.call("POST", "/v1/runs/r/report", {"step": 0, "results": [{"prompt": "a", "rewards": [0, 1]}]})
    assert report.status_code == 200
    assert report.headers["connection"] == "close", "the next request is to go elsewhere"
    told = service.http.get("/readyz").json()
    assert told["components"]["service"] == {"ok": False, "detail": "draining"}
    service.signal(signal.SIGINT)  # in a hurry
    assert service.process is not None
    assert service.process.wait(STOP_SECONDS) == 0, service.said()
