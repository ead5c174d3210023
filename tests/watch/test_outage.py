"""What Prometheus sees of outages that really happen: Redis killed, replicas killed, a client that was left alone."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from tests.servers import RedisServer, Service, eventually
from tests.watch.prometheus import Prometheus

from greso_client import Client, Group

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

SECONDS = 30.0
PROMPTS = [f"p{number}" for number in range(8)]


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[tuple[RedisServer, Service, Service, Prometheus]]:
    """A Redis, two replicas, and a Prometheus in which no alert waits before it fires."""
    redis = RedisServer(tmp_path / "redis")
    options = ("--redis-url", redis.url, "--redis-timeout", "0.1", "--snapshot-every", "4")
    first, second = (Service(tmp_path / name, *options) for name in ("a", "b"))
    prometheus = Prometheus(tmp_path / "prometheus", [first.url[7:], second.url[7:]], wait="0s")
    started: list[Any] = [redis, first, second, prometheus]
    try:
        # Prometheus needs 5 s until it scrapes its first targets: meanwhile the services start.
        prometheus.start()
        redis.start()
        with ThreadPoolExecutor() as at_once:
            list(at_once.map(Service.start, (first, second)))
        yield redis, first, second, prometheus
    finally:
        for process in reversed(started):
            process.close()


def fires(prometheus: Prometheus, *names: str, meanwhile: Callable[[], object] = str) -> None:
    """Wait until these alerts fire, doing something again and again."""

    def all_fire() -> bool:
        meanwhile()
        return set(names) <= prometheus.firing()

    eventually(all_fire, SECONDS, lambda: f"{names}; there fire {prometheus.firing()}")


def ends(prometheus: Prometheus, *names: str) -> None:
    """Wait until none of these alerts fires."""
    eventually(lambda: not set(names) & prometheus.firing(), SECONDS, lambda: f"{names}; {prometheus.firing()}")


def test_outages_fire_their_alerts_and_the_end_of_them_is_seen(
    stack: tuple[RedisServer, Service, Service, Prometheus], tmp_path: Path
) -> None:
    redis, first, second, prometheus = stack
    with Client(first.url, run="outage", budget=0.5, spool=tmp_path / "spool") as client:
        client.create_run(group_size=4, train_batch_size=4)
        client.report(1, [Group("p0", [0.0, 1.0])], final=True)
        eventually(lambda: prometheus.number('sum(greso_groups_total{run="outage"})') == 1, SECONDS)
        eventually(lambda: not prometheus.firing(), SECONDS, lambda: str(prometheus.firing()))

        redis.kill()
        report = {"step": 2, "results": []}
        refused = [first.call("POST", "/v1/runs/outage/report", report).status_code]
        assert refused == [503]
        fires(
            prometheus, "GresoRedisDown", "GresoRedisErrors", "GresoErrors",
            meanwhile=lambda: first.call("POST", "/v1/runs/outage/report", report),
        )  # fmt: skip
        assert not client.select(2, PROMPTS).degraded  # stale, but the service's own
        client.report(2, [Group("p1", [0.0, 1.0])])  # kept on disk
        redis.start()
        ends(prometheus, "GresoRedisDown")

        first.kill()
        fires(prometheus, "GresoReplicaDown")
        assert "GresoDown" not in prometheus.firing()
        assert client.select(3, PROMPTS).degraded
        second.kill()
        fires(prometheus, "GresoDown")

        # The client tells a service that knows nothing of what was before.
        first.start()
        assert not prometheus.firing() & {"GresoClientsDegraded", "GresoReportsLost"}
        eventually(lambda: not client.select(4, PROMPTS).degraded, SECONDS)
        client.report(4, [Group("p2", [0.0, 1.0])])
        fires(prometheus, "GresoClientsDegraded")
        assert (prometheus.number('sum(greso_client_spooled_reports_total{run="outage"})') or 0) >= 1
        second.start()
        ends(prometheus, "GresoDown", "GresoReplicaDown")
        second.http.get("/v1/runs/outage", headers={"Greso-Client": "lost=2"})
        fires(prometheus, "GresoReportsLost")


def test_snapshots_that_can_not_be_saved_fire_their_alert(
    stack: tuple[RedisServer, Service, Service, Prometheus],
) -> None:
    redis, first, _, prometheus = stack
    path = "/v1/runs/unsaved"
    first.json("PUT", path, {})
    steps = itertools.count(1)

    def write() -> None:
        first.json("POST", f"{path}/report", {"step": next(steps), "results": []})

    with redis.client() as admin:
        admin.execute_command("ACL", "SETUSER", "default", "-rename")  # by which a snapshot takes its place
        fires(prometheus, "GresoSnapshotsFail", meanwhile=write)
        assert next(steps) > 80  # twenty times --snapshot-every
        admin.execute_command("ACL", "SETUSER", "default", "+rename")
        eventually(lambda: _wrote(write) and "GresoSnapshotsFail" not in prometheus.firing(), SECONDS)


def _wrote(write: Callable[[], None]) -> bool:
    write()
    return True
