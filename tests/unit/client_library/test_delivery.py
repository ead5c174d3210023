"""What becomes of reports that could not be delivered at once."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import httpx
import pytest

from greso_client import (
    Counters,
    ForbiddenError,
    Group,
    UnavailableError,
)
from greso_client._breaker import FIRST_PAUSE
from greso_client._core import Core
from greso_client._delivery import MOST_FAILURES, OLDEST
from greso_client._io import run
from greso_client._spool import Spool

from .doubles import ClockIO, FakeService, make_core, problem

MIXED, EASY, HARD = [0.0, 1.0], [1.0, 1.0], [0.0, 0.0]


def come_back(service: FakeService, io: ClockIO) -> None:
    service.down = False
    io.time += 2 * FIRST_PAUSE


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_spooled_reports_arrive_once_in_order_and_before_the_next(
    core: Core, service: FakeService, io: ClockIO, spool_path: Path
) -> None:
    service.down = True
    for step in range(5):
        run(core.report(step, [Group(f"p{step}", MIXED)]))
    come_back(service, io)
    assert not run(core.report(5, [Group("p5", MIXED)])).degraded
    assert service.reported() == [(step, [f"p{step}"]) for step in range(6)]
    assert not spool_path.exists()
    counters = core.counts.snapshot()
    assert (counters.spooled, counters.delivered, counters.dropped, counters.degraded) == (5, 5, 0, 5)


def test_a_report_whose_answer_was_lost_is_delivered_under_the_same_key(
    core: Core, service: FakeService, io: ClockIO
) -> None:
    def swallow(request: object) -> object:
        service.serve(request)  # type: ignore[arg-type]
        service.down = True
        raise UnavailableError("the answer was lost")

    service.script.append(swallow)  # type: ignore[arg-type]
    assert run(core.report(0, [Group("a", MIXED)])).degraded
    come_back(service, io)
    assert run(core.flush())
    assert service.reported() == [(0, ["a"])]
    keys = [r.headers["idempotency-key"] for r in service.requests if r.url.path.endswith("/report")]
    assert len(set(keys)) == 1


def test_the_next_client_delivers_what_a_killed_one_left(io: ClockIO, service: FakeService, spool_path: Path) -> None:
    service.down = True
    run(make_core(io, spool_path).report(0, [Group("a", MIXED)]))
    service.down = False
    run(make_core(io, spool_path).report(1, [Group("b", MIXED)]))
    assert service.reported() == [(0, ["a"]), (1, ["b"])]


def test_delivering_a_big_spool_never_holds_up_a_step_and_keeps_the_order(
    core: Core, service: FakeService, io: ClockIO
) -> None:
    service.down = True
    for step in range(30):
        run(core.report(step, [Group("a", MIXED)]))
    come_back(service, io)
    io.takes = 0.1
    step, degraded = 30, True
    while degraded:
        start = io.time
        degraded = run(core.report(step, [Group("a", MIXED)])).degraded
        assert io.time - start <= 2.0
        step += 1
    assert [number for number, _ in service.reported()] == list(range(step))
    assert step == 34  # ten a call, while one is added
    assert core.counts.snapshot().delivered == 33


def test_close_delivers_and_refuses_further_calls(core: Core, service: FakeService, io: ClockIO) -> None:
    service.down = True
    run(core.report(0, [Group("a", MIXED)]))
    come_back(service, io)
    run(core.finish())
    run(core.finish())
    assert service.reported() == [(0, ["a"])]
    with pytest.raises(RuntimeError, match="closed"):
        run(core.select(0, ["a"]))


def test_closing_while_the_service_is_away_takes_one_budget_and_says_what_remains(
    core: Core, service: FakeService, io: ClockIO, spool_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    service.down = True
    run(core.report(0, [Group("a", MIXED)]))
    start = io.time
    run(core.finish())
    assert io.time - start <= 2.0
    assert spool_path.exists()
    assert "next client of this run delivers them" in caplog.text


def test_closing_with_nothing_spooled_sends_nothing_and_announces_no_recovery(
    io: ClockIO, service: FakeService, caplog: pytest.LogCaptureFixture
) -> None:
    core = make_core(io, None)
    service.down = True
    run(core.select(0, ["a"]))
    asked = len(service.requests)
    run(core.finish())
    assert len(service.requests) == asked
    assert "is back" not in caplog.text


def test_a_refused_report_is_put_aside_and_the_others_go_on(
    core: Core, service: FakeService, io: ClockIO, spool_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    service.down = True
    for step in range(3):
        run(core.report(step, [Group(f"p{step}", MIXED)]))
    come_back(service, io)
    service.script.append(problem(409, "no such step"))
    assert run(core.flush())
    assert service.reported() == [(1, ["p1"]), (2, ["p2"])]
    aside = lines(spool_path.with_name("spool.jsonl.refused"))
    assert len(aside) == 1
    assert "no such step" in str(aside[0]["refused"])
    assert json.loads(str(aside[0]["body"]))["results"] == [{"prompt": "p0", "rewards": MIXED}]
    assert "put aside" in caplog.text
    assert core.counts.snapshot().refused == 1


def test_a_bad_key_does_not_cost_the_spooled_reports(
    core: Core, service: FakeService, io: ClockIO, spool_path: Path
) -> None:
    service.down = True
    run(core.report(0, [Group("a", MIXED)]))
    come_back(service, io)
    service.script.extend([problem(401, "unknown key")] * 2)
    assert not run(core.flush()), "a training that has gone on already"
    with pytest.raises(ForbiddenError):
        run(make_core(io, spool_path).flush())
    assert run(core.flush())
    assert service.reported() == [(0, ["a"])]


def test_a_report_that_the_service_always_fails_over_makes_way(
    core: Core, service: FakeService, io: ClockIO, spool_path: Path
) -> None:
    service.down = True
    for step in range(2):
        run(core.report(step, [Group(f"p{step}", MIXED)]))
    come_back(service, io)
    service.script.extend([problem(500)] * MOST_FAILURES)
    flushed = [run(core.flush()) for _ in range(MOST_FAILURES)]
    assert flushed == [False] * (MOST_FAILURES - 1) + [True]
    assert service.reported() == [(1, ["p1"])]
    assert "500" in str(lines(spool_path.with_name("spool.jsonl.refused"))[0]["refused"])


def wrong(status: int, type: str) -> httpx.Response:
    return problem(status, type=f"urn:greso:problem:{type}")


@pytest.mark.parametrize(
    "answer",
    [
        wrong(500, "unreadable-history"),
        wrong(408, "request-timeout"),
        problem(425),
        problem(429),
        httpx.Response(429, text="<html>Too Many Requests"),
        httpx.Response(408, text="<html>Request Timeout"),
        httpx.Response(401, text="<html>log in"),
        httpx.Response(403, text="<html>not allowed"),
        httpx.Response(404, text="<html>no upstream"),
        httpx.Response(422, text="<html>no"),
        httpx.Response(500, text="<html>Internal Server Error"),
        httpx.Response(500, json={"title": "Internal Server Error", "status": 500}),
        problem(501),
        wrong(503, "unavailable"),
        httpx.Response(302, headers={"location": "/login"}),
        httpx.Response(200, text="<html>log in"),
        httpx.ReadError("reset"),
    ],
    ids=lambda answer: f"{getattr(answer, 'status_code', 'reset')} {getattr(answer, 'text', '')[:50]}",
)
def test_an_outage_of_any_kind_and_length_costs_no_report(
    core: Core, service: FakeService, io: ClockIO, spool_path: Path, answer: httpx.Response | Exception
) -> None:
    service.down = True
    for step in range(2):
        run(core.report(step, [Group(f"p{step}", MIXED)]))
    come_back(service, io)
    asked = len(service.requests)
    service.script.extend([answer] * 1000)
    while len(service.requests) < asked + 3 * MOST_FAILURES:
        assert not run(core.flush())
        io.time += 60
    service.script.clear()
    assert run(core.flush())
    assert service.reported() == [(0, ["p0"]), (1, ["p1"])]
    counters = core.counts.snapshot()
    assert (counters.delivered, counters.refused, counters.dropped) == (2, 0, 0)
    assert not spool_path.with_name("spool.jsonl.refused").exists()


def test_only_failures_over_the_report_itself_are_counted(core: Core, service: FakeService, io: ClockIO) -> None:
    service.down = True
    run(core.report(0, [Group("a", MIXED)]))
    come_back(service, io)
    mistake, page = wrong(500, "internal-error"), httpx.Response(403, text="<html>not allowed")
    service.script.extend([mistake, page] * (MOST_FAILURES - 1))
    assert not any(run(core.flush()) for _ in range(2 * (MOST_FAILURES - 1)))
    assert run(core.flush())
    assert service.reported() == [(0, ["a"])]


def test_a_report_too_old_for_its_key_is_put_aside(
    core: Core, service: FakeService, io: ClockIO, spool_path: Path
) -> None:
    service.down = True
    run(core.report(0, [Group("a", MIXED)]))
    come_back(service, io)
    io.time += OLDEST + 1
    assert run(core.flush())
    assert service.reports == []
    assert "24 h" in str(lines(spool_path.with_name("spool.jsonl.refused"))[0]["refused"])


def test_reports_of_an_earlier_run_of_the_name_are_not_given_to_a_new_one(
    io: ClockIO, service: FakeService, spool_path: Path
) -> None:
    service.down = True
    run(make_core(io, spool_path).report(400, [Group("a", MIXED)]))
    service.down, service.exists = False, False
    io.time += 60
    core = make_core(io, spool_path)
    run(core.create_run({}))
    run(core.report(0, [Group("b", MIXED)]))
    assert service.reported() == [(0, ["b"])]
    assert len(lines(spool_path.with_name("spool.jsonl.refused"))) == 1


def test_without_a_spool_reports_are_dropped_and_counted(io: ClockIO, service: FakeService) -> None:
    core = make_core(io, None)
    service.down = True
    assert run(core.report(0, [Group("a", MIXED)])).effective == [0]
    assert core.counts.snapshot().dropped == 1


def test_a_spool_that_cannot_be_written_costs_reports_and_nothing_else(
    io: ClockIO, service: FakeService, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    core = make_core(io, tmp_path / "file" / "spool.jsonl")
    service.down = True
    assert run(core.report(0, [Group("a", MIXED)])).effective == [0]
    assert core.counts.snapshot() == Counters(calls=1, retries=core.counts.snapshot().retries, degraded=1, dropped=1)
    assert "a report is lost, training goes on" in caplog.text
    come_back(service, io)
    assert not run(core.report(1, [Group("a", MIXED)])).degraded


def test_a_spool_that_cannot_be_read_does_not_hold_up_new_reports(
    core: Core, service: FakeService, io: ClockIO, spool_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.down = True
    run(core.report(0, [Group("a", MIXED)]))
    come_back(service, io)

    def broken(*_: object, **__: object) -> None:
        raise OSError(5, os.strerror(5))

    monkeypatch.setattr("greso_client._spool.Spool.head", broken)
    assert not run(core.report(1, [Group("b", MIXED)])).degraded


def test_while_another_process_delivers_new_reports_queue_up_behind(
    core: Core, io: ClockIO, service: FakeService, spool_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    service.down = True
    run(core.report(0, [Group("a", MIXED)]))
    come_back(service, io)
    other = Spool(spool_path, 1 << 20)
    lock = other.delivering()
    assert lock is not None
    assert run(core.report(1, [Group("b", MIXED)])).degraded
    assert service.reports == []
    other.release(lock)
    come_back(service, io)
    assert not run(core.report(2, [Group("c", MIXED)])).degraded
    assert [step for step, _ in service.reported()] == [0, 1, 2]


def test_delivery_is_said_once(core: Core, service: FakeService, io: ClockIO, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "greso_client")
    service.down = True
    for step in range(3):
        run(core.report(step, [Group("a", MIXED)]))
    come_back(service, io)
    run(core.report(3, [Group("a", MIXED)]))
    assert [record.getMessage() for record in caplog.records if "delivered 3 spooled" in record.getMessage()]
