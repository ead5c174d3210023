"""Going back to a completed step, and branching off."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from greso_client import Client, ConflictError, ForbiddenError, Group, InvalidRequestError, UnavailableError
from greso_client._breaker import FIRST_PAUSE
from greso_client._core import Core
from greso_client._io import run
from greso_client._spool import Spool

from .doubles import MIXED, SAME, ClockIO, FakeService, collect, make_core, mixed, problem

GROUPS = [Group("a", MIXED)]


def come_back(service: FakeService, io: ClockIO) -> None:
    service.down = False
    io.time += 2 * FIRST_PAUSE


@pytest.fixture
def trained(core: Core, service: FakeService) -> Core:
    """A client that collected steps 0 to 4."""
    service.pool = [f"p{index}" for index in range(100)]
    run(core.create_run({}))
    for step in range(5):
        assert collect(core, step, mixed).complete
    service.requests.clear()
    return core


def test_a_rewind_sends_step_key_and_token_and_takes_the_new_generation(trained: Core, service: FakeService) -> None:
    state = run(trained.rewind(2))
    assert (state.generation, state.step, trained.generation) == (1, 2, 1)
    assert service.bodies("/rewind") == [{"step": 2}]
    assert service.requests[0].headers["greso-generation"] == "0"
    assert service.requests[0].headers["idempotency-key"]
    run(trained.report(3, GROUPS))
    assert service.tokens()[-1] == ("report", "1")


def test_a_step_that_has_not_completed_is_refused_with_what_the_service_says(
    trained: Core, service: FakeService
) -> None:
    with pytest.raises(ConflictError, match="the newest that has is 4"):
        run(trained.rewind(9))
    assert (trained.generation, service.generation) == (0, 0)


@pytest.mark.parametrize("step", [-1, 1.5])
def test_a_step_that_is_none_is_refused_here(core: Core, service: FakeService, step: int) -> None:
    for call in (core.rewind, lambda step: core.fork("other", step)):
        with pytest.raises(InvalidRequestError, match="/step"):
            run(call(step))
    assert service.requests == []


def test_steps_collected_after_it_are_as_new(trained: Core, service: FakeService) -> None:
    run(trained.rewind(2))
    got = collect(trained, 3, mixed)
    assert (got.reason, got.degraded) == ("complete", False)


def test_steps_collected_after_it_without_the_service_are_not_late(trained: Core, service: FakeService) -> None:
    run(trained.add_prompts(service.pool))
    run(trained.rewind(2))
    service.down = True
    answer = run(trained.report(3, GROUPS))
    assert (answer.degraded, answer.step.complete, answer.step.effective, answer.step.missing) == (True, False, 1, 3)
    assert run(trained.report(2, GROUPS)).step.complete
    assert collect(trained, 4, mixed).reason == "complete"


def test_candidates_left_over_by_forgotten_steps_are_forgotten(core: Core, service: FakeService) -> None:
    service.skip = {f"p{index}" for index in range(3, 6)}
    service.spec |= {"train_batch_size": 3}
    candidates = iter([f"p{index}" for index in range(40)])
    run(core.report(0, [], final=True))
    collect(core, 1, mixed, prompts=candidates)
    core.leftover.extend(["old"])
    run(core.rewind(0))
    assert not core.leftover


@pytest.mark.parametrize("call", ["rewind", "fork"])
@pytest.mark.parametrize("strict", [False, True])
def test_without_the_service_it_raises_in_every_mode_and_changes_nothing(
    io: ClockIO, service: FakeService, spool_path: Path, strict: bool, call: str
) -> None:
    core = make_core(io, spool_path, strict=strict)
    run(core.state())
    service.down = True
    start = io.time
    with pytest.raises(UnavailableError):
        run(core.rewind(0) if call == "rewind" else core.fork("other"))
    assert io.time - start <= 2.0
    assert (core.generation, core.counts.snapshot().degraded) == (0, 0)


@pytest.mark.parametrize("call", ["rewind", "fork"])
def test_spooled_reports_go_first_however_long_they_take(
    core: Core, service: FakeService, io: ClockIO, spool_path: Path, call: str
) -> None:
    run(core.state())
    service.down = True
    for step in range(100):
        run(core.report(step, [Group(f"p{step}", MIXED)] * 4))
    come_back(service, io)
    io.takes = 0.1
    service.requests.clear()
    run(core.rewind(97) if call == "rewind" else core.fork("other"))
    assert [path for path, _ in service.tokens()] == ["report"] * 100 + [call]
    assert not spool_path.exists()
    assert core.counts.snapshot().delivered == 100


def test_reports_that_cannot_go_first_leave_the_run_as_it_is(
    core: Core, service: FakeService, io: ClockIO, spool_path: Path
) -> None:
    service.closed_steps = {0}
    service.down = True
    run(core.report(0, GROUPS))
    come_back(service, io)
    other = Spool(spool_path, 1 << 20)
    lock = other.delivering()
    assert lock is not None
    with pytest.raises(UnavailableError, match="another client is delivering"):
        run(core.rewind(0))
    assert service.bodies("/rewind") == []
    other.release(lock)
    assert run(core.rewind(0)).generation == 1


def test_a_rewind_whose_answer_was_lost_takes_effect_once_when_it_is_called_again(
    trained: Core, service: FakeService
) -> None:
    def swallow(request: httpx.Request) -> httpx.Response:
        service.serve(request)
        service.down = True
        raise httpx.ReadError("the answer was lost")

    service.script.append(swallow)
    with pytest.raises(UnavailableError):
        run(trained.rewind(2))
    assert (service.generation, trained.generation) == (1, 0)
    service.down = False
    assert run(trained.rewind(2)).generation == 1
    assert (service.generation, trained.generation) == (1, 1)
    assert run(trained.rewind(1)).generation == 2


def test_a_rewind_whose_answer_was_lost_before_its_key_was_refused_takes_effect_once_with_a_good_one(
    trained: Core, service: FakeService
) -> None:
    def swallow(request: httpx.Request) -> httpx.Response:
        service.serve(request)
        service.script.append(problem(401, "there is no such key"))
        raise httpx.ReadError("the answer was lost")

    service.script.append(swallow)
    with pytest.raises(ForbiddenError):
        run(trained.rewind(2))
    assert service.generation == 1
    assert run(trained.rewind(2)).generation == service.generation == 1


def test_a_rewind_may_take_longer_than_the_budget(trained: Core, io: ClockIO) -> None:
    io.takes = 30.0
    assert run(trained.rewind(2)).generation == 1
    assert run(trained.fork("other", 1)).run
    with pytest.raises(UnavailableError):
        run(trained.state())


def test_a_refused_rewind_is_asked_anew_the_next_time(core: Core, service: FakeService) -> None:
    service.closed_steps = {0}
    service.script.append(problem(409, "step 1 has not completed"))
    with pytest.raises(ConflictError):
        run(core.rewind(1))
    service.closed_steps = {0, 1}
    assert run(core.rewind(1)).generation == 1
    keys = [request.headers["idempotency-key"] for request in service.requests]
    assert len(set(keys)) == 2


def test_a_fork_names_the_new_run_and_says_its_state(trained: Core, service: FakeService) -> None:
    assert run(trained.fork("branch", 2)).run == "branch"
    assert run(trained.fork("now")).run == "now"
    assert service.bodies("/fork") == [{"run": "branch", "step": 2}, {"run": "now"}]
    with pytest.raises(ConflictError, match="there is a run branch"):
        run(trained.fork("branch"))
    assert not run(trained.report(5, [Group("a", SAME)])).degraded


def test_the_blocking_client_has_them(client: Client, service: FakeService) -> None:
    client.create_run()
    client.report(0, [], final=True)
    assert client.rewind(0).generation == client.generation == 1
    assert client.fork("branch", step=0).run == "branch"
