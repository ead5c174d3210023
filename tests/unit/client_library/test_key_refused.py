"""A key that is refused: from the start a mistake of the caller, later an outage that costs no report."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx
import pytest

from greso_client import AsyncClient, ForbiddenError, Group, Seconds
from greso_client._breaker import CHEAP_FAILURES, LINE_EVERY
from greso_client._core import Core
from greso_client._io import run

from .doubles import MIXED, ClockIO, FakeService, collect, make_core, mixed, problem
from .telling import happened, told

GROUPS = [Group("a", MIXED)]
Call = Callable[[Core], Coroutine[Any, Any, Any]]

LOOP: dict[str, Call] = {
    "create_run": lambda core: core.create_run({}),
    "add_prompts": lambda core: core.add_prompts(["z"]),
    "select": lambda core: core.select(1, ["a"]),
    "draw": lambda core: core.draw(1),
    "report": lambda core: core.report(1, GROUPS),
}
OTHERS: dict[str, Call] = {
    "state": lambda core: core.state(),
    "steps": lambda core: core.steps(None, None),
    "prompt": lambda core: core.prompt("a"),
    "update_run": lambda core: core.update_run({"train_batch_size": 3}),
    "delete_run": lambda core: core.delete_run(),
    "rewind": lambda core: core.rewind(0),
    "fork": lambda core: core.fork("other"),
}


class Door(FakeService):
    """A service with keys; `status`: what it answers instead, 0 for nothing; `reads`: it lets this key read only."""

    status = 0
    reads = False

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if self.status or (self.reads and request.method != "GET"):
            self.requests.append(request)
            return problem(self.status or 403, "there is no such key")
        return super().__call__(request)


@pytest.fixture
def service() -> Door:
    return Door(pool=[f"p{index}" for index in range(50)])


@pytest.fixture
def let_in(core: Core, service: Door) -> Core:
    """A client whose run was created."""
    run(core.create_run({}))
    run(core.add_prompts(service.pool))
    return core


def later(service: Door, io: ClockIO, status: int = 0) -> None:
    service.status = status
    io.time += 70.0  # longer than any pause of the breaker


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("call", (LOOP | OTHERS).values(), ids=LOOP | OTHERS)
def test_refused_at_the_first_contact_it_raises_and_nothing_is_spooled(
    core: Core, service: Door, spool_path: Path, call: Call, status: int
) -> None:
    service.status = status
    for _ in range(4):
        with pytest.raises(ForbiddenError, match="no such key"):
            run(call(core))
    assert not spool_path.exists()
    assert core.counts.snapshot().degraded == 0


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("call", LOOP.values(), ids=LOOP)
def test_refused_later_the_training_goes_on_without_the_service(
    let_in: Core, service: Door, call: Call, status: int
) -> None:
    service.status = status
    assert run(call(let_in)).degraded
    assert let_in.counts.snapshot().degraded == 1


@pytest.mark.parametrize("call", OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("spooled", [False, True])
def test_refused_later_what_looks_or_administers_raises_by_its_own_name(
    let_in: Core, service: Door, call: Call, spooled: bool
) -> None:
    service.status = 401
    if spooled:
        assert run(let_in.report(1, GROUPS)).degraded
    with pytest.raises(ForbiddenError, match="no such key") as caught:
        run(call(let_in))
    assert type(caught.value) is ForbiddenError


def test_a_key_that_only_ever_could_read_is_the_wrong_one(core: Core, service: Door) -> None:
    service.reads = True
    run(core.state())
    with pytest.raises(ForbiddenError):
        collect(core, 0, mixed)
    service.reads, service.status = False, 401
    assert run(core.select(0, ["a"])).degraded, "a key that could read was taken away"


def test_a_rewind_with_a_key_that_may_not_is_a_mistake_and_no_outage(let_in: Core, service: Door) -> None:
    service.script.append(problem(403, "this needs a key with the scope admin"))
    with pytest.raises(ForbiddenError, match="scope admin"):
        run(let_in.rewind(0))
    assert not run(let_in.select(0, ["a"])).degraded


@pytest.mark.parametrize("status", [401, 403])
def test_what_was_rolled_out_meanwhile_is_delivered_once_and_in_order_when_a_key_is_accepted_again(
    let_in: Core, service: Door, io: ClockIO, spool_path: Path, status: int
) -> None:
    service.status = status
    got = [collect(let_in, step, mixed) for step in range(4)]
    assert all(each.degraded and each.reason == "complete" for each in got)
    assert (let_in.counts.snapshot().spooled, service.reported()) == (4, [])
    later(service, io)
    assert collect(let_in, 4, mixed).reason == "complete"
    assert [step for step, _ in service.reported()] == [0, 1, 2, 3, 4]
    assert service.reported()[:4] == [(each.step, [group.prompt for group in each.groups]) for each in got]
    assert not spool_path.exists()


def test_a_report_in_whose_middle_the_key_went_is_not_lost(let_in: Core, service: Door, spool_path: Path) -> None:
    def roll_out(prompts: list[str]) -> list[Any]:
        service.status = 401
        return mixed(prompts)

    assert collect(let_in, 0, roll_out).reason == "complete"
    service.status = 0
    assert run(let_in.flush())
    assert [step for step, _ in service.reported()] == [0]


def test_a_new_client_with_a_good_key_delivers_them(let_in: Core, service: Door, io: ClockIO, spool_path: Path) -> None:
    service.status = 401
    run(let_in.report(1, GROUPS))
    assert run(let_in.flush()) is False
    run(let_in.finish())
    with pytest.raises(ForbiddenError):
        run(make_core(io, spool_path).flush())
    service.status = 0
    assert run(make_core(io, spool_path).flush())
    assert service.reported() == [(1, ["a"])]


def test_what_it_went_through_is_told_to_the_service_that_lets_it_in_again(
    let_in: Core, service: Door, io: ClockIO
) -> None:
    service.requests.clear()
    service.status = 401
    for step in range(3):
        run(let_in.report(step, GROUPS))
        io.time += 70.0
    refused = len(service.requests)
    later(service, io)
    run(let_in.flush())
    run(let_in.state())
    assert told(service.requests[refused:]) == happened(let_in.counts.snapshot())


def test_it_is_an_error_in_the_log_at_once_and_then_seldom(
    let_in: Core, service: Door, io: ClockIO, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "greso_client")
    service.status = 401
    for step in range(61):
        run(let_in.report(step, GROUPS))
        io.time += LINE_EVERY / 20
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert errors == [record.getMessage() for record in caplog.records]
    assert len(errors) == 4
    assert "refuses the API key (401 Problem: there is no such key" in errors[0]
    assert "Training goes on" in errors[0]
    assert "Have the key renewed" in errors[0]
    assert all("still refuses the API key after" in each and "no such key" in each for each in errors[1:])
    later(service, io)
    run(let_in.select(0, ["a"]))
    assert "is back after" in caplog.records[-1].getMessage()


def test_a_key_that_is_refused_by_a_service_that_comes_back_is_told_as_that(
    let_in: Core, service: Door, io: ClockIO, caplog: pytest.LogCaptureFixture
) -> None:
    service.down = True
    run(let_in.report(0, GROUPS))
    service.down = False
    later(service, io, 401)
    run(let_in.report(1, GROUPS))
    assert "is away" in caplog.records[0].getMessage()
    assert "still refuses the API key" in caplog.records[1].getMessage()
    assert "is back" not in caplog.text


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("call", LOOP.values(), ids=LOOP)
def test_refused_after_a_start_without_the_service_the_training_goes_on(
    core: Core, service: Door, io: ClockIO, call: Call, status: int
) -> None:
    service.down = True
    run(core.create_run({}))
    run(core.add_prompts(["z"]))
    assert run(core.report(1, GROUPS)).degraded
    service.down = False
    later(service, io, status)
    assert run(call(core)).degraded
    assert run(core.report(2, GROUPS)).degraded
    later(service, io)
    assert not run(core.report(3, GROUPS)).degraded
    assert [step for step, _ in service.reported()][-2:] == [2, 3]
    assert service.reported()[0] == (1, ["a"])


def test_a_training_that_draws_from_a_pool_it_did_not_add_is_told_why_it_cannot_go_on(
    core: Core, service: Door
) -> None:
    run(core.create_run({}))
    assert collect(core, 0, mixed).complete
    service.status = 401
    with pytest.raises(ForbiddenError, match="no such key; a draw goes on without it only with prompts that"):
        collect(core, 1, mixed)
    assert run(core.report(1, GROUPS)).degraded


def test_while_writes_are_refused_a_look_that_is_answered_is_no_end_of_it(
    let_in: Core, service: Door, io: ClockIO, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "greso_client")
    service.reads = True
    service.requests.clear()
    for step in range(8):
        run(let_in.report(step, GROUPS))
        run(let_in.state())
    sent = [request.method for request in service.requests]
    assert (sent.count("POST"), sent.count("GET")) == (CHEAP_FAILURES, 8), "the other writes did not even try"
    assert "is back" not in caplog.text
    assert len(caplog.records) == 1
    service.reads = False
    later(service, io)
    assert not run(let_in.report(8, GROUPS)).degraded
    assert "is back" in caplog.text


def test_strict_raises_and_keeps_nothing(strict_core: Core, service: Door, io: ClockIO, spool_path: Path) -> None:
    run(strict_core.create_run({}))
    service.status = 401
    for call in LOOP.values():
        with pytest.raises(ForbiddenError, match="no such key") as caught:
            run(call(strict_core))
        assert type(caught.value) is ForbiddenError
    counters = strict_core.counts.snapshot()
    assert (counters.spooled, counters.dropped, counters.degraded) == (0, 0, 0)
    assert run(strict_core.flush())
    run(strict_core.finish())
    service.status = 0
    assert run(make_core(io, spool_path).flush())
    assert (service.reported(), spool_path.exists()) == ([], False)


def test_a_strict_client_leaves_alone_what_another_has_spooled(
    let_in: Core, service: Door, io: ClockIO, spool_path: Path
) -> None:
    service.status = 401
    assert run(let_in.report(1, GROUPS)).degraded
    service.status = 0
    strict = make_core(io, spool_path, strict=True)
    run(strict.report(2, GROUPS))
    assert run(strict.flush())
    run(strict.fork("other"))
    run(strict.finish())
    assert service.reported() == [(2, ["a"])]
    assert spool_path.exists()
    assert run(make_core(io, spool_path).flush())
    assert service.reported() == [(2, ["a"]), (1, ["a"])]


def test_a_refusal_says_nothing_of_a_report_that_may_have_been_counted(
    let_in: Core, service: Door, io: ClockIO
) -> None:
    """Its answer was lost, and the next attempt is refused: it must come under its own key, seconds and all."""

    def swallow(request: httpx.Request) -> httpx.Response:
        service.serve(request)
        service.status = 401
        raise httpx.ReadError("the answer was lost")

    service.script.append(swallow)
    assert run(let_in.report(1, GROUPS, False, Seconds(1.0))).degraded
    service.forbids_seconds = True  # an older one, put in its place
    later(service, io)
    assert not run(let_in.flush())
    assert len(service.reports) == 1
    service.forbids_seconds = False
    assert run(let_in.flush())
    assert len(service.reports) == 1


def test_the_async_client_does_the_same(service: Door, spool_path: Path) -> None:
    async def main() -> None:
        async with AsyncClient(
            "http://service", run="test", spool=spool_path, transport=httpx.MockTransport(service)
        ) as client:
            await client.create_run()
            service.status = 401
            assert (await client.report(0, GROUPS)).degraded
            with pytest.raises(ForbiddenError):
                await client.state()
            service.status = 0
            assert await client.flush()

    asyncio.run(main())
    assert service.reported() == [(0, ["a"])]
