"""`greso serve` as a process: how it starts, what stops it, what it leaves behind."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
import redis

from greso_service.cli import serving
from greso_service.errors import StartupError
from greso_service.history.embedded import EmbeddedRedis
from greso_service.settings import load

from ..servers import GRESO, START_SECONDS, Service, eventually  # noqa: TID252 - tests are no installed package
from .fake_redis import FakeRedis

if TYPE_CHECKING:
    from collections.abc import Callable

REPORT = {"step": 1, "results": [{"prompt": "p", "rewards": [0, 1]}]}


def redis_of(service: Service) -> int:
    """The process id of a service's embedded Redis."""
    with redis.Redis(unix_socket_path=str(service.folder / "data/redis.sock")) as client:
        return int(client.info("server")["process_id"])


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def stop(service: Service, number: int) -> int:
    service.signal(number)
    assert service.process is not None
    return service.process.wait(START_SECONDS)


def test_port_0_picks_a_free_port_and_prints_where_everything_is(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [str(GRESO), "serve", "--port", "0", "--data-dir", str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    said = re.fullmatch(
        r"greso \S+ at (http://127\.0\.0\.1:\d+) \| docs (\S+)/docs \| data (.+) \| Valkey [\d.]+\n", line
    )
    try:
        assert said, line
        assert said[2] == said[1]
        assert said[3] == str(tmp_path)
        assert httpx.get(f"{said[1]}/readyz").status_code == 200
        assert httpx.get(f"{said[1]}/docs").status_code == 200
    finally:
        process.terminate()
        assert process.stdout.read() == ""
        process.stdout.close()
        assert process.wait(START_SECONDS) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_a_signal_stops_service_and_redis_cleanly(start_service: Callable[..., Service], number: int) -> None:
    service = start_service()
    pid = redis_of(service)
    assert stop(service, number) == 0
    assert gone(pid)
    assert service.said().count("\n") == 1, service.said()  # where it served, and nothing else


def test_a_request_at_work_is_answered_before_the_service_stops(start_service: Callable[..., Service]) -> None:
    service = start_service()
    body = json.dumps(REPORT).encode()
    service.json("PUT", "/v1/runs/r", {})
    with socket.create_connection(("127.0.0.1", service.port)) as connection:
        head = ["POST /v1/runs/r/report HTTP/1.1", "Host: greso", "Content-Type: application/json"]
        head += [f"Content-Length: {len(body)}", "Connection: close", "", ""]
        connection.sendall("\r\n".join(head).encode() + body[:10])
        # Two are at work: this one and the one that asks.
        eventually(lambda: "greso_requests_in_flight 2.0" in service.call("GET", "/metrics").text)
        service.signal(signal.SIGTERM)
        eventually(lambda: not listens(service.port))
        connection.sendall(body[10:])
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200"), answer
    assert service.process is not None
    assert service.process.wait(START_SECONDS) == 0


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True


def test_a_killed_service_starts_again_at_once_with_every_report(start_service: Callable[..., Service]) -> None:
    service = start_service()
    service.json("PUT", "/v1/runs/r", {})
    service.json("POST", "/v1/runs/r/report", REPORT)
    before = service.json("GET", "/v1/runs/r")
    pid = redis_of(service)
    service.kill()
    service.start()
    assert service.json("GET", "/v1/runs/r") == before
    assert before["totals"]["groups"] == 1
    assert gone(pid)


def test_a_killed_redis_is_replaced_and_the_service_goes_on(start_service: Callable[..., Service]) -> None:
    service = start_service("--redis-fsync", "always", "--log-format", "json")
    service.json("PUT", "/v1/runs/r", {})
    service.json("POST", "/v1/runs/r/report", REPORT)
    pid = redis_of(service)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: service.call("POST", "/v1/runs/r/report", REPORT).status_code == 200)
    assert service.json("GET", "/v1/runs/r")["totals"]["groups"] == 2
    assert redis_of(service) != pid
    [line] = [line for line in service.said().splitlines() if "the embedded Redis ended (-9) and is started" in line]
    assert json.loads(line).keys() == {"time", "level", "logger", "message"}


# What prevents a start


def test_a_refusal_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [str(GRESO), "serve", "--port", str(port), "--data-dir", str(tmp_path / "data")]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=START_SECONDS, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    reason = f"can't listen on 127.0.0.1 port {port}: Address already in use"
    assert ended.stderr == f"greso: {reason}; give another with --port (0 picks a free one)\n"
    assert not (tmp_path / "data").exists()  # found before anything was started


@pytest.fixture
def refusal(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """The line with which a service in this process refuses to start."""
    monkeypatch.setattr("greso_service.telemetry.logs.configure", lambda *_: None)
    monkeypatch.setattr("signal.signal", lambda *_: None)

    def start(**settings: str) -> str:
        with pytest.raises(StartupError) as refused:
            serving.serve(load({"port": "0", **settings}))
        assert "\n" not in str(refused.value)
        return str(refused.value)

    return start


def test_a_data_directory_in_use(tmp_path: Path, refusal: Callable[..., str]) -> None:
    with EmbeddedRedis(tmp_path):
        said = refusal(data_dir=str(tmp_path))
    assert f"data directory {tmp_path} is in use by another greso service (pid {os.getpid()})" in said


def test_a_host_that_is_not_here(refusal: Callable[..., str]) -> None:
    # TEST-NET-1, RFC 5737: no machine has it.
    assert "can't listen on 192.0.2.1 port" in refusal(host="192.0.2.1", allow_unauthenticated="true")
    assert "correct --host" in refusal(host="no.such.host.invalid", allow_unauthenticated="true")


def test_a_redis_that_is_away(refusal: Callable[..., str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    said = refusal(redis_url=f"redis://user:secret@127.0.0.1:{port}")
    assert f"Redis at redis://user:***@127.0.0.1:{port} can't be reached" in said
    assert "start it, or correct --redis-url" in said


def test_a_redis_that_does_not_answer(refusal: Callable[..., str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert "can't be reached" in refusal(redis_url=f"redis://127.0.0.1:{silent.getsockname()[1]}")


def test_a_redis_that_is_too_old(refusal: Callable[..., str]) -> None:
    with FakeRedis(redis_version="6.0.16", redis_mode="standalone", role="master") as old:
        assert "Redis 6.0.16 is too old; greso needs Redis 6.2 or later, or Valkey" in refusal(redis_url=old.url)


def test_a_misspelt_variable_is_told_when_it_starts(
    start_service: Callable[..., Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRESO_MAX_INFLIGHT", "10")
    said = start_service().said()
    assert "GRESO_MAX_INFLIGHT is set but is no setting" in said
    assert "did you mean GRESO_MAX_IN_FLIGHT?" in said


def test_an_evicting_redis_is_served_from_with_a_warning(start_service: Callable[..., Service]) -> None:
    info = {"redis_version": "7.2.0", "redis_mode": "standalone", "role": "master", "aof_enabled": "1"}
    with FakeRedis(**info, maxmemory="1000000", maxmemory_policy="allkeys-lru") as evicting:
        service = start_service("--redis-url", evicting.url)
    assert "redis eviction: allkeys-lru: a full Redis silently drops runs" in service.said()
