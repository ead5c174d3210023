"""One training step, collected: where its candidates come from."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable

import pytest

from greso_client import InvalidRequestError, Skipped
from greso_client._core import Core
from greso_client._io import run

from .doubles import FakeService, collect, mixed, problem, same


def test_a_pool_of_which_everything_is_skipped_ends_the_step(core: Core, service: FakeService) -> None:
    service.pool = ["a", "b"]
    service.skip = {"a", "b"}
    got = collect(core, 0, mixed)
    assert (got.reason, got.rounds, got.effective, got.skipped) == ("no_candidates", 0, [], Skipped(0, 2))
    assert service.reports == [{"step": 0, "results": [], "final": True, "frozen": False}]


def test_candidates_that_are_all_skipped_end_the_step(core: Core, service: FakeService) -> None:
    service.skip = {f"p{index}" for index in range(1000)}
    got = collect(core, 0, mixed, prompts=[f"p{index}" for index in range(1000)])
    assert (got.reason, got.rounds, got.examined) == ("no_candidates", 0, 1000)


@pytest.mark.parametrize("endless", [itertools.cycle, lambda pool: iter(lambda: random.Random(1).choice(pool), None)])
def test_an_endless_iterator_of_which_everything_is_skipped_ends_the_step(
    core: Core, service: FakeService, endless: Callable[[list[str]], Iterable[str]]
) -> None:
    pool = [f"p{index}" for index in range(50)]
    service.skip = set(pool)
    got = collect(core, 0, mixed, prompts=endless(pool))
    assert (got.reason, got.rounds) == ("no_candidates", 0)
    assert got.examined < 500


def test_a_select_that_keeps_nothing_just_goes_on_with_more_candidates(core: Core, service: FakeService) -> None:
    service.skip = {f"p{index}" for index in range(500)}
    got = collect(core, 0, mixed, prompts=(f"p{index}" for index in range(600)))
    assert (got.complete, got.rounds, got.examined) == (True, 1, 506)
    assert len(service.bodies("/select")) < 12


def test_a_candidate_known_to_be_skipped_is_not_offered_again_in_its_step_but_in_the_next(
    core: Core, service: FakeService
) -> None:
    service.skip = {"s"}
    prompts = itertools.cycle(["s", "a", "b"])
    collect(core, 0, same, prompts=prompts, max_rounds=3)
    first = service.bodies("/select")
    assert [body["prompts"].count("s") for body in first][1:] == [0] * (len(first) - 1)
    collect(core, 1, mixed, prompts=prompts)
    assert "s" in service.bodies("/select")[len(first)]["prompts"]


def test_what_was_offered_and_not_examined_comes_first_in_the_next_step(core: Core, service: FakeService) -> None:
    service.skip = {f"p{index}" for index in range(5)}
    stream = (f"p{index}" for index in itertools.count())
    collect(core, 0, mixed, prompts=stream)
    collect(core, 1, mixed, prompts=stream)
    service.skip = set()
    collect(core, 2, mixed, prompts=stream)
    rolled = [prompt for _, prompts in service.reported() for prompt in prompts]
    assert rolled == [f"p{index}" for index in range(5, 23)]
    assert len(core.leftover) < 8


def test_leftovers_survive_a_new_iterator_over_the_same_stream(core: Core, service: FakeService) -> None:
    stream = (f"p{index}" for index in itertools.count())
    service.skip = {"p0", "p1"}
    for step in range(3):
        collect(core, step, mixed, prompts=itertools.islice(stream, 8))
    rolled = [prompt for _, prompts in service.reported() for prompt in prompts]
    assert rolled == [f"p{index}" for index in range(2, 20)]


def test_a_list_is_offered_from_its_start_each_time(core: Core, service: FakeService) -> None:
    for step in range(2):
        collect(core, step, mixed, prompts=[f"p{index}" for index in range(20)])
    assert [prompts[0] for _, prompts in service.reported()] == ["p0", "p0"]


def test_candidates_of_a_select_that_is_refused_are_not_lost(core: Core, service: FakeService) -> None:
    stream = (f"p{index}" for index in itertools.count())
    run(core.create_run({}))
    service.script.append(problem(422, "no"))
    with pytest.raises(InvalidRequestError):
        collect(core, 0, mixed, prompts=stream)
    collect(core, 0, mixed, prompts=stream)
    assert service.reported()[0][1][0] == "p0"


def test_too_few_candidates_end_the_step_with_what_there_is(core: Core, service: FakeService) -> None:
    got = collect(core, 0, mixed, prompts=["a", "b"])
    assert (got.reason, got.complete, got.rounds, len(got.effective)) == ("no_candidates", False, 1, 2)
    assert service.reports[-1]["final"]


def test_no_candidates_at_all_end_the_step(core: Core, service: FakeService) -> None:
    assert collect(core, 0, mixed, prompts=[]).reason == "no_candidates"


def test_a_client_that_did_not_create_the_run_asks_for_its_batch_size_once(core: Core, service: FakeService) -> None:
    for step in range(3):
        collect(core, step, mixed, prompts=[f"p{index}" for index in range(10)])
    assert [body["limit"] for body in service.bodies("/select")] == [6, 6, 6]
    assert sum(request.method == "GET" for request in service.requests) == 1


def test_a_batch_size_changed_by_someone_else_is_taken_over_with_the_next_step(
    core: Core, service: FakeService
) -> None:
    collect(core, 0, mixed, prompts=[f"p{index}" for index in range(10)])
    service.spec["rollout_batch_size"] = 5
    collect(core, 1, mixed, prompts=[f"p{index}" for index in range(10)])
    collect(core, 2, mixed, prompts=[f"p{index}" for index in range(10)])
    assert [body["limit"] for body in service.bodies("/select")] == [6, 6, 5]


def names(count: int) -> list[str]:
    return [f"p{index:03}" for index in range(count)]


def test_a_ranking_is_offered_more_than_is_wanted(core: Core, service: FakeService) -> None:
    service.ranks = True
    got = collect(core, 0, mixed, prompts=iter(names(100)), offer=4)
    assert (got.reason, got.rounds, got.examined) == ("complete", 1, 24)
    assert service.reported()[0][1] == names(24)[18:]


@pytest.mark.parametrize("offer", [1, 4, 1000])
def test_a_filter_keeps_the_same_whatever_it_is_offered(core: Core, service: FakeService, offer: int) -> None:
    stream = iter(names(3000))
    service.skip = {"p001", "p004", "p009"}
    for step in range(3):
        assert collect(core, step, mixed, prompts=stream, offer=offer).complete
    kept = [name for name in names(21) if name not in service.skip]
    assert [prompt for _, prompts in service.reported() for prompt in prompts] == kept


def test_what_a_ranking_left_of_an_iterator_is_gone_until_it_brings_it_again(core: Core, service: FakeService) -> None:
    service.ranks = True
    stream = itertools.cycle(names(36))
    for step in range(3):
        collect(core, step, mixed, prompts=stream, offer=2)
    assert [prompts for _, prompts in service.reported()] == [names(36)[start : start + 6] for start in (6, 18, 30)]
    assert not core.leftover
    collect(core, 3, mixed, prompts=stream, offer=2)
    assert service.reported()[3][1] == names(36)[6:12]


def test_what_a_ranking_left_comes_again_in_its_step_when_nothing_else_does(core: Core, service: FakeService) -> None:
    service.ranks = True
    got = collect(core, 0, same, prompts=names(14), offer=2, max_rounds=9)
    assert (got.reason, got.rounds) == ("no_candidates", 3)
    rolled = [prompts for _, prompts in service.reported()[:3]]
    # The best of the first 12; of two new ones and those six left; what is left of all.
    assert rolled == [names(14)[6:12], [*names(14)[12:], *names(6)[2:]], names(2)]
    assert got.examined == 12 + 8 + 2


def test_an_endless_iterator_of_a_ranking_brings_what_was_left_and_ends(core: Core, service: FakeService) -> None:
    service.ranks = True
    got = collect(core, 0, same, prompts=itertools.cycle(names(14)), offer=2, max_rounds=3)
    assert (got.reason, got.rounds, len(got.groups)) == ("max_rounds", 3, 18)


def test_a_large_offer_stays_below_what_one_request_takes(core: Core, service: FakeService) -> None:
    service.ranks = True
    collect(core, 0, mixed, prompts=iter(names(10_000)), offer=10_000)
    assert [len(body["prompts"]) for body in service.bodies("/select")] == [8192]


def test_an_offer_of_nothing_is_refused(core: Core) -> None:
    with pytest.raises(ValueError, match="/offer: 0 must be 1 or more"):
        collect(core, 0, mixed, prompts=["a"], offer=0)
