"""Judging: policies are asked as the service asks them, know what they would have known, and are counted right."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from greso_service.core.draws import Ids
from greso_service.core.events import Joined, Pooled, Priors, Reported
from greso_service.core.outcome import Rewards
from greso_service.core.policy import RANKINGS
from greso_service.core.prompts import PromptTable
from greso_service.core.spec import POLICIES, RunSpec
from greso_service.whatif.calibrate import Score, calibrated
from greso_service.whatif.judge import AsMany, Judged, Share, replayed
from greso_service.whatif.log import Log, LogError, Sums, observe
from greso_service.whatif.result import Contender, Result, result

from ..folding import report, run, select  # noqa: TID252
from ..simulated import Trainer, mixture  # noqa: TID252

Row = tuple[int, str, Sequence[float]]

STRICT: dict[str, Any] = {"p_easy": 0.0, "p_hard": 0.0, "exploration_bounds": (0.0, 0.0), "min_keep_probability": 0.0}
"""Of greso: a prompt whose last group taught nothing is skipped, whatever its draw."""


def log_of(rows: Sequence[Row]) -> Log:
    table = PromptTable()
    steps = []
    for number in sorted({step for step, _, _ in rows}):
        mine = [(name, rewards) for step, name, rewards in rows if step == number]
        index, new = table.plan(Ids.of([name for name, _ in mine]))
        table.add(Ids.of_bytes(new))
        steps.append(Reported(number, True, new, index, Rewards.of([rewards for _, rewards in mine])))
    return Log("test", steps, {})


def judged(rows: Sequence[Row], keep: float = 0.5, **spec: Any) -> Judged:
    log = log_of(rows)
    made = RunSpec.of(spec)
    return replayed(log, observe(log, made), made, Share(keep))


def results(rows: Sequence[Row], *policies: str, keep: float | None = None, **spec: Any) -> Result:
    base = RunSpec.of(spec)
    contenders = [Contender(name, base.changed({"policy": name})) for name in policies or POLICIES]
    return result(log_of(rows), base, contenders, keep)


EASY, HARD, BOTH = [1.0, 1.0], [0.0, 0.0], [0.0, 1.0]
THREE_STEPS: list[Row] = [
    (0, "a", EASY), (0, "b", BOTH), (0, "c", HARD),
    (1, "a", BOTH), (1, "b", EASY), (1, "c", HARD),
    (2, "a", EASY), (2, "b", BOTH), (2, "c", BOTH),
]  # fmt: skip


def test_a_policy_knows_only_what_it_would_have_seen() -> None:
    # a and c are skipped after step 0 for good: that a was effective in step 1, it would never have learnt.
    found = judged(THREE_STEPS, **STRICT)
    assert (found.kept, found.rollouts, found.effective, found.lost) == (4, 8, 1, 3)
    assert (found.skipped_easy, found.skipped_hard, found.again) == (3, 2, [0, 1, 0])


def test_exploration_is_steered_by_the_groups_that_were_kept() -> None:
    # Kept in step 1 is b alone, easy: more than the target, so p_easy goes down, and p_hard up.
    found = judged(THREE_STEPS[:6], **{**STRICT, "exploration_bounds": (0.0, 0.5), "p_easy": 0.02, "seed": 3})
    assert (found.kept, found.skipped_easy, found.skipped_hard) == (4, 1, 1)
    assert (found.exploration.easy, found.exploration.hard) == (0.01, 0.01)


def test_uniform_keeps_all() -> None:
    found = judged(THREE_STEPS, policy="uniform")
    assert (found.kept, found.rollouts, found.effective, found.lost, found.skipped) == (9, 18, 4, 0, 0)


def test_a_band_keeps_what_lies_inside() -> None:
    # After one group of two: Beta means 3/4, 1/2 and 1/4.
    spec: dict[str, Any] = {"policy": "band", "pass_rate_band": (0.4, 0.6), "min_keep_probability": 0.0}
    found = judged(THREE_STEPS[:6], **spec)
    assert (found.kept, found.skipped_easy, found.skipped_hard, found.lost) == (4, 1, 1, 1)


def test_a_ranking_keeps_the_best_of_each_step() -> None:
    # One of three in step 1: b, which looks even. It was solved then, so it looks no better than a or c in step 2.
    found = judged(THREE_STEPS[:6], keep=0.34, policy="p_mixed", group_size=2)
    assert (found.kept, found.effective, found.lost, found.again) == (4, 1, 1, [0, 1])
    assert found.ranked is not None
    assert found.ranked.sum(axis=0).tolist() == [6, 1]
    assert found.ranked[8].tolist() == [2, 0], "the first of three stands at 1/6 of the order"


def test_a_share_is_kept_over_the_steps_and_not_in_each() -> None:
    quota = Share(0.3)
    assert [quota(step, 1) for step in range(10)] == [0, 1, 0, 0, 1, 0, 0, 0, 1, 0]
    assert Share(1.0)(0, 7) == 7
    assert Share(0.0)(0, 7) == 0
    assert [AsMany([3, 0])(step, 2) for step in range(2)] == [2, 0]


rows_of_logs = st.lists(
    st.tuples(st.integers(0, 6), st.sampled_from("abcdefgh"), st.lists(st.sampled_from([0.0, 0.5, 1.0]), max_size=4)),
    min_size=1,
    max_size=40,
)


@given(rows_of_logs, st.sampled_from(POLICIES), st.integers(0, 5), st.integers(0, 3))
def test_decisions_are_those_of_the_service(rows: list[Row], policy: str, seed: int, count: int) -> None:
    """As `select` and `report` of a run decide, in which everything happens as a policy would have it."""
    spec = RunSpec.of({"policy": policy, "seed": seed, "group_size": 3, "p_easy": 0.7, "p_hard": 0.3})
    log = log_of(rows)
    steps = sorted({step for step, _, _ in rows})
    found = replayed(log, observe(log, spec), spec, AsMany([count] * len(steps)))
    state, known = run(**spec.to_dict()), set[str]()
    kept, again = 0, []
    for step in steps:
        mine = [(name, rewards) for number, name, rewards in rows if number == step]
        offered = [name for name, _ in mine if name in known]
        limit = min(count, len(offered)) if policy in RANKINGS else None
        chosen = set(select(state, step, offered, limit=limit)["selected"]) if offered else set()
        places = iter(range(len(offered)))
        keep = [(name, rewards) for name, rewards in mine if name not in known or next(places) in chosen]
        known |= {name for name, _ in mine}
        report(state, step, keep, final=True)
        kept += len(keep)
        again.append(len(chosen))
    assert (found.kept, found.again) == (kept, again)
    assert found.exploration == state.progress.exploration


@given(rows_of_logs, st.sampled_from(POLICIES), st.floats(0, 1))
def test_counts_add_up(rows: list[Row], policy: str, keep: float) -> None:
    spec = RunSpec.of({"policy": policy})
    log = log_of(rows)
    seen = observe(log, spec)
    sums, again = Sums.of(seen), Sums.of(seen, again=True)
    found = replayed(log, seen, spec, Share(keep))
    assert found.kept + found.skipped == sums.groups == len(rows)
    assert found.effective + found.lost == sums.effective
    assert sum(found.again) + found.skipped == again.groups
    assert sums.groups == sums.effective + sums.easy + sums.hard + sums.undetermined
    if found.ranked is not None:
        assert found.ranked.sum(axis=0).tolist() == [again.rollouts, again.effective]


# Calibration


def test_a_prediction_is_scored_before_it_is_learnt_from() -> None:
    rows: list[Row] = [(0, "a", EASY), (1, "a", BOTH)]
    log, spec = log_of(rows), RunSpec.of({"group_size": 2})
    found = calibrated(log, observe(log, spec), spec)
    # Beta(1 + 2, 1): 3/4 predicted, 1/2 observed.
    beta = found.models["beta"]
    assert (beta.groups, beta.brier) == (1, 0.0625)
    assert beta.log_loss == pytest.approx(-(math.log(0.75) + math.log(0.25)) / 2)
    assert beta.bins[7].tolist() == [1, 0.75, 0.5]
    assert found.luck == 0.25
    assert (found.first["beta"].groups, found.first["beta"].brier) == (1, 0.25)
    assert found.models["constant"].brier == 0


def test_luck_is_left_out_where_it_cant_be_told() -> None:
    rows: list[Row] = [(0, "a", EASY), (1, "a", [0.5, 1.0])]
    log = log_of(rows)
    assert calibrated(log, observe(log, RunSpec()), RunSpec()).luck is None


def test_a_sure_prediction_that_fails_is_no_infinity() -> None:
    score = Score()
    score.add(np.array([0.0, 1.0]), np.array([1.0, 0.0]))
    assert score.brier == 1
    assert math.isfinite(score.log_loss)
    assert (score.bins[0, 0], score.bins[9, 0]) == (1, 1)


def test_domains_of_an_export_count() -> None:
    """A prompt of a domain is decided on by the domain's pair: here by one that a target of 1 has driven up."""
    names = [b"a", b"b"]
    entries: list[Any] = [Pooled(names, np.arange(2))]
    steps = [Reported(step, True, [], np.arange(2), Rewards.of([EASY, BOTH])) for step in range(60)]
    joined = Joined(("calm",), np.array([0]), np.array([1], np.uint8))
    spec = RunSpec.of({"domains": {"calm": {"target_zero_variance": 1, "easy_share": 1}}, "train_batch_size": 99})
    skipped = {}
    for name, with_domains in (("with", [joined]), ("without", [])):
        log = Log("test", [*entries, *with_domains, *steps], {})
        seen = observe(log, spec)
        skipped[name] = replayed(log, seen, spec, Share(1.0)).skipped_easy
    assert skipped["with"] > skipped["without"] > 0


def test_priors_of_an_export_count() -> None:
    step = Reported(0, True, [], np.array([0]), Rewards.of([EASY]))
    log = Log(
        "test", [Pooled([b"a"], np.array([0])), Priors(np.array([0]), np.array([8.0]), np.array([8.0])), step], {}
    )
    found = calibrated(log, observe(log, RunSpec()), RunSpec())
    assert found.first["beta"].brier == pytest.approx((1 - 0.9) ** 2)


# The whole


def trained(steps: int = 60, prompts: int = 300) -> list[Row]:
    """The log of a training whose model learns: the middling prompts are solved more and more."""
    trainer = Trainer(mixture(prompts, 0.2, 0.3), {"policy": "uniform"}, draws=False, asks=False, rounds=1)
    for step in range(steps):
        solved = [1 / (1 + math.exp(-(step - prompt % 50) / 8)) for prompt in range(prompts)]
        trainer.solved = [
            fixed if fixed in (0, 1) else grown for fixed, grown in zip(mixture(prompts, 0.2, 0.3), solved, strict=True)
        ]
        trainer.train(1)
    return [*trainer.log]


@pytest.fixture(scope="module")
def whole() -> Result:
    return results(trained())


def test_policies_beat_chance_on_a_real_log(whole: Result) -> None:
    assert whole.policies["uniform"].lost == 0
    for name in set(POLICIES) - {"uniform"}:
        found = whole.policies[name]
        chance = whole.chance(found)
        assert found.skipped > 0.2 * whole.log.groups
        assert chance is not None
        assert found.lost / whole.log.effective < 0.9 * chance, name


def test_rankings_keep_as_many_as_greso_in_each_step(whole: Result) -> None:
    for name in RANKINGS:
        assert whole.policies[name].again == whole.policies["greso"].again


def test_curves_run_from_first_groups_to_all_above_chance(whole: Result) -> None:
    assert whole.curve(whole.policies["greso"]) is None
    for name in RANKINGS:
        curve = whole.curve(whole.policies[name])
        assert curve is not None
        (x, y), end = curve[0], curve[-1]
        assert x == pytest.approx(1 - whole.again.rollouts / whole.log.rollouts)
        assert y == pytest.approx(1 - whole.again.effective / whole.log.effective)
        assert end == (1.0, 1.0)
        assert curve == sorted(curve)
        for along, kept in curve[1:-1]:
            assert kept > y + (1 - y) * (along - x) / (1 - x), f"{name} at {along}"


def test_the_item_response_model_predicts_best(whole: Result) -> None:
    models = whole.calibration.models
    assert whole.calibration.luck is not None
    assert whole.calibration.luck < models["irt"].brier < models["beta"].brier < models["constant"].brier
    assert whole.calibration.gap is not None
    assert whole.calibration.gap.clear
    assert whole.calibration.gap.mean == pytest.approx(models["beta"].brier - models["irt"].brier)


def test_the_same_log_gives_the_same_result() -> None:
    rows = trained(8, 60)
    one, two = (results(rows, seed=7) for _ in range(2))
    for name in POLICIES:
        assert one.policies[name].again == two.policies[name].again
    assert one.calibration.models["irt"].brier == two.calibration.models["irt"].brier


def test_a_share_may_be_named() -> None:
    found = results(trained(20, 100), "irt", keep=0.25)
    again = sum(found.policies["irt"].again)
    assert again == pytest.approx(0.25 * found.again.groups, abs=1)
    assert list(found.policies) == ["irt"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(0, "a", [1.0]), (1, "a", [0.0])], "fewer than two rewards"),
        ([(0, "a", BOTH)], r"no prompt comes twice \(groups: 1\)"),
        ([(0, "a", BOTH), (0, "a", EASY), (1, "b", BOTH)], "no prompt comes twice"),
    ],
)
def test_what_nothing_can_be_told_of_is_refused(rows: list[Row], message: str) -> None:
    with pytest.raises(LogError, match=message):
        results(rows)


@pytest.mark.parametrize(
    ("rows", "note"),
    [
        ([(0, "a", EASY), (1, "a", EASY)], "No group is effective: all were solved"),
        ([(0, "a", HARD), (1, "a", HARD)], "No group is effective: all were failed"),
        ([(0, "a", HARD), (1, "a", BOTH)], "none is solved as a whole at solved_reward 1"),
        ([(0, "a", [-1.0, 1.0]), (1, "a", BOTH)], "25.0% of the rewards lie outside of 0 to 1"),
        ([(0, "a", BOTH), (1, "a", BOTH)], "Every group is effective"),
        ([(0, "a", [1.0]), (1, "a", BOTH)], "1 groups have fewer than two rewards"),
        ([(0, name, EASY) for name in "abcdefgh"] + [(1, "a", BOTH)], "Only 11% of the groups are of prompts seen"),
    ],
)
def test_what_is_odd_about_a_log_is_noted(rows: list[Row], note: str) -> None:
    assert any(note in each for each in results(rows).notes), results(rows).notes


def test_a_log_is_read_as_json_of_any_policy(whole: Result) -> None:
    from greso_service.whatif.files import content  # noqa: PLC0415

    told = json.loads(json.dumps(content(whole), allow_nan=False))
    assert [policy["policy"] for policy in told["policies"]] == list(POLICIES)
