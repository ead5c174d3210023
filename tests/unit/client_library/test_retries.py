"""Retries, the time budget and the breaker, on a clock that moves only when something takes time."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greso_client import BudgetExceededError, Client, ConflictError, Group, ProtocolError, UnavailableError
from greso_client._breaker import FIRST_PAUSE, LONGEST_PAUSE
from greso_client._core import Core
from greso_client._io import LONGEST_SECONDS, AsyncioIO, BlockingIO, run
from greso_client._requests import RunRequests

from .doubles import ClockIO, FakeService, make_core, problem

GROUPS = [Group("a", [0, 1])]
FAILURES = [httpx.ConnectError("refused"), httpx.ReadError("reset"), problem(502), problem(503), problem(504)]


@pytest.mark.parametrize("failure", FAILURES)
def test_a_passing_failure_is_retried(strict_core: Core, service: FakeService, failure: httpx.Response) -> None:
    service.script.extend([failure, failure])
    assert run(strict_core.select(0, ["a"])).selected == [0]
    assert strict_core.counts.snapshot().retries == 2


def test_pauses_are_jittered_below_a_doubling_bound(strict_core: Core, service: FakeService, io: ClockIO) -> None:
    service.script.extend([problem(503)] * 4)
    run(strict_core.select(0, ["a"]))
    assert len(io.pauses) == 4
    assert all(0 <= pause <= 0.1 * 2**attempt for attempt, pause in enumerate(io.pauses))
    assert len(set(io.pauses)) == 4


def test_retry_after_is_waited_for(strict_core: Core, service: FakeService, io: ClockIO) -> None:
    service.script.append(problem(503, headers={"retry-after": "1"}))
    run(strict_core.select(0, ["a"]))
    assert 1.0 <= io.pauses[0] <= 1.1


def test_retry_after_may_be_a_date(strict_core: Core, service: FakeService) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    service.script.append(problem(503, headers={"retry-after": format_datetime(later, usegmt=True)}))
    with pytest.raises(UnavailableError) as caught:
        run(strict_core.select(0, ["a"]))
    assert caught.value.retry_after == pytest.approx(3600, abs=5)


def test_a_wait_longer_than_the_budget_is_not_begun(strict_core: Core, service: FakeService, io: ClockIO) -> None:
    service.script.append(problem(503, headers={"retry-after": "30"}))
    with pytest.raises(UnavailableError):
        run(strict_core.select(0, ["a"]))
    assert io.pauses == []


@pytest.mark.parametrize("status", [408, 425, 429, 500, 501])
def test_a_service_or_gateway_in_trouble_is_not_asked_twice(core: Core, service: FakeService, status: int) -> None:
    service.script.append(problem(status))
    assert run(core.select(0, ["a"])).degraded
    assert len(service.requests) == 1


def test_one_hanging_attempt_leaves_time_for_another(strict_core: Core, io: ClockIO) -> None:
    io.takes = deque([60.0])
    assert not run(strict_core.select(0, ["a"])).degraded
    assert io.timeouts == [1.0, pytest.approx(1.0, abs=0.11)]


def test_a_hanging_service_costs_the_budget_and_not_more(strict_core: Core, io: ClockIO) -> None:
    io.takes = 60.0
    start = io.time
    with pytest.raises(BudgetExceededError) as caught:
        run(strict_core.select(0, ["a"]))
    assert isinstance(caught.value, TimeoutError)
    assert io.time - start <= 2.0 + 1e-9


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(0, 3), st.sampled_from(["refused", 503, 504, 500, "later", "html", 200])), max_size=30
    ),
    st.floats(0.05, 5.0),
    st.sampled_from(["select", "draw", "report"]),
)
def test_no_call_ever_takes_longer_than_its_budget(
    plan: list[tuple[float, str | int]], budget: float, call: str
) -> None:
    service = FakeService(pool=["a", "b"])
    for _, kind in plan:
        if kind == "refused":
            service.script.append(httpx.ConnectError("refused"))
        elif kind == "later":
            service.script.append(problem(503, headers={"retry-after": "0.3"}))
        elif kind == "html":
            service.script.append(httpx.Response(200, text="<html>"))
        elif kind == 200:
            service.script.append(service.serve)
        else:
            service.script.append(problem(int(kind)))
    io = ClockIO(service)
    io.takes = deque(seconds for seconds, _ in plan)
    core = make_core(io, None, budget=budget)
    core.fallback.learn_prompts(["a"])
    for step in range(3):
        start = io.time
        if call == "select":
            run(core.select(step, ["a", "b"]))
        elif call == "draw":
            run(core.draw(step, 1))
        else:
            run(core.report(step, GROUPS))
        assert io.time - start <= budget + 1e-6


def test_a_dead_service_costs_one_budget_and_then_nothing(core: Core, io: ClockIO) -> None:
    io.takes = 60.0
    start = io.time
    assert run(core.select(0, ["a"])).degraded
    assert io.time - start == pytest.approx(2.0, abs=0.01)
    asked, start = len(io.timeouts), io.time
    for step in range(50):
        assert run(core.select(step, ["a"])).degraded
        assert run(core.report(step, GROUPS)).degraded
    assert io.time == start
    assert len(io.timeouts) == asked


def test_the_probe_is_one_attempt_and_the_pauses_between_them_double(core: Core, io: ClockIO) -> None:
    io.takes = 60.0
    run(core.select(0, ["a"]))
    gaps, last = [], io.time
    for _ in range(3000):
        before = len(io.timeouts)
        run(core.select(0, ["a"]))
        if len(io.timeouts) > before:
            assert len(io.timeouts) == before + 1
            gaps.append(round(io.time - 2.0 - last))
            last = io.time
        io.time += 0.1
    assert gaps[:5] == [FIRST_PAUSE, 10, 20, 40, LONGEST_PAUSE]
    assert max(gaps) == LONGEST_PAUSE


def test_the_first_probe_that_succeeds_ends_the_outage(core: Core, io: ClockIO, service: FakeService) -> None:
    service.down = True
    run(core.select(0, ["a"]))
    service.down = False
    assert run(core.select(0, ["a"])).degraded
    io.time += FIRST_PAUSE
    assert not run(core.select(0, ["a"])).degraded
    assert not run(core.select(0, ["a"])).degraded


def test_a_refusal_also_ends_an_outage(core: Core, io: ClockIO, service: FakeService) -> None:
    service.down = True
    run(core.select(0, ["a"]))
    service.down = False
    io.time += FIRST_PAUSE
    service.script.append(problem(409))
    with pytest.raises(ConflictError):
        run(core.select(0, ["a"]))
    assert not run(core.select(0, ["a"])).degraded


def test_the_service_decides_how_long_it_is_left_alone(core: Core, io: ClockIO, service: FakeService) -> None:
    service.script.append(problem(503, headers={"retry-after": "20"}))
    run(core.select(0, ["a"]))
    io.time += 15
    assert run(core.select(0, ["a"])).degraded
    io.time += 6
    assert not run(core.select(0, ["a"])).degraded


def test_a_failure_that_costs_no_time_opens_the_breaker_only_when_it_repeats(core: Core, service: FakeService) -> None:
    service.script.extend([problem(500)] * 3)
    for asked in (1, 2, 3, 3):
        assert run(core.select(0, ["a"])).degraded
        assert len(service.requests) == asked


def test_a_look_that_fails_does_not_cost_the_training_loop_its_service(core: Core, service: FakeService) -> None:
    service.script.extend([problem(500)] * 5)
    for _ in range(5):
        with pytest.raises(UnavailableError):
            run(core.state())
    assert not run(core.select(0, ["a"])).degraded


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, text="<html>a proxy's page"),
        httpx.Response(200, json=[1, 2]),
        httpx.Response(200, json={"selected": [0]}),
        httpx.Response(302, headers={"location": "http://elsewhere"}),
        httpx.Response(200, json={
            "selected": [5], "examined": 1, "skipped": {"easy": 0, "hard": 0}, "generation": 0,
            "exploration": {"easy": 0.5, "hard": 0.5}, "rollout_batch_size": 1,
        }),
    ],
)  # fmt: skip
def test_an_answer_outside_the_contract_counts_as_no_answer(
    core: Core, io: ClockIO, spool_path: Path, service: FakeService, answer: httpx.Response
) -> None:
    service.script.extend([answer, answer])
    assert run(core.select(0, ["a"])).degraded
    with pytest.raises(ProtocolError):
        run(make_core(io, spool_path, strict=True).select(0, ["a"]))


def test_one_line_per_outage_then_one_every_half_minute_and_one_at_recovery(
    core: Core, io: ClockIO, service: FakeService, spool_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "greso_client")
    service.down = True
    for second in range(100):
        run(core.select(second, ["a"]))
        io.time += 1.0
    service.down = False
    io.time += LONGEST_PAUSE
    run(core.select(100, ["a"]))
    texts = [record.getMessage() for record in caplog.records]
    assert len(texts) == 5
    assert "is away" in texts[0]
    for advice in ("greso serve", str(spool_path), "strict=True", "http://service"):
        assert advice in texts[0]
    assert all("still away" in text for text in texts[1:4])
    assert "is back after" in texts[4]


def test_a_service_that_fails_now_and_then_does_not_fill_the_log(
    core: Core, io: ClockIO, service: FakeService, caplog: pytest.LogCaptureFixture
) -> None:
    for step in range(100):
        service.script.append(problem(500))
        run(core.select(step, ["a"]))
        run(core.select(step, ["a"]))
        io.time += 1.0
    assert len(caplog.records) <= 2 * (100 / 30 + 1)


def test_the_longest_budget_works(service: FakeService) -> None:
    transport = httpx.MockTransport(service)
    with Client("http://service", run="test", budget=LONGEST_SECONDS, spool=False, transport=transport) as client:
        assert not client.select(0, ["a"]).degraded


@pytest.mark.parametrize("seconds", [1e9, 1e300, float("inf")])
def test_no_time_out_is_too_long_for_the_io(service: FakeService, seconds: float) -> None:
    request, transport = RunRequests("test").state(), httpx.MockTransport(service)

    async def awaited() -> int:
        async with httpx.AsyncClient(base_url="http://service", transport=transport) as http:
            return (await AsyncioIO(http).send(request, seconds)).status

    blocking = BlockingIO(lambda: httpx.Client(base_url="http://service", transport=transport))
    assert run(blocking.send(request, seconds)).status == asyncio.run(awaited()) == 200
    blocking.close()
