"""What the training loop gets while the service is away."""

from __future__ import annotations

from pathlib import Path

import pytest

from greso_client import (
    ConflictError,
    Group,
    NotFoundError,
    StepProgress,
    UnavailableError,
    ZeroVariance,
)
from greso_client._breaker import FIRST_PAUSE
from greso_client._core import Core
from greso_client._io import run

from .doubles import ClockIO, FakeService, problem

MIXED, EASY, HARD = [0.0, 1.0], [1.0, 1.0], [0.0, 0.0]


def come_back(service: FakeService, io: ClockIO) -> None:
    service.down = False
    io.time += 2 * FIRST_PAUSE


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
