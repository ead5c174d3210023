"""Audits: who is rolled out although the policy would skip him, and what is counted of it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from greso_service import plans
from greso_service.core.audit import Found, wilson
from greso_service.core.draws import Ids, audit_uniforms, uniforms
from greso_service.core.events import Audited, Patched, Selected
from greso_service.core.policy import RANKINGS, Reason
from greso_service.core.state import RunState

from ..folding import draw, fold, pool, rates, report, run, select  # noqa: TID252
from ..simulated import Trainer, mixture  # noqa: TID252

HARD, EASY, MIXED = [0.0, 0.0], [1.0, 1.0], [0.0, 1.0]
NAMES = [f"set/{number}" for number in range(4000)]


def known(rewards: list[float], count: int = len(NAMES), **spec: Any) -> RunState:
    """A run whose prompts had such a group each in step 0, and are nearly always skipped since."""
    state = run(**{"p_easy": 0.05, "p_hard": 0.05, "min_keep_probability": 0.0, "pass_rate_band": [0.3, 0.7]} | spec)
    for _ in range(3):
        report(state, 0, [(name, rewards) for name in NAMES[:count]])
    report(state, 0, [], final=True)
    return state


def planned(state: RunState, step: int, names: list[str] = NAMES, limit: int | None = None) -> Selected:
    """The event of a selection, not folded."""
    plan = plans.select(state, step, names, limit=limit, at_least=0, explain=False, stale=False)
    [event] = plan.events
    assert isinstance(event, Selected)
    return event


def audited(event: Selected) -> set[int]:
    """Who is audited, by index."""
    return set() if event.audited is None else {*event.audited.easy, *event.audited.hard}


# Who is audited


@pytest.mark.parametrize("policy", ["greso", "band"])
@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_the_share_of_the_skipped_is_right(policy: str, share: float) -> None:
    state = known(HARD, policy=policy, audit_share=share)
    skips = audits = 0
    for step in range(1, 21):
        event = planned(state, step)
        audits += len(audited(event))
        skips += event.skipped_hard + len(audited(event))
        assert event.skipped_easy == 0
        assert event.selected + event.skipped_hard == event.examined
    assert skips > 70_000
    assert abs(audits - share * skips) < 4 * math.sqrt(share * (1 - share) * skips)


def test_audits_do_not_depend_on_the_draws_of_decisions() -> None:
    hashes = Ids.of(NAMES).hashes
    decided, audit = (
        np.concatenate([each(hashes, 1, step) for step in range(25)]) for each in (uniforms, audit_uniforms)
    )
    assert abs(np.corrcoef(decided, audit)[0, 1]) < 4 / math.sqrt(audit.size)
    for low in (0.0, 0.25, 0.5, 0.75):
        part = audit[(decided >= low) & (decided < low + 0.25)]
        assert abs(float(part.mean()) - 0.5) < 4 * math.sqrt(1 / 12 / part.size)


def test_a_run_with_audits_keeps_all_that_it_keeps_without() -> None:
    with_audits, without = known(HARD, audit_share=0.1, p_hard=0.5), known(HARD, p_hard=0.5)
    kept = select(without, 1, NAMES)["selected"]
    more = select(with_audits, 1, NAMES)["selected"]
    assert set(kept) < set(more)
    assert with_audits.prompts.audited[more].astype(bool).sum() == len(more) - len(kept)


def test_every_replica_audits_the_same() -> None:
    one, two = (known(HARD, audit_share=0.1, seed=7) for _ in range(2))
    assert planned(one, 3) == planned(two, 3)
    assert planned(one, 3) != planned(one, 4)
    backwards = planned(two, 3, NAMES[::-1])
    assert audited(backwards) == audited(planned(one, 3))


def test_an_audited_prompt_is_explained_as_explored() -> None:
    state = known(HARD, audit_share=0.2)
    answer = select(state, 1, NAMES)
    reasons = [answer["decisions"][place]["reason"] for place in answer["selected"]]
    assert set(reasons) == {Reason.EXPLORE.name.lower()}


def test_prompts_never_seen_are_not_audited() -> None:
    state = known(HARD, 10, audit_share=1.0)
    event = planned(state, 1, [*NAMES[:20], "stranger"])
    assert event.selected == 21
    assert audited(event) == set(range(10))


@pytest.mark.parametrize("limit", [0, 1, 7, 500])
def test_audited_prompts_count_for_the_limit_of_a_filter(limit: int) -> None:
    event = planned(known(HARD, audit_share=0.1), 1, limit=limit)
    assert event.selected == min(limit, planned(known(HARD, audit_share=0.1), 1).selected)


@pytest.mark.parametrize("policy", RANKINGS)
@pytest.mark.parametrize("share", [0.0, 0.01, 1.0])
@pytest.mark.parametrize("limit", [0, 1, 30])
def test_a_ranking_keeps_no_more_than_the_limit_with_those_it_audits(policy: str, share: float, limit: int) -> None:
    state = known(MIXED, policy=policy, audit_share=share)
    event = planned(state, 1, limit=limit)
    assert event.selected == limit
    assert len(audited(event)) == (min(limit, {0.0: 0, 0.01: 30}.get(share, limit)) if limit else 0)


def test_at_least_is_filled_up_behind_the_audited() -> None:
    state = known(HARD, 50, audit_share=0.2)
    answer = select(state, 1, NAMES[:50], at_least=40)
    assert len(answer["selected"]) == 40
    reasons = [decision["reason"] for decision in answer["decisions"]]
    assert reasons.count("fill") + reasons.count("explore") == 40
    assert state.prompts.audited[:50].astype(bool).sum() < reasons.count("explore") + 1


def test_a_draw_audits_in_all_its_chunks() -> None:
    state = known(HARD, audit_share=0.05)
    pool(state, NAMES)
    answer = draw(state, 1, 4000)
    assert answer["examined"] == 4000
    assert len(answer["prompts"]) == np.count_nonzero(state.prompts.audited)
    assert 140 < len(answer["prompts"]) < 260
    assert set(answer["prompts"]) == set(np.array(NAMES)[state.prompts.audited[:4000] < 0])


# What is counted


def found(found: Found) -> tuple[int, int, int]:
    return found.groups, found.effective, found.rollouts


def audit_of(**spec: Any) -> RunState:
    """A run of which a is audited in step 1 as hard and b as easy; c is another known one."""
    state = run(**{"audit_share": 0.5, "train_batch_size": 100} | spec)
    report(state, 0, [("a", HARD), ("b", EASY), ("c", MIXED)], final=True)
    return fold(state, [Selected(1, 3, 3, 0, 0, audited=Audited((1,), (0,)))])


def test_groups_of_audited_prompts_are_counted_by_kind_and_the_others_as_kept() -> None:
    state = audit_of()
    report(state, 1, [("c", MIXED), ("a", [0.0, 1.0, 1.0]), ("b", EASY), ("new", MIXED)])
    assert found(state.audits.hard) == (1, 1, 3)
    assert found(state.audits.easy) == (1, 0, 2)
    assert found(state.audits.kept) == (1, 1, 2)
    assert (state.totals.audited_easy, state.totals.audited_hard) == (1, 1)
    assert (state.totals.false_easy, state.totals.false_hard) == (0, 1)


def test_an_audited_prompt_counts_once_and_in_its_step() -> None:
    state = audit_of()
    report(state, 0, [("a", MIXED)])  # late, of the step before
    report(state, 2, [("a", MIXED)])  # of one behind
    assert state.audits.left_out == Found()
    report(state, 1, [("a", MIXED)])  # late itself: step 1 is complete
    report(state, 1, [("a", MIXED)])
    assert found(state.audits.hard) == (1, 1, 2)


def test_a_prompt_twice_in_a_report_counts_once_as_audited() -> None:
    state = audit_of()
    report(state, 1, [("a", HARD), ("a", MIXED), ("a", MIXED)])
    assert found(state.audits.hard) == (1, 0, 2)
    assert state.audits.kept == Found(), "nor as kept: the policy kept none of them"


@pytest.mark.parametrize("at_once", [True, False])
def test_a_prompt_skipped_in_each_step_of_a_shadow_run_never_counts_as_kept(at_once: bool) -> None:
    state = run(shadow=True, p_easy=0.05, p_hard=0.05, min_keep_probability=0.0, train_batch_size=100)
    report(state, 0, [("a", HARD)] * 3, final=True)
    for step in range(1, 6):
        event = planned(state, step, ["a", "a"])
        assert audited(event) == {0}
        fold(state, [event])
        for groups in [[("a", HARD), ("a", HARD)]] if at_once else [[("a", HARD)], [("a", HARD)]]:
            report(state, step, groups)
    assert found(state.audits.hard) == (5, 0, 10)
    assert state.audits.kept == Found()


def test_an_audit_without_a_group_does_not_silence_its_prompt() -> None:
    state = audit_of()
    report(state, 1, [], final=True)  # its rollout failed
    for step in range(2, 7):
        report(state, step, [("a", MIXED)], final=True)
    assert found(state.audits.kept) == (5, 5, 10)
    assert state.audits.left_out == Found()


def test_a_prompt_with_a_pass_rate_said_beforehand_counts_as_known() -> None:
    state = run(policy="band", shadow=True, train_batch_size=100)
    pool(state, ["told", "new"], rates([0.5], [8]))
    select(state, 0, ["told", "new"])
    report(state, 0, [("told", MIXED), ("new", MIXED), ("new", HARD)])
    assert found(state.audits.kept) == (1, 1, 2)


def test_an_undetermined_group_leaves_the_audit_open() -> None:
    state = audit_of()
    report(state, 1, [("a", [1.0]), ("b", [])])
    assert state.audits.left_out == Found()
    report(state, 1, [("a", MIXED)])
    assert found(state.audits.left_out) == (1, 1, 2)


def test_a_prompt_audited_again_counts_for_the_later_step() -> None:
    state = audit_of()
    fold(state, [Selected(2, 1, 1, 0, 0, audited=Audited((0,), ()))])
    report(state, 1, [("a", MIXED)])
    assert state.audits.left_out == state.audits.kept == Found()
    report(state, 2, [("a", MIXED)])
    assert found(state.audits.easy) == (1, 1, 2)


@pytest.mark.parametrize(
    ("changes", "again"),
    [
        ({"policy": "band"}, True),
        ({"shadow": True}, True),
        ({"reward_tolerance": 0.1}, True),
        ({"audit_share": 0.1}, False),
        ({"policy": "greso"}, False),
        ({"p_easy": 0.2}, False),
        ({"min_keep_probability": 0.2}, True),
        ({"pass_rate_band": [0.2, 0.8]}, True),
        ({"target_zero_variance": 0.4}, True),
    ],
)
def test_audits_begin_anew_with_another_policy(changes: dict[str, Any], again: bool) -> None:
    state = audit_of()
    report(state, 1, [("a", MIXED), ("c", HARD)])
    fold(state, [Selected(2, 1, 1, 0, 0, audited=Audited((1,), ())), Patched(changes)])
    assert found(state.audits.left_out) == ((0, 0, 0) if again else (1, 1, 2))
    report(state, 2, [("b", MIXED)])
    assert found(state.audits.left_out) == ((0, 0, 0) if again else (2, 2, 4))
    assert state.totals.false_hard == 1, "what was counted for metrics stays"


def test_nothing_is_counted_where_nothing_is_audited() -> None:
    state = known(HARD, 10)
    report(state, 1, [(name, MIXED) for name in NAMES[:10]])
    assert state.audits.all == Found()


def test_audits_can_be_turned_on_in_a_live_run() -> None:
    state = known(HARD, 1000)
    assert audited(planned(state, 1)) == set()
    fold(state, [Patched({"audit_share": 0.2})])
    assert 140 < len(audited(planned(state, 1, NAMES[:1000]))) < 260
    fold(state, [Patched({"shadow": True})])
    assert planned(state, 1, NAMES[:1000]).selected == 1000


# Shadow runs


@pytest.mark.parametrize("policy", ["greso", "band", *RANKINGS])
@pytest.mark.parametrize("limit", [None, 0, 5, 100])
def test_a_shadow_run_rolls_everything_out_in_order(policy: str, limit: int | None) -> None:
    state = known(HARD, 50, policy=policy, shadow=True, rollout_batch_size=10)
    names = [*NAMES[:60], "stranger"]
    event = planned(state, 1, names, limit)
    assert event.selected == event.examined == min(61 if limit is None else limit, 61)
    assert (event.skipped_easy, event.skipped_hard) == (0, 0)
    assert audited(event) <= set(range(50))
    pool(state, names)
    assert len(draw(state, 1, 61)["prompts"]) == 61


def test_a_shadow_run_audits_just_those_that_the_policy_skips() -> None:
    plain, shadow = known(HARD, p_hard=0.5), known(HARD, p_hard=0.5, shadow=True)
    kept = set(select(plain, 1, NAMES)["selected"])
    assert audited(planned(shadow, 1)) == set(range(4000)) - kept


def test_a_ranking_in_shadow_audits_those_that_are_not_among_its_best() -> None:
    state = run(policy="irt", shadow=True, group_size=4)
    report(state, 0, [("mid", [0, 0, 1, 1]), ("hard", [0, 0, 0, 0]), ("easy", [1, 1, 1, 1])], final=True)
    event = planned(state, 1, ["hard", "easy", "mid"], limit=1)
    assert (event.examined, audited(event)) == (1, {1})
    event = planned(state, 1, ["mid", "hard", "easy"], limit=1)
    assert (event.examined, audited(event)) == (1, set())


def test_groups_that_a_shadow_run_adds_do_not_steer() -> None:
    """p_easy and p_hard go as if what would have been skipped had not been rolled out."""
    shadow, plain = (run(shadow=shadow, train_batch_size=100, exploration_step=0.1) for shadow in (True, False))
    for state in (shadow, plain):
        report(state, 0, [("a", HARD), ("b", EASY), ("c", MIXED), ("d", MIXED)], final=True)
    fold(shadow, [Selected(1, 4, 4, 0, 0, audited=Audited((1,), (0,)))])
    report(shadow, 1, [("a", HARD), ("b", EASY), ("c", MIXED), ("d", EASY)], final=True)
    report(plain, 1, [("c", MIXED), ("d", EASY)], final=True)
    assert shadow.progress.exploration == plain.progress.exploration
    assert (plain.progress.exploration.easy, plain.progress.exploration.hard) == (0.4, 0.6)
    fold(shadow, [Selected(2, 1, 1, 0, 0, audited=Audited((), (0,)))])
    report(shadow, 2, [("a", HARD)], final=True)
    assert shadow.progress.exploration == plain.progress.exploration, "nothing that steers came"
    assert int(shadow.steps.rows["hard"][1]) == 1, "the step's own counts have them"


def test_groups_that_audits_add_do_not_steer() -> None:
    audit, plain = (run(audit_share=share, train_batch_size=100, exploration_step=0.1) for share in (0.5, 0.0))
    for state in (audit, plain):
        report(state, 0, [("a", HARD), ("b", EASY), ("c", MIXED), ("d", MIXED)], final=True)
    fold(audit, [Selected(1, 4, 4, 0, 0, audited=Audited((1,), (0,)))])
    report(audit, 1, [("a", HARD), ("b", EASY), ("c", MIXED), ("d", EASY)], final=True)
    report(plain, 1, [("c", MIXED), ("d", EASY)], final=True)
    assert audit.progress.exploration == plain.progress.exploration


def test_groups_added_steer_nothing_beside_new_prompts_either() -> None:
    """Without them nothing could have been filtered."""
    state = audit_of(exploration_step=0.1)
    before = state.progress.exploration
    report(state, 1, [("a", HARD), ("b", EASY), ("new", MIXED)], final=True)
    assert state.progress.exploration == before


@pytest.mark.parametrize("extra", [{"shadow": True}, {"audit_share": 0.5}])
def test_groups_added_do_not_steer_an_automatic_target(extra: dict[str, Any]) -> None:
    spec = {"target_zero_variance": "auto", "train_batch_size": 100}
    added, plain = run(**spec | extra), run(**spec)
    kept = [("c", HARD), ("d", MIXED), ("e", EASY)]
    for state in (added, plain):
        report(state, 0, [("a", HARD), ("b", EASY), *kept] * 2, final=True)
    for step in range(1, 30):
        fold(added, [Selected(step, 5, 5, 0, 0, audited=Audited((1,), (0,)))])
        report(added, step, [("a", MIXED), ("b", EASY), *kept], final=True)
        report(plain, step, kept, final=True)
        assert added.progress.exploration == plain.progress.exploration
        [more, less] = [state.progress.tuning for state in (added, plain)]
        assert more is not None
        assert less is not None
        # The finds of the shadow run stay known: they are prompts in stock.
        assert replace(more, stock=0, target_easy=0, target_hard=0) == replace(
            less, stock=0, target_easy=0, target_hard=0
        )
    assert int(added.steps.rows["hard"][1]) == 1


def test_an_automatic_target_rests_where_all_groups_were_added() -> None:
    state = audit_of(target_zero_variance="auto", shadow=True)
    before = state.progress.tuning
    report(state, 1, [("a", HARD), ("b", EASY)], final=True)
    assert state.progress.tuning == before


def test_what_a_filter_would_have_saved_and_lost() -> None:
    state = run(shadow=True, train_batch_size=100)
    report(state, 0, [("a", HARD), ("b", EASY), ("c", MIXED), ("d", MIXED)], final=True)
    fold(state, [Selected(1, 4, 4, 0, 0, audited=Audited((1,), (0,)))])
    report(state, 1, [("a", MIXED), ("b", EASY), ("c", MIXED), ("d", MIXED)])
    audits = state.audits
    assert found(audits.all) == (4, 3, 8)
    assert audits.lost == 1 / 3
    assert audits.saved == 8 - 3 * 2, "each of the three would have come for two responses"


def test_a_policy_that_keeps_the_wrong_ones_saves_less_than_nothing() -> None:
    state = run(shadow=True, train_batch_size=100)
    report(state, 0, [("a", HARD), ("c", MIXED), ("d", MIXED)], final=True)
    fold(state, [Selected(1, 3, 3, 0, 0, audited=Audited((), (0,)))])
    report(state, 1, [("a", MIXED), ("c", MIXED), ("d", HARD)])
    assert state.audits.saved == 6 - 2 * 4


def test_nothing_can_be_said_of_what_is_saved_before_anything_is_kept() -> None:
    audits = run(shadow=True).audits
    assert audits.saved is audits.lost is audits.easy.rate is None
    assert audits.hard.interval() == (0.0, 1.0)


def test_a_ranked_draw_audits_what_the_walk_brings_besides() -> None:
    trainer = Trainer(
        mixture(600, easy=0.3, hard=0.3), {"policy": "irt", "exploration_share": 0.5, "cooldown_steps": 5}
    ).train(40)
    audits = trainer.state.audits
    assert audits.left_out.groups > 200
    assert audits.kept.interval()[0] > audits.left_out.interval()[1], "the best of the pool teach more than the rest"
    assert audits.left_out.effective < 0.3 * audits.left_out.groups, "those that teach have had their turn lately"


def test_an_audit_share_is_walked_in_draws_by_rank_too() -> None:
    spec = {"policy": "irt", "exploration_share": 0.0, "cooldown_steps": 0}
    walked = Trainer([0.5] * 300, spec | {"audit_share": 0.25}).train(30).state
    assert 0.05 < walked.audits.left_out.groups / walked.audits.all.groups < 0.25
    assert Trainer([0.5] * 300, spec).train(30).state.audits.left_out == Found()


# Wilson's interval


@pytest.mark.parametrize(
    ("hits", "tries", "low", "high"),
    # As R's prop.test(hits, tries, correct = FALSE) has them.
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634), (15, 100, 0.0931, 0.2328)],
)
def test_wilsons_interval(hits: int, tries: int, low: float, high: float) -> None:
    assert wilson(hits, tries) == pytest.approx((low, high), abs=6e-5)


def test_wilsons_interval_holds_the_share_as_often_as_it_says() -> None:
    dice = np.random.default_rng(3)
    for share in (0.02, 0.1, 0.5):
        intervals = [wilson(int(hits), 200) for hits in dice.binomial(200, share, 2000)]
        assert 0.93 < np.mean([low <= share <= high for low, high in intervals]) < 0.98
