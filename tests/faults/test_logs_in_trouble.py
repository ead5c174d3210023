"""What the service logs when all requests run into the same trouble: a line when it begins and one when it is over."""

from __future__ import annotations

import json
import signal
import socket
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from ..servers import RedisServer, Service, eventually  # noqa: TID252

REPORT = {"step": 1, "results": [{"prompt": "secret-prompt", "rewards": [0, 1]}]}
REQUESTS = 200


@pytest.fixture
def start(redis_at: RedisServer, start_service: Callable[..., Service]) -> Callable[..., Service]:
    """Starts replicas that log JSON."""
    return lambda *options: start_service(
        "--redis-url", redis_at.url, "--log-format", "json", "--snapshot-every", "2", *options
    )


def logged(service: Service) -> list[dict[str, Any]]:
    """The lines after the announcement."""
    return [json.loads(line) for line in service.said().splitlines()[1:]]


def ask(services: list[Service], requests: int = REQUESTS) -> Counter[int]:
    """Reports and selects from many trainers at once, to all replicas in turn; the statuses."""

    def one(number: int) -> int:
        service = services[number % len(services)]
        select = {"step": 1, "prompts": ["secret-prompt"]}
        path, body = ("report", REPORT) if number // len(services) % 2 else ("select", select)
        return http.post(f"{service.url}/v1/runs/r/{path}", json=body).status_code

    with httpx.Client(timeout=30, trust_env=False) as http, ThreadPoolExecutor(16) as trainers:
        return Counter(trainers.map(one, range(requests)))


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_an_outage_is_one_line_and_its_end_another_whatever_is_asked_meanwhile(
    redis_at: RedisServer, start: Callable[..., Service], how: str
) -> None:
    replicas = [start(), start()]
    replicas[0].json("PUT", "/v1/runs/r", {})
    assert ask(replicas, 8) == {200: 8}
    if how == "killed":
        redis_at.kill()
    else:
        redis_at.signal(signal.SIGSTOP)
    refused = ask(replicas)[503]
    assert refused == REQUESTS // 2, "reports are refused, selects are stale"
    eventually(lambda: all(logged(replica) for replica in replicas))
    if how == "killed":
        redis_at.start()
    else:
        redis_at.signal(signal.SIGCONT)
    eventually(lambda: all(len(logged(replica)) > 1 for replica in replicas))
    assert ask(replicas) == {200: REQUESTS}
    for replica in replicas:
        begin, end = logged(replica)
        assert (begin["level"], end["level"]) == ("error", "warning")
        assert begin["message"].startswith("Redis does not answer: ")
        assert begin["message"].endswith("; reports are refused and selects are stale until it is back")
        words = end["message"].split()
        assert words[:5] == ["Redis", "answers", "again", "after", words[4]]
        assert 1 <= int(words[4]) < 60
        assert words[5:] == f"s; {refused // 2} requests were refused meanwhile".split()


def test_a_redis_that_answers_and_takes_no_writes_is_one_line(
    redis_at: RedisServer, start: Callable[..., Service]
) -> None:
    service = start()
    service.json("PUT", "/v1/runs/r", {})
    with redis_at.client() as client:
        client.config_set("maxmemory", 1)
        refused = ask([service])[503]
        assert refused
        eventually(lambda: bool(logged(service)))
        client.config_set("maxmemory", 0)
    assert service.call("POST", "/v1/runs/r/report", REPORT).status_code in (200, 503)  # 503 for a second more
    [line] = logged(service)
    assert line["level"] == "error"
    assert line["message"].startswith("Redis answers, but ")
    assert "maxmemory" in line["message"]


def test_a_storm_of_internal_errors_is_one_traceback_without_anybodys_prompts(
    redis_at: RedisServer, start: Callable[..., Service]
) -> None:
    service = start()
    service.json("PUT", "/v1/runs/r", {})
    with redis_at.client() as client:
        client.execute_command("ACL", "SETUSER", "default", "-evalsha")
    answers = [service.call("GET", "/v1/runs/r/prompts/secret-prompt").status_code for _ in range(50)]
    assert set(answers) == {500}
    [line] = logged(service)
    assert line["message"] == "GET /v1/runs/{run}/prompts/{prompt:id} failed"
    assert line["run"] == "r"
    assert "evalsha" in line["exception"]
    assert "secret-prompt" not in json.dumps(line)


def test_what_is_no_http_is_one_line_and_who_hangs_up_none(start: Callable[..., Service]) -> None:
    service = start()
    service.json("PUT", "/v1/runs/r", {})
    head = ["POST /v1/runs/r/report HTTP/1.1", "Host: greso", "Content-Type: application/json", "Content-Length: 99"]
    for sent in ("\r\n".join([*head, "", "{"]).encode(), b"\x16\x03\x01 no HTTP\r\n\r\n"):
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", service.port)) as connection:
                connection.sendall(sent)
                if not sent.startswith(b"POST"):
                    assert connection.recv(100)
    hung_up = 'greso_requests_total{method="POST",route="/v1/runs/{run}/report",status="499"} 20.0'
    eventually(lambda: hung_up in service.call("GET", "/metrics").text)
    assert [line["message"] for line in logged(service)] == ["Invalid HTTP request received."]


def test_an_overload_is_one_line(start: Callable[..., Service]) -> None:
    service = start("--max-in-flight", "1")
    service.json("PUT", "/v1/runs/r", {})
    eventually(lambda: ask([service], 100)[503] > 1)
    [line] = logged(service)
    limit = "max_in_flight (1) requests at once, set by --max-in-flight or GRESO_MAX_IN_FLIGHT"
    assert (line["level"], line["message"]) == ("warning", f"more than {limit}; try again")
