"""A step that was broken off half-way, collected again."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greso_client import Rollout, UnavailableError
from greso_client._core import Core
from greso_client._io import run

from .doubles import MIXED, SAME, ClockIO, FakeService, collect, make_core, mixed, same

RollOut = Callable[[list[str]], list[Rollout[str]]]


def breaking(after: int, roll_out: RollOut = mixed) -> RollOut:
    """A rollout function that works `after` times, and then no more."""
    calls = itertools.count()

    def roll(prompts: list[str]) -> list[Rollout[str]]:
        if next(calls) == after:
            raise OSError("out of memory")
        return roll_out(prompts)

    return roll


@pytest.fixture
def halfway(core: Core, service: FakeService) -> Core:
    """A client whose step 0 was broken off after one round of six effective groups; the step needs eight."""
    service.pool = [f"p{index}" for index in range(50)]
    service.spec |= {"train_batch_size": 8}
    with pytest.raises(OSError, match="out of memory"):
        collect(core, 0, breaking(1))
    return core


def test_it_goes_on_with_the_groups_it_had_and_ends_complete(halfway: Core, service: FakeService) -> None:
    got = collect(halfway, 0, mixed)
    assert (got.reason, got.rounds, got.rollouts, got.examined) == ("complete", 2, 18, 12)
    assert [group.prompt for group in got.effective] == ["p0", "p1", "p2", "p3", "p4", "p5", "p9", "p10", "p11"]
    assert [group.data for group in got.effective] == [f"data of {group.prompt}" for group in got.effective]
    # The second round, broken off, had asked for ceil(1.25 * 2 * 6 / 6) = 3, and the third does.
    assert service.bodies("/draw") == [{"step": 0}, {"step": 0, "count": 3}, {"step": 0, "count": 3}]


def test_the_step_after_it_begins_empty(halfway: Core) -> None:
    assert collect(halfway, 0, mixed).complete
    assert [group.prompt for group in collect(halfway, 1, mixed).groups[:1]] == ["p12"]


def test_another_step_collected_first_leaves_it_behind(halfway: Core) -> None:
    assert collect(halfway, 1, mixed).rounds == 2
    assert halfway.broken_off is None


def test_broken_off_again_it_still_has_everything(halfway: Core, service: FakeService) -> None:
    service.spec |= {"train_batch_size": 12}
    with pytest.raises(OSError, match="out of memory"):
        collect(halfway, 0, breaking(1))
    got = collect(halfway, 0, mixed)
    assert (got.reason, got.rounds) == ("complete", 3)
    assert len(got.effective) == len({group.prompt for group in got.effective}) >= 12


def test_the_rounds_of_both_calls_count_and_one_more_is_always_made(halfway: Core, service: FakeService) -> None:
    got = collect(halfway, 0, same, max_rounds=1)
    assert (got.reason, got.rounds, len(got.effective)) == ("max_rounds", 2, 6)
    assert [report.get("final", False) for report in service.reports] == [False, True]


def test_from_a_list_what_it_rolled_out_before_is_not_rolled_out_again(core: Core, service: FakeService) -> None:
    service.spec |= {"train_batch_size": 8}
    candidates = [f"p{index}" for index in range(20)]
    with pytest.raises(OSError, match="out of memory"):
        collect(core, 0, breaking(1), prompts=candidates)
    got = collect(core, 0, mixed, prompts=candidates)
    assert got.complete
    assert [group.prompt for group in got.groups] == candidates[: len(got.groups)]


def test_a_step_whose_service_was_lost_in_strict_mode_goes_on(
    strict_core: Core, service: FakeService, io: ClockIO
) -> None:
    service.pool = [f"p{index}" for index in range(50)]
    service.spec |= {"train_batch_size": 8}

    def dies(prompts: list[str]) -> list[Rollout[str]]:
        service.down = len(service.reports) == 1
        return mixed(prompts)

    with pytest.raises(UnavailableError):
        collect(strict_core, 0, dies)
    service.down = False
    got = collect(strict_core, 0, mixed)
    assert (got.reason, got.rounds, len(got.effective)) == ("complete", 3, 9)


@pytest.mark.parametrize("forget", ["rewind", "delete", "create"])
def test_a_step_of_a_state_that_is_no_more_is_forgotten(halfway: Core, service: FakeService, forget: str) -> None:
    if forget == "rewind":
        service.closed_steps = {0}
        run(halfway.rewind(0))
    elif forget == "delete":
        run(halfway.delete_run())
    else:
        service.exists = False
        run(halfway.create_run({}))
    assert halfway.broken_off is None
    assert not halfway.leftover


def test_a_process_that_starts_anew_has_nothing_to_go_on_with(halfway: Core, io: ClockIO) -> None:
    assert make_core(io, None).broken_off is None
    assert collect(make_core(io, None), 0, lambda prompts: [Rollout(MIXED, "") for _ in prompts]).reason == "late"


@settings(max_examples=100, deadline=None)
@given(
    train=st.integers(1, 12),
    rollout=st.integers(1, 12),
    effective=st.floats(0, 1),
    breaks=st.floats(0, 0.7),
    source=st.sampled_from(["pool", "list", "iterator"]),
    seed=st.integers(0, 2**32),
)
def test_however_often_a_step_breaks_off_nothing_that_was_reported_is_missing_from_its_result(
    train: int, rollout: int, effective: float, breaks: float, source: str, seed: int
) -> None:
    chance = random.Random(seed)
    pool = [f"p{index}" for index in range(30)]
    service = FakeService(spec={"train_batch_size": train, "rollout_batch_size": rollout}, pool=pool)
    core = make_core(ClockIO(service), None)
    endless = itertools.cycle(pool)
    candidates = {"pool": None, "list": pool, "iterator": endless}[source]

    def roll_out(prompts: list[str]) -> list[Rollout[int] | None]:
        if chance.random() < breaks:
            raise OSError("out of memory")
        rewards = [MIXED if chance.random() < effective else SAME for _ in prompts]
        return [None if chance.random() < 0.1 else Rollout(each, index) for index, each in enumerate(rewards)]

    for step in range(3):
        got = None
        while got is None:
            try:
                got = collect(core, step, roll_out, candidates, max_rounds=4)
            except OSError:
                continue
        assert [group.prompt for group in got.groups] == [
            prompt for number, prompts in service.reported() if number == step for prompt in prompts
        ]
        assert len(got.effective) == sum(group.rewards == MIXED for group in got.groups)
        assert got.complete == (got.reason == "complete") == (len(got.effective) >= train)
        assert step in service.closed_steps
