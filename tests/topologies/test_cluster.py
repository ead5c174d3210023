"""What only a cluster does: slots that move while they are used, and shards that go away alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ..servers import Service, eventually  # noqa: TID252
from .cluster import LIST, Cluster
from .conftest import WAITED
from .trainer import GOAL, Trainer
from .views import lost, seen, seen_anew

pytestmark = pytest.mark.slow


@pytest.fixture
def cluster(groups: Callable[[str], Cluster]) -> Cluster:
    return groups("cluster")


def elsewhere(cluster: Cluster, run: str) -> str:
    """The name of a run whose primary is another."""
    names = (f"{run}-{number}" for number in range(1000))
    return next(name for name in names if cluster.primary(name) is not cluster.primary(run))


@pytest.mark.parametrize("durability", ["redis", "replicas:1"])
def test_the_slot_of_a_run_moves_under_load(
    cluster: Cluster,
    services: Callable[..., Service],
    durability: str,
    run_name: str,
    record_property: Callable[[str, object], None],
) -> None:
    service = services("cluster", "--durability", durability)
    service.json("PUT", f"/v1/runs/{run_name}", {"train_batch_size": 25})
    source, target = cluster.primary(run_name), cluster.primary(elsewhere(cluster, run_name))
    with Trainer(service.url, run_name) as trainer:
        trainer.went_on(15)
        assert cluster.move(run_name, target) > 30
        trainer.went_on()
        assert cluster.primary(run_name) is target
        cluster.move(run_name, source)
        trainer.went_on()
    assert trainer.worst < GOAL
    views = seen(service, run_name)
    record_property(WAITED, trainer.summary(lost(views, trainer)))
    assert lost(views, trainer) == []
    assert views == seen_anew(cluster.url, run_name)


def test_a_slot_that_is_long_on_its_way_takes_its_own_runs_along_and_no_other(
    cluster: Cluster, services: Callable[..., Service], run_name: str
) -> None:
    service = services("cluster", "--durability", "redis")
    other = elsewhere(cluster, run_name)
    for run in (run_name, other):
        service.json("PUT", f"/v1/runs/{run}", {"train_batch_size": 25})
    target = cluster.primary(other)
    with Trainer(service.url, run_name) as trainer, Trainer(service.url, other) as going_on:
        trainer.went_on()
        cluster.begin_move(run_name, target)
        eventually(lambda: sum(trainer.refused.values()) > 20, 20)
        cluster.move(run_name, target)
        trainer.went_on()
    assert going_on.refused == {}
    for each in (trainer, going_on):
        views = seen(service, each.run)
        assert lost(views, each) == []
        assert views == seen_anew(cluster.url, each.run)


def test_a_shard_that_is_away_takes_its_own_runs_along_and_no_other(
    cluster: Cluster, services: Callable[..., Service], run_name: str
) -> None:
    service = services("cluster", "--durability", "redis")
    gone, other = run_name, elsewhere(cluster, run_name)
    if cluster.primary(gone) is cluster.owner(LIST):
        gone, other = other, gone
    for run in (gone, other):
        service.json("PUT", f"/v1/runs/{run}", {"train_batch_size": 25})
    away = [cluster.primary(gone), *cluster.replicas(gone)]
    with Trainer(service.url, gone) as trainer, Trainer(service.url, other) as going_on:
        trainer.went_on()
        for server in away:
            cluster.freeze(server)
        eventually(lambda: sum(trainer.refused.values()) > 5, 20)
        before = dict(going_on.refused)
        going_on.went_on(20)
        runs = {row["run"] for row in service.json("GET", "/v1/runs?limit=1000")["runs"]}
        page = service.json("GET", "/v1/overview?limit=100")
        service.json("GET", f"/v1/runs/{other}/overview")
        refused_meanwhile = {why: n - before.get(why, 0) for why, n in going_on.refused.items()}
        for server in away:
            cluster.thaw(server)
        trainer.went_on()
    for each in (trainer, going_on):
        views = seen(service, each.run)
        assert lost(views, each) == []
        assert views == seen_anew(cluster.url, each.run)
    assert refused_meanwhile == {}, going_on.worst
    assert {gone, other} <= runs
    assert other in {row["run"] for row in page["runs"]}
    assert gone in page["cold"]
    assert service.ready()
