"""Random runs: actions of trainers, and the events that they come to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from greso_service import plans
from greso_service.core.events import Created, Event, Patched
from greso_service.core.fold import fold
from greso_service.core.spec import POLICIES, RunSpec
from greso_service.core.state import RunState
from greso_service.errors import Conflict, InvalidInput
from greso_service.joining import Named
from greso_service.priors import Rates

from ..folding import named  # noqa: TID252

PROMPTS = ["a", "b", "c", "d", "a\0", "é", "漢字", "x" * 64, "e\u0301", " "]

prompts = st.sampled_from(PROMPTS)
steps = st.integers(0, 9)
rewards = st.lists(
    st.one_of(st.sampled_from([0.0, 1.0]), st.sampled_from([-0.0, 0.5, 1 - 1e-7, 1e-7, -1.0, 1e308]), st.floats(-2, 2)),
    max_size=6,
)
solved_or_not = st.sampled_from([[1.0, 1.0], [0.0, 0.0, 0.0], [0.0, 1.0], [1.0], [], [0.5, 0.5]])


domains = st.sampled_from(["math", "code", ""])
differing = st.fixed_dictionaries(
    {},
    optional={
        "target_zero_variance": st.sampled_from([0.0, 0.4]),
        "easy_share": st.just(1),
        "quota": st.sampled_from([0, 0.25, 0.5]),
    },
)
by_domain = st.dictionaries(st.sampled_from(["math", "code", "art"]), differing, max_size=2)

# What policies beside greso go by.
rankings: dict[str, st.SearchStrategy[Any]] = {
    "pass_rate_band": st.sampled_from([[0.1, 0.9], [0.4, 0.6], [0.0, 1.0]]),
    "posterior_decay": st.sampled_from([1.0, 0.7, 0.0]),
    "exploration_share": st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    "cooldown_steps": st.integers(0, 3),
    "audit_share": st.sampled_from([0.0, 0.3, 1.0]),
    "shadow": st.booleans(),
    "domains": by_domain,
}


@dataclass(frozen=True)
class Pool:
    """Prompts that join, the first with a pass rate and the samples it was measured on, the first with a domain."""

    prompts: list[str]
    rated: tuple[tuple[float, int], ...] = ()
    domains: tuple[str, ...] = ()

    @property
    def rates(self) -> Rates | None:
        """The first prompts' rates."""
        rated = self.rated[: len(self.prompts)]
        rate, samples = [rate for rate, _ in rated], [number for _, number in rated]
        return Rates(np.arange(len(rated)), np.array(rate, np.float64), np.array(samples, np.int64)) if rated else None

    @property
    def named(self) -> Named | None:
        """The first prompts' domains."""
        return named(self.domains[: len(self.prompts)])


@dataclass(frozen=True)
class Select:
    """Candidates."""

    step: int
    prompts: list[str]
    limit: int | None
    at_least: int


@dataclass(frozen=True)
class Draw:
    """A walk."""

    step: int
    count: int | None


@dataclass(frozen=True)
class Report:
    """Groups."""

    step: int
    groups: list[tuple[str, list[float]]]
    final: bool


@dataclass(frozen=True)
class Patch:
    """A change."""

    changes: dict[str, Any]


Action = Pool | Select | Draw | Report | Patch

actions: st.SearchStrategy[Action] = st.one_of(
    st.builds(Pool, st.lists(prompts, max_size=6)),
    st.builds(
        Pool,
        st.lists(prompts, max_size=6),
        st.lists(st.tuples(st.floats(0, 1), st.sampled_from([0, 1, 8, 65_535])), max_size=6).map(tuple),
    ),
    st.builds(Pool, st.lists(prompts, max_size=9), st.just(()), st.lists(domains, max_size=9).map(tuple)),
    st.builds(Select, steps, st.lists(prompts, max_size=8), st.none() | st.integers(0, 5), st.integers(0, 4)),
    st.builds(Draw, steps, st.none() | st.integers(0, 12)),
    st.builds(Report, steps, st.lists(st.tuples(prompts, rewards | solved_or_not), max_size=8), st.booleans()),
    st.builds(
        Patch,
        st.fixed_dictionaries(
            {},
            optional={
                "train_batch_size": st.integers(1, 9),
                "exploration_bounds": st.sampled_from([[0.1, 0.9], [0.4, 0.6], [0.0, 1.0]]),
                "exploration_step": st.sampled_from([0.0, 0.01, 0.3]),
                "target_zero_variance": st.sampled_from([0.3, "auto"]),
                "policy": st.sampled_from(POLICIES),
                **rankings,
                "easy_min_mean": st.sampled_from([None, 0.9]),
                "min_keep_probability": st.sampled_from([0.0, 0.01]),
            },
        ),
    ),
)

specs = st.fixed_dictionaries(
    {"train_batch_size": st.integers(1, 6)},
    optional={
        "policy": st.sampled_from(POLICIES),
        **rankings,
        "seed": st.integers(0, 2**63 - 1),
        "streak_rule": st.sampled_from(["zero_variance", "same_kind"]),
        "hard_max_mean": st.sampled_from([None, 0.2]),
        "exploration_step": st.sampled_from([0.01, 0.1, 0.7]),
        "target_zero_variance": st.sampled_from([0.0, 0.25, 1.0, "auto"]),
        "reward_tolerance": st.sampled_from([0.0, 1e-6, 0.3]),
    },
)

traces = st.lists(actions, max_size=25)


def plan(state: RunState, action: Action) -> list[Event]:
    """The events that a service would append for an action."""
    match action:
        case Pool(names):
            try:
                return list(plans.pool(state, names, "", rates=action.rates, domains=action.named).events)
            except InvalidInput:  # a prompt would change its domain
                return []
        case Select(step, names, limit, at_least):
            chosen = plans.select(state, step, names, limit=limit, at_least=at_least, explain=False, stale=False)
            return list(chosen.events)
        case Draw(step, count):
            try:
                return list(plans.draw(state, step, count).events)
            except Conflict:
                return []
        case Report(step, groups, final):
            names, earned = [name for name, _ in groups], [each for _, each in groups]
            return list(plans.report(state, step, names, earned, final=final).events)
        case Patch(changes):
            return [Patched(changes)]


def play(spec: dict[str, Any], trace: list[Action]) -> tuple[RunState, list[Event]]:
    """The state after a trace, and the events of it."""
    events: list[Event] = [Created(RunSpec.of(spec).to_dict())]
    state = RunState(Created(RunSpec.of(spec).to_dict()))
    for action in trace:
        for event in plan(state, action):
            fold(state, event)
            events.append(event)
    return state, events
