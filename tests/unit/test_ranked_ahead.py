"""Draws by rank for several steps at once, and in runs that have met far more prompts than their pool has."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from greso_service.core import ranked_draw
from greso_service.core.state import RunState

from ..folding import draw, pool, report, run  # noqa: TID252


def names(count: int, prefix: str = "p") -> list[str]:
    return [f"{prefix}{number}" for number in range(count)]


def filled(count: int, **spec: Any) -> RunState:
    state = run(**{"policy": "irt", "seed": 3, "train_batch_size": 10**6} | spec)
    pool(state, names(count))
    return state


def drawn(state: RunState, steps: list[int], count: int) -> dict[int, list[str]]:
    taken: dict[int, list[str]] = {}
    for step in steps:
        taken.setdefault(step, []).extend(draw(state, step, count)["prompts"])
    return taken


@pytest.mark.parametrize("policy", ["irt", "p_mixed", "mopps"])
@pytest.mark.parametrize("cooldown", [0, 2])
@pytest.mark.parametrize(("size", "count"), [(30, 20), (30, 7), (2000, 20)])
def test_going_back_to_an_earlier_step_gives_nobody_twice(policy: str, cooldown: int, size: int, count: int) -> None:
    state = filled(size, policy=policy, cooldown_steps=cooldown, exploration_share=0.3)
    report(state, 0, [(p, [1, 0] * 4 if number < 50 else [0] * 8) for number, p in enumerate(names(size))], final=True)
    for step, prompts in drawn(state, [5, 6, 5], count).items():
        assert len(prompts) == len(set(prompts)), f"step {step}"
        assert len(prompts) >= count


def test_a_step_gets_what_no_later_one_took() -> None:
    state = filled(30, cooldown_steps=0)
    taken = drawn(state, [5, 6, 5, 7, 6], 6)
    assert [len(prompts) for prompts in taken.values()] == [12, 12, 6]
    assert all(len(set(prompts)) == len(prompts) for prompts in taken.values())


def test_steps_farther_apart_than_the_limit_are_apart() -> None:
    state = filled(10, cooldown_steps=0)
    assert len(draw(state, 100 + ranked_draw.AHEAD, 10)["prompts"]) == 10
    assert draw(state, 100, 10)["prompts"] == []
    assert len(draw(state, 99, 10)["prompts"]) == 10


@pytest.mark.parametrize("cooldown", [0, 2, 5])
@pytest.mark.parametrize("began", [0, 1000])
def test_beginning_again_without_a_rewind_still_gives_prompts(cooldown: int, began: int) -> None:
    """All was drawn for later steps then: those steps are complete, so that nobody goes back to them."""
    state = filled(30, cooldown_steps=cooldown)
    for step in [*range(began, began + 20), *range(20)]:
        prompts = draw(state, step, 6)["prompts"]
        assert len(set(prompts)) == 6, f"step {step}"
        report(state, step, [(prompt, [0, 1]) for prompt in prompts], final=True)


def test_a_pool_that_is_small_in_a_large_run_is_ranked_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranked_draw, "_CHUNK", 7)
    found = []
    for window in (40, 10**6):
        monkeypatch.setattr(ranked_draw, "WINDOW", window)
        state = run(policy="irt", seed=3, train_batch_size=10**6, exploration_share=0, cooldown_steps=1)
        report(state, 0, [(prompt, [0] * 8) for prompt in names(500, "x")])
        pool(state, [*names(20, "y"), *names(20, "x")])
        taken = []
        for step in range(1, 9):
            prompts = draw(state, step, 5)["prompts"]
            report(state, step, [(prompt, [1, 0] * 4 if prompt > "y" else [0] * 8) for prompt in prompts], final=True)
            taken.append(prompts)
        found.append((taken, ranked_draw.standing(state, 9, int(state.pool[3]))))
    assert found[0] == found[1], "as if the run had no others"
    assert {prompt[0] for prompt in itertools.chain.from_iterable(found[0][0])} == {"y"}


def test_the_windows_of_a_large_run_are_of_its_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranked_draw, "WINDOW", 16)
    state = run(policy="irt", exploration_share=0, cooldown_steps=0)
    report(state, 0, [(prompt, [0] * 8) for prompt in names(300, "x")])
    pool(state, names(50))
    seen = set[int]()
    for step in range(1, 60):
        rows, scores = ranked_draw._ranked(state, step, state.scopes()[0])
        assert rows.size == len(set(rows.tolist())) == 16
        assert (scores >= 0).all()
        assert set(draw(state, step, 4)["prompts"]) <= set(state.table.texts(rows.tolist()))
        seen |= set(rows.tolist())
    assert seen == set(state.pool[:50].tolist())


@pytest.mark.parametrize("window", [16, 1000])
def test_a_run_whose_prompts_are_all_in_the_pool_ranks_stretches_of_them(
    window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranked_draw, "WINDOW", window)
    for stretch in ranked_draw._window(filled(50), 3, filled(50).scopes()[0]):
        assert isinstance(stretch, slice)
