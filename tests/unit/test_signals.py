"""The figures that advice is made from: sums over the steps they say, and the latest group of each prompt."""

from __future__ import annotations

import numpy as np

from greso_service.core.advice import Signals
from greso_service.core.advice.signals import WINDOW
from greso_service.core.outcome import Outcome

from ..folding import mixed, report, run  # noqa: TID252
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


def test_lately_is_the_last_group_of_each_prompt_and_the_one_before() -> None:
    state = run(train_batch_size=100)
    report(state, 0, [("a", [0.0, 0.0]), ("b", [1.0, 1.0]), ("c", [])], final=True)
    report(state, 1, [("a", [0.0, 0.5]), ("d", [1.0, 1.0]), ("d", [0.0, 0.0])], final=True)
    lately = Signals.of("my-run", state, 0).lately
    assert state.table.texts(lately.index.tolist()) == ["a", "b", "c", "d"]
    assert lately.high[:2].tolist() == [0.5, 1.0]
    assert np.isnan(lately.high[2])
    assert lately.outcome.tolist() == [Outcome.EFFECTIVE, Outcome.EASY, Outcome.UNDETERMINED, Outcome.HARD]
    assert lately.before.tolist() == [Outcome.HARD, Outcome.UNDETERMINED, Outcome.UNDETERMINED, Outcome.EASY]
