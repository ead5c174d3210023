"""An event as it is told to people and programs: its counts, and on request all that is in it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np

from greso_service.core.events import (
    Created,
    Event,
    Forked,
    Joined,
    Part,
    Patched,
    Pooled,
    Priors,
    Reported,
    Rewound,
    Selected,
    Span,
)
from greso_service.core.outcome import Rewards
from greso_service.history.codec import Recorded


def told(number: int, recorded: Recorded, *, full: bool) -> dict[str, Any]:
    """The event of this number in its run, JSON-ready (arrays stay arrays)."""
    content = {"number": number, "at": _time(recorded.at_ms), **_counts(recorded.event)}
    return {**content, **_rest(recorded.event)} if full else content


def _counts(event: Event) -> dict[str, Any]:
    match event:
        case Selected():
            content = _selected(event)
        case Reported():
            content = _reported(event)
        case Created():
            content = {"spec": dict(event.spec)}
        case Patched():
            content = {"changes": dict(event.changes)}
        case Pooled():
            content = {"joined": event.index.size, "new_prompts": len(event.new)}
        case Joined():
            content = {"joined": event.index.size, "new_domains": event.new}
        case Priors():
            content = {"prompts": event.index.size}
        case Rewound():
            content = {"step": event.step, "generation": event.generation}
        case Forked():
            content = {"run": event.run, "step": event.step}
    return content


def _selected(event: Selected) -> dict[str, Any]:
    audited = event.audited
    cursors = [event.cursor, *(part.walk.cursor for part in event.parts if part.walk is not None)]
    return {
        "step": event.step,
        "examined": event.examined,
        "selected": event.selected,
        "skipped": {"easy": event.skipped_easy, "hard": event.skipped_hard},
        "audited": None if audited is None else {"easy": len(audited.easy), "hard": len(audited.hard)},
        "epoch": min((cursor.epoch for cursor in cursors if cursor is not None), default=None),
        "ranked": event.ranked is not None,
    }


def _reported(event: Reported) -> dict[str, Any]:
    values, seconds = event.rewards.values, event.seconds
    with np.errstate(over="ignore"):
        mean = float(values.mean()) if values.size else None
    return {
        "step": event.step,
        "final": event.final,
        "groups": event.index.size,
        "mixed": _mixed(event.rewards),
        "rollouts": values.size,
        "mean": mean,
        "new_prompts": len(event.new),
        "seconds": None if seconds is None else {"rollout": seconds.rollout, "update": seconds.update},
    }


def _mixed(rewards: Rewards) -> int:
    """How many groups have rewards that are not all equal; without a run's spec this is what can be told of them."""
    lengths = rewards.lengths.astype(np.int64)
    starts = (np.cumsum(lengths) - lengths)[lengths > 0]
    if not starts.size:
        return 0
    low, high = np.minimum.reduceat(rewards.values, starts), np.maximum.reduceat(rewards.values, starts)
    return int(np.count_nonzero(low != high))


def _rest(event: Event) -> dict[str, Any]:
    content: dict[str, Any] = {}
    match event:
        case Pooled():
            content = {"ids": _texts(event.new), "index": event.index}
        case Joined():
            content = {"index": event.index, "domain": event.domain}
        case Priors():
            content = {"index": event.index, "passed": event.passed, "tried": event.tried}
        case Selected():
            ranked, audited = event.ranked, event.audited
            content = {
                "sampled_skipped": event.skipped,
                "ranked_index": None if ranked is None else ranked.index,
                "parts": list(map(_part, event.parts)),
                "audited_index": None if audited is None else {"easy": audited.easy, "hard": audited.hard},
            }
        case Reported():
            ends = np.cumsum(event.rewards.lengths.astype(np.int64))
            groups = np.split(event.rewards.values, ends[:-1]) if ends.size else []
            content = {"ids": _texts(event.new), "index": event.index, "rewards": groups}
        case Rewound():
            content = {"kept": [_span(span) for span in event.kept]}
    return content


def _part(part: Part) -> dict[str, Any]:
    skipped = {"easy": part.skipped_easy, "hard": part.skipped_hard}
    return {"domain": part.domain, "examined": part.examined, "selected": part.selected, "skipped": skipped}


def _span(span: Span) -> dict[str, Any]:
    return {"after": str(span.after), "until": str(span.until), "step": span.step}


def _texts(ids: list[bytes]) -> list[str]:
    return [each.decode(errors="replace") for each in ids]


def _time(at_ms: int) -> str | None:
    """RFC 3339; None for a time that no calendar has."""
    try:
        return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")
    except (OverflowError, ValueError, OSError):
        return None
