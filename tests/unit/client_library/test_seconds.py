"""Seconds in reports: what is no number is refused at its place; a service that knows none is told none."""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from greso_client import Group, InvalidRequestError, Rollout, Seconds
from greso_client._collect import Session
from greso_client._core import Core
from greso_client._delivery import MOST_FAILURES
from greso_client._io import run
from greso_client._requests import RunRequests, without_seconds

from .doubles import MIXED, ClockIO, FakeService, make_core, mixed, problem

SPENT = Seconds(2.0, 1.0)


def sent(service: FakeService) -> list[tuple[bool, str]]:
    """Of each report that arrived whether it said seconds, and its key."""
    arrived = [request for request in service.requests if request.url.path.endswith("/report")]
    return [("seconds" in json.loads(each.content), each.headers["idempotency-key"]) for each in arrived]


def collected(core: Core, io: ClockIO, step: int) -> None:
    async def roll_out(prompts: list[str]) -> list[Rollout[str]]:
        io.time += 2.5
        return mixed(prompts)

    got = run(Session(core, step, roll_out, None, 10, update_seconds=4.0).run())
    assert (got.complete, got.degraded) == (True, False)


def test_a_service_that_forbids_seconds_is_told_none(
    core: Core, io: ClockIO, service: FakeService, caplog: pytest.LogCaptureFixture
) -> None:
    service.forbids_seconds, service.pool = True, [f"p{number}" for number in range(30)]
    with caplog.at_level(logging.WARNING, "greso_client"):
        for step in range(3):
            collected(core, io, step)
    said, keys = zip(*sent(service), strict=True)
    assert said == (True, False, False, False), "refused once, sent again without, and never tried again"
    assert len(set(keys)) == 4
    assert [step for step, _ in service.reported()] == [0, 1, 2]
    assert len([line for line in caplog.messages if "seconds" in line]) == 1


def test_a_strict_client_goes_on_too(strict_core: Core, service: FakeService) -> None:
    service.forbids_seconds = True
    run(strict_core.report(0, [Group("a", MIXED)], seconds=SPENT))
    assert service.reported() == [(0, ["a"])]


def test_spooled_reports_with_seconds_are_delivered_without(core: Core, io: ClockIO, service: FakeService) -> None:
    service.forbids_seconds = service.down = True
    for step in range(2):
        assert run(core.report(step, [Group("a", MIXED)], seconds=SPENT)).degraded
    service.down, io.time = False, io.time + 600
    assert not run(core.report(2, [Group("a", MIXED)], seconds=SPENT)).degraded
    assert [step for step, _ in service.reported()] == [0, 1, 2]
    counters = core.counts.snapshot()
    assert (counters.delivered, counters.refused) == (2, 0)


def test_a_report_whose_second_answer_is_lost_counts_once(core: Core, io: ClockIO, service: FakeService) -> None:
    """What is kept is what was tried last, under its key, though the service may know seconds by then."""

    def lost(request: httpx.Request) -> httpx.Response:
        service.serve(request)
        service.down = True
        raise httpx.ReadError("cut off", request=request)

    service.script.extend([problem(422, errors=[{"pointer": "/seconds", "detail": "unknown"}]), lost])
    assert run(core.report(0, [Group("a", MIXED)], seconds=SPENT)).degraded
    service.down, io.time = False, io.time + 600
    assert run(core.flush(60.0))
    assert service.reported() == [(0, ["a"])]
    assert core.counts.snapshot().delivered == 1
    assert len({key for seconds, key in sent(service) if not seconds}) == 1


NO_SECONDS = problem(422, errors=[{"pointer": "/seconds", "detail": "unknown"}])


def applied_and_lost(service: FakeService) -> Callable[[httpx.Request], httpx.Response]:
    """What a newer service does whose answer is lost."""

    def lost(request: httpx.Request) -> httpx.Response:
        forbids, service.forbids_seconds = service.forbids_seconds, False
        service.serve(request)
        service.forbids_seconds = forbids
        raise httpx.ReadError("cut off", request=request)

    return lost


def test_a_report_counted_by_a_newer_service_is_not_sent_to_an_older_one_under_another_key(
    core: Core, io: ClockIO, service: FakeService, spool_path: Path
) -> None:
    service.forbids_seconds = True
    service.script.append(applied_and_lost(service))
    assert run(core.report(0, [Group("a", MIXED)], seconds=SPENT)).degraded
    assert [seconds for seconds, _ in sent(service)] == [True, True]
    assert not run(core.flush())
    # Nor by the next process, which finds it in the spool.
    other = make_core(io, spool_path)
    assert not run(other.flush())
    service.forbids_seconds = False
    assert run(other.flush())
    assert service.reported() == [(0, ["a"])]
    assert len({key for _, key in sent(service)}) == 1
    assert other.counts.snapshot().delivered == 1


def test_a_report_that_may_have_been_counted_keeps_its_key_though_others_go_without_seconds(
    core: Core, io: ClockIO, service: FakeService
) -> None:
    def meanwhile(request: httpx.Request) -> httpx.Response:
        service.script.append(NO_SECONDS)
        run(core.report(1, [Group("b", MIXED)], seconds=SPENT))  # of another thread
        service.down = True
        return applied_and_lost(service)(request)

    service.script.append(meanwhile)
    assert run(core.report(0, [Group("a", MIXED)], seconds=SPENT)).degraded
    service.down, io.time = False, io.time + 600
    assert run(core.flush())
    assert service.reported() == [(1, ["b"]), (0, ["a"])]
    assert len({key for _, key in sent(service)}) == 3, "one of the first report, two of the second"


def test_a_report_that_no_service_can_be_told_twice_makes_way_for_the_others(
    core: Core, io: ClockIO, service: FakeService, spool_path: Path
) -> None:
    service.forbids_seconds = True
    service.script.append(applied_and_lost(service))
    run(core.report(0, [Group("a", MIXED)], seconds=SPENT))
    flushed = [run(core.flush()) for _ in range(MOST_FAILURES)]
    assert flushed == [False] * (MOST_FAILURES - 1) + [True]
    assert not run(core.report(1, [Group("a", MIXED)], seconds=SPENT)).degraded
    assert service.reported() == [(0, ["a"]), (1, ["a"])]
    assert core.counts.snapshot().refused == 1
    assert "could count twice" in spool_path.with_name("spool.jsonl.refused").read_text()


@pytest.mark.parametrize("failure", [httpx.ConnectError("refused"), httpx.ConnectTimeout("slow")])
def test_a_report_that_never_left_goes_without_seconds(
    core: Core, io: ClockIO, service: FakeService, failure: Exception
) -> None:
    service.forbids_seconds = True
    service.script.append(failure)
    assert not run(core.report(0, [Group("a", MIXED)], seconds=SPENT)).degraded
    assert [seconds for seconds, _ in sent(service)] == [True, True, False]
    assert service.reported() == [(0, ["a"])]


def test_the_second_key_is_always_the_same_and_other_requests_stay() -> None:
    requests = RunRequests("test")
    report = requests.report(0, [Group("a", [0.0, 1.0])], True, SPENT)
    plain = without_seconds(report)
    assert plain == without_seconds(report)
    assert plain.key != report.key
    assert plain.body is not None
    assert json.loads(plain.body) == {"step": 0, "results": [{"prompt": "a", "rewards": [0.0, 1.0]}], "final": True}
    for other in (plain, requests.report(0, [Group('"seconds":', [0.0])], False), requests.draw(0, 3)):
        assert without_seconds(other) is other


@pytest.mark.parametrize(
    "errors",
    [
        [],
        [{"pointer": "/results/0", "detail": "wrong"}],
        [{"pointer": "/seconds", "detail": "unknown"}, {"pointer": "/step", "detail": "wrong"}],
        [{"pointer": "/secondsight", "detail": "unknown"}],
    ],
)
def test_other_refusals_are_raised(core: Core, service: FakeService, errors: list[dict[str, str]]) -> None:
    service.script.append(problem(422, "no", errors=errors))
    with pytest.raises(InvalidRequestError):
        run(core.report(0, [Group("a", MIXED)], seconds=SPENT))
    assert sent(service)[0][0]
    assert len(sent(service)) == 1


def test_a_service_that_refuses_without_seconds_too_is_asked_twice(core: Core, service: FakeService) -> None:
    service.script.extend(problem(422, errors=[{"pointer": "/seconds", "detail": "no"}]) for _ in range(9))
    with pytest.raises(InvalidRequestError):
        run(core.report(0, [Group("a", MIXED)], seconds=SPENT))
    assert [seconds for seconds, _ in sent(service)] == [True, False]


WRONG = [-1.0, float("nan"), float("inf"), 1.1e9, 10**400, "1", b"1", True, None, [1]]


@pytest.mark.parametrize(("name", "value"), list(itertools.product(["rollout", "update"], WRONG)))
def test_seconds_are_numbers_from_0_on(core: Core, service: FakeService, name: str, value: Any) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        run(core.report(0, [], seconds=Seconds(**{name: value})))
    assert refused.value.problem.errors[0].pointer == f"/seconds/{name}"
    assert not service.requests


@pytest.mark.parametrize("value", [0, 3, np.float32(2.5), np.int64(7), 1e9])
def test_seconds_of_any_kind_of_number(core: Core, service: FakeService, value: Any) -> None:
    run(core.report(0, [], seconds=Seconds(value, value)))
    assert service.reports[0]["seconds"] == {"rollout": float(value), "update": float(value)}


@pytest.mark.parametrize("value", [-1.0, "long"])
def test_wrong_seconds_of_updates_are_refused_before_anything_is_rolled_out(core: Core, value: Any) -> None:
    async def roll_out(prompts: list[str]) -> list[Rollout[str]]:
        raise AssertionError(prompts)

    with pytest.raises(InvalidRequestError, match="/seconds/update"):
        Session(core, 0, roll_out, None, 10, update_seconds=value)
