"""The domains of a run as they stand, JSON-ready; their schema is in `api/wire.py`."""

from __future__ import annotations

from typing import Any

from greso_service.core import controller, domains, quotas
from greso_service.core.domains import REST, Domain, begun
from greso_service.core.ledger import Ledger
from greso_service.core.state import RunState
from greso_service.errors import Fault, InvalidInput


def content(state: RunState) -> list[dict[str, Any]]:
    """Every domain in the order in which they came, those that only the spec names, prompts without one (None) last."""
    named = {domain.name for domain in state.domains}
    share = quotas.shares(state.spec, state.domains) if quotas.in_force(state.spec) else [None] * len(state.domains)
    rows = [_row(state, *each) for each in zip(state.domains, share, strict=True)]
    waiting = [
        _row(state, begun(name, state.progress), None) for name in sorted(state.spec.domains) if name not in named
    ]
    return [*rows[1:], *waiting, *(rows[:1] if state.domains and state.domains[0].told else [])]


def _row(state: RunState, domain: Domain, share: float | None) -> dict[str, Any]:
    totals, exploration = domain.totals, domain.progress.exploration
    wanted = domains.targets(state.spec, domain.name, controller.targets(state.spec, state.progress.tuning))
    return {
        "domain": domain.name or None,
        "pool": domain.pooled,
        "share": share,
        "exploration": {"easy": exploration.easy, "hard": exploration.hard},
        "target": {"easy": wanted.easy, "hard": wanted.hard},
        "totals": {
            "examined": totals.examined,
            "selected": totals.selected,
            "skipped": {"easy": totals.skipped_easy, "hard": totals.skipped_hard},
            "groups": totals.groups,
            "effective": totals.effective,
            "zero_variance": {"easy": totals.easy, "hard": totals.hard},
            "undetermined": totals.undetermined,
            "rollouts": totals.rollouts,
        },
    }


def number(state: RunState, name: str) -> int:
    """The number of a domain; an empty name: of the prompts without one. Raises `InvalidInput`."""
    if name == REST:
        return 0
    for place, domain in enumerate(state.domains):
        if domain.name == name:
            return place
    there = ", ".join(domain.name for domain in state.domains[1:])
    raise InvalidInput(Fault("/query/domain", f"the run has no domain {name!r}; it has {there or 'no domains'}"))


def ledger(state: RunState, name: str | None) -> Ledger:
    """What happened in a domain, None: in the whole run. Raises `InvalidInput`."""
    if name is None or (not state.domains and name == REST):
        return state
    if name in state.spec.domains and name not in {domain.name for domain in state.domains}:
        return begun(name, state.progress)
    return state.domains[number(state, name)]
