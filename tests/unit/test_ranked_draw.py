"""Draws by rank: nobody twice, cool-down, the walk's share, and every prompt again within the stated bound."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import numpy as np
import pytest

from greso_service import plans
from greso_service.core import ranked_draw
from greso_service.core.events import Patched, Selected
from greso_service.core.state import RunState
from greso_service.errors import Conflict

from ..folding import content, draw, fold, pool, report, run, select  # noqa: TID252

RANKINGS = ["irt", "p_mixed", "mopps"]
BIG = {"train_batch_size": 10**6, "rollout_batch_size": 10**6}


def names(count: int, first: int = 0) -> list[str]:
    return [f"p{number}" for number in range(first, first + count)]


def filled(count: int, **spec: Any) -> RunState:
    state = run(**{"policy": "irt", "seed": 3, "train_batch_size": 10**6} | spec)
    pool(state, names(count))
    return state


class Trainer:
    """Reports what prompts of fixed pass rates earn: some never, some always, the rest in between."""

    def __init__(self, state: RunState, seed: int = 0) -> None:
        self.state, self.random = state, np.random.default_rng(seed)

    def rate(self, prompt: str) -> float:
        return [0.0, 0.0, 1.0, 0.1, 0.5, 0.9][int(prompt[1:]) % 6]

    def step(self, step: int, counts: list[int]) -> list[str]:
        """One step of so many rounds; the prompts that it took."""
        taken: list[str] = []
        for count in counts:
            answer = draw(self.state, step, count)
            taken += answer["prompts"]
            groups = [(p, (self.random.random(4) < self.rate(p)).astype(float).tolist()) for p in answer["prompts"]]
            report(self.state, step, groups)
        report(self.state, step, [], final=True)
        return taken


@pytest.mark.parametrize(("policy", "cooldown"), list(zip(RANKINGS, [0, 1, 5], strict=True)))
def test_no_prompt_twice_in_a_step(policy: str, cooldown: int) -> None:
    trainer = Trainer(filled(50, policy=policy, cooldown_steps=cooldown))
    for step in range(4):
        taken = trainer.step(step, [7, 1, 20, 0, 15, 30])
        assert len(taken) == len(set(taken)) == 50, "the pool, once: the last rounds get what is left"


@pytest.mark.parametrize(("policy", "cooldown"), list(zip(["irt", *RANKINGS], [0, 1, 4, 9], strict=True)))
def test_a_prompt_is_left_alone_while_the_pool_has_others(policy: str, cooldown: int) -> None:
    trainer = Trainer(filled(100, policy=policy, cooldown_steps=cooldown))
    last: dict[str, int] = {}
    for step in range(25):
        for prompt in trainer.step(step, [5, 4]):  # 9 a step: 90 are in their cool-down at most
            assert step - last.get(prompt, -99) > cooldown
            last[prompt] = step


def test_a_pool_too_small_for_its_cool_down_gives_those_left_alone_longest() -> None:
    trainer = Trainer(filled(20, cooldown_steps=10, exploration_share=0.2))
    last: dict[str, int] = {}
    for step in range(20):
        waiting = sorted(last.get(prompt, -1) for prompt in names(20))
        taken = trainer.step(step, [4, 3])
        assert len(set(taken)) == 7, "never fewer than wanted while the pool has others"
        ages = sorted(last.get(prompt, -1) for prompt in taken)
        assert ages == waiting[:7]
        last |= dict.fromkeys(taken, step)


@pytest.mark.parametrize(
    ("policy", "share", "rounds"),
    [("irt", 0.1, [5]), ("irt", 1.0, [5]), ("p_mixed", 0.2, [9, 2]), ("mopps", 0.05, [15])],
)
def test_every_prompt_comes_again_within_the_stated_bound(policy: str, share: float, rounds: list[int]) -> None:
    """At most 2 N - 1 places of the walk and the cool-down apart; and whole prompts."""
    size, cooldown = 30, 1
    trainer = Trainer(filled(size, policy=policy, exploration_share=share, cooldown_steps=cooldown))
    most = (2 * size - 1) / share + (cooldown + 2) * sum(rounds) + 1 / share
    last, drawn, widest, step = dict.fromkeys(names(size), 0), 0, 0, 0
    while drawn < 3 * size / share:
        taken = trainer.step(step, rounds)
        for prompt in taken:
            widest, last[prompt] = max(widest, drawn - last[prompt]), drawn
        drawn, step = drawn + len(taken), step + 1
        assert drawn - min(last.values()) <= most
    assert widest <= most


def test_without_a_share_a_prompt_may_starve() -> None:
    """What the share is for: a ranking alone never looks again at what it believes to be hopeless."""
    trainer = Trainer(filled(60, policy="p_mixed", exploration_share=0.0, cooldown_steps=0))
    late = Counter[str]()
    for step in range(60):
        taken = trainer.step(step, [6])
        if step >= 30:
            late.update(taken)
    assert len(late) < 40


@pytest.mark.parametrize(("share", "count"), [(0.1, 1), (0.1, 64), (1 / 3, 3), (1.0, 3)])
def test_the_share_of_the_walk_is_exact_in_the_long_run(share: float, count: int) -> None:
    state = filled(2000, exploration_share=share, cooldown_steps=1)
    walked = total = 0
    for step in range(60):
        [event] = plans.draw(state, step, count).events
        assert isinstance(event, Selected)
        assert event.ranked is not None
        fold(state, [event])
        walked, total = walked + event.ranked.walked, total + len(event.ranked.index)
        assert abs(walked - share * total) <= 1 + 1e-6
        assert 0 <= state.owed < 1 + 1e-6
    assert total == 60 * count


def test_what_the_walk_owes_is_not_forgotten_by_a_draw_of_nothing() -> None:
    state = filled(1000, exploration_share=0.1, cooldown_steps=1)
    for step in range(20):
        draw(state, step, 1)
        before = state.owed
        assert draw(state, step, 0)["prompts"] == []
        assert state.owed == before
    assert state.cursor.position == 2


def test_what_the_walk_could_not_bring_is_owed_up_to_a_draw() -> None:
    state = filled(4, exploration_share=1.0, cooldown_steps=100)
    for step in range(15):
        assert len(draw(state, step, 4)["prompts"]) == 4
        assert state.owed <= 4


@pytest.mark.parametrize(("policy", "size"), list(zip(RANKINGS, [1, 2, 7], strict=True)))
def test_a_count_larger_than_the_pool(policy: str, size: int) -> None:
    state = filled(size, policy=policy)
    for step in range(12):
        assert sorted(draw(state, step, 100)["prompts"]) == names(size)
        assert draw(state, step, 100)["prompts"] == [], "this step has had them all"


def test_an_empty_pool_and_the_batch_size() -> None:
    state = run(policy="irt", rollout_batch_size=7)
    with pytest.raises(Conflict, match="pool is empty"):
        draw(state, 0, 1)
    pool(state, names(30))
    assert len(draw(state, 0)["prompts"]) == 7


def test_prompts_that_are_known_but_not_pooled_are_never_drawn() -> None:
    state = run(policy="irt", **BIG)
    report(state, 0, [(prompt, [0, 1]) for prompt in names(50, 100)])
    pool(state, names(20))
    report(state, 0, [(prompt, [0, 1]) for prompt in names(50, 200)])
    taken = {prompt for step in range(1, 15) for prompt in draw(state, step, 10)["prompts"]}
    assert taken == set(names(20))
    assert set(draw(state, 99, 50)["prompts"]) == set(names(20))


@pytest.mark.parametrize("policy", RANKINGS[:2])
def test_a_pool_that_grows_between_draws(policy: str) -> None:
    trainer = Trainer(filled(10, policy=policy, exploration_share=0.2, cooldown_steps=1))
    size, since = 10, dict[str, int]()
    for step in range(100):
        if step % 10 == 0 and size < 50:
            pool(trainer.state, names(15, size - 5))  # some known
            since |= dict.fromkeys(names(10, size), step)
            size += 10
        taken = trainer.step(step, [4, 2])
        assert len(set(taken)) == 6
        for prompt in taken:
            since.pop(prompt, None)
    assert not since, "what joined has been drawn"


def test_drawing_ahead_and_out_of_order() -> None:
    """A trainer that fetches two steps ahead, and asks for more of the earlier one, gets nobody twice."""
    state = filled(200, cooldown_steps=5)
    taken: dict[int, list[str]] = {}
    for step in [2, 0, 1, 2, 4, 3, 1, 4, 0, 5]:
        taken.setdefault(step, []).extend(draw(state, step, 8)["prompts"])
    everything = list(itertools.chain.from_iterable(taken.values()))
    assert len(everything) == len(set(everything)) == 80


def test_a_restart_at_step_0_without_a_rewind() -> None:
    trainer = Trainer(filled(60, cooldown_steps=5))
    for step in range(1000, 1010):
        assert len(set(trainer.step(step, [6]))) == 6
    for step in range(10):
        assert len(set(trainer.step(step, [6]))) == 6
    assert np.isfinite(trainer.state.ability.value)
    assert (trainer.state.prompts.variance >= 0).all()


@pytest.mark.parametrize(("policy", "window"), list(zip(RANKINGS, [1, 8, 33], strict=True)))
def test_windows_cover_everything_over_the_steps(policy: str, window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranked_draw, "WINDOW", window)
    monkeypatch.setattr(ranked_draw, "_CHUNK", 5)
    state = filled(50, policy=policy, exploration_share=0.0, cooldown_steps=0)
    seen = set[str]()
    for step in range(300):
        taken = draw(state, step, 3)["prompts"]
        assert len(set(taken)) == 3, "a window of fewer than are wanted leaves the rest to those left alone longest"
        seen |= set(taken)
    assert seen == set(names(50))


def test_a_window_without_a_prompt_of_the_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranked_draw, "WINDOW", 4)
    state = run(policy="irt", exploration_share=0.0, **BIG)
    report(state, 0, [(prompt, [0, 1]) for prompt in names(500, 1000)])
    pool(state, names(10))
    for step in range(1, 30):
        assert len(set(draw(state, step, 5)["prompts"])) == 5


def test_the_pieces_that_scores_are_made_in_don_t_show(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for chunk in (3, 64, 1 << 15):
        monkeypatch.setattr(ranked_draw, "_CHUNK", chunk)
        trainer = Trainer(filled(200))
        found.append([trainer.step(step, [13, 4]) for step in range(15)])
    assert found[0] == found[1] == found[2]


def test_the_best_come_first_and_are_those_of_select() -> None:
    """With nothing for the walk, a draw takes what a select of the whole pool takes."""
    state = filled(80, exploration_share=0.0, cooldown_steps=0)
    trainer = Trainer(state)
    for step in range(12):
        trainer.step(step, [20])
    chosen = select(state, 12, names(80), limit=15)
    taken = draw(state, 12, 15)["prompts"]
    assert sorted(taken) == sorted(names(80)[place] for place in chosen["selected"])
    scores = [chosen["decisions"][int(prompt[1:])]["keep_probability"] for prompt in taken]
    assert scores == sorted(scores, reverse=True)


def test_policies_change_in_a_live_run() -> None:
    trainer = Trainer(filled(60, policy="greso", cooldown_steps=1))
    for step, policy in enumerate(["greso", "irt", "uniform", "p_mixed", "greso", "mopps", "band", "irt"] * 2):
        fold(trainer.state, [Patched({"policy": policy})])
        taken = trainer.step(step, [6, 4])
        assert 0 < len(taken) <= 10
        assert len(taken) == 10 or policy in ("greso", "band")


@pytest.mark.parametrize("policy", RANKINGS)
def test_a_shadow_run_walks_the_pool(policy: str) -> None:
    trainer = Trainer(filled(40, policy=policy, shadow=True, cooldown_steps=1))
    taken = [prompt for step in range(16) for prompt in trainer.step(step, [5])]
    for epoch in range(2):
        assert sorted(taken[40 * epoch : 40 * epoch + 40]) == sorted(names(40)), "epochs, as without a policy"
    audits = trainer.state.audits
    assert 0 < audits.easy.groups + audits.hard.groups <= 80


def test_the_walk_s_prompts_that_rank_would_not_have_taken_are_audited() -> None:
    trainer = Trainer(filled(100, exploration_share=0.25, cooldown_steps=1))
    for step in range(20):
        [event] = plans.draw(trainer.state, step, 8).events
        assert isinstance(event, Selected)
        assert event.ranked is not None
        top = ranked_draw._top(trainer.state, step, 8, trainer.state.scopes()[0]).tolist()
        walked = event.ranked.index[len(event.ranked.index) - event.ranked.walked :]
        audited = event.audited.easy + event.audited.hard if event.audited else ()
        seen = set(np.flatnonzero(trainer.state.prompts.visits > 0).tolist())  # of others nobody knew anything
        assert sorted(audited) == sorted((set(walked) - set(top)) & seen)
        trainer.step(step, [8])


def test_planning_a_draw_changes_nothing() -> None:
    trainer = Trainer(filled(50))
    trainer.step(0, [10])
    before = content(trainer.state)
    first, second = (plans.draw(trainer.state, 1, 10) for _ in range(2))
    assert first == second
    assert content(trainer.state) == before
