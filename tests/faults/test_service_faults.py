"""Faults one by one, and what clients are told meanwhile; test_schedules.py has them at random and all together."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import redis

from ..asgi import problem  # noqa: TID252
from ..servers import RedisServer, Service, eventually  # noqa: TID252

GROUPS = 7  # per report


def results(number: int) -> dict[str, Any]:
    """A report of 7 groups, told apart from all others by its prompts."""
    groups = [{"prompt": f"p{(number * GROUPS + place) % 50}", "rewards": [place % 3, 1]} for place in range(GROUPS)]
    return {"step": number // 10, "results": groups}


class Trainer:
    """Reports again and again, each under its own key until it is acknowledged, over the given replicas in turn."""

    def __init__(self, urls: list[str], run: str, first: int = 0) -> None:
        self.urls = itertools.cycle(urls)
        self.path = f"/v1/runs/{run}/report"
        self.number = first
        self.acknowledged = 0
        self.retries = 0
        self.wrong: list[str] = []
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._train)

    def __enter__(self) -> Trainer:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self.thread.join(60)
        assert not self.thread.is_alive()
        assert self.wrong == []

    def _train(self) -> None:
        with httpx.Client(timeout=5.0, trust_env=False) as http:
            while not self.stopping.is_set():
                while not self._delivered(http):
                    self.retries += 1
                    time.sleep(0.01)
                self.acknowledged += 1
                self.number += 1

    def _delivered(self, http: httpx.Client) -> bool:
        headers = {"Idempotency-Key": f"{self.path}-{self.number}"}
        try:
            answer = http.post(next(self.urls) + self.path, json=results(self.number), headers=headers)
        except httpx.TransportError:
            return False
        if answer.status_code not in (200, 503):
            self.wrong.append(f"{answer.status_code}: {answer.text}")
        return answer.status_code != 503

    def went_on(self, reports: int = 5) -> None:
        """Wait until so many more reports are acknowledged."""
        goal = self.acknowledged + reports
        eventually(lambda: self.acknowledged >= goal, 60)


def totals(service: Service, run: str) -> Any:
    return service.json("GET", f"/v1/runs/{run}")["totals"]


def views(service: Service, run: str) -> list[Any]:
    """All that a service tells about a run."""
    path = f"/v1/runs/{run}"
    return [service.json("GET", path + each) for each in ("", "/steps?limit=1000", "/prompts?limit=1000&sort=visits")]


def test_a_service_killed_during_reports_counts_each_acknowledged_one_once(
    start_service: Callable[..., Service],
) -> None:
    service = start_service("--snapshot-every", "20")
    service.json("PUT", "/v1/runs/r", {"train_batch_size": 25})
    with Trainer([service.url], "r") as trainer:
        for _ in range(3):
            trainer.went_on(15)
            service.kill()
            service.start()
        trainer.went_on()
    assert trainer.retries
    assert totals(service, "r")["groups"] == GROUPS * trainer.acknowledged
    assert totals(service, "r")["rollouts"] == 2 * GROUPS * trainer.acknowledged


def test_a_frozen_redis(redis_at: RedisServer, start_service: Callable[..., Service]) -> None:
    service = start_service("--redis-url", redis_at.url, "--deadline", "1")
    service.json("PUT", "/v1/runs/r", {})
    service.json("POST", "/v1/runs/r/report", results(0))
    asked = {"step": 1, "prompts": [f"p{number}" for number in range(60)]}
    fresh = service.json("POST", "/v1/runs/r/select", asked)
    before = totals(service, "r")
    redis_at.signal(signal.SIGSTOP)
    for number in range(4):
        began = time.monotonic()
        answer = service.call("POST", "/v1/runs/r/report", results(1), "frozen")
        assert time.monotonic() - began < 2.0, "the deadline is 1 s"
        problem(answer, 503)
        assert int(answer.headers["retry-after"]) >= 1
        began = time.monotonic()
        stale = service.json("POST", "/v1/runs/r/select", asked, f"s{number}")
        assert time.monotonic() - began < 2.0
        assert {**stale, "stale": False} == fresh
        assert stale["stale"]
    eventually(lambda: not service.ready(), 10)
    assert service.http.get("/livez").status_code == 200
    redis_at.signal(signal.SIGCONT)
    eventually(lambda: service.call("POST", "/v1/runs/r/report", results(1), "frozen").status_code == 200)
    eventually(service.ready)
    assert service.json("POST", "/v1/runs/r/select", asked)["stale"] is False
    assert totals(service, "r")["groups"] == before["groups"] + GROUPS, "the retries under one key count once"


def test_the_embedded_redis_killed_under_the_service(start_service: Callable[..., Service]) -> None:
    service = start_service()
    service.json("PUT", "/v1/runs/r", {"train_batch_size": 25})
    socket = str(service.folder / "data" / "redis.sock")
    with redis.Redis(unix_socket_path=socket) as client, Trainer([service.url], "r") as trainer:
        trainer.went_on(15)
        server: Any = client.info("server")
        os.kill(server["process_id"], signal.SIGKILL)
        trainer.went_on(15)
    assert trainer.retries
    assert totals(service, "r")["groups"] == GROUPS * trainer.acknowledged


def test_a_redis_that_runs_full_refuses_and_goes_on_later(
    redis_at: RedisServer, start_service: Callable[..., Service]
) -> None:
    service = start_service("--redis-url", redis_at.url)
    service.json("PUT", "/v1/runs/r", {})
    first = service.call("POST", "/v1/runs/r/report", results(1), "before")
    with redis_at.client() as client:
        client.config_set("maxmemory", "1")
        again = service.call("POST", "/v1/runs/r/report", results(1), "before")
        assert (again.status_code, again.content) == (200, first.content), "what was answered is answered again"
        assert again.headers["idempotent-replayed"] == "true"
        problem(service.call("POST", "/v1/runs/r/report", results(0), "full"), 503)
        assert service.json("POST", "/v1/runs/r/select", {"step": 0, "prompts": ["a"]})["stale"]
        client.config_set("maxmemory", "0")
    eventually(lambda: service.call("POST", "/v1/runs/r/report", results(0), "full").status_code == 200)
    assert totals(service, "r")["groups"] == 2 * GROUPS


def test_a_redis_restored_from_an_older_backup_is_followed(
    redis_at: RedisServer, start_service: Callable[..., Service]
) -> None:
    service = start_service("--redis-url", redis_at.url, "--snapshot-every", "3")
    service.json("PUT", "/v1/runs/r", {})
    service.json("POST", "/v1/runs/r/report", results(0))
    with redis_at.client() as client:
        backup = {key: client.dump(key) for key in client.scan_iter()}
        kept = views(service, "r")
        for number in range(1, 8):
            service.json("POST", "/v1/runs/r/report", results(number), f"k{number}")
        client.flushall()
        for key, content in backup.items():
            assert isinstance(content, bytes)
            client.restore(key, 0, content)
    assert views(service, "r") == kept
    service.json("POST", "/v1/runs/r/report", results(1), "k1")
    assert totals(service, "r")["groups"] == 2 * GROUPS
