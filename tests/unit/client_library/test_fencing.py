"""The fencing token: who learns it when, what carries it, and what becomes of a trainer that was taken for dead."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx
import pytest

from greso_client import AsyncClient, Client, ConflictError, FencedError, Group, Rollout
from greso_client._breaker import FIRST_PAUSE
from greso_client._core import Core
from greso_client._io import run
from greso_client._requests import Request
from greso_client._spool import Spool

from .doubles import MIXED, ClockIO, FakeService, collect, make_core, mixed, problem

GROUPS = [Group("a", MIXED)]
Call = Callable[[Core], Coroutine[Any, Any, Any]]

WRITES: dict[str, Call] = {
    "update_run": lambda core: core.update_run({"train_batch_size": 3}),
    "delete_run": lambda core: core.delete_run(),
    "add_prompts": lambda core: core.add_prompts(["z"]),
    "select": lambda core: core.select(1, ["a"]),
    "draw": lambda core: core.draw(1),
    "report": lambda core: core.report(1, GROUPS),
    "rewind": lambda core: core.rewind(0),
    "fork": lambda core: core.fork("other"),
}
LOOKS: dict[str, Call] = {"state": lambda core: core.state()}
TEACHERS: dict[str, Call] = LOOKS | {name: WRITES[name] for name in ("update_run", "select", "draw", "report")}


def come_back(service: FakeService, io: ClockIO) -> None:
    service.down = False
    io.time += 2 * FIRST_PAUSE


@pytest.fixture
def at_three(core: Core, service: FakeService) -> Core:
    """A client that knows its run at generation 3."""
    service.pool = ["a", "b"]
    service.generation = 3
    service.closed_steps = {0}
    run(core.state())
    assert core.generation == 3
    service.requests.clear()
    return core


@pytest.mark.parametrize("call", TEACHERS.values(), ids=TEACHERS)
def test_the_first_answer_teaches_it_and_no_later_one(core: Core, service: FakeService, call: Call) -> None:
    service.pool = ["a"]
    known = [core.generation]
    for now in (2, 5):
        service.generation = now
        run(call(core) if now == 2 else core.state())
        known.append(core.generation)
    assert known == [None, 2, 2]


@pytest.mark.parametrize("call", WRITES.values(), ids=WRITES)
def test_every_write_carries_it_once_it_is_known(at_three: Core, service: FakeService, call: Call) -> None:
    run(call(at_three))
    assert [token for _, token in service.tokens()] == ["3"]


def test_nothing_carries_it_before_it_is_known_and_no_look_ever(core: Core, service: FakeService) -> None:
    run(core.add_prompts(["a"]))
    run(core.state())
    run(core.state())
    assert {token for _, token in service.tokens()} == {None}


def test_creating_the_run_takes_the_new_one_over_and_is_never_refused_for_it(
    at_three: Core, service: FakeService
) -> None:
    service.generation = 4
    run(at_three.create_run({}))
    assert at_three.generation == 4
    run(at_three.report(1, GROUPS))
    assert service.tokens() == [("test", None), ("report", "4")]


def test_an_answer_from_the_last_known_state_teaches_nothing(core: Core, service: FakeService) -> None:
    def stale(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=json.loads(service.serve(request).content) | {"stale": True})

    service.script.append(stale)
    assert run(core.select(0, ["a"])).stale
    assert core.generation is None


def test_a_fork_does_not_teach_the_generation_of_the_new_run(at_three: Core, service: FakeService) -> None:
    assert run(at_three.fork("other", 0)).generation == 0
    assert at_three.generation == 3
    fresh = Client("http://service", run="test", spool=False, transport=httpx.MockTransport(service))
    fresh.fork("another")
    assert fresh.generation is None


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("call", WRITES.values(), ids=WRITES)
def test_a_trainer_taken_for_dead_is_refused_at_once_in_every_mode(
    io: ClockIO, service: FakeService, spool_path: Path, call: Call, strict: bool
) -> None:
    core = make_core(io, spool_path, strict=strict)
    service.pool, service.closed_steps = ["a"], {0}
    run(core.state())
    service.generation = 1
    asked = len(service.requests)
    with pytest.raises(FencedError, match="must stop") as caught:
        run(call(core))
    assert len(service.requests) == asked + 1
    assert "the run is at 1, the request at 0" in str(caught.value)
    assert not spool_path.exists()
    assert core.counts.snapshot().degraded == 0
    assert core.generation == 0


def test_it_stays_fenced_however_often_it_looks(core: Core, service: FakeService) -> None:
    run(core.state())
    service.generation = 1
    for _ in range(3):
        assert run(core.state()).generation == 1
        with pytest.raises(FencedError):
            run(core.report(0, GROUPS))
    assert service.reports == []


def test_collect_passes_it_on(core: Core, service: FakeService) -> None:
    service.pool = [f"p{index}" for index in range(20)]

    def taken_over(prompts: list[str]) -> list[Rollout[str]]:
        service.generation = 1
        return mixed(prompts)

    with pytest.raises(FencedError):
        collect(core, 0, taken_over)


def test_other_conflicts_are_not_taken_for_it(core: Core, service: FakeService) -> None:
    service.script.append(problem(409, "the pool is empty"))
    with pytest.raises(ConflictError) as caught:
        run(core.draw(0))
    assert not isinstance(caught.value, FencedError)


# What waits for the service keeps the generation under which it was made


def test_a_spooled_report_is_delivered_with_the_generation_it_was_made_under(
    at_three: Core, service: FakeService, io: ClockIO
) -> None:
    service.down = True
    run(at_three.report(1, GROUPS))
    come_back(service, io)
    service.requests.clear()
    run(at_three.flush())
    assert service.tokens() == [("report", "3")]
    assert service.reported() == [(1, ["a"])]


def test_a_spooled_report_of_a_trainer_taken_for_dead_is_put_aside(
    core: Core, service: FakeService, io: ClockIO, spool_path: Path
) -> None:
    run(core.state())
    service.down = True
    run(core.report(1, GROUPS))
    come_back(service, io)
    service.generation = 1
    other = make_core(io, spool_path)
    run(other.create_run({}))
    run(other.report(1, [Group("b", MIXED)]))
    assert service.reported() == [(1, ["b"])]
    aside = json.loads(Path(f"{spool_path}.refused").read_text())
    assert "must stop" in aside["refused"]
    assert other.counts.snapshot().refused == 1


def test_a_report_spooled_before_any_answer_has_none(core: Core, service: FakeService, io: ClockIO) -> None:
    service.down = True
    run(core.report(1, GROUPS))
    come_back(service, io)
    service.generation = 4
    run(core.flush())
    assert service.tokens()[-1] == ("report", None)


def test_the_spool_keeps_it_and_reads_files_of_the_release_that_had_none(spool_path: Path) -> None:
    spool = Spool(spool_path, 1 << 20)
    spool.append(Request("POST", "/v1/runs/test/report", b"{}", key="new", generation=7), 1.0)
    lines = spool_path.read_bytes().splitlines(keepends=True)
    spool_path.write_bytes(lines[0] + lines[1].replace(b'"generation":7,', b"").replace(b"new", b"old") + lines[1])
    found = []
    while (entry := spool.head()) is not None:
        found.append((entry.request.key, entry.request.generation))
        spool.settle(entry)
    assert found == [("old", None), ("new", 7)]


def test_prompts_added_while_the_service_was_away_are_refused_to_a_trainer_taken_for_dead(
    core: Core, service: FakeService, io: ClockIO
) -> None:
    run(core.state())
    service.down = True
    assert run(core.add_prompts(["late"])).degraded
    come_back(service, io)
    service.generation = 1
    with pytest.raises(FencedError):
        run(core.select(0, ["a"]))
    assert service.pool == []


def test_a_run_created_while_the_service_was_away_teaches_it_when_it_is_back(
    core: Core, service: FakeService, io: ClockIO
) -> None:
    service.down = True
    run(core.create_run({}))
    come_back(service, io)
    service.generation = 2
    run(core.select(0, ["a"]))
    assert core.generation == 2


def test_the_async_client_is_fenced_alike(service: FakeService) -> None:
    async def main() -> None:
        transport = httpx.MockTransport(service)
        async with AsyncClient("http://service", run="test", spool=False, transport=transport) as client:
            await client.create_run()
            assert client.generation == 0
            service.generation = 1
            with pytest.raises(FencedError):
                await client.report(0, GROUPS)
            await client.create_run()
            await client.report(0, GROUPS)
            assert (await client.rewind(0)).generation == client.generation == 2
            assert (await client.fork("other", 0)).run == "other"
            assert client.generation == 2

    service.closed_steps = {0}
    asyncio.run(main())
