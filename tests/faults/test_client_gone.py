"""The service with an empty store, behind the wrong kind of TLS, or with a trainer killed in the middle of a report."""

from __future__ import annotations

import dataclasses
import shutil
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from greso_client import Client, ConflictError, Group, Rollout

from ..servers import STOP_SECONDS, Service, certificate  # noqa: TID252 - tests are no installed package
from .clocks import Skipping
from .gateway import Gateway, Passing, honest
from .twins import Trained

pytestmark = pytest.mark.slow  # services and trainers start and are killed

HOUR = 3600.0
BUDGET = 20.0
POOL = [f"p/{number}" for number in range(30)]
SPEC = {"train_batch_size": 4, "rollout_batch_size": 8, "seed": 9}
TRAIN_FROM = """
import sys
from greso_client import Client, Rollout
url, run, spool, first = sys.argv[1:]
spec = {"train_batch_size": 4, "rollout_batch_size": 8, "seed": 9}
def roll_out(prompts):
    return [Rollout([0.0, float(int(prompt.rpartition("/")[2]) % 3 > 0)], None) for prompt in prompts]
with Client(url, run=run, spool=spool, budget=120.0) as client:
    client.create_run(**spec)
    client.add_prompts(f"p/{number}" for number in range(30))
    if int(first):
        client.rewind(int(first) - 1)
    for step in range(int(first), 6):
        assert client.collect(step, roll_out).complete
        print(step, flush=True)
"""


def roll_out(prompts: list[str]) -> list[Rollout[None]]:
    """As in `TRAIN_FROM`."""
    return [Rollout([0.0, float(int(prompt.rpartition("/")[2]) % 3 > 0)], None) for prompt in prompts]


def report_three(trained: Trained, client: Client, first: int) -> list[bool]:
    """Three reports; whether each was degraded."""
    return [
        trained.report(client, step, [Group(POOL[step], [0.0, 1.0])], final=True).degraded
        for step in range(first, first + 3)
    ]


def stop(service: Service) -> None:
    """End it as an operator would, its store with it."""
    assert service.process is not None
    service.process.terminate()
    service.process.wait(STOP_SECONDS)


@pytest.fixture
def private(start_service: Callable[..., Service]) -> Service:
    """A service that the test may rob of its store."""
    return start_service()


def test_a_service_that_comes_back_with_an_empty_store_gets_no_report_and_all_of_them_with_the_old_one(
    private: Service, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trained = Trained(SPEC, POOL)
    data, aside = private.folder / "data", tmp_path / "aside"
    with Client(private.url, run="r", budget=BUDGET, spool=tmp_path / "spool") as client:
        clock = Skipping(client)
        trained.set_up(client)
        assert report_three(trained, client, 0) == [False] * 3
        stop(private)
        shutil.move(data, aside)
        private.start()
        assert report_three(trained, client, 3) == [True] * 3
        assert "the run is gone" in caplog.text
        assert client.select(6, ["p/0"]).degraded
        assert private.json("GET", "/v1/runs")["runs"] == [], "nobody has made a run behind the operator's back"
        stop(private)
        shutil.rmtree(data)
        shutil.move(aside, data)
        private.start()
        clock.skip(HOUR)
        assert report_three(trained, client, 6) == [False] * 3
        assert (client.counters.delivered, client.counters.refused) == (3, 0)
    trained.assert_kept(private, "r")


def test_a_run_that_is_gone_for_good_begins_anew_when_its_trainer_says_so(private: Service, tmp_path: Path) -> None:
    trained = Trained(SPEC, POOL)
    with Client(private.url, run="r", budget=BUDGET, spool=tmp_path / "spool") as client:
        clock = Skipping(client)
        trained.set_up(client)
        assert report_three(trained, client, 0) == [False] * 3
        assert private.call("DELETE", "/v1/runs/r").status_code == 204
        assert report_three(trained, client, 3) == [True] * 3
        trained.made.clear()
        clock.skip(HOUR)
        trained.set_up(client)
        assert report_three(trained, client, 0) == [False] * 3
        assert client.counters.refused == 3
    trained.assert_kept(private, "r")


def test_a_rewound_run_that_somebody_made_anew_is_not_taken_for_the_old_one(private: Service, tmp_path: Path) -> None:
    with Client(private.url, run="r", budget=BUDGET, spool=tmp_path / "spool") as client:
        client.create_run(**SPEC)
        client.report(0, [], final=True)
        client.rewind(0)
        assert private.call("DELETE", "/v1/runs/r").status_code == 204
        private.json("PUT", "/v1/runs/r", SPEC)
        with pytest.raises(ConflictError, match="made anew"):
            client.report(1, [Group("p/0", [0.0, 1.0])])
        assert private.json("GET", "/v1/runs/r")["totals"]["groups"] == 0


def test_tls_that_does_not_come_about_is_an_outage_that_says_why(
    service: Service, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cert, key = certificate(tmp_path)
    options = ["--tls-cert", str(cert), "--tls-key", str(key)]
    secret = Service(tmp_path / "tls", *options)
    trusting = ssl.create_default_context(cafile=options[1])
    secret.http.close()
    secret.http = httpx.Client(base_url=f"https://127.0.0.1:{secret.port}", verify=trusting, trust_env=False)
    try:
        secret.start()
        for url, why in (
            (f"https://127.0.0.1:{secret.port}", "SSL_CERT_FILE must name"),
            (f"http://127.0.0.1:{secret.port}", "begins with https://|reset"),
            (f"https://127.0.0.1:{service.port}", "begin with http://"),
        ):
            caplog.clear()
            with Client(url, run="r", budget=2.0, spool=tmp_path / "spool") as client:
                assert client.select(0, ["p/0"]).degraded
            assert any(part in caplog.text for part in why.split("|")), caplog.text
    finally:
        secret.close()


def test_a_trainer_killed_in_the_middle_of_a_report_goes_on_as_if_it_had_not_been(
    service: Service, run_name: str, tmp_path: Path
) -> None:
    """Its report has been applied and not been answered. The next life rewinds to its checkpoint."""
    reported = threading.Event()

    def swallow_the_third(passing: Passing) -> None:
        if passing.path.endswith("/report") and b'"step":3' in passing.body:
            passing.forward()
            reported.set()
            passing.wait(300)
        else:
            honest(passing)

    with Gateway(service.url) as gateway:
        gateway.behaviour = swallow_the_third
        arguments = [gateway.url, run_name, str(tmp_path / "spool")]
        first = subprocess.Popen([sys.executable, "-c", TRAIN_FROM, *arguments, "0"], stdout=subprocess.PIPE)
        try:
            assert reported.wait(120)
        finally:
            first.send_signal(signal.SIGKILL)
            said = first.communicate()[0]
        assert said.split() == [b"0", b"1", b"2"]
        gateway.behaviour = None
        second = subprocess.run([sys.executable, "-c", TRAIN_FROM, *arguments, "3"], stdout=subprocess.PIPE, check=True)
        assert second.stdout.split() == [b"3", b"4", b"5"]
    with (
        Client(service.url, run=run_name, strict=True, budget=60.0) as resumed,
        Client(service.url, run=f"{run_name}-twin", strict=True, budget=60.0) as twin,
    ):
        twin.create_run(**SPEC)
        twin.add_prompts(POOL)
        for step in range(6):
            assert twin.collect(step, roll_out).complete
        assert resumed.steps() == twin.steps()
        assert [resumed.prompt(prompt) for prompt in POOL] == [twin.prompt(prompt) for prompt in POOL]
        assert dataclasses.replace(resumed.state(), run="", generation=0) == dataclasses.replace(twin.state(), run="")
