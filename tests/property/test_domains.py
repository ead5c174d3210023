"""Domains on random runs: together they are the run, and each is steered as if it were alone."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from hypothesis import given

from greso_service.core.events import Created
from greso_service.core.fold import fold
from greso_service.core.spec import RunSpec
from greso_service.core.state import RunState

from .traces import Action, plan, play, specs, traces

SUMMED = ("examined", "selected", "skipped_easy", "skipped_hard", "groups", "effective", "easy", "hard", "rollouts")


@given(specs, traces)
def test_domains_sum_to_the_run(spec: dict[str, Any], trace: list[Action]) -> None:
    state, _ = play(spec, trace)
    if not state.domains:
        return
    for name in (*SUMMED, "undetermined"):
        assert sum(getattr(domain.totals, name) for domain in state.domains) == getattr(state.totals, name), name
    for row in state.steps.rows:
        parts = [domain.steps.rows[domain.steps.rows["step"] == row["step"]] for domain in state.domains]
        for name in SUMMED:
            assert sum(int(part[name].sum()) for part in parts) == row[name], name
    assert sum(domain.pooled for domain in state.domains) == state.pool_size
    for number, domain in enumerate(state.domains):
        assert domain.pooled == state.members(number).size
        assert (domain.progress.step, domain.progress.complete) == (state.progress.step, state.progress.complete)
        low, high = state.spec.exploration_bounds
        assert low <= domain.progress.exploration.easy <= high
    counted = [asdict(domain.progress.counts) for domain in state.domains]
    assert sum(each["effective"] for each in counted) == state.progress.counts.effective


@given(specs, traces)
def test_members_and_walks_stay_sound(spec: dict[str, Any], trace: list[Action]) -> None:
    state = RunState(Created(RunSpec.of(spec).to_dict()))
    for action in trace:
        for event in plan(state, action):
            fold(state, event)
        members = [state.members(number) for number in range(len(state.domains))]
        if members:
            assert sorted(np.concatenate(members).tolist()) == sorted(state.pool[: state.pool_size].tolist())
        for domain in state.domains:
            cursor = domain.walk.cursor
            assert 0 <= cursor.position <= cursor.size <= domain.pooled
            assert abs(domain.walk.due) <= 1
