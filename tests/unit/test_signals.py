"""The figures that advice is made from: sums over the steps they say, and the latest group of each prompt."""

from __future__ import annotations

import numpy as np
import pytest

from greso_service.core.advice import Signals, savings
from greso_service.core.advice.signals import WINDOW
from greso_service.core.outcome import Outcome
from greso_service.core.recent import RECENT

from ..folding import draw, mixed, pool, rates, report, run  # noqa: TID252
from ..simulated import Trainer, mixture  # noqa: TID252


def test_recent_and_first_are_the_steps_they_say() -> None:
    trainer = Trainer(mixture(600, easy=0.2, hard=0.3)).train(80)
    rows, signals = trainer.state.steps.rows, Signals.of("my-run", trainer.state, 0)
    judged = rows[rows["groups"] > 0]
    assert signals.recent.rows["step"].tolist() == judged["step"][-WINDOW:].tolist()
    untouched = np.cumsum(judged["skipped_easy"] + judged["skipped_hard"]) == 0
    assert signals.first.rows["step"].tolist() == judged["step"][untouched].tolist() != []
    assert signals.first.skip_rate == 0
    last = judged[-WINDOW:]
    skipped = last["skipped_easy"].sum() + last["skipped_hard"].sum()
    assert signals.recent.skip_rate == skipped / last["examined"].sum()
    assert signals.recent.effective == last["effective"].sum() / last["groups"].sum()
    assert signals.recent.zero_variance("easy") == last["easy"].sum() / last["groups"].sum()
    assert signals.recent.rounds == last["rounds"].mean()


def test_the_step_at_work_is_not_among_the_recent() -> None:
    state = run(train_batch_size=4)
    report(state, 0, mixed(2, 1, 1), final=True)
    report(state, 1, mixed(2, 1, 1))
    assert Signals.of("my-run", state, 0).recent.rows["step"].tolist() == [0]
    report(state, 1, mixed(2, 0, 0))
    assert Signals.of("my-run", state, 0).recent.rows["step"].tolist() == [0, 1]


def test_lately_is_the_last_group_of_each_prompt() -> None:
    state = run(train_batch_size=100)
    report(state, 0, [("a", [0.0, 0.0]), ("b", [1.0, 1.0]), ("c", [])], final=True)
    report(state, 1, [("a", [0.0, 0.5]), ("d", [1.0, 1.0]), ("d", [0.0, 0.0])], final=True)
    lately = Signals.of("my-run", state, 0).lately
    assert state.table.texts(lately.index.tolist()) == ["a", "b", "c", "d"]
    assert lately.high[:2].tolist() == [0.5, 1.0]
    assert np.isnan(lately.high[2])
    assert lately.outcome.tolist() == [Outcome.EFFECTIVE, Outcome.EASY, Outcome.UNDETERMINED, Outcome.HARD]
    assert lately.again.tolist() == [Outcome.EFFECTIVE, Outcome.HARD]


def test_tried_again_counts_groups_so_that_prompts_found_again_stay_in() -> None:
    state = run(train_batch_size=100)
    none, some = [0.0, 0.0], [0.0, 1.0]
    for step, (found, hard) in enumerate([(none, none), (some, none), (some, none), (some, none)]):
        report(state, step, [("found", found), ("hard", hard), ("new" if step < 3 else "found", some)], final=True)
    again = Signals.of("my-run", state, 0).lately.again
    assert sorted(again.tolist()) == [Outcome.EFFECTIVE, *[Outcome.HARD] * 3]


def test_tried_again_is_of_the_recent_steps_and_the_groups_that_a_prompt_keeps() -> None:
    state = run(train_batch_size=100)
    for step in range(WINDOW + 3):
        groups = [("always", [0.0, float(step % 2)])] + [("early", [0.0, 0.0])] * (step < 2)
        report(state, step, groups, final=True)
    again = Signals.of("my-run", state, 0).lately.again
    kept = range(WINDOW + 3 - RECENT + 1, WINDOW + 3)
    assert sorted(again.tolist()) == [Outcome.EFFECTIVE] * sum(step % 2 for step in kept)
    report(state, WINDOW + 3, [("early", [0.0, 1.0])], final=True)
    assert Signals.of("my-run", state, 0).lately.again.size == again.size + 1


@pytest.mark.parametrize(
    ("policy", "told_in", "unranked"),
    [
        ("mopps", None, [0, 1, 2]),
        ("irt", 0, []),
        ("mopps", 2, [0, 1]),
        ("mopps", 5, [0, 1, 2]),
        ("greso", 0, list(range(6))),
    ],
)
def test_a_ranking_that_was_told_pass_rates_could_choose(policy: str, told_in: int | None, unranked: list[int]) -> None:
    state = run(policy=policy, train_batch_size=4, cooldown_steps=2)
    prompts = [f"p{number}" for number in range(80)]
    pool(state, prompts)
    for step in range(6):
        if step == told_in:
            pool(state, [f"new{number}" for number in range(40)], rates([0.5] * 40))
        report(state, step, [(prompt, [0.0, 1.0]) for prompt in draw(state, step, 8)["prompts"]], final=True)
    signals = Signals.of("my-run", state, 0)
    assert signals.first.rows["step"].tolist() == unranked
    if not unranked:
        assert savings.estimate(signals) is None


def test_pass_rates_that_came_too_late_to_count_leave_the_start_as_it_was() -> None:
    state = run(policy="mopps")
    report(state, 0, [("seen", [0.0, 1.0])])
    pool(state, ["seen"], rates([0.5]))
    assert state.told_from is None
