"""How many prompts a round takes in a run whose policy is a ranking: no more than its steps lately needed."""

from __future__ import annotations

import pytest

from greso_service.core.spec import RunSpec, SpecError
from greso_service.core.state import RunState

from ..folding import draw, mixed, pool, report, run, select  # noqa: TID252

BATCH, ROUND = 8, 64


def ranked(policy: str = "irt", **spec: object) -> RunState:
    state = run(policy=policy, train_batch_size=BATCH, rollout_batch_size=ROUND, **spec)
    pool(state, [f"p{number}" for number in range(200)])
    return state


def step(state: RunState, number: int, effective: int, hard: int) -> int:
    """One report that ends a step; what it says of the next round."""
    answer = report(state, number, mixed(effective, 0, hard, prefix=f"s{number}-"), final=True)
    return int(answer["next_rollout_batch_size"])


@pytest.mark.parametrize(
    ("effective", "hard", "size"), [(8, 0, 8), (8, 8, 16), (6, 3, 12), (7, 3, 12), (1, 63, 64), (0, 9, 64), (0, 0, 64)]
)
def test_the_first_round_takes_what_the_last_step_needed(effective: int, hard: int, size: int) -> None:
    state = ranked()
    assert step(state, 0, effective, hard) == size
    assert state.batch_size(1) == size
    assert len(draw(state, 1)["prompts"]) == size


def test_the_last_four_steps_with_groups_count() -> None:
    state = ranked()
    said = [step(state, number, 8, 0 if number else 56) for number in range(5)]
    assert said == [64, 36, 27, 22, 8]
    assert step(state, 5, 0, 0) == 8, "a step without groups says nothing"
    select(state, 9, ["p1"])  # a row without groups
    assert state.batch_size(9) == 8


def test_what_the_answer_says_is_what_the_next_draw_takes() -> None:
    state = ranked()
    for number in range(12):
        said = step(state, number, 5 + number % 4, number % 7)
        assert said == state.batch_size(number + 1) == len(draw(state, number + 1)["prompts"])


def test_further_rounds_are_sized_by_what_is_missing() -> None:
    state = ranked()
    step(state, 0, 8, 0)
    answer = report(state, 1, mixed(4, 0, 4))
    assert answer["next_rollout_batch_size"] == 10  # ceil(1.25 * 4 / (1 / 2))


@pytest.mark.parametrize("spec", [{"policy": "greso"}, {"policy": "uniform"}, {"policy": "band"}, {"shadow": True}])
def test_a_filter_and_a_shadow_run_take_whole_rounds(spec: dict[str, object]) -> None:
    state = ranked(**{"policy": "irt", **spec})  # type: ignore[arg-type]
    assert step(state, 0, 8, 0) == ROUND


def test_never_below_the_smallest_round() -> None:
    assert step(ranked(min_rollout_batch_size=20), 0, 8, 0) == 20


def test_p_mixed_takes_groups_up_to_a_size() -> None:
    assert RunSpec.of({"policy": "p_mixed", "group_size": 1024}).group_size == 1024
    with pytest.raises(SpecError, match="policy: p_mixed takes groups of 1,024 responses at most; irt takes any"):
        RunSpec.of({"policy": "p_mixed", "group_size": 1025})
