"""Traces of a served process, received by a real OTLP collector: what is in them and what is not."""

from __future__ import annotations

import json
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import pytest
import redis
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from ..servers import RedisServer, Service, eventually, free_port  # noqa: TID252

SERVER, CLIENT = Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CLIENT
PASSWORD = "hunter2-of-redis"
SPAN = "b7ad6b7169203331"


def parent(trace: str) -> dict[str, str]:
    """The header of a client that traces, too (W3C Trace Context)."""
    return {"traceparent": f"00-{trace}-{SPAN}-01"}


class Collector:
    """An OTLP/HTTP receiver that decodes what it gets."""

    def __init__(self, port: int = 0) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                assert self.path == "/v1/traces"
                outer.requests.append(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = self._http.server_address[1]
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def spans(self, kind: int = SERVER, trace: str = "") -> list[Span]:
        """All of a kind, and of a trace if it is named, in the order in which they came."""
        return [
            span
            for request in self.requests
            for of_resource in request.resource_spans
            for scope in of_resource.scope_spans
            for span in scope.spans
            if span.kind == kind and span.trace_id.hex().startswith(trace)
        ]

    def resource(self) -> dict[str, str]:
        """Who sent them."""
        return {each.key: each.value.string_value for each in self.requests[0].resource_spans[0].resource.attributes}

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


def attributes(span: Span) -> dict[str, str]:
    return {each.key: str(getattr(each.value, each.value.WhichOneof("value"))) for each in span.attributes}


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


def send_to(port: int, monkeypatch: pytest.MonkeyPatch, delay_ms: int = 50) -> None:
    """Make the services started from now on send their spans to a port of this machine."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", str(delay_ms))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


class Traced(NamedTuple):
    """A traced service with a Redis that wants a password, and where its spans go."""

    service: Service
    redis: RedisServer
    collector: Collector


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    folder = tmp_path_factory.mktemp("traced")
    store, collector = RedisServer(folder / "redis"), Collector()
    service = Service(
        folder, "--otel", "--log-format", "json", "--redis-url", f"redis://:{PASSWORD}@127.0.0.1:{store.port}"
    )
    try:
        store.start()
        with store.client() as client:
            client.config_set("requirepass", PASSWORD)
        with pytest.MonkeyPatch.context() as monkeypatch:
            send_to(collector.port, monkeypatch)
            service.start()
        yield Traced(service, store, collector)
    finally:
        service.close()
        collector.close()
        store.close()


def test_a_select_is_a_span_with_its_redis_commands_as_children(traced: Traced, run_name: str) -> None:
    service, _, collector = traced
    trace = secrets.token_hex(16)
    service.json("PUT", f"/v1/runs/{run_name}", {})
    body = {"step": 0, "prompts": ["p"]}
    service.http.post(f"/v1/runs/{run_name}/select", json=body, headers=parent(trace)).raise_for_status()
    eventually(lambda: bool(collector.spans(SERVER, trace)))
    [select] = collector.spans(SERVER, trace)
    assert select.name == "POST /v1/runs/{run}/select"
    assert select.parent_span_id.hex() == SPAN
    told = attributes(select)
    assert (told["http.route"], told["http.status_code"]) == ("/v1/runs/{run}/select", "200")
    assert told["greso.run"] == run_name
    eventually(lambda: bool(collector.spans(CLIENT, trace)))
    commands = collector.spans(CLIENT, trace)
    assert {span.parent_span_id for span in commands} == {select.span_id}
    assert "EVALSHA" in {span.name for span in commands}
    assert collector.resource()["service.name"] == "greso"
    assert collector.resource()["service.version"]


def test_no_trace_holds_a_prompt_a_key_or_a_password(traced: Traced, run_name: str) -> None:
    service, _, collector = traced
    service.json("PUT", f"/v1/runs/{run_name}", {})
    trace = secrets.token_hex(16)
    report = {"step": 0, "results": [{"prompt": "secret-prompt", "rewards": [0, 1]}]}
    headers = {"Authorization": "Bearer secret-key", "Idempotency-Key": "secret-idempotency", **parent(trace)}
    path = f"/v1/runs/{run_name}"
    service.http.post(f"{path}/report", json=report, headers=headers).raise_for_status()
    assert service.http.get(f"{path}/prompts/secret-prompt", headers=headers).status_code == 200
    assert service.http.get(f"{path}/prompts?search=secret-search", headers=headers).status_code in (200, 422)
    assert service.http.get("/nowhere/secret?secret", headers=headers).status_code == 404
    eventually(lambda: len(collector.spans(SERVER, trace)) == 4)
    everything = "".join(map(str, collector.requests))
    assert "secret" not in everything
    assert PASSWORD not in everything
    assert "EVALSHA ? ? ?" in everything
    targets = [attributes(span)["http.target"] for span in collector.spans(SERVER, trace)]
    assert (targets[0], targets[-1]) == ("/v1/runs/{run}/report", "")


def test_a_log_line_names_the_trace(traced: Traced, run_name: str) -> None:
    service, store, _ = traced
    trace = secrets.token_hex(16)
    service.json("PUT", f"/v1/runs/{run_name}", {})
    with redis.Redis(port=store.port, password=PASSWORD) as client:
        client.execute_command("ACL", "SETUSER", "default", "-evalsha")
        answer = service.http.get(f"/v1/runs/{run_name}", headers=parent(trace))
        client.execute_command("ACL", "SETUSER", "default", "+evalsha")
    assert answer.status_code == 500
    [line] = [json.loads(line) for line in service.said().splitlines() if '"exception"' in line]
    assert (line["trace_id"], line["run"]) == (trace, run_name)


def test_probes_scrapes_and_the_services_own_commands_are_not_traced(traced: Traced) -> None:
    service, _, collector = traced
    for path in ("/livez", "/readyz", "/metrics"):
        assert service.call("GET", path).status_code == 200
    trace = secrets.token_hex(16)
    service.http.get("/version", headers=parent(trace))
    eventually(lambda: [span.name for span in collector.spans(SERVER, trace)] == ["GET /version"])
    assert not {"GET /livez", "GET /readyz", "GET /metrics"} & {span.name for span in collector.spans()}
    # It pings Redis as soon as it starts, and every second.
    assert "PING" not in {span.name for span in collector.spans(CLIENT)}
    assert all(span.parent_span_id for span in collector.spans(CLIENT))


def test_the_standard_variables_win_and_the_last_spans_are_sent_at_the_end(
    collector: Collector, start_service: Callable[..., Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "greso-of-team-a")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test")
    send_to(collector.port, monkeypatch, delay_ms=600_000)
    service = start_service("--otel")
    service.call("GET", "/version")
    service.signal(signal.SIGTERM)
    eventually(service.ended, 60)
    assert [span.name for span in collector.spans()] == ["GET /version"]
    assert collector.resource()["service.name"] == "greso-of-team-a"
    assert collector.resource()["deployment.environment"] == "test"
    assert service.said().count("\n") == 1, service.said()


def test_a_collector_that_is_away_is_one_line_and_its_return_another(
    start_service: Callable[..., Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    send_to(port, monkeypatch)
    service = start_service("--otel")

    def asked_and_said(lines: int) -> bool:
        service.call("GET", "/version")
        return service.said().count("\n") >= lines

    eventually(lambda: asked_and_said(2), 20)
    for _ in range(300):
        service.call("GET", "/version")
    collector = Collector(port)
    try:
        eventually(lambda: asked_and_said(3), 20)
        _, away, back = service.said().splitlines()
        assert "traces don't reach their collector and are lost until they do: Failed to export" in away
        assert "traces reach their collector again after " in back
        assert collector.spans()
    finally:
        service.close()
        collector.close()
    assert service.said().count("\n") == 3


def test_a_collector_that_hangs_does_not_hold_up_the_end(
    start_service: Callable[..., Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        send_to(silent.getsockname()[1], monkeypatch)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "60")
        service = start_service("--otel")
        service.call("GET", "/version")
        with silent.accept()[0] as connection:
            connection.recv(1)
            service.signal(signal.SIGTERM)
            began = time.monotonic()
            eventually(service.ended, 60)
        # The spans may take 2 s, and a busy machine a few more; the exporter by itself would take 30 s.
        assert time.monotonic() - began < 15
        assert service.process is not None
        assert service.process.returncode == 0


def test_without_it_there_is_no_middleware_no_wrapper_no_thread_and_no_import() -> None:
    code = """
import sys, threading
import redis.asyncio
from greso_service.api.app import create_app
from greso_service.history.memory import MemoryHistory
from greso_service.settings import load
app = create_app(load(), MemoryHistory())
assert [each.cls.__name__ for each in app.user_middleware] == ["Guard", "Access"], app.user_middleware
assert not hasattr(app, "_is_instrumented_by_opentelemetry")
assert not hasattr(redis.asyncio.Redis.execute_command, "__wrapped__")
assert threading.active_count() == 1
# FastAPI and redis-py import the API of what is installed; whatever does something is an extra.
for part in ("instrumentation", "exporter"):
    assert "opentelemetry." + part not in sys.modules, part
"""
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert asked.returncode == 0, asked.stderr


def test_without_the_extra_the_start_says_what_to_install() -> None:
    code = """
import sys
sys.modules["opentelemetry.instrumentation"] = None
from fastapi import FastAPI
from greso_service.errors import StartupError
from greso_service.telemetry import tracing
try:
    tracing.install(FastAPI())
except StartupError as error:
    print(error)
"""
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    needs, _, what = asked.stdout.partition(", which is not installed; ")
    assert needs == "--otel needs opentelemetry.instrumentation.fastapi"
    assert what == "run in the checkout: pip install '.[otel]', or leave --otel out\n"
