"""What audits found, JSON-ready; its schema is in `api/wire_audit.py`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from greso_service.core.audit import Found
from greso_service.core.policy import RANKINGS
from greso_service.core.state import RunState


def content(state: RunState) -> dict[str, Any]:
    """What audits found; a rate or interval without a group is None, and so is `shadow` outside of a shadow run."""
    audits = state.audits
    told: dict[str, Any] = {
        kind: {**asdict(found), "false_skip_rate": found.rate, "interval": _interval(found)}
        for kind, found in (("easy", audits.easy), ("hard", audits.hard))
    }
    told["kept"] = {**asdict(audits.kept), "effective_rate": audits.kept.rate, "interval": _interval(audits.kept)}
    told["shadow"] = _shadow(state) if state.spec.shadow else None
    return told


def _interval(found: Found) -> tuple[float, float] | None:
    return found.interval() if found.groups else None


def _shadow(state: RunState) -> dict[str, Any]:
    """What a shadow run's policy would have saved and lost. A ranking takes others in their place: it loses nobody."""
    audits, filtered = state.audits, state.spec.policy not in RANKINGS
    every, skipped = audits.all, audits.left_out
    return {
        **asdict(every),
        "effective_rate": every.rate,
        "lost": skipped.effective if filtered else None,
        "lost_share": audits.lost if filtered else None,
        "rollouts_skipped": skipped.rollouts,
        "rollouts_saved": audits.saved,
    }
