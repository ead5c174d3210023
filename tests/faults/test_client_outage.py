"""Training never stops because of the service, and every report counts once: against real kills."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from greso_client import Client, Collected, Group, Rollout

from ..e2e.oracle import service as oracle  # noqa: TID252 - tests are no installed package

MIXED, HARD = [0.0, 1.0], [0.0, 0.0]
BUDGET = 2.0
# For a machine that is busy with other tests: what is measured is that nothing hangs.
SLACK = 15.0
REPORT_WHEN_TOLD = """
import sys
from greso_client import Client, Group
client = Client(sys.argv[1], run=sys.argv[2], spool=sys.argv[3], budget=0.5)
for number, _ in enumerate(sys.stdin):
    client.report(0, [Group(f"{sys.argv[4]}/{number}", [0.0, 0.0])])
    print(number, flush=True)
"""
TRAIN_UNTIL_FENCED = """
import sys
from greso_client import Client, FencedError, Rollout
client = Client(sys.argv[1], run=sys.argv[2], spool=sys.argv[3], budget=5.0)
client.create_run(train_batch_size=4, rollout_batch_size=8)
client.add_prompts(f"p/{number}" for number in range(40))
step = 0
try:
    while True:
        assert client.collect(step, lambda prompts: [Rollout([0.0, 1.0], None) for _ in prompts]).complete
        print(step, flush=True)
        step += 1
except FencedError:
    sys.exit(77)
"""


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[oracle.Service]:
    """A real service that comes back on its old port after a kill."""
    port = oracle.free_port()
    monkeypatch.setattr(oracle, "free_port", lambda: port)
    service = oracle.Service(tmp_path)
    yield service.start()
    service.close()


def url(service: oracle.Service) -> str:
    return f"http://127.0.0.1:{service.port}"


def roll_out(prompts: list[str]) -> list[Rollout[None]]:
    return [Rollout(MIXED if int(prompt.rpartition("/")[2]) % 3 == 0 else HARD, None) for prompt in prompts]


def visits(client: Client, prompts: Counter[str]) -> Counter[str]:
    return Counter({prompt: client.prompt(prompt).visits for prompt in prompts})


def deliver(client: Client) -> None:
    deadline = time.monotonic() + 60
    while not client.flush(within=5.0):
        assert time.monotonic() < deadline, "the spool was never empty"


@pytest.mark.slow
@pytest.mark.parametrize("walk", ["draw", "select"])
def test_a_service_killed_in_the_middle_of_collect_costs_no_step_and_no_report(
    service: oracle.Service, tmp_path: Path, walk: str
) -> None:
    pool = [f"p/{index}" for index in range(60)]
    chance = random.Random(5)

    def stream() -> Iterator[str]:
        while True:
            yield from chance.sample(pool, len(pool))

    candidates = None if walk == "draw" else stream()
    rolled: Counter[str] = Counter()
    rollouts = 0
    degraded = []
    with Client(url(service), run="r", budget=BUDGET, spool=tmp_path / "spool.jsonl") as client:
        client.create_run(train_batch_size=6, rollout_batch_size=12)
        client.add_prompts(pool)

        def killing(prompts: list[str]) -> list[Rollout[None]]:
            if service.process is not None and service.process.poll() is None:
                service.kill()
            return roll_out(prompts)

        for step in range(10):
            if step == 7:
                service.start()
                deliver(client)
            start = time.monotonic()
            got: Collected[None] = client.collect(
                step, killing if step == 3 else roll_out, prompts=candidates, max_rounds=20
            )
            assert got.complete
            assert len(got.effective) >= 6
            assert time.monotonic() - start < BUDGET + SLACK or not 3 <= step < 7
            degraded.append(got.degraded)
            rolled.update(group.prompt for group in got.groups)
            rollouts += got.rollouts
        assert degraded[:7] == [False] * 3 + [True] * 4
        assert not degraded[9]
        assert client.flush()
        totals = client.state().totals
        assert (totals.groups, totals.rollouts) == (rolled.total(), rollouts)
        assert visits(client, rolled) == rolled
        counters = client.counters
        assert counters.spooled == counters.delivered > 0
        assert (counters.dropped, counters.refused) == (0, 0)


def test_a_frozen_service_costs_one_budget_and_every_report_counts_once(
    service: oracle.Service, tmp_path: Path
) -> None:
    assert service.process is not None
    rolled: Counter[str] = Counter()
    with Client(url(service), run="r", budget=BUDGET, spool=tmp_path / "spool.jsonl") as client:
        client.create_run(train_batch_size=4, rollout_batch_size=12)
        client.add_prompts(f"p/{index}" for index in range(60))
        os.kill(service.process.pid, signal.SIGSTOP)
        try:
            start = time.monotonic()
            for step in range(8):
                rolled.update(group.prompt for group in client.collect(step, roll_out).groups)
            assert time.monotonic() - start < BUDGET + SLACK
        finally:
            os.kill(service.process.pid, signal.SIGCONT)
        deliver(client)
        assert client.state().totals.groups == rolled.total()
        assert visits(client, rolled) == rolled


@pytest.mark.slow
def test_reports_whose_answers_are_lost_to_kills_count_once(service: oracle.Service, tmp_path: Path) -> None:
    """The service is killed at random moments under fire: some reports are applied and never answered."""
    chance = random.Random(11)
    reported: Counter[str] = Counter()
    with Client(url(service), run="r", budget=BUDGET, spool=tmp_path / "spool.jsonl") as client:
        client.create_run()
        for life in range(4):
            killer = threading.Timer(chance.uniform(0.02, 0.3), service.kill)
            killer.start()
            number = 0
            while killer.is_alive() or number < 40:
                client.report(life, [Group(f"p/{life}/{number % 7}", HARD)])
                reported[f"p/{life}/{number % 7}"] += 1
                number += 1
            killer.join()
            service.start()
            deliver(client)
        assert client.state().totals.groups == reported.total()
        assert visits(client, reported) == reported
        assert client.counters.delivered > 0


@pytest.mark.slow
def test_killed_trainers_and_a_killed_service_lose_no_report_that_was_taken(
    service: oracle.Service, tmp_path: Path
) -> None:
    """Two trainers share a spool; all three processes are killed while reports are made and delivered."""
    spool = tmp_path / "spool.jsonl"
    with Client(url(service), run="r", strict=True, budget=20.0) as client:
        client.create_run()
    taken: dict[str, int] = {}
    for life in range(2):
        trainers = {
            f"t{life}{who}": subprocess.Popen(
                [sys.executable, "-c", REPORT_WHEN_TOLD, url(service), "r", str(spool), f"t{life}{who}"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0,
            )
            for who in "ab"
        }  # fmt: skip
        advance(trainers, taken, 20)
        tell(trainers, 10)
        service.kill()
        hear(trainers, taken, 10)
        advance(trainers, taken, 20)
        service.start()
        tell(trainers, 50)
        hear(trainers, taken, 20)
        for name, trainer in trainers.items():
            trainer.kill()
            trainer.wait()
            assert trainer.stdout is not None
            assert trainer.stdin is not None
            taken[name] = max([taken[name], *map(int, trainer.stdout.read().split())])
            trainer.stdout.close()
            trainer.stdin.close()
    with Client(url(service), run="r", budget=5.0, spool=spool) as client:
        deliver(client)
        missing = [
            f"{name}/{number}" for name, last in taken.items() for number in range(last + 1)
            if client.prompt(f"{name}/{number}").visits != 1
        ]  # fmt: skip
        assert missing == []
        # A trainer may have been killed between a report and the line that says so.
        assert 0 <= client.state().totals.groups - sum(last + 1 for last in taken.values()) <= len(taken)


def advance(trainers: dict[str, subprocess.Popen[bytes]], taken: dict[str, int], reports: int) -> None:
    tell(trainers, reports)
    hear(trainers, taken, reports)


def tell(trainers: dict[str, subprocess.Popen[bytes]], reports: int) -> None:
    for trainer in trainers.values():
        assert trainer.stdin is not None
        trainer.stdin.write(b"\n" * reports)


def hear(trainers: dict[str, subprocess.Popen[bytes]], taken: dict[str, int], reports: int) -> None:
    for name, trainer in trainers.items():
        assert trainer.stdout is not None
        for _ in range(reports):
            taken[name] = int(trainer.stdout.readline())


@pytest.mark.slow
def test_a_training_started_while_the_service_is_away_is_complete_afterwards(
    service: oracle.Service, tmp_path: Path
) -> None:
    service.kill()
    rolled: Counter[str] = Counter()
    spec: dict[str, Any] = {"train_batch_size": 4, "rollout_batch_size": 8, "seed": 3}
    with Client(url(service), run="late-start", budget=BUDGET, spool=tmp_path / "spool.jsonl") as client:
        assert client.create_run(**spec).degraded
        assert client.add_prompts(f"p/{index}" for index in range(40)).degraded
        for step in range(3):
            got = client.collect(step, roll_out)
            assert got.complete
            rolled.update(group.prompt for group in got.groups)
        service.start()
        deliver(client)
        state = client.state()
        assert (state.pool, state.totals.groups) == (40, rolled.total())
        assert {name: state.spec[name] for name in spec} == spec
        assert [row.complete for row in client.steps()] == [True] * 3


@pytest.mark.slow
def test_a_frozen_trainer_that_wakes_up_ends_and_the_resumed_run_is_none_the_worse(
    service: oracle.Service, tmp_path: Path
) -> None:
    """It is stopped in the middle of anything, replaced over a kill of the service, and goes on as if nothing was."""
    frozen = subprocess.Popen(
        [sys.executable, "-c", TRAIN_UNTIL_FENCED, url(service), "r", str(tmp_path / "frozen.jsonl")],
        stdout=subprocess.PIPE,
    )
    try:
        assert frozen.stdout is not None
        while int(frozen.stdout.readline()) < 9:
            pass
        frozen.send_signal(signal.SIGSTOP)
        service.kill()
        service.start()
        with Client(url(service), run="r", budget=10.0, strict=True) as client:
            client.create_run(train_batch_size=4, rollout_batch_size=8)
            client.report(5, [], final=True)
            assert client.rewind(5).step == 5
            service.kill()
            service.start()
            assert client.collect(6, roll_out, max_rounds=20).complete
            known = client.state()
            assert known.generation == client.generation == 1
            frozen.send_signal(signal.SIGCONT)
            assert frozen.wait(timeout=60) == 77
            assert client.state() == known
            assert [row.step for row in client.steps()] == list(range(7))
            assert client.collect(7, roll_out, max_rounds=20).complete
    finally:
        frozen.kill()
        frozen.wait()
        if frozen.stdout is not None:
            frozen.stdout.close()
