"""Whatever answers instead of the service: the training goes on, and afterwards each report is there once, in order."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from greso_client import AsyncClient, Client, FencedError, Group

from ..servers import Service, eventually  # noqa: TID252 - tests are no installed package
from .clocks import Skipping
from .gateway import AFTER, BEFORE, MANY, SLOW, Gateway, Passing, honest
from .twins import Trained

HOUR = 3600.0
POOL = [f"p/{number}" for number in range(12)]
SPEC = {"train_batch_size": 4, "rollout_batch_size": 6, "seed": 5}
# Far more than any call here needs on a busy machine; where a fault uses the budget up, it is short.
AMPLE, SHORT = 20.0, 0.4


def groups(step: int) -> list[Group]:
    """A different mix at each step."""
    return [Group(POOL[(3 * step + n) % len(POOL)], [0.0, float(n % 2), float(step % 2)]) for n in range(5)]


@pytest.fixture
def gateway(service: Service) -> Iterator[Gateway]:
    with Gateway(service.url) as gateway:
        yield gateway


def train_through(gateway: Gateway, run: str, spool: Path, fault: str) -> Trained:
    """One step with the service, three through the fault, and one by the trainer's next life, which delivers all."""
    trained = Trained(SPEC, POOL)
    with Client(gateway.url, run=run, budget=AMPLE, spool=spool) as before:
        trained.set_up(before)
        trained.report(before, 0, groups(0))
    with Client(gateway.url, run=run, budget=SHORT, spool=spool) as client:
        client._core.fallback.learn_prompts(POOL)
        gateway.behaviour = {**BEFORE, **AFTER, **SLOW}[fault]
        for step in (1, 2, 3):
            chosen = client.select(step, POOL, limit=6)
            assert (chosen.degraded, chosen.selected) == (True, list(range(6)))
            drawn = client.draw(step)
            assert drawn.degraded
            assert set(drawn.prompts) <= set(POOL)
            answer = trained.report(client, step, groups(step), final=True)
            assert answer.degraded
            assert answer.step.complete
        assert client.counters.spooled == 3
        assert not client.flush(), "what the fault answers is no delivery"
        assert client.counters.delivered == client.counters.refused == client.counters.dropped == 0
    with Client(gateway.url, run=run, budget=AMPLE, spool=spool) as after:
        gateway.behaviour = None
        assert not trained.report(after, 4, groups(4)).degraded
        assert (after.counters.delivered, after.counters.refused) == (3, 0)
    return trained


@pytest.mark.parametrize("fault", [*BEFORE, *AFTER, *SLOW])
def test_garbage_costs_no_report_and_stops_nothing(
    service: Service, gateway: Gateway, run_name: str, tmp_path: Path, fault: str
) -> None:
    trained = train_through(gateway, run_name, tmp_path / "spool", fault)
    trained.assert_kept(service, run_name)


@pytest.mark.parametrize("fault", ["a page with 403", "empty", "nested without end", "a bomb", "endless", "emptied"])
def test_the_async_client_is_as_hard_to_stop(
    service: Service, gateway: Gateway, run_name: str, tmp_path: Path, fault: str
) -> None:
    trained = Trained(SPEC, POOL)

    async def train() -> None:
        async with AsyncClient(gateway.url, run=run_name, budget=AMPLE, spool=tmp_path / "spool") as client:
            clock = Skipping(client)
            await client.create_run(**SPEC)
            await client.add_prompts(POOL)
            for step in range(4):
                gateway.behaviour = {**BEFORE, **AFTER}[fault] if step in {1, 2} else None
                if step == 3:
                    clock.skip(HOUR)
                trained.made.append((step, groups(step), True))
                assert (await client.report(step, groups(step), final=True)).degraded == (step in {1, 2})
            assert client.counters.delivered == 2

    asyncio.run(train())
    trained.assert_kept(service, run_name)


@pytest.mark.parametrize("fault", ["a bomb", "endless"])
def test_what_is_too_large_is_not_taken_in(gateway: Gateway, run_name: str, tmp_path: Path, fault: str) -> None:
    gateway.behaviour = BEFORE[fault]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with Client(gateway.url, run=run_name, budget=AMPLE, spool=tmp_path / "spool") as client:
        assert client.select(0, ["a"]).degraded
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < MANY


def test_an_answer_left_behind_is_not_read_for_ever(gateway: Gateway, run_name: str, tmp_path: Path) -> None:
    gone = []

    def endless(passing: Passing) -> None:
        passing.raw(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n")
        try:
            while not passing.wait(0.01):
                passing.raw(b" ")
        except OSError:
            gone.append(passing.path)

    gateway.behaviour = endless
    with Client(gateway.url, run=run_name, budget=SHORT, spool=tmp_path / "spool") as client:
        assert client.select(0, ["a"]).degraded
        eventually(lambda: len(gone) >= len(gateway.requests), 30, lambda: "that the connection is closed")


def test_the_answers_of_another_run_are_none(service: Service, gateway: Gateway, run_name: str, tmp_path: Path) -> None:
    """A proxy that keeps answers gives those of another run, another step, another generation."""
    other = f"{run_name}-other"
    with Client(service.url, run=other, strict=True, budget=60.0) as client:
        client.create_run(**SPEC)
        client.add_prompts([*POOL, "one more"])
        client.report(0, [], final=True)
        client.rewind(0)

    def mistaken(passing: Passing) -> None:
        passing.path = passing.path.replace(f"/runs/{run_name}", f"/runs/{other}")
        passing.drop = frozenset({"greso-generation", "idempotency-key"})
        honest(passing)

    trained = Trained(SPEC, POOL)
    with Client(gateway.url, run=run_name, budget=AMPLE, spool=tmp_path / "spool") as client:
        clock = Skipping(client)
        gateway.behaviour = mistaken
        assert client.create_run(**SPEC).degraded, "it answered with the state of another run"
        clock.skip(HOUR)
        gateway.behaviour = None
        trained.set_up(client)
        assert client.generation == 0
        gateway.behaviour = mistaken
        assert client.select(1, POOL).degraded
        assert client.draw(1).degraded
        assert trained.report(client, 1, groups(1), final=True).degraded
        assert client.generation == 0
        clock.skip(HOUR)
        gateway.behaviour = None
        assert client.flush(within=AMPLE)
        try:
            trained.report(client, 2, groups(2))
        except FencedError:
            pytest.fail("it has taken over the generation of another run")
    trained.assert_kept(service, run_name)
