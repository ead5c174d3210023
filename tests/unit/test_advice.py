"""What people are told about a run: for each finding a run that has it and one that hasn't, and no cry of wolf."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greso_service.core.advice import IDLE, Advice, Signals, advise, headline, status
from greso_service.core.advice.words import LEVELS, percent
from greso_service.core.audit import AuditCounts, Found
from greso_service.core.spec import params
from greso_service.core.state import RunState

from ..folding import mixed, pool, report, run, select  # noqa: TID252
from ..simulated import Trainer, mixture, right_or_wrong  # noqa: TID252

USUAL = mixture(600, easy=0.2, hard=0.3)


def told(state: RunState, idle: float = 0.0) -> tuple[str, str, dict[str, Advice]]:
    """Status, headline and the advice by code."""
    signals = Signals.of("my-run", state, idle)
    found = advise(signals)
    word = status(signals, found)
    assert len({advice.code for advice in found}) == len(found)
    assert [LEVELS.index(advice.level) for advice in found] == sorted(LEVELS.index(advice.level) for advice in found)
    return word, headline(signals, word, found), {advice.code: advice for advice in found}


def healthy(steps: int = 60, **spec: Any) -> RunState:
    """A run as it should be."""
    return Trainer(USUAL, spec).train(steps).state


def with_bonus(solved: float, dice: random.Random) -> float:
    """A reward with a format bonus: an all-wrong group differs, too."""
    return right_or_wrong(solved, dice) + 0.1 * (dice.random() < 0.5)


def with_any_bonus(solved: float, dice: random.Random) -> float:
    """A reward with a bonus of its own for each response."""
    return right_or_wrong(solved, dice) + dice.uniform(0, 0.1)


def with_format(right: float) -> Callable[[float, random.Random], float]:
    """A reward of which a tenth is for the format, which is right so often."""
    return lambda solved, dice: 0.9 * right_or_wrong(solved, dice) + 0.1 * (dice.random() < right)


def shorter_is_better(solved: float, dice: random.Random) -> float:
    """A reward of which length takes some from what is right."""
    return right_or_wrong(solved, dice) * dice.uniform(0.8, 1)


def scored(solved: float, dice: random.Random) -> float:
    """What a reward model says."""
    return dice.gauss(solved, 1)


def halved(solved: float, dice: random.Random) -> float:
    """A reward on another scale than solved_reward."""
    return 0.5 * right_or_wrong(solved, dice)


def in_tenths(solved: float, dice: random.Random) -> float:
    """The share of ten tests that pass: several values, and nothing wrong with that."""
    return sum(dice.random() < solved for _ in range(10)) / 10


def anew(prompt: int, step: int) -> str:
    """An id that is another in each step."""
    return f"q{prompt}-step{step}"


def made_by_dice(_prompt: int, _step: int) -> str:
    """A random UUID."""
    return str(uuid.UUID(int=DICE.getrandbits(128), version=4))


def found(state: RunState, **kinds: Found) -> RunState:
    """The run with these audits."""
    state.audits = AuditCounts(**kinds)
    return state


def lately_learnt(**spec: Any) -> RunState:
    """A run in which all prompts that were never solved are solved half of the time at once, and seldom tried."""
    trainer = Trainer(USUAL, {"p_hard": 0.05, "exploration_step": 0.0} | spec).train(15)
    trainer.solved = [0.5] * 600
    return trainer.train(40).state


def ranked(solved: Sequence[float] = USUAL, steps: int = 60, policy: str = "irt", **spec: Any) -> RunState:
    """A run whose policy ranks its pool."""
    return Trainer(solved, {"policy": policy} | spec).train(steps).state


DICE = random.Random(5)
SMALL = {"rollout_batch_size": 40}

HAVE: list[tuple[str, str, Callable[[], RunState]]] = [
    ("no_reports", "problem", lambda: Trainer(USUAL, reports=False).train(12).state),
    ("no_reports", "problem", lambda: Trainer(USUAL, {"group_size": 1}, rounds=1).train(12).state),
    ("no_reports", "warning", lambda: ahead(healthy(30), 9)),
    ("no_reports", "problem", lambda: ahead(healthy(30), 31)),
    ("no_selections", "problem", lambda: Trainer(USUAL, asks=False).train(12).state),
    ("skips_ignored", "problem", lambda: Trainer(USUAL, draws=False, heeds=False).train(40).state),
    ("ids_never_repeat", "problem", lambda: Trainer(USUAL, draws=False, named=anew).train(20).state),
    ("ids_never_repeat", "problem", lambda: Trainer(USUAL, named=lambda prompt, _: f"q{prompt}").train(12).state),
    ("ids_never_repeat", "hint", lambda: Trainer(USUAL, draws=False, named=made_by_dice).train(20).state),
    ("ids_all_the_same", "problem", lambda: Trainer(USUAL, draws=False, named=lambda *_: "gsm8k").train(12).state),
    ("shaped_rewards", "problem", lambda: Trainer(USUAL, reward=with_bonus).train(30).state),
    ("shaped_rewards", "problem", lambda: Trainer(USUAL, reward=with_format(0.8)).train(60).state),
    ("shaped_rewards", "problem", lambda: Trainer(USUAL, reward=with_format(0.8)).train(120).state),
    ("shaped_rewards", "warning", lambda: Trainer(USUAL, reward=with_format(0.95)).train(60).state),
    ("shaped_rewards", "problem", lambda: Trainer(mixture(600, 0, 0), reward=with_any_bonus).train(20).state),
    ("shaped_rewards", "warning", lambda: Trainer(USUAL, reward=shorter_is_better).train(40).state),
    ("shaped_rewards", "warning", lambda: Trainer(USUAL, reward=scored).train(20).state),
    ("shaped_rewards", "hint", lambda: Trainer([0.5] * 600, reward=in_tenths).train(20).state),
    ("nothing_solved", "problem", lambda: Trainer(mixture(600, 0, 1)).train(12).state),
    ("nothing_solved", "warning", lambda: Trainer(USUAL, reward=halved).train(20).state),
    ("policy_uniform", "hint", lambda: Trainer(USUAL, {"policy": "uniform"}).train(20).state),
    ("first_epoch", "hint", lambda: Trainer(USUAL).train(3).state),
    ("nothing_to_skip", "hint", lambda: Trainer(mixture(600, 0.01, 0.01)).train(60).state),
    ("target_missed_easy", "hint", lambda: Trainer(mixture(600, 0.7, 0), rounds=2).train(15).state),
    ("target_missed_hard", "hint", lambda: Trainer(mixture(600, 0, 0.7), rounds=2).train(15).state),
    (
        "target_missed_hard",
        "warning",
        lambda: Trainer(mixture(600, 0.0, 0.5), {"exploration_step": 0.001}).train(25).state,
    ),
    (
        "target_missed_hard",
        "warning",
        lambda: Trainer(mixture(600, 0.0, 0.5), {"exploration_step": 0, "p_hard": 0.9}).train(25).state,
    ),
    ("at_low_bound_easy", "hint", lambda: Trainer([0.87] * 900, {"p_easy": 0.05}).train(32).state),
    ("at_low_bound_hard", "hint", lambda: Trainer([0.12] * 900, {"p_hard": 0.05}).train(32).state),
    ("at_high_bound_easy", "warning", lambda: healthy(90, target_zero_variance=0.9, easy_share=0.5)),
    ("at_high_bound_hard", "warning", lambda: healthy(90, target_zero_variance=0.9, easy_share=0.5)),
    ("pool_exhausted", "warning", lambda: Trainer([0.95] * 150).train(20).state),
    ("short_steps", "warning", lambda: Trainer(USUAL, SMALL, rounds=1).train(20).state),
    ("saving", "good", healthy),
    ("filtering", "hint", lambda: Trainer([0.93] * 200).train(20).state),
    ("large_rounds", "hint", healthy),
    ("false_skips_hard", "hint", lambda: found(run(), hard=Found(200, 120, 1600), kept=Found(900, 700, 7200))),
    ("false_skips_hard", "warning", lambda: found(run(), hard=Found(200, 190, 1600), kept=Found(900, 700, 7200))),
    ("false_skips_easy", "hint", lambda: found(run(), easy=Found(200, 120, 1600), kept=Found(900, 700, 7200))),
    ("false_skips_hard", "hint", lambda: lately_learnt(audit_share=0.2)),
    ("false_skips_easy", "hint", lambda: lately_learnt(policy="band", audit_share=0.5, pass_rate_band=[0.2, 0.3])),
    ("false_skips_hard", "hint", lambda: lately_learnt(shadow=True)),
    ("ranking_misses", "warning", lambda: found(run(policy="irt"), hard=Found(200, 140, 0), kept=Found(900, 300, 0))),
    ("not_audited", "hint", lambda: Trainer(mixture(600, 0.3, 0.4), {"p_easy": 0.1, "p_hard": 0.1}).train(50).state),
    ("not_audited", "hint", lambda: ranked(exploration_share=0.0)),
    ("shadow", "hint", lambda: healthy(shadow=True)),
    ("shadow", "hint", lambda: ranked(shadow=True)),
    ("shadow", "hint", lambda: run(shadow=True)),
    ("saving", "good", ranked),
    ("filtering", "hint", lambda: ranked([0.5] * 600, 30)),
    ("first_epoch", "hint", lambda: ranked(steps=3)),
    ("pool_exhausted", "warning", lambda: ranked(mixture(600, 0.5, 0.48), 30)),
    ("never_drawn", "warning", lambda: divided({"calm": 1.0})),
    ("quota_not_met", "hint", lambda: divided({"calm": 0.5}, [1.0] * 60 + [0.5] * 540, calm=60)),
]


@pytest.mark.parametrize(("code", "level", "state"), HAVE, ids=[f"{code}-{level}" for code, level, _ in HAVE])
def test_a_run_that_has_it(code: str, level: str, state: Callable[[], RunState]) -> None:
    _, _, advice = told(state())
    assert code in advice, f"only {list(advice)}"
    found = advice[code]
    assert found.level == level
    assert found.title
    assert found.title[-1] != "."
    assert found.detail
    assert "nan" not in found.detail
    assert "inf" not in found.detail.split()
    if level in {"problem", "warning"}:
        assert found.change


@pytest.mark.parametrize("code", sorted({code for code, _, _ in HAVE} - {"saving", "large_rounds", "not_audited"}))
def test_a_healthy_run_has_it_not(code: str) -> None:
    assert code not in told(HEALTHY)[2]


def divided(quota: dict[str, float], solved: Sequence[float] = USUAL, calm: int = 40) -> RunState:
    """A run whose first prompts are of domain calm, and the others of busy."""
    trainer = Trainer(solved, {"domains": {name: {"quota": each} for name, each in quota.items()}})
    names = [f"set/{number}" for number in range(len(solved))]
    pool(trainer.state, names, domains=["calm"] * calm + ["busy"] * (len(solved) - calm))
    return trainer.train(30).state


def different() -> RunState:
    """One domain may keep nearly all easy groups, one none: the run's own pair is at its bound, and neither's is."""
    trainer = Trainer(
        USUAL, {"domains": {"calm": {"target_zero_variance": 0.95}, "busy": {"target_zero_variance": 0.0}}}
    )
    names = [f"set/{number}" for number in range(len(USUAL))]
    pool(trainer.state, names, domains=["calm", "busy"] * (len(USUAL) // 2))
    return trainer.train(50).state


HEALTHY = healthy()

QUIET: list[tuple[str, Callable[[], RunState]]] = [
    ("an asynchronous trainer selects ahead of its reports", lambda: ahead(healthy(30), 8)),
    ("rewards of -1 and 1", lambda: Trainer(USUAL, reward=lambda *how: 2 * right_or_wrong(*how) - 1).train(60).state),
    ("a share of tests passed", lambda: Trainer([i / 599 for i in range(600)], reward=in_tenths).train(60).state),
    ("a trainer that brings its candidates", lambda: Trainer(USUAL, draws=False).train(60).state),
    ("six prompts", lambda: Trainer(mixture(6, 0.3, 0.3)).train(20).state),
    ("no filter, and nobody asks", lambda: Trainer(USUAL, {"policy": "uniform"}, asks=False).train(20).state),
    ("ids with numbers in them", lambda: Trainer(USUAL, draws=False, named=lambda p, _: f"d{p}").train(8).state),
    ("mostly easy", lambda: Trainer(mixture(2000, 0.7, 0.1)).train(60).state),
    ("mostly hard", lambda: Trainer(mixture(2000, 0.1, 0.7)).train(60).state),
    ("a ranking of the pool", ranked),
    ("another ranking of the pool", lambda: ranked(policy="mopps")),
    ("a ranking of a small pool", lambda: ranked(mixture(100, 0.2, 0.3))),
    ("a ranking of a pool of one sort", lambda: ranked([0.3] * 600)),
    ("a ranking of candidates", lambda: Trainer(USUAL, {"policy": "irt"}, draws=False).train(60).state),
    ("a ranking that begins", lambda: Trainer(USUAL, {"policy": "p_mixed"}, draws=False).train(9).state),
    ("a ranking in shadow", lambda: ranked(shadow=True)),
    ("a ranking without a walk", lambda: ranked(exploration_share=0.0)),
    ("a band", lambda: healthy(policy="band")),
    ("a shadow run", lambda: healthy(shadow=True)),
    ("audits", lambda: healthy(audit_share=0.1)),
    ("domains that want different things", different),
]  # fmt: skip


def ahead(state: RunState, steps: int) -> RunState:
    """The run with so many further steps selected for."""
    for step in range(steps):
        select(state, state.progress.step + 1 + step, ["set/1", f"new/{step}"])
    return state


@pytest.mark.parametrize(("state"), [state for _, state in QUIET], ids=[name for name, _ in QUIET])
def test_no_wolf_is_cried(state: Callable[[], RunState]) -> None:
    _, _, advice = told(state())
    assert not [found for found in advice.values() if found.level in {"problem", "warning"}]


@settings(max_examples=6)
@given(
    seed=st.integers(0, 1000),
    easy=st.floats(0.05, 0.4),
    hard=st.floats(0.05, 0.4),
    middle=st.floats(0.4, 0.6),
    draws=st.booleans(),
    policy=st.sampled_from(["greso", "greso", "band", "irt", "mopps"]),
)
def test_no_healthy_run_is_told_of_a_problem_in_any_step(
    seed: int, easy: float, hard: float, middle: float, draws: bool, policy: str
) -> None:
    trainer = Trainer(mixture(500, easy, hard, middle), {"seed": seed, "policy": policy}, draws=draws)
    for _ in range(20):
        word, _, advice = told(trainer.train(3).state)
        assert word in {"learning", "filtering", "saving"}
        assert {found.level for found in advice.values()} <= {"hint", "good"}, advice


def test_a_handful_of_steps_is_no_ground_for_anything() -> None:
    for groups in (mixed(0, 0, 8), mixed(8, 0, 0), mixed(0, 8, 0)):
        state = run()
        for step in range(5):
            report(state, step, groups, final=True)
            assert not {found.level for found in told(state)[2].values()} & {"problem", "warning"}


@pytest.mark.parametrize(
    ("state", "code", "change"),
    [
        (lambda: healthy(90, target_zero_variance=0.9, easy_share=0.5), "at_high_bound_hard", "target_zero_variance"),
        (lambda: Trainer(USUAL, SMALL, rounds=1).train(20).state, "short_steps", "rollout_batch_size"),
        (lambda: Trainer(USUAL, reward=with_bonus).train(30).state, "shaped_rewards", "reward_tolerance"),
        (lambda: Trainer(USUAL, reward=halved).train(20).state, "nothing_solved", "solved_reward"),
        (lambda: Trainer(USUAL, {"policy": "uniform"}).train(20).state, "policy_uniform", "policy"),
        (lambda: lately_learnt(audit_share=0.2), "false_skips_hard", "target_zero_variance"),
        (lambda: lately_learnt(policy="band", audit_share=0.5, pass_rate_band=[0.2, 0.3]), "false_skips_easy",
         "pass_rate_band"),
        (lambda: healthy(shadow=True), "shadow", "shadow"),
        (lambda: ranked(exploration_share=0.0), "not_audited", "exploration_share"),
        (lambda: Trainer(mixture(600, 0.3, 0.4), {"p_easy": 0.1, "p_hard": 0.1}).train(50).state, "not_audited",
         "audit_share"),
    ],
)  # fmt: skip
def test_what_to_change_can_be_sent_as_it_stands(state: Callable[[], RunState], code: str, change: str) -> None:
    found = state()
    text = told(found)[2][code].change
    before, _, body = text.partition("PATCH /v1/runs/my-run ")
    fields = json.loads(body)
    assert change in fields
    assert fields.keys() <= params().keys()
    for name in fields:
        assert f"{name} to" in before
    assert found.spec.changed(fields) != found.spec


def test_a_target_taken_from_the_advice_saves_more() -> None:
    trainer = Trainer(USUAL, {"target_zero_variance": 0.9, "easy_share": 0.5}).train(90)
    before, _, advice = told(trainer.state)
    rate = Signals.of("my-run", trainer.state, 0).recent.skip_rate
    changes = json.loads(advice["at_high_bound_hard"].change.partition("PATCH /v1/runs/my-run ")[2])
    trainer.state.spec = trainer.state.spec.changed(changes)
    trainer.train(90)
    after = Signals.of("my-run", trainer.state, 0).recent.skip_rate
    assert before in {"filtering", "saving", "stuck"}
    assert rate is not None
    assert after is not None
    assert after > 2 * rate
    assert told(trainer.state)[0] == "saving"


def test_a_first_epoch_without_a_pool_can_be_compared_with_the_data_set() -> None:
    state = Trainer(mixture(20_000, 0.2, 0.3), draws=False).train(12).state
    detail = told(state)[2]["first_epoch"].detail
    assert f"In 12 steps hardly any of {Signals.of('my-run', state, 0).distinct:,} ids has come twice." in detail
    assert "come twice" not in told(Trainer(USUAL).train(3).state)[2]["first_epoch"].detail


# Status and headline


def test_a_run_nobody_used_waits() -> None:
    assert told(run())[:2] == ("idle", "Nothing has happened yet: waiting for the first step.")


def test_a_run_not_written_to_is_idle_whatever_it_was() -> None:
    assert told(HEALTHY, IDLE - 1)[0] == "saving"
    word, text, advice = told(HEALTHY, 3 * IDLE)
    assert (word, text[:22]) == ("idle", "No write for 3 hours: ")
    assert advice, "what is to be known of it stays"


@pytest.mark.parametrize(
    ("state", "word", "text"),
    [
        (lambda: Trainer(USUAL).train(3).state, "learning", "First epoch: nothing can be skipped yet."),
        (lambda: Trainer(USUAL, {"policy": "uniform"}).train(12).state, "off", "The filter is off"),
        (lambda: Trainer([0.5] * 3000, SMALL, rounds=1).train(12).state, "learning", "First epoch: nothing can be"),
        (
            lambda: Trainer(mixture(300, 0.02, 0.04), SMALL | {"train_batch_size": 64}, rounds=1).train(20).state,
            "stuck",
            "Steps train on",
        ),
        (lambda: Trainer(USUAL, asks=False).train(12).state, "stuck", "Nobody asks which prompts to roll out."),
        (lambda: HEALTHY, "saving", "of the groups teach ("),
        (ranked, "saving", "Takes the best prompts; "),
        (lambda: ranked(steps=3), "learning", "The ranking is still getting to know the prompts."),
        (lambda: ranked(steps=9), "learning", "Ranks the prompts; "),
        (
            lambda: healthy(shadow=True),
            "off",
            "Shadow mode: everything is rolled out; policy greso would have skipped ",
        ),
        (lambda: run(shadow=True), "idle", "Nothing has happened yet"),
        (lambda: healthy(3, shadow=True), "off", "Shadow mode: everything is rolled out."),
        (lambda: healthy(30, policy="band"), "saving", "Skips "),
    ],
)
def test_status_and_headline(state: Callable[[], RunState], word: str, text: str) -> None:
    found = told(state())
    assert found[0] == word
    assert text in found[1]


# Words


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0 %"), (0.004, "0.4 %"), (0.0833, "8.3 %"), (0.0999, "10 %"), (0.384, "38 %"), (1, "100 %")],
)
def test_shares_for_people(share: float, text: str) -> None:
    assert percent(share) == text
