"""One training step, collected: rounds and ends."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greso_client import Client, Collected, InvalidRequestError, Rollout, Skipped
from greso_client._breaker import FIRST_PAUSE
from greso_client._collect import Session
from greso_client._core import Core
from greso_client._io import run

from .doubles import MIXED, SAME, ClockIO, FakeService, collect, make_core, mixed, same


def learnable(prompts: list[str]) -> list[Rollout[str]]:
    return [Rollout(MIXED if prompt.startswith("m") else SAME, prompt) for prompt in prompts]


def test_a_step_that_completes_in_one_round(core: Core, service: FakeService) -> None:
    service.pool = [f"p{index}" for index in range(10)]
    got = collect(core, 3, mixed)
    assert (got.step, got.rounds, got.complete, got.reason, got.degraded) == (3, 1, True, "complete", False)
    assert (got.rollouts, got.examined, got.skipped, got.failed) == (12, 6, Skipped(0, 0), 0)
    assert [(group.prompt, group.rewards, group.data) for group in got.effective] == [
        (f"p{index}", MIXED, f"data of p{index}") for index in range(6)
    ]
    assert service.bodies("/draw") == [{"step": 3}]
    assert [report.get("final", False) for report in service.reports] == [False]


def test_rounds_go_on_with_the_batch_size_that_the_service_says(core: Core, service: FakeService) -> None:
    service.pool = ["m0", "h0", "h1", "h2", "m1", "h3", "m2", "h4", "m3", "m4", "m5", "m6"]
    got = collect(core, 0, learnable)
    assert got.complete
    # 2 of 6 effective, 2 missing: ceil(1.25 * 2 * 6 / 2) = 8, clamped to 6.
    assert [body.get("count") for body in service.bodies("/draw")] == [None, 6]
    assert [group.prompt for group in got.effective] == ["m0", "m1", "m2", "m3", "m4", "m5", "m6"]
    assert len(got.groups) == 12


def test_a_prompt_that_stands_twice_in_a_round_is_matched_by_position(core: Core, service: FakeService) -> None:
    service.pool = ["a", "b"]
    service.spec |= {"train_batch_size": 2}

    def roll_out(prompts: list[str]) -> list[Rollout[int]]:
        return [Rollout(MIXED if index % 2 else SAME, index) for index in range(len(prompts))]

    got = collect(core, 0, roll_out, prompts=["a", "a", "b", "a"])
    assert [(group.prompt, group.data) for group in got.effective] == [("a", 1), ("a", 3)]


def test_failed_rollouts_are_left_out_of_the_report(core: Core, service: FakeService) -> None:
    service.pool = [f"p{index}" for index in range(6)]

    def roll_out(prompts: list[str]) -> list[Rollout[None] | None]:
        return [None if index == 0 else Rollout(MIXED, None) for index in range(len(prompts))]

    got = collect(core, 0, roll_out)
    assert (got.failed, len(got.groups), got.complete) == (1, 5, True)
    assert service.reported()[0][1] == ["p1", "p2", "p3", "p4", "p5"]


def test_a_step_whose_rollouts_all_fail_ends(core: Core, service: FakeService) -> None:
    service.pool = ["a", "b"]
    got: Collected[None] = collect(core, 0, lambda prompts: [None] * len(prompts), max_rounds=3)
    assert (got.reason, got.rounds, got.rollouts, got.failed) == ("max_rounds", 3, 0, 6)
    assert service.reports == [{"step": 0, "results": [], "final": True, "frozen": False}]


def test_a_step_in_which_nothing_is_ever_effective_ends_after_max_rounds(core: Core, service: FakeService) -> None:
    service.pool = [f"p{index}" for index in range(20)]
    got = collect(core, 0, same, max_rounds=4)
    assert (got.reason, got.complete, got.rounds, got.effective) == ("max_rounds", False, 4, [])
    assert len(got.groups) == 24
    assert [report.get("final", False) for report in service.reports] == [False, False, False, True]


def test_a_rollout_function_that_loses_prompts_is_told(core: Core, service: FakeService) -> None:
    service.pool = [f"p{index}" for index in range(6)]
    with pytest.raises(ValueError, match="returned 5 items for 6 prompts"):
        collect(core, 0, lambda prompts: mixed(prompts)[1:])


def test_a_nan_reward_is_refused_with_its_place(core: Core, service: FakeService) -> None:
    service.pool = ["a"]
    with pytest.raises(InvalidRequestError, match="/results/0/rewards/1"):
        collect(core, 0, lambda prompts: [Rollout([0.0, float("nan")], None) for _ in prompts])


def test_max_rounds_must_allow_one(core: Core) -> None:
    with pytest.raises(ValueError, match="/max_rounds: 0 must be 1 or more"):
        collect(core, 0, mixed, max_rounds=0)


def test_a_step_that_was_complete_before_is_said_to_be_late(
    core: Core, service: FakeService, caplog: pytest.LogCaptureFixture
) -> None:
    service.pool = ["m", "h", "i", "j", "k", "l"]
    service.newest = 7
    got = collect(core, 3, learnable)
    assert (got.reason, got.complete, len(got.effective)) == ("late", False, 1)
    assert "client.rewind(step)" in caplog.text


def test_without_the_service_a_step_is_collected_all_the_same(core: Core, service: FakeService, io: ClockIO) -> None:
    service.down = True
    run(core.create_run({"train_batch_size": 4, "rollout_batch_size": 6}))
    run(core.add_prompts(["m0", "h0", "m1", "h1", "h2", "m2", "h3", "m3", "h4", "h5"]))
    got = collect(core, 0, learnable)
    assert (got.complete, got.degraded) == (True, True)
    assert {group.prompt[0] for group in got.effective} == {"m"}
    service.down = False
    io.time += FIRST_PAUSE
    assert not collect(core, 1, learnable).degraded
    assert {step for step, _ in service.reported()} == {0, 1}
    assert len(service.reported()) == got.rounds + len(service.bodies("/draw"))


def test_a_service_lost_in_the_middle_of_a_step_costs_no_group(core: Core, service: FakeService) -> None:
    run(core.create_run({}))

    def roll_out(prompts: list[str]) -> list[Rollout[str]]:
        service.down = len(service.reports) == 1
        return learnable(prompts)

    prompts = [f"{'mh'[index % 3 > 0]}{index}" for index in range(60)]
    got = collect(core, 0, roll_out, prompts=prompts)
    assert (got.complete, got.degraded) == (True, True)
    assert len(got.effective) >= 4
    assert len(service.reports) == 1


def test_a_degraded_step_without_any_effective_group_ends(core: Core, service: FakeService) -> None:
    service.down = True
    got = collect(core, 0, same, prompts=itertools.cycle(["a", "b"]), max_rounds=3)
    assert (got.reason, got.rounds, got.degraded) == ("max_rounds", 3, True)


def test_the_time_in_the_service_is_measured_without_the_rollouts(
    core: Core, service: FakeService, io: ClockIO
) -> None:
    service.pool = [f"p{index}" for index in range(6)]
    io.takes = 0.01

    def slow(prompts: list[str]) -> list[Rollout[str]]:
        io.time += 30.0
        return mixed(prompts)

    assert collect(core, 0, slow).service_seconds == pytest.approx(0.03)  # state, draw, report


@settings(max_examples=150, deadline=None)
@given(
    pool=st.integers(1, 40),
    skipped=st.floats(0, 1),
    effective=st.floats(0, 1),
    train=st.integers(1, 12),
    rollout=st.integers(1, 12),
    endless=st.booleans(),
    draws=st.booleans(),
    dies_after=st.integers(0, 30),
    seed=st.integers(0, 2**32),
)
def test_every_step_ends_with_a_result_that_adds_up(
    pool: int, skipped: float, effective: float, train: int, rollout: int, endless: bool, draws: bool,
    dies_after: int, seed: int,
) -> None:  # fmt: skip
    chance = random.Random(seed)
    prompts = [f"p{index}" for index in range(pool)]
    service = FakeService(spec={"train_batch_size": train, "rollout_batch_size": rollout})
    service.skip = {prompt for prompt in prompts if chance.random() < skipped}
    core = make_core(ClockIO(service), None)
    run(core.add_prompts(prompts))

    def roll_out(chosen: list[str]) -> list[Rollout[int] | None]:
        service.down = len(service.requests) >= dies_after
        items: list[Rollout[int] | None] = []
        for index in range(len(chosen)):
            rewards = MIXED if chance.random() < effective else SAME
            items.append(None if chance.random() < 0.1 else Rollout(rewards, index))
        return items

    source = itertools.cycle(prompts) if endless else iter(prompts)
    for step in range(3):
        got = collect(core, step, roll_out, prompts=None if draws else source, max_rounds=5)
        assert got.rounds <= 5
        assert got.complete == (got.reason == "complete")
        assert got.complete == (len(got.effective) >= train)
        assert all(group.rewards == MIXED for group in got.effective)
        assert len(got.effective) == sum(group.rewards == MIXED for group in got.groups)
        assert got.rollouts == 2 * len(got.groups)


def test_the_blocking_client_collects(client: Client, service: FakeService) -> None:
    service.pool = [f"p{index}" for index in range(6)]
    got = client.collect(0, mixed)
    assert got.complete
    assert [group.data for group in got.effective] == [f"data of p{index}" for index in range(6)]


def test_the_seconds_of_rollouts_and_of_the_updates_before_are_reported_once(
    core: Core, io: ClockIO, service: FakeService
) -> None:
    service.pool = ["m0", "h0", "h1", "h2", "m1", "h3", "m2", "h4", "m3", "m4", "m5", "m6"]

    async def roll_out(prompts: list[str]) -> list[Rollout[str]]:
        io.time += 2.5
        return learnable(prompts)

    run(Session(core, 0, roll_out, None, 10, update_seconds=4.0).run())
    assert [report["seconds"] for report in service.reports] == [
        {"rollout": 2.5, "update": 4.0},
        {"rollout": 2.5, "update": 0.0},
    ]
