"""Draws by rank on random runs: never a prompt twice in a step, and only the pool's."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from greso_service import plans
from greso_service.core import ranked_draw
from greso_service.core.events import Created, Selected
from greso_service.core.fold import fold
from greso_service.core.policy import RANKINGS
from greso_service.core.spec import RunSpec
from greso_service.core.state import RunState

from ..folding import draw, pool, report, run, select  # noqa: TID252
from .traces import Action, Draw, Select, plan, play, specs, traces

rankings = st.sampled_from(sorted(RANKINGS))


@given(specs, traces)
def test_draws_by_rank(spec: dict[str, Any], trace: list[Action]) -> None:
    state = RunState(Created(RunSpec.of(spec).to_dict()))
    for action in trace:
        for event in plan(state, action):
            if isinstance(action, Draw) and isinstance(event, Selected) and event.ranked:
                taken = event.ranked.index
                assert len(taken) == len(set(taken))
                assert state.prompts.pooled[list(taken)].all()
                left = sum(ranked_draw._left(state, action.step, scope).size for scope in state.scopes())
                wanted = left if action.count is None else min(action.count, left)
                assert len(taken) <= wanted
                assert len(taken) == wanted or action.count is None, "as many as there are"
                assert not set(taken) & set((state.prompts.drawn == action.step + 1).nonzero()[0].tolist())
                count = state.batch_size(action.step) if action.count is None else action.count
                assert 0 <= event.ranked.owed <= max(state.owed, len(taken) + 1, count)
            if isinstance(event, Selected):
                assert event.selected + event.skipped_easy + event.skipped_hard == event.examined
            if isinstance(action, Select) and isinstance(event, Selected) and action.limit is not None:
                assert event.selected <= max(action.limit, action.at_least)
            fold(state, event)


@given(specs, traces)
def test_what_is_known_stays_sane(spec: dict[str, Any], trace: list[Action]) -> None:
    state, _ = play(spec, trace)
    size = state.table.size
    prompts = state.prompts
    assert ((prompts.variance[:size] >= 0) & (prompts.variance[:size] <= 9)).all()
    assert (abs(prompts.difficulty[:size]) < 1e4).all()
    assert ((prompts.passed[:size] >= 0) & (prompts.failed[:size] >= 0)).all()
    assert abs(state.ability.value) <= 0.2 * 10 + 1e-9
    for found in (state.audits.easy, state.audits.hard):
        assert 0 <= found.effective <= found.groups


@given(rankings, st.permutations([f"p{number}" for number in range(30)]), st.integers(0, 20), st.integers(0, 31))
def test_a_ranked_select_takes_the_same_prompts_in_any_order(
    policy: str, order: list[str], step: int, limit: int
) -> None:
    state = run(policy=policy, seed=9, train_batch_size=1000, audit_share=0.1)
    report(state, 0, [(f"p{number}", [0, 1, number % 3 == 0]) for number in range(20)] * 2)
    kept = {order[place] for place in select(state, step, order, limit=limit)["selected"]}
    in_order = sorted(order)
    assert kept == {in_order[place] for place in select(state, step, in_order, limit=limit)["selected"]}
    assert len(kept) == min(limit, 30)


@settings(max_examples=settings().max_examples // 2)
@given(
    rankings, st.lists(st.integers(0, 12), min_size=1, max_size=5), st.integers(0, 3), st.sampled_from([0.0, 0.1, 1])
)
def test_a_step_takes_the_pool_once(policy: str, counts: list[int], cooldown: int, share: float) -> None:
    state = run(policy=policy, cooldown_steps=cooldown, exploration_share=share)
    pool(state, [f"p{number}" for number in range(25)])
    for step in range(2):
        taken = [prompt for count in counts for prompt in draw(state, step, count)["prompts"]]
        assert len(taken) == len(set(taken)) == min(sum(counts), 25)
        assert plans.draw(state, step + 1, 3) == plans.draw(state, step + 1, 3)
