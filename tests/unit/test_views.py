"""What the page is made of, from a state: curves add up, the map tells every visit, `why` is what a select decides."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greso_service import answers, views
from greso_service import why as why_kept
from greso_service.answers import PromptQuery
from greso_service.core import policy
from greso_service.core.draws import Ids, audit_uniforms, audit_uniforms_by_step, uniforms, uniforms_by_step
from greso_service.core.state import RunState
from greso_service.core.steps import STEP_ROW, StepLog

from ..folding import draw, fold, mixed, pool, report, run, select  # noqa: TID252
from ..simulated import Trainer, mixture  # noqa: TID252

TRAINED = Trainer(mixture(600, easy=0.2, hard=0.3)).train(60).state
SUMS = (
    "examined",
    "selected",
    "skipped_easy",
    "skipped_hard",
    "groups",
    "effective",
    "easy",
    "hard",
    "rollouts",
    "rounds",
)


def curves(state: RunState, after: int = -1, points: int = 300) -> Any:
    return json.loads(views.curves(state, after, points).body)


def selection_map(state: RunState, sort: str = "streak", limit: int = 256) -> Any:
    return json.loads(views.selection_map(state, sort, limit).body)


def why(state: RunState, prompt: str) -> Any:
    answer = why_kept.answer(state, prompt)
    assert answer is not None
    return json.loads(answer.body)


# Curves


@settings(max_examples=30)
@given(size=st.integers(0, 400), points=st.integers(10, 60), seed=st.integers(0, 99))
def test_points_are_sums_over_consecutive_steps(size: int, points: int, seed: int) -> None:
    dice = np.random.default_rng(seed)
    rows = np.zeros(size, STEP_ROW)
    rows["step"] = np.cumsum(dice.integers(1, 4, size))
    for name in (*SUMS, "p_easy", "p_hard"):
        rows[name] = dice.integers(0, 1000, size)
    state = run()
    state.steps = StepLog(rows)
    told = curves(state, points=points)
    each = told["steps_per_point"]
    assert len(told["step"]) <= points
    assert each == 1 or -(-size // (each - 1)) > points, "no more steps are summed than it takes"
    parts = [rows[start : start + each] for start in range(0, size, each)]
    for name in SUMS:
        assert told[name] == [int(part[name].sum()) for part in parts]
    for name in ("step", "p_easy", "p_hard"):
        assert told[name] == [part[name][-1] for part in parts]
    assert told["steps_in_last_point"] == (len(parts[-1]) if parts else 0)


def test_curves_go_on_behind_a_step() -> None:
    whole, rest = curves(TRAINED), curves(TRAINED, after=40)
    assert rest["step"] == list(range(41, 60))
    assert rest["groups"] == whole["groups"][41:]
    assert curves(TRAINED, after=59)["step"] == []


def test_sums_do_not_overflow_their_columns() -> None:
    rows = np.zeros(4, STEP_ROW)
    rows["step"], rows["rounds"] = np.arange(4), 2**31 - 1
    state = run()
    state.steps = StepLog(np.concatenate([rows] * 10))
    assert sum(curves(state, points=10)["rounds"]) == 40 * (2**31 - 1)


# The selection map


def test_the_map_tells_what_became_of_each_visit() -> None:
    state = run(train_batch_size=100, p_hard=0.05, p_easy=0.05)
    names = ["new", "effective", "easy", "hard", "single"]
    pool(state, names)
    rewards = {"effective": [0.0, 1.0], "easy": [1.0, 1.0], "hard": [0.0, 0.0], "single": [1.0]}
    report(state, 0, list(rewards.items()), final=True)
    for step in (1, 2):
        report(state, step, [], final=True)
        fold(state, [])
    skipped = {"easy": "", "hard": ""}
    for step in range(1, 9):
        answer = select(state, step, names)
        for name in skipped:
            if names.index(name) not in answer["selected"]:
                skipped[name] += "x" if name == "easy" else "y"
    told = {prompt["prompt"]: prompt for prompt in selection_map(state)["prompts"]}
    assert {name: told[name]["what"] for name in names} == {
        "new": "",
        "effective": "v",
        "easy": "e" + skipped["easy"],
        "hard": "h" + skipped["hard"],
        "single": "u",
    }
    assert len(skipped["easy"]) + len(skipped["hard"]) > 8
    assert told["effective"]["steps"] == [0]
    assert all(len(prompt["steps"]) == len(prompt["what"]) for prompt in told.values())
    assert told["new"]["mean"] is told["new"]["last_step"] is None


@pytest.mark.parametrize("sort", ["streak", "visits", "mean", "last_step"])
def test_the_map_is_sorted_and_cut(sort: str) -> None:
    told = selection_map(TRAINED, sort)
    assert told["sampled"] == 256 == len(told["prompts"])
    values = [prompt[sort] if prompt["visits"] else -1 for prompt in told["prompts"]]
    assert values == sorted(values, reverse=True) != values[::-1]
    assert selection_map(TRAINED, sort, 7)["prompts"] == told["prompts"][:7]


def test_the_map_by_kind_has_the_hard_ones_first_and_long_streaks_within() -> None:
    kinds = ["hard", "easy", "effective", "new"]
    keys = [(kinds.index(p["kind"]), -p["streak"]) for p in selection_map(TRAINED, "kind")["prompts"]]
    assert keys == sorted(keys)
    assert len(set(keys)) > 4


# Why


def test_why_says_what_a_select_decides_now_and_later() -> None:
    names = [f"set/{prompt}" for prompt in range(0, 600, 7)]
    step = why(TRAINED, names[0])["step"]
    assert step == 60
    ahead = {number: set(kept(TRAINED, number, names)) for number in range(step, step + 40)}
    skipped = 0
    for name in names:
        told = why(TRAINED, name)
        assert told["keep"] == (name in ahead[step]) == (told["draw"] < told["keep_probability"])
        first = next((number for number in ahead if name in ahead[number]), None)
        assert told["next_kept_step"] == first or (first is None and told["next_kept_step"] >= step + 40)
        skipped += not told["keep"]
    assert skipped > 5


def kept(state: RunState, step: int, names: list[str]) -> list[str]:
    """Who a select in this step would keep; nothing is folded."""
    question = state.question(step, state.table.find(Ids.of(names)))
    decided = policy.decide(question)
    return [name for name, keep in zip(names, decided.keep, strict=True) if keep]


@given(
    seed=st.integers(0, 2**63 - 1),
    steps=st.lists(st.integers(0, 2**53 - 1), max_size=5),
    name=st.text(min_size=1, max_size=9),
)
def test_draws_over_steps_are_those_of_each_step(seed: int, steps: list[int], name: str) -> None:
    hashes = Ids.of([name]).hashes
    for at_once, each in ((uniforms_by_step, uniforms), (audit_uniforms_by_step, audit_uniforms)):
        one_by_one = [float(each(hashes, seed, step)[0]) for step in steps]
        assert at_once(hashes[0], seed, np.array(steps, np.int64)).tolist() == one_by_one


def test_the_step_at_work() -> None:
    state = run(train_batch_size=4)
    pool(state, ["a"])
    assert why(state, "a")["step"] == 0
    select(state, 1, ["a"])  # a trainer that counts from 1
    assert why(state, "a")["step"] == 1
    report(state, 1, mixed(2, 1, 1))
    assert why(state, "a")["step"] == 1
    report(state, 1, [], final=True)
    assert why(state, "a")["step"] == 2
    select(state, 7, ["a"])
    assert why(state, "a")["step"] == 7


@pytest.mark.parametrize(
    ("spec", "groups", "sentence"),
    [
        ({}, [], "No group of it was judged yet, so it is kept in step 0, whatever its draw."),
        ({}, [[0, 1]], "Its last group was effective, so it is kept in step 1, whatever its draw."),
        ({"policy": "uniform"}, [[0, 0]], "The policy is uniform, which keeps every prompt: kept in step 1."),
        ({}, [[0, 0]], "Its last group taught nothing (not solved), so it is kept with probability 0.5; its draw"),
        ({}, [[0, 0]] * 3, "Its last 3 groups taught nothing (not solved the last time), so it is kept with probability"
         " 0.5^3 = 0.12; its draw for step 3 is"),
        ({}, [[0, 0], [1, 1]], "Its last 2 groups taught nothing (solved the last time), so it is kept with probability"
         " 0.5^2 = 0.25; its draw"),
        ({}, [[1, 1]] * 9, "is kept with probability 0.01, the floor min_keep_probability (0.5^9 is less); its draw"),
    ],
)  # fmt: skip
def test_sentences(spec: dict[str, Any], groups: list[list[float]], sentence: str) -> None:
    state = run(**{"exploration_step": 0.0} | spec)
    pool(state, ["a"])
    for step, rewards in enumerate(groups):
        report(state, step, [("a", rewards)], final=True)
    told = why(state, "a")
    assert sentence in told["sentence"]
    if not told["keep"]:
        assert told["sentence"].endswith(
            f"If nothing changes, step {told['next_kept_step']} is the next that keeps it."
        )


def test_a_prompt_that_nothing_keeps_has_no_next_step() -> None:
    state = run(min_keep_probability=0.0, exploration_bounds=[0.0, 0.0], p_hard=0.0, p_easy=0.0)
    report(state, 0, [("a", [0.0, 0.0])], final=True)
    told = why(state, "a")
    assert told["next_kept_step"] is None
    assert told["sentence"].endswith("skipped. If nothing changes, none of the next 1,000 steps keeps it.")


BAND = {"policy": "band", "group_size": 8}
RANKED = {"policy": "irt", "group_size": 4, "rollout_batch_size": 2, "exploration_share": 0.0, "rest_steps": 0}


@pytest.mark.parametrize(
    ("spec", "groups", "sentence", "keep"),
    [
        (BAND, [], "No group of it was reported yet, so it is kept in step 0, whatever its draw.", True),
        (BAND, [[0.0, 1.0]], "Its estimated pass rate 0.5 is inside pass_rate_band [0.1, 0.9], so it is kept in step 1,"
         " whatever its draw.", True),
        (BAND, [[1.0] * 40], "Its estimated pass rate 0.98 is outside of pass_rate_band [0.1, 0.9], so it is kept with"
         " probability 0.01; its draw for step 1 is", False),
        ({"audit_share": 1.0, "min_keep_probability": 0.0, "p_hard": 0.05}, [[0.0, 0.0]] * 3, "would skip it,"
         " but this step's audit takes it, to see what skips lose, so it is rolled out.", True),
        ({"shadow": True, "min_keep_probability": 0.0, "p_hard": 0.05}, [[0.0, 0.0]] * 3, "the policy would skip it,"
         " but the run is a shadow run, so it is rolled out.", True),
        ({"min_keep_probability": 1.0}, [[0.0, 0.0]], "Its last group taught nothing (not solved), but its keep"
         " probability is 1, so it is kept in step 1", True),
        (RANKED, [], "It was never rolled out. The model expects a pass rate of 0.", None),
        (RANKED, [[0.0, 1.0, 0.0, 1.0]], ". That is rank 1 of 9 prompts that step 1 ranks; its next draw takes the"
         " best 2: taken.", True),
        (RANKED, [[0.0] * 4] * 3, ". That is rank 9 of 9 prompts that step 3 ranks; its next draw takes the"
         " best 2: left out, unless the walk brings it.", False),
        (RANKED | {"exploration_share": 0.5}, [[0.0] * 4], "takes the best 1, and 1 more as the walk of the pool brings"
         " them: left out", False),
        (RANKED | {"shadow": True}, [[0.0] * 4], "but the run is a shadow run: draws walk the pool.", True),
        (RANKED | {"policy": "p_mixed"}, [[0.0, 1.0, 0.0, 1.0]], "By its own rewards a group is effective with"
         " probability 0.76, its score. That is rank 1 of 9", True),
        (RANKED | {"policy": "mopps"}, [[0.0, 1.0, 0.0, 1.0]], "A sample of what its pass rate may be, by its own"
         " rewards, scores ", None),
    ],
)  # fmt: skip
def test_sentences_of_other_policies(
    spec: dict[str, Any], groups: list[list[float]], sentence: str, keep: bool | None
) -> None:
    state = run(**{"exploration_step": 0.0} | spec)
    pool(state, ["a", *(f"other{number}" for number in range(8))])
    for step, rewards in enumerate(groups):
        report(state, step, [("a", rewards)], final=True)
    told = why(state, "a")
    assert sentence in told["sentence"]
    assert keep in (None, told["keep"])


def test_a_prompt_just_drawn_by_rank_is_left_alone_for_a_while() -> None:
    state = run(**RANKED, cooldown_steps=4)
    pool(state, ["a", "b", "c"])
    taken = draw(state, 0, 2)["prompts"]
    report(state, 0, [], final=True)
    told = why(state, taken[0])
    assert (told["keep"], told["rank"], told["ranked"], told["free_from"]) == (False, None, 1, 5)
    assert "It was drawn lately, so draws leave it alone until step 5." in told["sentence"]
    report(state, 4, [], final=True)
    told = why(state, taken[0])
    assert (told["step"], told["free_from"]) == (5, None)
    assert told["rank"] is not None


def test_of_candidates_that_are_not_known_yet_a_ranking_can_t_tell() -> None:
    state = run(**RANKED)
    report(state, 0, [("a", [0.0, 1.0, 0.0, 1.0])], final=True)
    told = why(state, "a")
    assert told["keep"] is told["rank"] is None
    assert told["sentence"].endswith("the best of the candidates that are offered with it are taken.")


@pytest.mark.parametrize("policy", ["irt", "mopps", "p_mixed"])
def test_the_rank_told_is_that_of_the_next_draw(policy: str) -> None:
    state = Trainer(mixture(200, 0.2, 0.3), {"policy": policy, "exploration_share": 0.1}).train(20).state
    names = [f"set/{prompt}" for prompt in range(200)]
    told = {name: why(state, name) for name in names}
    [step] = {each["step"] for each in told.values()}
    expected = sorted((each["rank"], name) for name, each in told.items() if each["rank"] is not None)
    assert [rank for rank, _ in expected] == list(range(1, len(expected) + 1))
    by_rank = [name for name in names if told[name]["keep"]]
    size = state.batch_size(step)
    assert len(by_rank) in {size - size // 10, size - size // 10 - 1}
    assert set(by_rank) <= set(draw(state, step)["prompts"])


def test_nobody_knows_why_of_a_stranger() -> None:
    assert why_kept.answer(TRAINED, "stranger") is None


# Search


@pytest.mark.parametrize("sort", ["streak", "mean"])
@pytest.mark.parametrize("kind", [None, "hard"])
def test_a_search_pages_through_what_it_finds(sort: str, kind: str | None) -> None:
    def listed(search: str, limit: int) -> list[Any]:
        found: list[Any] = []
        cursor: str | None = None
        while True:
            query = PromptQuery(kind, sort, limit, cursor, search)
            page = json.loads(answers.prompts(TRAINED, query).body)
            found += page["prompts"]
            cursor = page["cursor"]
            if cursor is None:
                return found

    whole = listed("", 1000)
    wanted = [prompt for prompt in whole if "/2" in prompt["prompt"]]
    assert 0 < len(wanted) < len(whole)
    assert listed("/2", 1000) == wanted
    assert listed("/2", 7) == wanted
    assert listed("no such id", 7) == []
