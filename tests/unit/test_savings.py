"""What a run is said to have saved: an estimate that can be told from the steps, never above the upper one."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from greso_service.core.advice import Signals, advise, headline, savings, status
from greso_service.core.advice.words import short
from greso_service.core.state import RunState
from greso_service.core.steps import STEP_ROW, StepLog

from ..folding import report, run, select  # noqa: TID252
from ..simulated import Trainer, mixture, right_or_wrong  # noqa: TID252

USUAL = mixture(600, easy=0.2, hard=0.3)
GROUP = 8


def told(state: RunState) -> tuple[str, str, list[str]]:
    """Status, headline, codes."""
    signals = Signals.of("my-run", state, 0.0)
    found = advise(signals)
    word = status(signals, found)
    return word, headline(signals, word, found), [one.code for one in found]


def saved(state: RunState) -> int | None:
    return savings.estimate(Signals.of("my-run", state, 0.0))


def state_of(*steps: dict[str, int], **spec: Any) -> RunState:
    """A run with these complete steps; rollouts are those of the groups."""
    state = run(**{"group_size": GROUP} | spec)
    rows = np.zeros(len(steps), STEP_ROW)
    for place, step in enumerate(steps):
        rows[place]["step"] = place
        for name, value in ({"rollouts": GROUP * step["groups"]} | step).items():
            rows[place][name] = value
            if hasattr(state.totals, name):
                setattr(state.totals, name, getattr(state.totals, name) + value)
    report(state, len(steps), [], final=True)
    state.steps = StepLog(rows)
    return state


FIRST = {"examined": 100, "groups": 100, "effective": 50}


def test_the_estimate_is_effective_groups_times_what_each_costs_less() -> None:
    # 16 responses each at the start; then 8/0.8 = 10 and 8/0.625 = 12.8.
    later = [
        {"examined": 200, "skipped_hard": 100, "groups": 100, "effective": 80},
        {"examined": 200, "skipped_easy": 40, "groups": 160, "effective": 100},
    ]
    assert saved(state_of(FIRST, *later)) == 80 * (16 - 10) + round(100 * (16 - 12.8))


def test_steps_that_cost_more_count_against_it_and_it_is_never_below_zero() -> None:
    good = {"examined": 200, "skipped_hard": 100, "groups": 100, "effective": 80}
    bad = {"examined": 200, "skipped_hard": 100, "groups": 100, "effective": 40}
    assert saved(state_of(FIRST, good, bad)) == 80 * 6 - 40 * 4
    assert saved(state_of(FIRST, bad)) == 0


def test_it_is_never_above_the_upper_estimate() -> None:
    few = {"examined": 101, "skipped_hard": 1, "groups": 100, "effective": 100}
    assert saved(state_of(FIRST, few)) == GROUP


def test_steps_without_skips_and_a_step_at_work_do_not_count() -> None:
    better = {"examined": 100, "groups": 100, "effective": 90}
    skipping = {"examined": 200, "skipped_hard": 100, "groups": 100, "effective": 80}
    # The steps before anything is skipped are all of the start, the better ones, too.
    assert saved(state_of(FIRST, skipping, better)) == 80 * 6
    state = state_of(FIRST, skipping)
    state.progress = replace(state.progress, step=1, complete=False)
    assert saved(state) == 0


def test_without_a_start_to_compare_with_there_is_no_estimate() -> None:
    assert saved(run()) == 0, "nothing was skipped"
    nothing = {"examined": 100, "groups": 100, "effective": 0, "hard": 100}
    skipping = {"examined": 200, "skipped_hard": 100, "groups": 100, "effective": 80}
    assert saved(state_of(nothing, skipping)) is None
    assert saved(state_of(skipping)) is None


@pytest.mark.parametrize(
    "change", [{"reward_tolerance": 0.1}, {"solved_reward": 0.9}, {"easy_min_mean": 0.9}, {"hard_max_mean": 0.1}]
)
def test_a_start_that_was_judged_by_other_parameters_is_none(change: dict[str, float]) -> None:
    state = Trainer(USUAL).train(60).state
    assert saved(state)
    state.spec = state.spec.changed(change)
    assert saved(state) is None
    word, text, _ = told(state)
    assert word == "filtering"
    assert "at the unfiltered start" not in text
    assert "no unfiltered start to compare with" in text


def test_a_run_that_earns_more_saves_and_says_what_that_rests_on() -> None:
    state = Trainer(USUAL).train(60).state
    word, text, codes = told(state)
    assert word == "saving"
    assert "saving" in codes
    assert f": about {short(saved(state) or 0)} rollouts saved, if the model were unchanged" in text
    [advice] = [one for one in advise(Signals.of("my-run", state, 0.0)) if one.code == "saving"]
    assert savings.CAVEAT in advice.detail


def solved_by_now(each: float) -> Callable[[float, random.Random], float]:
    """A model that gets better with each response."""
    responses = 0

    def reward(solved: float, dice: random.Random) -> float:
        nonlocal responses
        responses += 1
        return right_or_wrong(min(1.0, solved + each * responses), dice)

    return reward


@pytest.mark.slow
def test_a_run_that_learns_nothing_any_more_saves_nothing() -> None:
    trainer = Trainer(mixture(600, 0.2, 0.1, 0.4), reward=solved_by_now(1 / 40_000)).train(60)
    assert told(trainer.state)[0] == "filtering", "it skips, and a rollout earns no more than at the start"
    word, text, codes = told(trainer.train(100).state)
    assert (word, text) == ("stuck", "Few prompts are left that teach.")
    assert not {"saving", "filtering"} & set(codes)


def test_a_warning_is_not_hidden_by_a_good_word() -> None:
    reward = lambda solved, dice: 0.9 * right_or_wrong(solved, dice) + 0.1 * (dice.random() < 0.95)  # noqa: E731
    word, text, _ = told(Trainer(USUAL, reward=reward).train(60).state)
    assert word == "saving"
    assert text.endswith(". But: the rewards look shaped.")


def test_a_trainer_that_selects_an_epoch_ahead_is_not_stuck() -> None:
    state, dice = run(train_batch_size=8, rollout_batch_size=16, group_size=4), random.Random(1)
    for epoch in range(3):
        steps = range(30 * epoch, 30 * epoch + 30)
        for step in steps:
            select(state, step, [f"p{16 * (step % 30) + place}" for place in range(16)])
        if epoch:
            word, _, codes = told(state)
            assert "no_reports" in codes, "it is told, as a warning"
            assert word == "learning"
        for step in steps:
            names = [f"p{16 * (step % 30) + place}" for place in range(16)]
            report(state, step, [(name, [float(dice.random() < 0.5) for _ in range(4)]) for name in names], final=True)


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (999, "999"), (1000, "1.0k"), (32_400, "32k"), (1_400_000, "1.4M"), (11_404_768, "11M")],
)
def test_counts_for_people(number: int, text: str) -> None:
    assert short(number) == text
