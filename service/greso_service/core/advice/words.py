"""Advice: one finding about a run, and how its figures are written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

LEVELS = ("problem", "warning", "hint", "good")
"""From grave to good. A problem: the filter can't work as things are. A warning: it saves less than it could, or costs
training something. A hint: worth knowing. Good: it works."""


@dataclass(frozen=True, slots=True)
class Advice:
    """One finding: `level` of `LEVELS`, a title, the figures in `detail`, what to do in `change`, empty if nothing."""

    code: str
    level: str
    title: str
    detail: str
    change: str = ""


def percent(share: float) -> str:
    """A share for people: 38 %, 8.3 %, 0.4 %."""
    digits = 0 if share == 0 or share >= 0.0995 else 1
    return f"{100 * share:.{digits}f} %"


def short(number: int) -> str:
    """A count for people: 950, 32k, 1.4M."""
    for suffix, size in (("M", 1_000_000), ("k", 1000)):
        if number >= size:
            return f"{number / size:.{0 if number >= 10 * size else 1}f}{suffix}"
    return str(number)


def patch(run: str, **fields: float | str | Sequence[float]) -> str:
    """How to set these fields of a live run."""
    sets = " and ".join(f"{name} to {_json(value)}" for name, value in fields.items())
    body = ", ".join(f'"{name}": {_json(value)}' for name, value in fields.items())
    return f"set {sets}: PATCH /v1/runs/{run} {{{body}}}"


def _json(value: float | str | Sequence[float]) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Sequence):
        return f"[{', '.join(map(_json, value))}]"
    return str(value) if isinstance(value, int) else f"{value:.6g}"
