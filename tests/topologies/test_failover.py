"""Failovers under load: what is acknowledged stays, nothing doubles, and the service finds the new primary."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ..servers import Service, eventually  # noqa: TID252
from .conftest import WAITED
from .group import Group, asking
from .trainer import GOAL, Trainer
from .views import lost, seen, seen_anew

pytestmark = pytest.mark.slow

Groups = Callable[[str], Group]
Services = Callable[..., Service]
Fault = Callable[[Group, str], None]


def by_command(group: Group, run: str) -> None:
    group.fail_over(run)


def killed(group: Group, run: str) -> None:
    primary = group.primary(run)
    primary.kill()
    group.await_other_primary(primary, run)


def frozen(group: Group, run: str) -> None:
    primary = group.primary(run)
    group.freeze(primary)
    group.await_other_primary(primary, run)
    group.thaw(primary)


@pytest.mark.parametrize("fault", [by_command, killed, frozen])
@pytest.mark.parametrize("durability", ["redis", "replicas:1"])
@pytest.mark.parametrize("kind", ["sentinel", "cluster"])
def test_a_failover_under_load(
    groups: Groups,
    services: Services,
    kind: str,
    durability: str,
    fault: Fault,
    run_name: str,
    record_property: Callable[[str, object], None],
) -> None:
    group, service = groups(kind), services(kind, "--durability", durability, "--snapshot-every", "20")
    service.json("PUT", f"/v1/runs/{run_name}", {"train_batch_size": 25})
    with Trainer(service.url, run_name) as trainer:
        trainer.went_on()
        fault(group, run_name)
        trainer.went_on()
        group.heal()
        trainer.went_on()
    views = seen(service, run_name)
    gone = lost(views, trainer)
    record_property(WAITED, trainer.summary(gone))
    assert views == seen_anew(group.url, run_name)
    assert trainer.worst < GOAL
    if durability != "redis":
        assert gone == []


def test_the_service_leaves_an_old_primary_that_still_takes_writes(
    groups: Groups, services: Services, run_name: str
) -> None:
    group, service = groups("sentinel"), services("sentinel", "--durability", "redis", "--snapshot-every", "20")
    service.json("PUT", f"/v1/runs/{run_name}", {})
    old = group.primary(run_name)
    with Trainer(service.url, run_name) as one, Trainer(service.url, run_name, first=1_000_000) as two:
        one.went_on()
        two.went_on()
        group.fail_over(run_name)
        new = group.primary(run_name)
        before = group.events(new, run_name)
        eventually(lambda: group.events(new, run_name) > before + 50, 30)
        with asking(old.port) as client:
            assert client.info("replication")["role"] == "master", "nobody has told it yet"
        left = group.events(old, run_name)
        one.went_on(50)
        two.went_on(50)
        assert group.events(old, run_name) == left
    assert seen(service, run_name) == seen_anew(group.url, run_name)
