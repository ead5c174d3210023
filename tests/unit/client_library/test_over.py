"""A step that was over before it began here: a trainer that resumes without rewinding its run is always told."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greso_client import Group, Rollout, UnavailableError
from greso_client._breaker import FIRST_PAUSE
from greso_client._contact import LOOK_SHARE
from greso_client._core import Core
from greso_client._delivery import OLDEST
from greso_client._io import run
from greso_client._options import Options

from .doubles import MIXED, ClockIO, FakeService, collect, make_core, mixed, problem

WARNING = "calls client.rewind(step) first"


@pytest.fixture
def trained(service: FakeService, io: ClockIO) -> FakeService:
    """A service whose run was trained by another client, in steps 0 to 5."""
    service.pool = [f"p{index}" for index in range(100)]
    first = make_core(io, None)
    run(first.create_run({}))
    assert [collect(first, step, mixed).reason for step in range(6)] == ["complete"] * 6
    service.requests.clear()
    return service


def asked(service: FakeService) -> list[str]:
    """Which steps the service was asked about."""
    return [str(request.url.query, "ascii") for request in service.requests if request.url.path.endswith("/steps")]


@pytest.mark.parametrize("begins", ["create_run", "state", "collect"])
def test_each_step_done_again_is_late_although_its_counts_are_the_same(
    core: Core, trained: FakeService, begins: str, caplog: pytest.LogCaptureFixture
) -> None:
    if begins != "collect":
        run(core.create_run({}) if begins == "create_run" else core.state())
    got = [collect(core, step, mixed) for step in range(3, 8)]
    assert [each.reason for each in got] == ["late", "late", "late", "complete", "complete"]
    assert [(each.rounds, len(each.effective)) for each in got] == [(1, 6)] * 5
    assert caplog.text.count(WARNING) == 1
    assert "step 3 was complete at the service before it began here" in caplog.text
    assert asked(trained) == ["after=4&limit=1"], "only of the newest step it can't know itself"


def test_the_warning_comes_before_the_rollouts_are_paid_for(
    core: Core, trained: FakeService, caplog: pytest.LogCaptureFixture
) -> None:
    run(core.create_run({}))

    def roll_out(prompts: list[str]) -> list[Rollout[str]]:
        assert WARNING in caplog.text
        return mixed(prompts)

    assert collect(core, 3, roll_out).reason == "late"


def test_who_rewinds_or_goes_on_behind_the_newest_step_is_not_late(
    core: Core, trained: FakeService, io: ClockIO, caplog: pytest.LogCaptureFixture
) -> None:
    run(core.create_run({}))
    assert collect(core, 6, mixed).reason == "complete"
    second = make_core(io, None)
    run(second.create_run({}))
    run(second.rewind(2))
    assert [collect(second, step, mixed).reason for step in range(3, 8)] == ["complete"] * 5
    assert WARNING not in caplog.text
    assert asked(trained) == []


def test_who_begins_with_the_very_step_that_he_rewound_to_is_late(core: Core, trained: FakeService) -> None:
    run(core.create_run({}))
    run(core.rewind(2))
    assert collect(core, 2, mixed).reason == "late"


def test_a_client_that_collects_a_step_of_its_own_again_is_late(
    core: Core, service: FakeService, caplog: pytest.LogCaptureFixture
) -> None:
    service.pool = [f"p{index}" for index in range(100)]
    run(core.create_run({}))
    assert [collect(core, step, mixed).reason for step in (0, 1, 2, 1, 2, 3)] == [
        "complete", "complete", "complete", "late", "late", "complete",
    ]  # fmt: skip
    assert caplog.text.count(WARNING) == 1
    run(core.rewind(1))
    assert [collect(core, step, mixed).reason for step in (2, 3)] == ["complete"] * 2


def test_it_stays_late_when_it_is_broken_off_and_goes_on(core: Core, trained: FakeService) -> None:
    run(core.create_run({}))

    def breaks(_: list[str]) -> list[Rollout[str]]:
        raise OSError("out of memory")

    with pytest.raises(OSError, match="out of memory"):
        collect(core, 4, breaks)
    assert collect(core, 4, mixed).reason == "late"


def test_it_is_late_also_with_the_service_away_at_the_start(core: Core, trained: FakeService, io: ClockIO) -> None:
    trained.down = True
    run(core.create_run({}))
    run(core.add_prompts(trained.pool))
    assert collect(core, 3, mixed).reason == "complete", "nobody can know"
    trained.down = False
    io.time += 2 * FIRST_PAUSE
    assert collect(core, 4, mixed).reason == "late"


def test_what_cannot_be_asked_is_no_alarm(core: Core, trained: FakeService, caplog: pytest.LogCaptureFixture) -> None:
    run(core.create_run({}))
    run(core.add_prompts(trained.pool))

    trained.down = True
    assert collect(core, 5, mixed).reason == "complete"
    assert WARNING not in caplog.text


Answering = Callable[[httpx.Request], httpx.Response]
SILENT: dict[str, Answering] = {
    "fails": lambda _: problem(500, "a mistake"),
    "is busy": lambda _: problem(503, "busy"),
    "is refused": lambda _: problem(403, "this key may not look"),
    "is another program's": lambda _: httpx.Response(200, json={"steps": [{"step": 5}]}),
}


def failing_look(answer: Answering, service: FakeService) -> Answering:
    def serve(request: httpx.Request) -> httpx.Response:
        return answer(request) if request.url.path.endswith("/steps") else service.serve(request)

    return serve


@pytest.mark.parametrize("answer", SILENT.values(), ids=SILENT)
def test_a_look_that_fails_costs_the_training_nothing(
    core: Core, trained: FakeService, answer: Answering, caplog: pytest.LogCaptureFixture
) -> None:
    run(core.create_run({}))
    trained.script.extend([failing_look(answer, trained)] * 20)
    got = [collect(core, step, mixed) for step in (5, 6)]
    assert [each.degraded for each in got] == [False, False]
    counters = core.counts.snapshot()
    assert (counters.degraded, counters.retries, counters.spooled) == (0, 0, 0)
    assert len(asked(trained)) == 1
    assert "greso service" not in caplog.text


def test_a_look_that_hangs_is_soon_given_up(core: Core, trained: FakeService, io: ClockIO) -> None:
    run(core.create_run({}))
    io.takes = deque([60.0])
    began = io.now()
    assert not collect(core, 5, mixed).degraded
    assert io.now() - began == 2.0 * LOOK_SHARE


def test_while_the_service_is_away_nobody_looks(core: Core, trained: FakeService, io: ClockIO) -> None:
    run(core.create_run({}))
    run(core.add_prompts(trained.pool))
    trained.down = True
    run(core.select(5, ["p0"]))
    io.time += 2 * FIRST_PAUSE
    collect(core, 5, mixed)
    assert asked(trained) == []


@pytest.mark.parametrize("begin", [4, 5, 6])
def test_what_a_killed_trainer_left_in_the_spool_was_over_as_well(
    core: Core, service: FakeService, io: ClockIO, spool_path: Path, begin: int
) -> None:
    service.pool = [f"p{index}" for index in range(100)]
    run(core.create_run({}))
    run(core.add_prompts(service.pool))
    for step in range(7):
        service.down = step > 3
        assert collect(core, step, mixed).reason == "complete"
    service.down = False
    second = make_core(io, spool_path)
    assert run(second.create_run({})).step == 3
    got = [collect(second, step, mixed).reason for step in range(begin, 9)]
    assert got == ["late"] * (7 - begin) + ["complete"] * 2


def test_only_the_spooled_reports_of_this_run_are_a_past(
    core: Core, trained: FakeService, io: ClockIO, spool_path: Path
) -> None:
    trained.down = True
    run(core.report(9, [Group("a", MIXED)]))
    trained.down = False
    other = Core(io, "other", Options.make("http://service", "other", None, False, 2.0, spool_path, 1 << 20))
    assert run(core._contact.newest_spooled(0, io.now())) == 9
    assert run(other._contact.newest_spooled(0, io.now())) is None
    io.time += OLDEST + 1
    assert run(core._contact.newest_spooled(0, io.now())) is None


def test_a_spooled_report_of_another_generation_is_no_past(core: Core, trained: FakeService, io: ClockIO) -> None:
    run(core.create_run({}))
    trained.down = True
    run(core.report(9, [Group("a", MIXED)]))
    assert [run(core._contact.newest_spooled(generation, io.now())) for generation in (0, 1)] == [9, None]


def test_a_run_that_somebody_made_anew_has_no_past(core: Core, trained: FakeService) -> None:
    run(core.create_run({}))
    assert collect(core, 6, mixed).reason == "complete"
    trained.newest, trained.closed_steps, trained.reports = -1, set(), []
    run(core.create_run({}))
    assert [collect(core, step, mixed).reason for step in (0, 1, 2)] == ["complete"] * 3
    run(core.create_run({}))
    assert [collect(core, step, mixed).reason for step in (1, 2)] == ["late"] * 2


def test_a_run_that_lacks_only_what_is_in_the_spool_is_the_same(core: Core, trained: FakeService, io: ClockIO) -> None:
    run(core.create_run({}))
    run(core.add_prompts(trained.pool))
    trained.down = True
    assert [collect(core, step, mixed).reason for step in (6, 7)] == ["complete"] * 2
    trained.down = False
    io.time += 2 * FIRST_PAUSE
    assert run(core.create_run({})).step == 5
    assert core.past.ended == 7
    assert collect(core, 7, mixed).reason == "late"


def test_a_first_try_that_fails_before_the_rollouts_takes_no_warning_away(
    strict_core: Core, trained: FakeService
) -> None:
    trained.down = True
    with pytest.raises(UnavailableError):
        collect(strict_core, 3, mixed)
    trained.down = False
    assert collect(strict_core, 3, mixed).reason == "late"


# Others at work on the same run


def test_a_trainer_that_joins_later_in_a_step_under_way_or_the_next_is_not_late(
    core: Core, io: ClockIO, service: FakeService, caplog: pytest.LogCaptureFixture
) -> None:
    service.pool = [f"p{index}" for index in range(100)]
    first = make_core(io, None)
    run(first.create_run({}))
    assert collect(first, 0, mixed).reason == "complete"
    run(first.report(1, [Group("other", [0.0, 0.0])]))
    run(core.create_run({}))
    assert [collect(core, step, mixed).reason for step in (1, 2)] == ["complete"] * 2
    run(first.report(2, [Group("other", [0.0, 0.0])]))
    run(first.report(3, [Group("other", [0.0, 0.0])]))
    run(first.state())
    assert collect(core, 3, mixed).reason == "complete"
    assert WARNING not in caplog.text


@pytest.mark.parametrize("step", [0, 1])
def test_looking_at_the_run_while_others_are_ahead_alarms_nobody_before_the_rollouts(
    core: Core, io: ClockIO, service: FakeService, step: int, caplog: pytest.LogCaptureFixture
) -> None:
    service.pool = [f"p{index}" for index in range(100)]
    run(core.create_run({}))
    other = make_core(io, None)
    run(other.report(1, [Group("p0", MIXED)] * 4))
    run(core.state())
    run(core.create_run({}))

    def roll_out(prompts: list[str]) -> list[Rollout[str]]:
        assert WARNING not in caplog.text
        return mixed(prompts)

    collect(core, step, roll_out)
    assert asked(service) == []


def test_a_report_whose_answer_was_lost_and_spooled_ones_that_come_late_are_not_late(
    core: Core, service: FakeService, io: ClockIO, caplog: pytest.LogCaptureFixture
) -> None:
    service.pool = [f"p{index}" for index in range(100)]
    run(core.create_run({}))
    run(core.add_prompts(service.pool))

    def swallow(request: httpx.Request) -> httpx.Response:
        service.serve(request)
        service.down = True
        raise httpx.ReadError("the answer was lost")

    reasons = []
    for step in range(6):

        def roll_out(prompts: list[str], step: int = step) -> list[Rollout[str]]:
            service.down = step in {2, 3}
            if step == 1:
                service.script.append(swallow)
            return mixed(prompts)

        reasons.append(collect(core, step, roll_out).reason)
        if step == 3:
            service.down = False
            io.time += 2 * FIRST_PAUSE
    assert reasons == ["complete"] * 6
    assert [step for step, _ in service.reported()] == list(range(6))
    assert WARNING not in caplog.text


@settings(max_examples=150, deadline=None)
@given(done=st.integers(0, 6), closed=st.booleans(), begin=st.integers(0, 8), steps=st.integers(1, 4))
def test_it_is_late_if_and_only_if_the_service_had_the_step_as_complete(
    done: int, closed: bool, begin: int, steps: int
) -> None:
    service = FakeService(pool=[f"p{index}" for index in range(50)])
    first, second = make_core(ClockIO(service), None), make_core(ClockIO(service), None)
    run(first.create_run({}))
    for step in range(done):
        collect(first, step, mixed)
    if not closed:
        run(first.report(done, [Group("x", [0.0, 0.0])]))
    run(second.create_run({}))
    for step in range(begin, begin + steps):
        expected = step < service.newest or step in service.closed_steps
        assert (collect(second, step, mixed).reason == "late") == expected
