"""More than a service can do: it says so at once, keeps what it has acknowledged, and slow clients keep nobody out."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable
from typing import Any

import httpx

from ..asgi import problem  # noqa: TID252
from ..servers import Service, eventually  # noqa: TID252

CLIENTS = 8
HEAD = "POST /v1/runs/r/report HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def groups(service: Service) -> Any:
    return service.json("GET", "/v1/runs/r")["totals"]["groups"]


class Crowd:
    """Clients that report all at once, each again and again, without waiting when they are turned away."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.acknowledged: list[str] = []
        self.refused: list[httpx.Response] = []
        self.wrong: list[str] = []
        self.enough = threading.Event()
        self.threads = [threading.Thread(target=self._report, args=(number,)) for number in range(CLIENTS)]

    def _report(self, number: int) -> None:
        with httpx.Client(base_url=self.service.url, timeout=30.0, trust_env=False) as http:
            for turn in range(10_000):
                if self.enough.is_set():
                    return
                prompt = f"{number}-{turn}"
                body = {"step": 0, "results": [{"prompt": prompt, "rewards": [0, 1]}]}
                answer = http.post("/v1/runs/r/report", json=body, headers={"Idempotency-Key": prompt})
                if answer.status_code == 503:
                    self.refused.append(answer)
                elif answer.status_code == 200:
                    self.acknowledged.append(prompt)
                else:
                    self.wrong.append(answer.text)

    def until(self, condition: Callable[[], bool]) -> None:
        """Go on until it holds."""
        for thread in self.threads:
            thread.start()
        try:
            eventually(condition, 60)
        finally:
            self.enough.set()
            for thread in self.threads:
                thread.join(60)


def test_overload_is_503_with_retry_after_and_what_is_acknowledged_is_stored(
    start_service: Callable[..., Service],
) -> None:
    service = start_service("--max-in-flight", "1")
    service.json("PUT", "/v1/runs/r", {"train_batch_size": 25})
    crowd = Crowd(service)
    crowd.until(lambda: len(crowd.refused) > 100 and len(crowd.acknowledged) > 100)
    assert crowd.wrong == []
    for answer in crowd.refused:
        assert "max_in_flight (1)" in problem(answer, 503)["detail"]
        assert int(answer.headers["retry-after"]) >= 1
    stored = [row["prompt"] for row in service.json("GET", "/v1/runs/r/prompts?limit=1000&sort=visits")["prompts"]]
    assert groups(service) == len(crowd.acknowledged)
    assert set(stored) <= set(crowd.acknowledged)
    assert service.ready()


def begun(service: Service) -> socket.socket:
    """A client that sends the head of a report, the first byte of its body, and nothing more."""
    client = socket.create_connection(("127.0.0.1", service.port))
    client.sendall(f"{HEAD}Content-Length: 1000\r\n\r\n{{".encode())
    return client


def heard(clients: list[socket.socket]) -> list[socket.socket]:
    """Those that have been told something."""
    return select.select(clients, [], [], 0)[0]


def answer(client: socket.socket) -> str:
    """What it is told."""
    client.settimeout(30)
    told = client.recv(65_536)
    while not told.endswith(b"}") and (more := client.recv(65_536)):
        told += more
    return told.decode()


def test_slow_writers_take_no_place_from_others(start_service: Callable[..., Service]) -> None:
    service = start_service("--max-in-flight", "3")
    service.json("PUT", "/v1/runs/r", {})
    slow = [begun(service) for _ in range(12)]
    try:
        eventually(lambda: "greso_requests_refused_total 9.0" in service.http.get("/metrics").text)
        body = {"step": 0, "results": [{"prompt": "a", "rewards": [0, 1]}]}
        eventually(lambda: service.call("POST", "/v1/runs/r/report", body, "k").status_code == 200, 30)
        eventually(lambda: len(heard(slow)) > 9)
        told = [answer(client) for client in heard(slow)]
        assert any("its place was needed" in text for text in told), "one had to give up its place"
        assert all(text.startswith("HTTP/1.1 503") and "retry-after: " in text for text in told)
        assert groups(service) == 1
    finally:
        for client in slow:
            client.close()


def test_a_slow_reader_takes_no_place_from_others(start_service: Callable[..., Service]) -> None:
    service = start_service("--max-in-flight", "1")
    service.json("PUT", "/v1/runs/r", {})
    for number in range(10):
        prompts = [f"{number} {prompt:0200}" for prompt in range(20_000)]
        service.json("PUT", "/v1/runs/r/pool", {"prompts": prompts})
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(("127.0.0.1", service.port))
        slow.sendall(b"GET /v1/runs/r/export HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert slow.recv(100).startswith(b"HTTP/1.1 200")
        eventually(lambda: service.call("GET", "/v1/runs/r").status_code == 200, 30)
    eventually(lambda: service.call("GET", "/v1/runs/r").status_code == 200, 30)
