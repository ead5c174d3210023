"""What only a served application shows: bodies on the wire, connections, overload by real requests."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from ..asgi import problem  # noqa: TID252
from ..servers import Service, eventually  # noqa: TID252


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with small limits."""
    service = Service(tmp_path_factory.mktemp("small"), "--max-body-bytes", "65536", "--max-in-flight", "2")
    try:
        yield service.start()
    finally:
        service.close()


def spoken(service: Service, sent: bytes) -> bytes:
    """What a service answers on a connection to these bytes until it closes it."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as connection:
        connection.sendall(sent)
        received = b""
        with contextlib.suppress(ConnectionResetError):  # a server that hangs up with bytes unread ends so
            while part := connection.recv(65536):
                received += part
    return received


def heads(answers: bytes) -> list[int]:
    """The status of each answer."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", answers)]


def test_a_body_declared_too_large_is_refused_without_being_read(small: Service) -> None:
    answer = spoken(
        small,
        b"PUT /v1/runs/big HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
        b"Content-Length: 99999999\r\n\r\n",
    )
    assert heads(answer) == [413]
    assert b"application/problem+json" in answer
    assert b"max_body_bytes (65536)" in answer


def test_a_chunked_body_is_refused_as_soon_as_it_is_too_large(small: Service) -> None:
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    answer = spoken(
        small,
        b"PUT /v1/runs/big HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 2,  # its end never comes
    )
    assert heads(answer) == [413]
    assert b"application/problem+json" in answer


@pytest.mark.parametrize("chunked", [False, True])
def test_a_client_that_sends_33_megabytes_gets_its_413(service: Service, chunked: bool) -> None:
    body = b" " * (33 * 2**20)
    parts = (body[start : start + 2**16] for start in range(0, len(body), 2**16))
    headers = {"Content-Type": "application/json"}
    try:
        answer = service.http.put("/v1/runs/big", content=parts if chunked else body, headers=headers)
    except httpx.WriteError:
        return  # the service hung up first; what it had said was lost with the connection
    assert "max_body_bytes (33554432)" in problem(answer, 413)["detail"]


def test_a_client_that_hangs_up_in_its_body_changes_nothing(service: Service, run_name: str) -> None:
    service.json("PUT", f"/v1/runs/{run_name}", {})
    before = service.json("GET", f"/v1/runs/{run_name}")
    body = json.dumps({"step": 0, "results": [{"prompt": "a", "rewards": [0, 1]}]}).encode()
    for size in (0, 1, len(body) - 1):
        with socket.create_connection(("127.0.0.1", service.port), timeout=10) as connection:
            head = f"POST /v1/runs/{run_name}/report HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body[:size])
    assert service.json("GET", f"/v1/runs/{run_name}") == before


@pytest.mark.parametrize(
    "sent", [b"\x00\xff\x16\x03\x01 TLS?\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n"]
)
def test_what_is_no_http_is_400_and_harms_nobody(service: Service, sent: bytes) -> None:
    assert heads(spoken(service, sent))[:1] == [400]
    assert service.ready()


def test_several_requests_on_one_connection(service: Service, run_name: str) -> None:
    put = f"PUT /v1/runs/{run_name} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{{}}".encode()
    bad = b"PUT /v1/runs/x HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n{"
    last = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    assert heads(spoken(service, put + bad + put + last)) == [201, 400, 200, 200]


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "TRACE"])
def test_methods_not_served_are_405(service: Service, method: str) -> None:
    answer = service.http.request(method, "/v1/runs")
    assert answer.status_code == 405
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["allow"] == "GET"


def test_more_requests_than_may_be_in_flight_are_turned_away_and_none_is_lost(small: Service, run_name: str) -> None:
    small.json("PUT", f"/v1/runs/{run_name}", {"train_batch_size": 1000})

    def report(number: int) -> int:
        body = {"step": 0, "results": [{"prompt": f"p{number}-{i}", "rewards": [0, 1]} for i in range(300)]}
        with httpx.Client(base_url=small.url, timeout=30, trust_env=False) as http:
            answer = http.post(f"/v1/runs/{run_name}/report", json=body)
        if answer.status_code == 503:
            assert int(problem(answer, 503) and answer.headers["retry-after"]) >= 1
            return 0
        assert answer.status_code == 200, answer.text
        return 300

    with ThreadPoolExecutor(16) as pool:
        taken = sum(pool.map(report, range(64)))
    assert taken
    eventually(lambda: small.call("GET", f"/v1/runs/{run_name}").status_code == 200)
    assert small.json("GET", f"/v1/runs/{run_name}")["totals"]["groups"] == taken


def test_concurrent_reports_and_their_retries_count_once(service: Service, run_name: str) -> None:
    service.json("PUT", f"/v1/runs/{run_name}", {"train_batch_size": 10_000})

    def report(number: int) -> str:
        body = {"step": 0, "results": [{"prompt": f"p{number % 40}", "rewards": [number % 2, 1]}]}
        return service.call("POST", f"/v1/runs/{run_name}/report", body, key=f"k{number % 40}").text

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(report, range(120)))
    assert all(answers[number] == answers[number % 40] for number in range(120))
    assert service.json("GET", f"/v1/runs/{run_name}")["totals"]["groups"] == 40


def test_state_survives_a_restart(start_service: Callable[..., Service]) -> None:
    service = start_service()
    service.json("PUT", "/v1/runs/r", {"seed": 5})
    service.json("PUT", "/v1/runs/r/pool", {"prompts": [f"p{number}" for number in range(100)]})
    drawn = service.json("POST", "/v1/runs/r/draw", {"step": 0, "count": 30}, "d1")["prompts"]
    results = [{"prompt": prompt, "rewards": [0, 0]} for prompt in drawn]
    reported = service.json("POST", "/v1/runs/r/report", {"step": 0, "results": results}, "r1")
    paths = ("/v1/runs/r", "/v1/runs/r/steps", "/v1/runs/r/prompts?limit=1000", "/v1/runs")
    before = [service.json("GET", path) for path in paths]
    service.signal(signal.SIGTERM)
    eventually(service.ended, 20)
    service.start()
    assert [service.json("GET", path) for path in paths] == before
    assert service.json("POST", "/v1/runs/r/report", {"step": 0, "results": results}, "r1") == reported
    assert service.json("POST", "/v1/runs/r/draw", {"step": 0, "count": 30}, "d1")["prompts"] == drawn
    rest = service.json("POST", "/v1/runs/r/draw", {"step": 0, "count": 70})
    assert not set(rest["prompts"]) & set(drawn)
    assert [service.json("GET", path) for path in paths[1:3]] != before[1:3]


def test_the_service_leaves_no_process_behind(start_service: Callable[..., Service]) -> None:
    service = start_service()
    group = service.pid
    service.signal(signal.SIGTERM)
    eventually(service.ended, 20)

    def gone() -> bool:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        return False

    eventually(gone)
