"""What the training loop gets while the service is away, and what happens when it comes back."""

from __future__ import annotations

import json
import logging
import os
import time
from pathlib import Path

import pytest

from greso_client import (
    ConflictError,
    Counters,
    ForbiddenError,
    Group,
    NotFoundError,
    StepProgress,
    UnavailableError,
    ZeroVariance,
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


def test_select_keeps_everything(core: Core, service: FakeService) -> None:
    service.down = True
    answer = run(core.select(0, ["a", "b", "c"], explain=True))
    assert (answer.selected, answer.examined, answer.degraded) == ([0, 1, 2], 3, True)
    assert answer.decisions is not None
    assert [decision.reason for decision in answer.decisions] == ["degraded"] * 3


def test_select_keeps_no_more_than_its_limit(core: Core, service: FakeService) -> None:
    service.down = True
    answer = run(core.select(0, ["a", "b", "c"], limit=2))
    assert (answer.selected, answer.examined) == ([0, 1], 2)


def test_a_degraded_answer_repeats_what_was_last_known(core: Core, service: FakeService) -> None:
    run(core.select(0, ["a"]))
    service.down = True
    answer = run(core.select(1, ["a"]))
    assert (answer.exploration.easy, answer.exploration.hard, answer.rollout_batch_size) == (0.4, 0.6, 6)


def test_draw_walks_the_prompts_added_here_shuffled_and_each_once_an_epoch(core: Core, service: FakeService) -> None:
    service.down = True
    prompts = [f"p{index}" for index in range(100)]
    run(core.add_prompts(prompts))
    drawn = [prompt for _ in range(4) for prompt in run(core.draw(0, 50)).prompts]
    assert drawn[:100] != prompts
    assert sorted(drawn[:100]) == sorted(drawn[100:]) == sorted(prompts)
    assert drawn[:100] != drawn[100:]


def test_a_degraded_draw_is_no_longer_than_the_pool(core: Core, service: FakeService) -> None:
    service.down = True
    run(core.add_prompts(["a", "b"]))
    assert len(run(core.draw(0, 50)).prompts) == 2


def test_a_draw_without_service_and_own_prompts_raises(core: Core, service: FakeService) -> None:
    service.down = True
    with pytest.raises(UnavailableError, match="prompts that this client added"):
        run(core.draw(0))


def test_a_degraded_report_is_judged_here(core: Core, service: FakeService) -> None:
    service.down = True
    run(core.create_run({"train_batch_size": 3, "rollout_batch_size": 8}))
    answer = run(core.report(0, [Group("a", MIXED), Group("b", EASY), Group("c", HARD), Group("d", [1.0])]))
    assert (answer.effective, answer.zero_variance, answer.undetermined) == ([0], ZeroVariance(1, 1), 1)
    assert answer.step == StepProgress(number=0, groups=3, effective=1, missing=2, complete=False)
    # ceil(1.25 * 2 / (1 - 2/3)) = 7.5 -> 8
    assert answer.next_rollout_batch_size == 8
    answer = run(core.report(0, [Group("e", MIXED), Group("f", MIXED), Group("g", MIXED)]))
    assert answer.step == StepProgress(0, 6, 4, 0, complete=True)


def test_the_worked_step_of_the_algorithm(core: Core, service: FakeService) -> None:
    service.down = True
    groups = [Group("e", MIXED)] * 231 + [Group("s", EASY)] * 90 + [Group("h", HARD)] * 63
    answer = run(core.report(0, groups))
    assert (answer.step.missing, answer.next_rollout_batch_size) == (25, 52)
    assert answer.zero_variance == ZeroVariance(90, 63)


def test_a_step_of_zero_variance_only_asks_for_a_full_round(core: Core, service: FakeService) -> None:
    service.down = True
    assert run(core.report(0, [Group("a", HARD)])).next_rollout_batch_size == 384


def test_a_degraded_report_counts_on_from_the_last_live_one(core: Core, service: FakeService) -> None:
    run(core.create_run({}))
    run(core.report(0, [Group("a", MIXED), Group("b", MIXED)]))
    service.down = True
    assert run(core.report(0, [Group("c", MIXED)])).step == StepProgress(0, 3, 3, 1, complete=False)
    assert run(core.report(0, [Group("d", MIXED)])).step.complete
    assert run(core.report(1, [Group("a", MIXED)])).step == StepProgress(1, 1, 1, 3, complete=False)
    assert run(core.report(0, [Group("e", MIXED)])).step.complete


def test_strict_raises_and_spools_nothing(strict_core: Core, service: FakeService, spool_path: Path) -> None:
    service.down = True
    for call in (
        strict_core.create_run({}),
        strict_core.add_prompts(["a"]),
        strict_core.select(0, ["a"]),
        strict_core.draw(0),
        strict_core.report(0, [Group("a", MIXED)]),
        strict_core.state(),
    ):
        with pytest.raises(UnavailableError) as caught:
            run(call)
        assert isinstance(caught.value, ConnectionError)
    assert not spool_path.exists()
    assert strict_core.counts.snapshot().degraded == 0


def test_calls_that_look_or_administer_raise(core: Core, service: FakeService) -> None:
    service.down = True
    for call in (core.state(), core.steps(None, None), core.prompt("a"), core.update_run({}), core.delete_run()):
        with pytest.raises(UnavailableError):
            run(call)


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
    service.script.append(problem(404, "no such run"))
    assert run(core.flush())
    assert service.reported() == [(1, ["p1"]), (2, ["p2"])]
    aside = lines(spool_path.with_name("spool.jsonl.refused"))
    assert len(aside) == 1
    assert "no such run" in str(aside[0]["refused"])
    assert json.loads(str(aside[0]["body"]))["results"] == [{"prompt": "p0", "rewards": MIXED}]
    assert "put aside" in caplog.text
    assert core.counts.snapshot().refused == 1


def test_a_bad_key_does_not_cost_the_spooled_reports(
    core: Core, service: FakeService, io: ClockIO, spool_path: Path
) -> None:
    service.down = True
    run(core.report(0, [Group("a", MIXED)]))
    come_back(service, io)
    service.script.append(problem(401, "unknown key"))
    with pytest.raises(ForbiddenError):
        run(core.flush())
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


def test_a_report_too_old_for_its_key_is_put_aside(
    core: Core, service: FakeService, io: ClockIO, spool_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.down = True
    run(core.report(0, [Group("a", MIXED)]))
    come_back(service, io)
    later = time.time() + OLDEST + 1
    monkeypatch.setattr("greso_client._delivery.time.time", lambda: later)
    assert run(core.flush())
    assert service.reports == []
    assert "24 h" in str(lines(spool_path.with_name("spool.jsonl.refused"))[0]["refused"])


def test_reports_of_an_earlier_run_of_the_name_are_not_given_to_a_new_one(
    io: ClockIO, service: FakeService, spool_path: Path
) -> None:
    service.down = True
    run(make_core(io, spool_path).report(400, [Group("a", MIXED)]))
    service.down, service.exists = False, False
    core = make_core(io, spool_path)
    run(core.create_run({}))
    run(core.report(0, [Group("b", MIXED)]))
    assert service.reported() == [(0, ["b"])]
    assert len(lines(spool_path.with_name("spool.jsonl.refused"))) == 1


def test_a_run_asked_for_while_the_service_is_away_is_set_up_when_it_is_back(
    core: Core, service: FakeService, io: ClockIO
) -> None:
    service.down, service.exists = True, False
    state = run(core.create_run({"train_batch_size": 2, "rollout_batch_size": 3}))
    assert (state.degraded, state.spec["train_batch_size"], state.run) == (True, 2, "test")
    size = run(core.add_prompts(["a", "b", "c"]))
    assert (size.degraded, size.pool) == (True, 3)
    assert len(run(core.draw(0)).prompts) == 3
    run(core.report(0, [Group("a", MIXED)]))
    come_back(service, io)
    service.skip = {"c"}
    assert run(core.draw(1)).prompts == ["a", "b"]
    assert service.pool == ["a", "b", "c"]
    run(core.report(1, [Group("b", MIXED)]))
    assert service.reported() == [(0, ["a"]), (1, ["b"])]


def test_a_late_refusal_of_the_setup_is_said_and_training_goes_on(
    core: Core, service: FakeService, io: ClockIO, caplog: pytest.LogCaptureFixture
) -> None:
    service.down = True
    run(core.create_run({"train_batch_size": 2}))
    come_back(service, io)
    service.script.append(problem(409, "train_batch_size is 4, not 2"))
    assert not run(core.select(0, ["a"])).degraded
    assert "train_batch_size is 4, not 2" in caplog.text
    assert not run(core.select(0, ["a"])).degraded


def test_an_unknown_run_raises_also_in_fail_open_mode(core: Core, service: FakeService) -> None:
    service.exists = False
    with pytest.raises(NotFoundError, match="PUT it first"):
        run(core.select(0, ["a"]))


def test_creating_a_run_with_another_spec_raises(core: Core, service: FakeService) -> None:
    service.script.append(problem(409, "seed differs"))
    with pytest.raises(ConflictError, match="seed differs"):
        run(core.create_run({"seed": 3}))


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

    def broken(*_: object) -> None:
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
