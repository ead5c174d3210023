"""Folds events into a RunState as the service does, without a store; and compares states bit for bit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from greso_service import plans
from greso_service.core.controller import Counts, Exploration
from greso_service.core.difficulty import Ability
from greso_service.core.domains import Domain
from greso_service.core.draws import Ids
from greso_service.core.events import Created, Event
from greso_service.core.fold import fold as fold_one
from greso_service.core.policy import PromptView, Question
from greso_service.core.prompt_arrays import PromptArrays
from greso_service.core.spec import RunSpec
from greso_service.core.state import RunState
from greso_service.joining import Named
from greso_service.plans import Plan
from greso_service.priors import Carried, Rates

EVEN = Exploration(0.5, 0.5)

Groups = Sequence[tuple[str, Sequence[float]]]


def run(**spec: Any) -> RunState:
    """A new run."""
    return RunState(Created(RunSpec.of(spec).to_dict()))


def fold(state: RunState, events: Iterable[Event]) -> RunState:
    """The state, moved on."""
    for event in events:
        fold_one(state, event)
    return state


def _done(state: RunState, plan: Plan) -> Any:
    fold(state, plan.events)
    return json.loads(plan.answer)


def report(state: RunState, step: int, groups: Groups, *, final: bool = False) -> Any:
    """Report groups, fold the report and return the answer."""
    prompts, rewards = [prompt for prompt, _ in groups], [earned for _, earned in groups]
    return _done(state, plans.report(state, step, prompts, rewards, final=final))


def select(state: RunState, step: int, prompts: Sequence[str], *, limit: int | None = None, at_least: int = 0) -> Any:
    """Select, explained."""
    return _done(state, plans.select(state, step, prompts, limit=limit, at_least=at_least, explain=True, stale=False))


def draw(state: RunState, step: int, count: int | None = None) -> Any:
    """Draw from the pool."""
    return _done(state, plans.draw(state, step, count))


def pool(
    state: RunState,
    prompts: Sequence[str],
    rates: Rates | None = None,
    carried: Carried | None = None,
    domains: Sequence[str] = (),
) -> Any:
    """Add prompts to the pool; `domains`: those of the first prompts, "" for none."""
    return _done(state, plans.pool(state, prompts, "/prompts", rates=rates, carried=carried, domains=named(domains)))


def named(domains: Sequence[str]) -> Named | None:
    """The domains of an upload's first prompts, "" for none."""
    rows = [row for row, name in enumerate(domains) if name]
    return Named(np.array(rows, np.int64), [domains[row] for row in rows]) if rows else None


def rates(rate: Sequence[float], samples: Sequence[int] | None = None) -> Rates:
    """Pass rates of an upload's first prompts."""
    counts = [0] * len(rate) if samples is None else samples
    return Rates(np.arange(len(rate)), np.array(rate, np.float64), np.array(counts, np.int64))


def streak(state: RunState, prompt: str) -> tuple[int, int]:
    """z and kind of a prompt, as numbers."""
    view = state.view.of(state.table.find(Ids.of([prompt])))
    return int(view.streak[0]), int(view.kind[0])


def mixed(effective: int, easy: int, hard: int, prefix: str = "p") -> list[tuple[str, list[float]]]:
    """So many groups of each outcome, of distinct prompts."""
    rewards = [[0.0, 1.0]] * effective + [[1.0, 1.0]] * easy + [[0.0, 0.0]] * hard
    return [(f"{prefix}{number}", earned) for number, earned in enumerate(rewards)]


def question(
    streaks: Sequence[int],
    kinds: Sequence[int],
    draws: Sequence[float],
    exploration: Exploration = EVEN,
    **spec: Any,
) -> Question:
    """A decision about candidates whose state and draws are given."""
    drawn = np.array(draws, np.float64)
    return Question(
        RunSpec.of(spec), exploration, Ability(), 0, 1_000_000, view(streaks, kinds), lambda: drawn, lambda: drawn
    )


def view(streaks: Sequence[int], kinds: Sequence[int]) -> PromptView:
    """Prompts of these streaks and kinds, of which nothing else is known."""
    rows = PromptArrays(streak=np.array(streaks, np.int32), kind=np.array(kinds, np.int8))
    rows.grow(len(streaks))
    return PromptView(rows, slice(0, len(streaks)))


def ranked(
    policy: str,
    known: Sequence[tuple[float, float]],
    draws: Sequence[float] | None = None,
    *,
    step: int = 0,
    **spec: Any,
) -> Question:
    """A decision about prompts of so many passed and failed responses, all seen before; (0, 0): never seen."""
    size = len(known)
    asked = question([0] * size, [0] * size, [0.5] * size if draws is None else draws, policy=policy, **spec)
    rows = asked.candidates.rows
    rows.passed[:size], rows.failed[:size] = np.array(known, np.float32).reshape(-1, 2).T
    seen = rows.passed[:size] + rows.failed[:size] > 0
    rows.visits[:size], rows.variance[:size] = seen, np.where(seen, 1, 0)
    return replace(asked, step=step)


def counts(effective: int = 0, easy: int = 0, hard: int = 0, seen: bool = True) -> Counts:
    """Counts of a report, all of prompts seen before or all of new ones."""
    return Counts(effective, easy, hard, effective + easy + hard if seen else 0)


def content(state: RunState) -> dict[str, Any]:
    """Everything a state holds, to the bit (floats as bytes), for comparing two of them."""
    size = state.table.size
    arrays = {name: getattr(state.prompts, name)[:size].tobytes() for name in PromptArrays.__slots__}
    words, lengths = state.table.packed()
    return {
        **arrays,
        "recent": state.groups.of(np.arange(size)).tobytes(),
        "words": words.tobytes(),
        "lengths": lengths.tobytes(),
        "hashes": state.table.hashes.tobytes(),
        "texts": state.table.texts(range(size)),
        "pool": state.pool[: state.pool_size].astype(np.int64).tobytes(),
        "cursor": asdict(state.cursor),
        "steps": state.steps.rows.tobytes(),
        "totals": asdict(state.totals),
        "progress": asdict(state.progress),
        "created": state.created,
        "spec": state.spec,
        "generation": state.generation,
        "ability": state.ability,
        "owed": state.owed,
        "told_from": state.told_from,
        "audits": asdict(state.audits),
        "domains": [_domain(domain) for domain in state.domains],
        "streaks": state.streaks.table.tobytes(),
        "sample": (state.sample.index.tolist(), state.sample.count.tolist(), state.sample.rows.tobytes()),
    }


def digest(state: RunState) -> str:
    """SHA-256 over all that a state holds, for comparing states of two processes."""
    return hashlib.sha256(repr(content(state)).encode()).hexdigest()


def _domain(domain: Domain) -> dict[str, Any]:
    fields = {name: asdict(getattr(domain, name)) for name in ("progress", "totals", "walk")}
    return {"name": domain.name, "pool": domain.pooled, "steps": domain.steps.rows.tobytes(), **fields}
