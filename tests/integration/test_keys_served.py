"""Keys, tenants and TLS of a real `greso serve`: what changes while it runs, what its log and its traces hold."""

from __future__ import annotations

import socket
import ssl
import subprocess
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from greso_client import Client, ForbiddenError
from greso_service.access import key_file
from greso_service.access.keys import digest

from ..commands import greso  # noqa: TID252
from ..keys import KeyFile, bearer  # noqa: TID252
from ..servers import (  # noqa: TID252
    GRESO,
    START_SECONDS,
    RedisServer,
    Service,
    certificate,
    eventually,
    free_port,
)
from .test_tracing import Collector, attributes, send_to

REPORT = {"step": 1, "results": [{"prompt": "p", "rewards": [0, 1]}]}


class World:
    """A service with keys at debug level, whose metrics have a port of their own."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.file = KeyFile(folder / "keys.json")
        self.a, self.b = self.file.add("team-a", "admin"), self.file.add("team-b", "admin")
        self.looker = self.file.add("team-a", "read")
        given = ["--keys-file", str(self.file.path), "--log-level", "debug", *options]
        self.service = Service(folder, *given)

    def ask(self, method: str, path: str, key: str, body: Any = None, **headers: str) -> httpx.Response:
        return self.service.http.request(method, path, json=body, headers={**bearer(key), **headers})

    def json(self, method: str, path: str, key: str, body: Any = None, **headers: str) -> Any:
        answer = self.ask(method, path, key, body, **headers)
        assert answer.is_success, answer.text
        return answer.json()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("keys"))
    try:
        made.service.start()
        yield made
    finally:
        made.service.close()


# Tenants


def test_tenants_have_the_same_names_and_nothing_else_in_common(world: World, run_name: str) -> None:
    path, key = f"/v1/runs/{run_name}", {"Idempotency-Key": "the-same"}
    for tenant in (world.a, world.b):
        assert world.ask("PUT", path, tenant, {}).status_code == 201
        first = world.ask("POST", f"{path}/report", tenant, REPORT, **key)
        assert "Idempotent-Replayed" not in first.headers
        again = world.ask("POST", f"{path}/report", tenant, REPORT, **key)
        assert again.headers["Idempotent-Replayed"] == "true"
    world.json("POST", f"{path}/report", world.a, {**REPORT, "step": 2})
    assert world.json("GET", path, world.a)["totals"]["groups"] == 2
    assert world.json("GET", path, world.b)["totals"]["groups"] == 1
    world.json("POST", f"{path}/fork", world.a, {"run": f"{run_name}-fork"})
    for listed in ("/v1/runs", "/v1/overview"):
        told = {run["run"] for run in world.json("GET", listed, world.b)["runs"]}
        assert run_name in told
        assert f"{run_name}-fork" not in told
    assert world.ask("DELETE", path, world.b).status_code == 204
    assert world.json("GET", path, world.a)["totals"]["groups"] == 2


def test_a_pool_takes_nothing_from_a_run_of_another_tenant(world: World, run_name: str) -> None:
    theirs, mine = f"{run_name}-theirs", f"{run_name}-mine"
    world.json("PUT", f"/v1/runs/{theirs}", world.a, {})
    world.json("PUT", f"/v1/runs/{theirs}/pool", world.a, {"prompts": ["hidden"]})
    world.json("PUT", f"/v1/runs/{mine}", world.b, {})
    refused = world.ask("PUT", f"/v1/runs/{mine}/pool", world.b, {"from_run": theirs})
    assert refused.status_code == 404
    absent = world.ask("PUT", f"/v1/runs/{mine}/pool", world.b, {"from_run": "never-was"})
    assert refused.json()["detail"].replace(theirs, "X") == absent.json()["detail"].replace("never-was", "X")


def test_metrics_show_a_key_the_runs_of_its_tenant_alone(world: World, run_name: str) -> None:
    for tenant in (world.a, world.b):
        world.json("PUT", f"/v1/runs/{run_name}", tenant, {})
        world.json("POST", f"/v1/runs/{run_name}/report", tenant, REPORT)
    for tenant, name, other in ((world.looker, "team-a", "team-b"), (world.b, "team-b", "team-a")):
        text = world.ask("GET", "/metrics", tenant).text
        runs = {sample.labels["run"] for sample in samples(text) if "run" in sample.labels}
        assert f"{name}/{run_name}" in runs
        assert {run.partition("/")[0] for run in runs} == {name}
        assert other not in text
        assert "greso_requests_total" in text


def samples(text: str) -> Iterator[Any]:
    for family in text_string_to_metric_families(text):
        yield from family.samples


# While it runs


def test_keys_are_rotated_and_revoked_without_a_restart(world: World) -> None:
    old = world.file.add("team-c", "write", name="old")
    eventually(lambda: world.ask("GET", "/v1/runs", old).status_code == 200)
    following = world.file.add("team-c", "write", name="following")
    eventually(lambda: world.ask("GET", "/v1/runs", following).status_code == 200)
    assert world.ask("GET", "/v1/runs", old).status_code == 200  # both, until all who use it have the new one
    world.file.revoke("old")
    eventually(lambda: world.ask("GET", "/v1/runs", old).status_code == 401)
    assert world.ask("GET", "/v1/runs", following).status_code == 200


def test_a_stream_of_events_ends_when_its_key_is_revoked(world: World, run_name: str) -> None:
    world.json("PUT", f"/v1/runs/{run_name}", world.a, {})
    watcher = world.file.add("team-a", "read", name="watcher")
    eventually(lambda: world.ask("GET", "/v1/runs", watcher).status_code == 200)
    path = f"/v1/runs/{run_name}/events"
    with world.service.http.stream("GET", path, headers=bearer(watcher)) as stream:
        lines = stream.iter_lines()
        while next(lines) != "event: created":
            pass
        world.file.revoke("watcher")
        for _ in lines:  # to its end
            pass
    assert world.ask("GET", path, watcher).status_code == 401


def test_an_export_of_one_tenant_becomes_a_run_of_another_that_has_it(world: World, run_name: str) -> None:
    path = f"/v1/runs/{run_name}"
    world.json("PUT", path, world.a, {})
    exported = world.ask("GET", f"{path}/export", world.a).content
    headers = {**bearer(world.b), "Content-Type": "application/x-ndjson"}
    assert world.service.http.put(f"{path}/import", content=exported, headers=headers).status_code == 201
    world.json("POST", f"{path}/report", world.b, REPORT)
    assert world.ask("GET", f"{path}/export", world.a).content == exported


def test_a_broken_file_locks_nobody_out_and_is_told_loudly(world: World) -> None:
    whole = world.file.path.read_bytes()
    try:
        world.file.path.write_text('{"version": 1, "keys": [')
        eventually(lambda: "keys read last stay in force" in world.service.said())
        assert world.ask("GET", "/v1/runs", world.a).status_code == 200
    finally:
        world.file.path.write_bytes(whole)
    added = world.file.add("team-d", "read")
    eventually(lambda: world.ask("GET", "/v1/runs", added).status_code == 200)


def test_no_key_is_in_a_log_an_error_or_a_metric(world: World, run_name: str) -> None:
    unknown, secrets = "greso_" + "x" * 43, [world.a, world.b, world.looker]
    answers = [
        world.ask("PUT", f"/v1/runs/{run_name}", world.a, {}),
        world.ask("PUT", f"/v1/runs/{run_name}", world.a, {"seed": "x"}),
        world.ask("POST", f"/v1/runs/{run_name}/report", world.a, REPORT, **{"Greso-Client": "lost=1"}),
        world.ask("POST", f"/v1/runs/{run_name}/rewind", world.looker, {"step": 1}),
        world.ask("GET", f"/v1/runs/{run_name}", unknown),
        world.ask("GET", "/v1/nothing", world.b),
        world.ask("GET", "/metrics", world.looker),
        world.ask("GET", "/v1/runs", world.a, **{"X-Request-Id": "mine", "Idempotency-Key": "mine"}),
    ]
    with socket.create_connection(("127.0.0.1", world.service.port)) as raw:  # what no HTTP parser takes
        raw.sendall(f"GET /v1/runs HTTP/1.1\r\nAuthorization: Bearer {world.a}\r\n\x00broken\r\n\r\n".encode())
        raw.recv(65536)
    eventually(lambda: "Invalid HTTP request" in world.service.said())
    seen = [world.service.said(), *(f"{answer.headers} {answer.text}" for answer in answers)]
    for text in seen:
        for secret in [*secrets, unknown, *map(digest, secrets)]:
            assert secret not in text
    assert "refused a request of 127.0.0.1: " in world.service.said()


@pytest.mark.usefixtures("redis7")
def test_no_key_is_in_a_trace_whatever_headers_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    collector, store = Collector(), RedisServer(tmp_path / "redis")
    monkeypatch.setenv("OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST", ".*")
    send_to(collector.port, monkeypatch)
    traced = World(tmp_path, "--otel", "--redis-url", store.url)
    try:
        store.start()
        traced.service.start()
        assert traced.ask("PUT", "/v1/runs/r", traced.a, {}).status_code == 201
        assert traced.ask("GET", "/v1/runs/r", "wrong-key-of-mine").status_code == 401
        eventually(lambda: len(collector.spans()) >= 2)
    finally:
        traced.service.close()
        store.close()
        collector.close()
    told = [attributes(span) for span in collector.spans()]
    assert any("user_agent" in name for span in told for name in span)  # headers are there
    text = " ".join(str(request) for request in collector.requests)
    assert traced.a not in text
    assert "wrong-key-of-mine" not in text


# Ports


def test_metrics_on_a_port_of_their_own_tell_of_all_and_nothing_else_is_there(
    start_service: Callable[..., Service], tmp_path: Path
) -> None:
    file, port = KeyFile(tmp_path / "keys.json"), free_port()
    a, b = file.add("team-a", "write"), file.add("team-b", "write")
    service = start_service("--keys-file", str(file.path), "--metrics-port", str(port), "--no-docs", "--no-dashboard")
    for key in (a, b):
        body = {"step": 0, "results": []}
        assert service.http.put("/v1/runs/r", json={}, headers=bearer(key)).status_code == 201
        assert service.http.post("/v1/runs/r/report", json=body, headers=bearer(key)).status_code == 200
    assert f"| metrics http://127.0.0.1:{port}/metrics | keys {file.path} |" in service.said()
    assert "/docs" not in service.said()
    assert service.http.get("/metrics", headers=bearer(a)).status_code == 404
    for path in ("/docs", "/openapi.json", "/", "/dashboard/app.js"):
        assert service.http.get(path, headers=bearer(a)).status_code in {401, 404}
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as scraper:
        text = scraper.get("/metrics").text
        assert {"team-a/r", "team-b/r"} <= {each.labels["run"] for each in samples(text) if "run" in each.labels}
        for path in ("/v1/runs", "/v1/runs/r", "/livez", "/", "/docs", "/metrics/"):
            assert scraper.get(path, headers=bearer(a)).status_code == 404
        assert scraper.put("/v1/runs/x", json={}, headers=bearer(a)).status_code == 404
        assert scraper.post("/metrics").status_code == 405
        assert scraper.get("/metrics", headers={"Host": "evil.example"}).status_code == 421


def test_with_keys_it_listens_on_any_address_and_is_asked_by_any_name(
    start_service: Callable[..., Service], tmp_path: Path
) -> None:
    file = KeyFile(tmp_path / "keys.json")
    key = file.add("t", "read")
    service = start_service("--keys-file", str(file.path), "--host", "0.0.0.0")
    assert "tls none: keys travel in the clear, for others on the way to read; give --tls-cert" in service.said()
    headers = {**bearer(key), "Host": "greso.example", "Origin": "https://elsewhere.example"}
    assert service.http.get("/v1/runs", headers=headers).status_code == 200
    assert service.http.get("/v1/runs", headers={"Host": "greso.example"}).status_code == 401


# TLS


@pytest.fixture(scope="module", name="certificate")
def made_certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1, signed by itself, and its key."""
    return certificate(tmp_path_factory.mktemp("tls"))


def tls_1_1() -> ssl.SSLContext:
    """A client that speaks nothing newer."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore"):  # Python advises against it
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    return context


def test_https_is_served_to_those_who_trust_the_certificate(
    tmp_path: Path, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    cert, key = certificate
    made = World(tmp_path, "--tls-cert", str(cert), "--tls-key", str(key))
    service = made.service
    url = f"https://127.0.0.1:{service.port}"
    service.http = httpx.Client(base_url=url, verify=ssl.create_default_context(cafile=str(cert)), trust_env=False)
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    try:
        service.start()
        assert f"at {url} | docs {url}/docs |" in service.said()
        assert made.ask("PUT", "/v1/runs/r", made.a, {}).status_code == 201
        with httpx.Client(trust_env=False) as stranger, pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY"):
            stranger.get(f"{url}/livez")
        with httpx.Client(trust_env=False) as clear, pytest.raises(httpx.RemoteProtocolError):
            clear.get(f"http://127.0.0.1:{service.port}/livez")
        old = tls_1_1()
        with socket.create_connection(("127.0.0.1", service.port)) as raw, pytest.raises(ssl.SSLError):
            old.wrap_socket(raw)
        with Client(url, run="r", api_key=made.a, strict=True) as client:
            assert client.select(1, ["p"]).selected == [0]
        (tmp_path / "key").write_text(made.looker)
        shown = command(url, "runs", "--json", "--api-key-file", str(tmp_path / "key"))
        assert '"run": "r"' in shown.stdout, shown.stderr
        assert "Traceback" not in service.said()
    finally:
        service.close()


def command(url: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return greso(*arguments, env={"GRESO_URL": url, **variables})


@pytest.mark.parametrize("what", ["no certificate", "another key", "no file", "a passphrase"])
def test_files_that_are_no_pair_are_refused_in_one_line(
    what: str, tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    cert, key = certificate
    if what == "no certificate":
        cert = tmp_path / "cert.pem"
        cert.write_text("nothing")
    elif what == "no file":
        key = tmp_path / "none.pem"
    else:
        made = tmp_path / "key.pem"
        secret = ["-aes256", "-passout", "pass:secret"] if what == "a passphrase" else []
        source = ["openssl", "pkey", "-in", str(key)] if secret else ["openssl", "genpkey", "-algorithm", "ED25519"]
        subprocess.run([*source, *secret, "-out", str(made)], check=True, capture_output=True)
        key = made
    options = ["--port", "0", "--data-dir", str(tmp_path / "data"), "--tls-cert", str(cert), "--tls-key", str(key)]
    ended = subprocess.run(
        [str(GRESO), "serve", *options], capture_output=True, text=True, timeout=START_SECONDS, check=False
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.count("\n") == 1, ended.stderr
    assert ended.stderr.startswith("greso: --tls-")
    assert not (tmp_path / "data").exists()


# Those who ask


def test_the_client_is_told_that_its_key_does_not_do(world: World, run_name: str) -> None:
    world.json("PUT", f"/v1/runs/{run_name}", world.a, {})
    for key, message in ((world.looker, "needs a key with the scope write"), ("nobody", "there is no such key")):
        with (
            Client(world.service.url, run=run_name, api_key=key, strict=True) as client,
            pytest.raises(ForbiddenError, match=message),
        ):
            client.select(1, ["p"])
    with Client(world.service.url, run=run_name, api_key=world.a, strict=True) as client:
        assert client.select(1, ["p"]).selected == [0]


def test_commands_take_a_key_and_say_what_is_wrong_without(world: World, run_name: str, tmp_path: Path) -> None:
    world.json("PUT", f"/v1/runs/{run_name}", world.a, {})
    url, file = world.service.url, tmp_path / "key"
    file.write_text(world.looker + "\n")
    without = command(url, "show", run_name)
    assert (without.returncode, without.stdout) == (1, "")
    assert "set GRESO_API_KEY to a valid key, or give --api-key-file" in without.stderr
    assert run_name in command(url, "runs", GRESO_API_KEY=world.looker).stdout
    for arguments in (["show", run_name], ["top", "--once"], ["export", run_name]):
        ended = command(url, *arguments, "--api-key-file", str(file))
        assert ended.returncode == 0, ended.stderr
        assert run_name in ended.stdout
    refused = command(url, "fork", run_name, f"{run_name}-b", GRESO_API_KEY=world.looker)
    assert refused.stderr == "greso: this needs a key with the scope write; the key given has read\n"


def test_check_looks_at_the_keys(tmp_path: Path) -> None:
    file = KeyFile(tmp_path / "keys.json")
    file.add("team-a", "read")
    options = ["check", "--data-dir", str(tmp_path / "data"), "--keys-file", str(file.path)]
    fine = command("", *options)
    assert fine.returncode == 0
    assert f"1 of 1 tenants in {file.path}" in fine.stdout
    open_to_all = command("", *options, "--host", "0.0.0.0").stdout
    assert "keys travel in the clear" in open_to_all
    file.path.chmod(0o666)
    assert "others may write to" in command("", *options).stdout
    file.path.write_text("{")
    broken = command("", *options)
    assert broken.returncode == 1
    assert "the whole: " in broken.stdout


def test_a_key_made_by_the_command_opens_the_service(start_service: Callable[..., Service], tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    made = command("", "keys", "add", "--tenant", "t", "--name", "n", "--keys", str(path))
    service = start_service("--keys", str(path))
    assert service.http.put("/v1/runs/r", json={}, headers=bearer(made.stdout.strip())).status_code == 201
    assert command("", "keys", "revoke", "n", GRESO_KEYS_FILE=str(path)).returncode == 0
    assert key_file.read(path)[0].keys == ()
    eventually(lambda: service.http.get("/v1/runs", headers=bearer(made.stdout.strip())).status_code == 401)
