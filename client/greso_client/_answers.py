"""Answers of the v1 contract, from JSON to values. What the contract doesn't allow raises one of `_reply.UNREADABLE`.

A reader with `_of` in its name also sees to it that the answer is one to the request: another run's, which a proxy may
keep, is none.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

from greso_client._fields import Json, flag, indices, inner, number, number_or_none, rows, text, texts, whole
from greso_client._types import (
    Decision,
    Drawn,
    Exploration,
    PoolSize,
    Reported,
    Selection,
    Skipped,
    StepProgress,
    ZeroVariance,
)
from greso_client._views import DomainState, DomainTotals, GroupRow, PromptState, RunState, StepRow, Totals

R = TypeVar("R")


def nothing(_: Json) -> None:
    """For answers without content."""


def run_state(body: Json) -> RunState:
    """Spec and state of a run."""
    totals = inner(body, "totals")
    return RunState(
        run=text(body, "run"),
        step=whole(body, "step"),
        exploration=_exploration(body),
        prompts=whole(body, "prompts"),
        pool=whole(body, "pool"),
        epoch=whole(body, "epoch"),
        spec=dict(inner(body, "spec")),
        totals=Totals(**_sums(totals), rollouts_avoided=whole(totals, "rollouts_avoided")),
        generation=whole(body, "generation"),
        domains=tuple(_domain(row) for row in rows(body, "domains")) if "domains" in body else (),
    )


def state_of(run: str) -> Callable[[Json], RunState]:
    """Reads the state of the run of this name, and of no other."""

    def read_state(body: Json) -> RunState:
        state = run_state(body)
        if state.run != run:
            raise ValueError(f"it is about run {state.run!r:.140}, not {run}")
        return state

    return read_state


def pool_size(body: Json) -> PoolSize:
    """Answer of a pool upload."""
    priors = body.get("priors")
    return PoolSize(added=whole(body, "added"), pool=whole(body, "pool"), priors=whole(body, "priors") if priors else 0)


def selection(body: Json) -> Selection:
    """Answer of select."""
    explained = body.get("decisions") is not None
    return Selection(
        selected=indices(body, "selected"),
        examined=whole(body, "examined"),
        skipped=_skipped(body),
        exploration=_exploration(body),
        rollout_batch_size=whole(body, "rollout_batch_size"),
        generation=whole(body, "generation"),
        stale=flag(body, "stale") if "stale" in body else False,
        decisions=[_decision(decision) for decision in rows(body, "decisions")] if explained else None,
    )


def selection_of(candidates: int, limit: int | None) -> Callable[[Json], Selection]:
    """Reads the answer to a select of so many candidates."""

    def read_selection(body: Json) -> Selection:
        answer = selection(body)
        _check_range(answer.selected, min(answer.examined, candidates))
        if answer.examined > candidates or (limit is not None and len(answer.selected) > max(limit, 0)):
            raise ValueError(f"it is about other candidates than the {candidates} of the request")
        return answer

    return read_selection


def drawn_of(count: int | None) -> Callable[[Json], Drawn]:
    """Reads the answer to a draw of `count` prompts, or of as many as the service says."""

    def read_drawn(body: Json) -> Drawn:
        prompts = texts(body, "prompts")
        if count is not None and len(prompts) > max(count, 0):
            raise ValueError(f"it has {len(prompts)} prompts, asked for were {count}")
        return Drawn(
            prompts=prompts,
            epoch=whole(body, "epoch"),
            examined=whole(body, "examined"),
            skipped=_skipped(body),
            exploration=_exploration(body),
            generation=whole(body, "generation"),
        )

    return read_drawn


def reported(body: Json) -> Reported:
    """Answer of report."""
    step = inner(body, "step")
    return Reported(
        effective=indices(body, "effective"),
        zero_variance=_zero_variance(body),
        undetermined=whole(body, "undetermined"),
        step=StepProgress(
            number=whole(step, "number"),
            groups=whole(step, "groups"),
            effective=whole(step, "effective"),
            missing=whole(step, "missing"),
            complete=flag(step, "complete"),
        ),
        next_rollout_batch_size=whole(body, "next_rollout_batch_size"),
        exploration=_exploration(body),
        generation=whole(body, "generation"),
    )


def reported_of(step: int, groups: int) -> Callable[[Json], Reported]:
    """Reads the answer to a report of so many groups in a step."""

    def read_reported(body: Json) -> Reported:
        answer = reported(body)
        _check_range(answer.effective, groups)
        if answer.step.number != step:
            raise ValueError(f"it is about step {answer.step.number}, not {step}")
        return answer

    return read_reported


def answer_to(body: bytes) -> Callable[[Json], Reported]:
    """Reads the answer to a report with this body (of a request that is known to be one)."""
    sent = json.loads(body)
    return reported_of(sent["step"], len(sent["results"]))


def of_generation(reader: Callable[[Json], R], generation: int | None) -> Callable[[Json], R]:
    """Reads with `reader` the answer to a write of this generation: the service takes none of another one."""

    def read_of_generation(body: Json) -> R:
        answer = reader(body)
        if generation is not None and isinstance(answer, Selection | Drawn | Reported):
            # A stale answer is from a replica that may have missed a rewind.
            stale = isinstance(answer, Selection) and answer.stale
            if answer.generation != generation and not stale:
                raise ValueError(f"it is of generation {answer.generation}, not {generation}")
        return answer

    return read_of_generation


def step_rows(body: Json) -> list[StepRow]:
    """The recorded steps."""
    return [
        StepRow(
            step=whole(row, "step"),
            examined=whole(row, "examined"),
            selected=whole(row, "selected"),
            skipped=_skipped(row),
            groups=whole(row, "groups"),
            effective=whole(row, "effective"),
            zero_variance=_zero_variance(row),
            rollouts=whole(row, "rollouts"),
            p_easy=number(row, "p_easy"),
            p_hard=number(row, "p_hard"),
            rounds=whole(row, "rounds"),
            complete=flag(row, "complete"),
        )
        for row in rows(body, "steps")
    ]


def prompt_state(body: Json) -> PromptState:
    """One prompt and its recent groups."""
    return PromptState(
        prompt=text(body, "prompt"),
        streak=whole(body, "streak"),
        kind=text(body, "kind"),
        keep_probability=number(body, "keep_probability"),
        visits=whole(body, "visits"),
        mean=number_or_none(body, "mean"),
        last_step=None if body["last_step"] is None else whole(body, "last_step"),
        groups=[_group(row) for row in rows(body, "groups")],
    )


def _group(row: Json) -> GroupRow:
    return GroupRow(
        step=whole(row, "step"),
        count=whole(row, "count"),
        mean=number_or_none(row, "mean"),
        min=number_or_none(row, "min"),
        max=number_or_none(row, "max"),
        outcome=text(row, "outcome"),
    )


def _domain(row: Json) -> DomainState:
    return DomainState(
        domain=None if row["domain"] is None else text(row, "domain"),
        pool=whole(row, "pool"),
        share=number_or_none(row, "share"),
        exploration=_exploration(row),
        target=_exploration(row, "target"),
        totals=DomainTotals(**_sums(inner(row, "totals"))),
    )


def _sums(totals: Json) -> dict[str, Any]:
    return {
        "skipped": _skipped(totals),
        "zero_variance": _zero_variance(totals),
        **{
            name: whole(totals, name)
            for name in ("examined", "selected", "groups", "effective", "undetermined", "rollouts")
        },
    }


def _skipped(body: Json) -> Skipped:
    skipped = inner(body, "skipped")
    return Skipped(whole(skipped, "easy"), whole(skipped, "hard"))


def _zero_variance(body: Json) -> ZeroVariance:
    groups = inner(body, "zero_variance")
    return ZeroVariance(whole(groups, "easy"), whole(groups, "hard"))


def _exploration(body: Json, name: str = "exploration") -> Exploration:
    pair = inner(body, name)
    return Exploration(number(pair, "easy"), number(pair, "hard"))


def _decision(body: Json) -> Decision:
    return Decision(flag(body, "keep"), text(body, "reason"), number(body, "keep_probability"), whole(body, "streak"))


def _check_range(named: list[int], size: int) -> None:
    if named and named[-1] >= size:
        raise ValueError(f"it names indices outside the {size} items of the request")
