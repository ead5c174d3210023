"""The domains of a run as they stand, JSON-ready; their schema is in `api/wire.py`."""

from __future__ import annotations

from typing import Any

import numpy as np

from greso_service.core import domains, quotas
from greso_service.core.domains import REST, Domain
from greso_service.core.ledger import Ledger
from greso_service.core.state import RunState
from greso_service.errors import Fault, InvalidInput


def content(state: RunState) -> list[dict[str, Any]]:
    """Every domain, in the order in which they came; the prompts without one last, named None, if there are any."""
    if not state.domains:
        return []
    names = [domain.name for domain in state.domains]
    share = quotas.shares(state.spec, names, np.array([domain.pool for domain in state.domains])).tolist()
    divided = quotas.in_force(state.spec)
    rows = [
        _row(state, domain, own if divided else None) for domain, own in zip(state.domains, share, strict=True)
    ]  # fmt: skip
    return [*rows[1:], *(rows[:1] if state.domains[0].pool or state.domains[0].totals.groups else [])]


def _row(state: RunState, domain: Domain, share: float | None) -> dict[str, Any]:
    totals, exploration = domain.totals, domain.progress.exploration
    wanted = domains.targets(state.spec, domain.name, state.progress.tuning)
    return {
        "domain": domain.name or None,
        "pool": domain.pool,
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
    there = ", ".join(domain.name for domain in state.domains[1:]) or "none"
    raise InvalidInput(Fault("/query/domain", f"the run has no domain {name!r}; it has: {there}"))


def ledger(state: RunState, name: str | None) -> Ledger:
    """What happened in a domain, None: in the whole run. Raises `InvalidInput`."""
    if name is None or (not state.domains and name == REST):
        return state
    return state.domains[number(state, name)]
