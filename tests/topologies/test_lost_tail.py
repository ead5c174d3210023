"""What an old primary acknowledged alone is lost with it: the service notices, and answers from what is left."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ..asgi import problem  # noqa: TID252
from ..servers import Service, eventually  # noqa: TID252
from .group import Group, asking
from .trainer import report
from .views import seen, seen_anew

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("kind", ["sentinel", "cluster"])]

Groups = Callable[[str], Group]
Services = Callable[..., Service]


def reported(service: Service, run: str, numbers: range) -> None:
    for number in numbers:
        service.json("POST", f"/v1/runs/{run}/report", report(number), f"report-{number}")


def reported_at_last(service: Service, run: str, number: int) -> None:
    """Report, under the same key again and again, until it is taken."""

    def taken() -> bool:
        return service.call("POST", f"/v1/runs/{run}/report", report(number), f"report-{number}").status_code == 200

    eventually(taken, 30)


def lose(group: Group, run: str) -> None:
    """The primary is gone, and one of the replicas that it had been cut off from takes its place."""
    primary = group.primary(run)
    primary.kill()
    for replica in group.replicas(run):
        group.thaw(replica)
    group.await_other_primary(primary, run)


def answers(service: Service, run: str) -> None:
    """Wait until the service has found the new primary."""
    eventually(lambda: service.call("GET", f"/v1/runs/{run}").status_code == 200, 30)


def asked(service: Service, run: str) -> Any:
    prompts = [f"shared-{number}" for number in range(20)] + [f"only-{number}" for number in range(20)]
    return service.json("POST", f"/v1/runs/{run}/select", {"step": 9, "prompts": prompts, "explain": True})


def test_a_lost_tail_is_noticed(groups: Groups, services: Services, kind: str, run_name: str) -> None:
    group, service = groups(kind), services(kind, "--durability", "redis")
    service.json("PUT", f"/v1/runs/{run_name}", {"seed": 7})
    reported(service, run_name, range(10))
    kept = seen(service, run_name)
    group.cut_off(run_name)
    reported(service, run_name, range(10, 20))
    assert seen(service, run_name).state["totals"]["groups"] == 40, "it has folded what is about to be lost"
    lose(group, run_name)
    answers(service, run_name)
    assert seen(service, run_name) == kept == seen_anew(group.url, run_name)
    selected = asked(service, run_name)
    assert not selected["stale"]
    again = service.call("POST", f"/v1/runs/{run_name}/report", report(10), "report-10")
    assert again.status_code == 200
    assert "idempotent-replayed" not in again.headers, "its key is lost with it"
    views = seen(service, run_name)
    assert views.state["totals"]["groups"] == 22
    assert views == seen_anew(group.url, run_name)
    group.heal()  # the old primary comes back with all that it had
    assert seen(service, run_name) == views == seen_anew(group.url, run_name)
    for server in (group.primary(run_name), *group.replicas(run_name)):
        eventually(lambda: group.events(server, run_name) == 13, 10)  # noqa: B023


def test_a_decision_is_made_from_what_is_left_also_when_nobody_looked(
    groups: Groups, services: Services, kind: str, run_name: str
) -> None:
    group, service = groups(kind), services(kind, "--durability", "redis")
    twin = f"{run_name}-twin"
    for run in (run_name, twin):
        service.json("PUT", f"/v1/runs/{run}", {"seed": 7})
        reported(service, run, range(10))
    expected = asked(service, twin)
    group.cut_off(run_name)
    reported(service, run_name, range(10, 60))
    lose(group, run_name)
    eventually(service.ready, 30)
    told: list[Any] = []

    def fresh() -> bool:
        told.append(asked(service, run_name))
        return not told[-1]["stale"]

    eventually(fresh, 30)
    assert told[-1] == expected


def test_a_lost_rewind_is_told_to_the_trainer_that_made_it(
    groups: Groups, services: Services, kind: str, run_name: str
) -> None:
    group, service = groups(kind), services(kind, "--durability", "redis")
    service.json("PUT", f"/v1/runs/{run_name}", {"train_batch_size": 1})
    reported(service, run_name, range(30))
    group.cut_off(run_name)
    assert service.json("POST", f"/v1/runs/{run_name}/rewind", {"step": 1})["generation"] == 1
    lose(group, run_name)
    answers(service, run_name)
    refused = service.http.post(
        f"/v1/runs/{run_name}/report", json=report(20), headers={"Greso-Generation": "1", "Idempotency-Key": "after"}
    )
    assert "its store has lost the rewind" in problem(refused, 409)["detail"]
    assert service.json("GET", f"/v1/runs/{run_name}")["generation"] == 0
    assert service.json("POST", f"/v1/runs/{run_name}/rewind", {"step": 1})["generation"] == 1


def test_with_replicas_nothing_is_acknowledged_that_only_the_primary_has(
    groups: Groups, services: Services, kind: str, run_name: str
) -> None:
    # The replies that tell of it come behind 0.8 times as long: a busy machine may be late with them.
    slow = ("--redis-timeout", "2", "--deadline", "10")
    group, service = groups(kind), services(kind, "--durability", "replicas:1", *slow)
    service.json("PUT", f"/v1/runs/{run_name}", {})
    reported(service, run_name, range(10))
    group.cut_off(run_name)
    for _ in range(2):
        refused = service.call("POST", f"/v1/runs/{run_name}/report", report(10), "report-10")
        assert "0 of 1 replicas confirmed" in problem(refused, 503)["detail"]
        assert int(refused.headers["retry-after"]) >= 1
    lose(group, run_name)
    answers(service, run_name)
    assert seen(service, run_name).state["totals"]["groups"] == 20
    group.heal()  # the new primary needs a replica of its own before it can confirm
    reported_at_last(service, run_name, 10)
    views = seen(service, run_name)
    assert views.state["totals"]["groups"] == 22
    assert views == seen_anew(group.url, run_name)


def test_what_a_frozen_replica_did_not_confirm_is_acknowledged_once_it_has(
    groups: Groups, services: Services, kind: str, run_name: str
) -> None:
    group, service = groups(kind), services(kind, "--durability", "replicas:1")
    service.json("PUT", f"/v1/runs/{run_name}", {})
    for replica in group.replicas(run_name):
        group.freeze(replica)
    problem(service.call("POST", f"/v1/runs/{run_name}/report", report(0), "report-0"), 503)
    for replica in set(group.frozen):
        group.thaw(replica)
    reported_at_last(service, run_name, 0)
    assert seen(service, run_name).state["totals"]["groups"] == 2


def test_a_primary_that_no_replica_follows_takes_no_reports_if_told_so(
    groups: Groups, services: Services, kind: str, run_name: str
) -> None:
    group, service = groups(kind), services(kind, "--durability", "redis")
    service.json("PUT", f"/v1/runs/{run_name}", {})
    with asking(group.primary(run_name).port) as primary:
        primary.config_set("min-replicas-to-write", 1)
        try:
            group.cut_off(run_name)
            refused = service.call("POST", f"/v1/runs/{run_name}/report", report(0), "report-0")
            assert "NOREPLICAS" in problem(refused, 503)["detail"]
            for replica in set(group.frozen):
                group.thaw(replica)
            reported_at_last(service, run_name, 0)
        finally:
            primary.config_set("min-replicas-to-write", 0)
    assert seen(service, run_name).state["totals"]["groups"] == 2
