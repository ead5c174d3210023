"""Domains: controllers and counts of their own, quotas, and who may join what."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.folding import content, draw, fold, pool, report, run, select

from greso_service import answers, by_domain, plans, why
from greso_service.core import ranked_draw
from greso_service.core.controller import Exploration
from greso_service.core.events import Joined, Patched, Pooled
from greso_service.core.spec import RunSpec, SpecError
from greso_service.core.state import RunState
from greso_service.errors import Conflict, InvalidInput
from greso_service.history import snapshot
from greso_service.history.codec import Recorded, decode, encode
from greso_service.joining import Named

NAMES = [f"{domain}{number}" for domain in ("math", "code", "rest") for number in range(20)]
DOMAINS = ["math"] * 20 + ["code"] * 20
RANKED = ["irt", "p_mixed", "mopps"]
EVERY = ["greso", "uniform", "band", *RANKED]


def pooled(**spec: Any) -> RunState:
    state = run(**{"train_batch_size": 4, "rollout_batch_size": 12, "seed": 3, **spec})
    pool(state, NAMES, domains=DOMAINS)
    return state


def told(state: RunState) -> dict[str | None, Any]:
    return {row["domain"]: row for row in by_domain.content(state)}


def earned(prompt: str, step: int) -> list[float]:
    """Math is mostly solved, code never, the rest is a matter of luck."""
    number = int(prompt[4:])
    match prompt[:4]:
        case "math":
            return [1, 1] if number % 5 else [0, 1]
        case "code":
            return [0, 0]
        case _:
            return [0, 1] if (number + step) % 2 else [1, 1]


def train(state: RunState, steps: int, first: int = 0) -> Counter[str]:
    drawn: Counter[str] = Counter()
    for step in range(first, first + steps):
        prompts = draw(state, step)["prompts"]
        drawn.update(prompt[:4] for prompt in prompts)
        report(state, step, [(prompt, earned(prompt, step)) for prompt in prompts], final=True)
    return drawn


def test_a_run_without_domains_tells_of_none() -> None:
    state = run()
    pool(state, ["a"])
    assert by_domain.content(state) == []
    assert state.domains == []


def test_each_domain_steers_its_own() -> None:
    state = pooled(p_easy=0.5, p_hard=0.5)
    train(state, 12)
    rows = told(state)
    # Of math all but a fifth is easy and nothing hard, of code the other way round.
    assert rows["math"]["exploration"]["easy"] < 0.5 < rows["math"]["exploration"]["hard"]
    assert rows["code"]["exploration"]["hard"] < 0.5 < rows["code"]["exploration"]["easy"]
    of = {name: select(state, 20, [name])["decisions"][0]["keep_probability"] for name in ("math1", "code1")}
    view = state.view.of(np.array([1, 21]))
    z = view.streak.tolist()
    assert of["math1"] == pytest.approx(max(rows["math"]["exploration"]["easy"] ** z[0], 0.01))
    assert of["code1"] == pytest.approx(max(rows["code"]["exploration"]["hard"] ** z[1], 0.01))


def test_a_domains_controller_is_that_of_a_run_of_its_own() -> None:
    state = pooled(train_batch_size=1000)
    alone = run(train_batch_size=1000)
    for step in range(6):
        groups = [(prompt, earned(prompt, step)) for prompt in NAMES]
        report(state, step, groups, final=True)
        report(alone, step, groups[:20], final=True)
    assert told(state)["math"]["exploration"] == answers.summary("alone", alone)["exploration"]


def test_a_target_of_its_own() -> None:
    state = pooled(domains={"math": {"target_zero_variance": 0.9, "easy_share": 1.0}})
    train(state, 8)
    rows = told(state)
    assert rows["math"]["target"] == {"easy": 0.9, "hard": 0.0}
    assert rows["code"]["target"] == pytest.approx({"easy": 0.25 / 3, "hard": 0.5 / 3})
    assert rows["math"]["exploration"]["easy"] > 0.5


def test_a_target_that_tunes_itself_is_the_runs() -> None:
    state = pooled(target_zero_variance="auto", domains={"code": {"target_zero_variance": 0.3}})
    train(state, 8)
    whole = answers.summary("r", state)["target"]
    rows = told(state)
    assert rows["math"]["target"] == pytest.approx({"easy": whole["easy"], "hard": whole["hard"]})
    assert sum(rows["code"]["target"].values()) == pytest.approx(0.3)


def test_a_change_of_the_spec_reaches_every_domain() -> None:
    state = pooled()
    train(state, 6)
    fold(state, [Patched({"exploration_bounds": [0.49, 0.51]})])
    assert all(0.49 <= p <= 0.51 for row in told(state).values() for p in row["exploration"].values())
    fold(state, [Patched({"p_easy": 0.5})])
    assert {row["exploration"]["easy"] for row in told(state).values()} == {0.5}


@pytest.mark.parametrize("policy", EVERY)
def test_quotas_divide_draws(policy: str) -> None:
    state = pooled(policy=policy, domains={"math": {"quota": 0.5}, "code": {"quota": 0.25}}, min_keep_probability=0.5)
    drawn = train(state, 20)
    total = sum(drawn.values())
    assert abs(drawn["math"] - total / 2) <= 1
    assert abs(drawn["code"] - total / 4) <= 1
    assert [told(state)[name]["share"] for name in ("math", "code", None)] == [0.5, 0.25, 0.25]


@pytest.mark.parametrize("policy", EVERY)
def test_a_quota_of_0_gives_nothing_and_a_full_one_everything(policy: str) -> None:
    state = pooled(policy=policy, domains={"math": {"quota": 0}})
    assert set(train(state, 6)) == {"code", "rest"}
    state = pooled(policy=policy, domains={"math": {"quota": 1}})
    assert set(train(state, 6)) == {"math"}
    assert len(draw(state, 50, 30)["prompts"]) <= 20


def test_nothing_to_draw_from_is_said() -> None:
    state = run(domains={"math": {"quota": 0}})
    pool(state, ["a"], domains=["math"])
    with pytest.raises(Conflict, match="quota 0"):
        plans.draw(state, 0, 3)


@pytest.mark.parametrize("policy", RANKED)
def test_a_ranked_draw_by_quota_is_full_and_never_takes_a_prompt_twice_in_a_step(policy: str) -> None:
    state = pooled(policy=policy, domains={"math": {"quota": 0.1}})
    taken = [prompt for count in (25, 20, 30) for prompt in draw(state, 0, count)["prompts"]]
    assert sorted(taken) == sorted(NAMES)


def test_an_epoch_of_each_domain_is_a_permutation_of_it() -> None:
    state = pooled(policy="uniform", domains={"math": {"quota": 0.5}})
    seen: dict[str, list[str]] = {"math": [], "code": [], "rest": []}
    for step in range(16):
        for prompt in draw(state, step, 10)["prompts"]:
            seen[prompt[:4]].append(prompt)
    for domain, prompts in seen.items():
        for epoch in range(len(prompts) // 20):
            assert len(set(prompts[20 * epoch : 20 * epoch + 20])) == 20, domain


def test_quotas_may_come_and_go_while_it_trains() -> None:
    state = pooled(policy="uniform")
    train(state, 3)
    epoch = state.epoch
    fold(state, [Patched({"domains": {"code": {"quota": 1}}})])
    assert set(train(state, 3, 3)) == {"code"}
    fold(state, [Patched({"domains": {}})])
    assert set(train(state, 4, 6)) == {"math", "code", "rest"}
    assert state.epoch >= epoch


def test_domains_are_kept_by_snapshots() -> None:
    state = pooled(domains={"math": {"quota": 0.3}})
    train(state, 7)
    back = snapshot.decode(snapshot.Frozen(state).encode())
    assert content(back) == content(state)
    assert train(back, 3, 7) == train(state, 3, 7)
    assert content(back) == content(state)


def walks(state: RunState) -> list[tuple[int, int, int]]:
    cursors = [domain.walk.cursor for domain in state.domains]
    return [(cursor.epoch, cursor.position, cursor.size) for cursor in cursors]


def test_prompts_that_join_with_their_domain_come_in_the_next_epoch() -> None:
    state = run(policy="uniform", domains={"math": {"quota": 0.5}})
    pool(state, ["rest0", "math0", "rest1", "math1", "math2", "rest2"], domains=["", "math", "", "math", "math", ""])
    draw(state, 0, 4)
    before = walks(state)
    assert before == [(0, 2, 3), (0, 2, 3)]
    pool(state, ["math3", "rest3", "code0"], domains=["math", "", "code"])
    assert walks(state) == [*before, (0, 0, 0)]
    first = draw(state, 1, 2)["prompts"]  # the last of both epochs; code has no place yet, and its quota none
    assert not set(first) & {"math3", "rest3"}
    assert {"math3", "rest3"} <= {prompt for step in (2, 3, 4, 5) for prompt in draw(state, step, 4)["prompts"]}


def test_a_prompt_that_gets_a_domain_begins_a_new_epoch_where_it_stands_among_others() -> None:
    state = run(policy="uniform", domains={"math": {"quota": 0.5}})
    pool(state, ["rest0", "math0", "rest1", "math1"], domains=["", "math", "", "math"])
    draw(state, 0, 2)
    assert walks(state) == [(0, 1, 2), (0, 1, 2)]
    pool(state, ["rest0"], domains=["math"])  # before all others of math, and one less of the rest
    assert walks(state) == [(1, 0, 0), (1, 0, 0)]
    assert [told(state)[name]["pool"] for name in ("math", None)] == [3, 1]
    assert sorted(state.table.texts(state.members(1).tolist())) == ["math0", "math1", "rest0"]


def test_uploads_while_it_trains_starve_nobody() -> None:
    """Each step uploads a prompt: the walks go on all the same."""
    state = run(policy="uniform", domains={"math": {"quota": 0.5}})
    names = [f"{domain}{number}" for domain in ("math", "rest") for number in range(40)]
    pool(state, names, domains=["math"] * 40)
    drawn: set[str] = set()
    for step in range(16):
        pool(state, [f"late{step}"], domains=["math"])
        drawn.update(draw(state, step, 10)["prompts"])
    assert set(names) <= drawn


@pytest.mark.parametrize("policy", EVERY)
def test_whatever_is_cut_off_a_draw_the_mix_stays(policy: str) -> None:
    state = pooled(policy=policy, domains={"math": {"quota": 0.5}, "code": {"quota": 0.25}}, exploration_share=0)
    prompts = draw(state, 0, 24)["prompts"]
    for first in range(1, 25):
        there = Counter(prompt[:4] for prompt in prompts[:first])
        assert abs(there["math"] - first / 2) <= 1.5
        assert abs(there["code"] - first / 4) <= 1.5


@pytest.mark.parametrize("policy", ["uniform", "irt"])
def test_odd_quotas_are_kept_over_many_small_draws(policy: str) -> None:
    state = pooled(policy=policy, domains={"math": {"quota": 0.37}, "code": {"quota": 0.21}}, cooldown_steps=0)
    drawn = Counter(prompt[:4] for step in range(60) for prompt in draw(state, step, 3)["prompts"])
    assert sum(drawn.values()) == 180
    assert abs(drawn["math"] - 0.37 * 180) <= 1.5
    assert abs(drawn["code"] - 0.21 * 180) <= 1.5


def test_what_one_domain_skips_to_its_end_the_others_give() -> None:
    state = pooled(
        train_batch_size=100,
        min_keep_probability=0,
        p_hard=0.05,
        domains={"code": {"quota": 0.5}},
        streak_rule="same_kind",
    )
    for step in range(8):  # never solved: kept with 0.05 ** 8
        report(state, step, [(prompt, [0, 0]) for prompt in NAMES[20:40]], final=True)
    prompts = draw(state, 9, 12)["prompts"]
    assert len(prompts) == 12
    assert not [prompt for prompt in prompts if prompt.startswith("code")]


@pytest.mark.parametrize("policy", RANKED)
def test_the_walk_of_each_domain_brings_its_share(policy: str) -> None:
    state = pooled(policy=policy, exploration_share=0.25, domains={"math": {"quota": 0.5}})
    for step in range(4):
        draw(state, step, 8)
    # A quarter of 16 prompts of math, one at a time in the fourth of each two.
    assert state.domains[1].walk.cursor.position >= 4


def test_audited_groups_do_not_steer_a_domain() -> None:
    shadow, plain = pooled(shadow=True), pooled()
    for state in (shadow, plain):
        for step in range(4):
            report(state, step, [(prompt, [0, 0]) for prompt in NAMES[20:40]], final=True)
    select(shadow, 4, NAMES[20:40])
    report(shadow, 4, [(prompt, [0, 0]) for prompt in NAMES[20:40]], final=True)
    # All were noted as audited: nothing of that step steers, in the domain as in the run.
    assert told(shadow)["code"]["exploration"] == told(plain)["code"]["exploration"]
    assert shadow.progress.exploration == plain.progress.exploration


def test_the_evidence_of_a_target_that_tunes_itself_is_by_the_domains_pairs() -> None:
    """At the floor of the keep probability exploring says nothing; a domain's own pair decides whether it is there."""
    state = pooled(target_zero_variance="auto", p_hard=0.5, min_keep_probability=0.2)
    state.domains[2].progress = replace(state.domains[2].progress, exploration=Exploration(0.5, 0.1))
    report(state, 0, [(prompt, [0, 0]) for prompt in NAMES[20:40]], final=True)
    before = state.progress.tuning
    report(state, 1, [(prompt, [0, 0]) for prompt in NAMES[20:40]], final=True)
    assert before is not None
    assert state.progress.tuning is not None
    assert state.progress.tuning.tried.hard == 0


def test_audits_begin_anew_when_domains_change() -> None:
    state = pooled(audit_share=1.0)
    train(state, 6)
    assert state.audits.all.groups
    fold(state, [Patched({"domains": {"math": {"target_zero_variance": 0.1}}})])
    assert not state.audits.all.groups


def test_a_domain_without_its_own_target_has_the_runs_to_the_bit() -> None:
    """(easy + hard) * share would round otherwise, and a tie would be decided the other way."""
    every, alone = (run(target_zero_variance=0.08, easy_share=0.1, train_batch_size=1000) for _ in range(2))
    groups: list[tuple[str, list[float]]] = [(f"p{number}", [1, 1] if number < 1 else [0, 1]) for number in range(125)]
    pool(every, [name for name, _ in groups], domains=["all"] * 125)
    for state in (every, alone):
        for step in range(3):
            report(state, step, groups, final=True)
    assert told(every)["all"]["exploration"] == answers.summary("r", alone)["exploration"]
    assert told(every)["all"]["target"] == {
        name: answers.summary("r", alone)["target"][name] for name in ("easy", "hard")
    }


def test_prompts_without_a_domain_tune_nothing_of_their_own() -> None:
    state = run(target_zero_variance="auto", train_batch_size=4)
    report(state, 0, [("a", [0, 1])], final=True)
    pool(state, ["c"], domains=["math"])
    assert state.domains[0].progress.tuning is None
    assert state.progress.tuning is not None


def test_domains_that_only_the_spec_names_are_told_of() -> None:
    state = run(domains={"mth": {"quota": 0.9}})
    pool(state, ["a"], domains=["math"])
    assert {name: row["pool"] for name, row in told(state).items()} == {"math": 1, "mth": 0}
    select(state, 0, ["new"])
    assert told(state)[None]["totals"]["examined"] == 1


def test_a_step_without_groups_of_a_domain_is_no_row_of_it() -> None:
    state = pooled()
    report(state, 0, [("math1", [0, 1])], final=True)
    report(state, 1, [("code1", [0, 1])], final=True)
    report(state, 2, [("math1", [0, 1])], final=True)
    assert by_domain.ledger(state, "math").steps.rows["step"].tolist() == [0, 2]
    assert by_domain.ledger(state, "").steps.rows["step"].tolist() == []


@pytest.mark.parametrize("policy", EVERY)
def test_why_says_that_a_domain_with_quota_0_is_not_drawn(policy: str) -> None:
    state = pooled(policy=policy, domains={"math": {"quota": 0}})
    answer = why.answer(state, "math1")
    assert answer is not None
    content = json.loads(answer.body)
    assert "no share of the draws" in content["sentence"]
    assert not content["keep"]
    other = why.answer(state, "code1")
    assert other is not None
    assert "no share" not in json.loads(other.body)["sentence"]


@pytest.mark.parametrize("policy", RANKED)
def test_why_counts_what_a_draw_takes_of_the_prompts_domain(policy: str) -> None:
    state = pooled(policy=policy, domains={"math": {"quota": 0.25}}, exploration_share=0)
    stands = ranked_draw.standing(state, 0, 0)
    assert (stands.by_rank, stands.among) == (3, 20)


def test_what_happened_before_the_first_domain_is_of_prompts_without_one() -> None:
    state = run(train_batch_size=4)
    report(state, 0, [("a", [0, 1]), ("b", [1, 1])], final=True)
    pool(state, ["c"], domains=["math"])
    report(state, 1, [("c", [0, 1])], final=True)
    assert told(state)[None]["totals"]["groups"] == 2
    assert told(state)["math"]["totals"]["groups"] == 1


def test_steps_and_prompts_by_domain() -> None:
    state = pooled()
    train(state, 3)
    rows = [by_domain.ledger(state, name).steps.rows for name in ("math", "code", "", None)]
    assert (rows[0]["groups"] + rows[1]["groups"] + rows[2]["groups"]).tolist() == rows[3]["groups"].tolist()
    with pytest.raises(InvalidInput, match="it has math, code"):
        by_domain.ledger(state, "maths")
    named = [row["domain"] for row in answers.prompt_rows(state, np.array([0, 20, 40]))]
    assert named == ["math", "code", None]


def refused(state: RunState, prompts: list[str], named: Named) -> tuple[str, str]:
    before = content(state)
    with pytest.raises(InvalidInput) as caught:
        plans.pool(state, prompts, "/prompts", domains=named)
    assert content(state) == before
    [fault] = caught.value.faults
    return fault.pointer, fault.detail


def test_who_may_not_join() -> None:
    state = pooled()
    moved = Named(np.array([1]), ["code"])
    assert refused(state, ["x", "math3"], moved) == (
        "/prompts/1/domain",
        "the prompt is in the pool as one of domain math, and can't change it",
    )
    twice = Named(np.array([0, 2]), ["a", "b"])
    assert refused(state, ["x", "y", "x"], twice) == ("/prompts/2/domain", "is given two domains")
    many = [f"p{number}" for number in range(40)]
    pointer, detail = refused(state, many, Named(np.arange(40), [f"d{number}" for number in range(40)]))
    assert (pointer, detail) == ("/prompts/30/domain", "would be one domain too many; a run has 32 at most")


def test_an_upload_names_a_prompt_twice_the_same_way() -> None:
    state = run()
    pool(state, ["a", "b", "a"], domains=["math", "", "math"])
    assert told(state)["math"]["pool"] == 1


def test_events_of_a_large_upload_number_domains_as_they_come() -> None:
    names = [f"p{number}" for number in range(70_000)]
    state = run()
    late = Named(np.array([0, 69_999]), ["math", "code"])
    events = plans.pool(state, names, "", domains=late).events
    assert [type(event) for event in events] == [Pooled, Joined, Pooled, Joined]
    fold(state, [decode(encode(Recorded(event, 0, 0))).event for event in events])
    assert {name: row["pool"] for name, row in told(state).items()} == {"math": 1, "code": 1, None: 69_998}


@pytest.mark.parametrize(
    ("domains", "place"),
    [
        ({"math": {"quota": 1.5}}, "domains/math/quota"),
        ({"math": {"quota": float("nan")}}, "domains/math/quota"),
        ({"math": {"weight": 1}}, "domains/math/weight"),
        ({"a b": {}}, "domains/a b"),
        ({"": {}}, "domains/"),
        ({"a": {"quota": 0.6}, "b": {"quota": 0.6}}, "domains"),
        ({f"d{number}": {} for number in range(33)}, "domains"),
    ],
)
def test_a_spec_that_can_not_be(domains: dict[str, Any], place: str) -> None:
    with pytest.raises(SpecError) as refused:
        RunSpec.of({"domains": domains})
    assert [name for name, _ in refused.value.faults] == [place]
