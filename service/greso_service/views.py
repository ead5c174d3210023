"""The answers of the page and of `greso top`, as JSON bytes made from a state. Schemas: `api/wire_views.py`."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from greso_service import answers
from greso_service.answers import Answer
from greso_service.core import advice, sample
from greso_service.core.advice.signals import Signals, Stretch
from greso_service.core.outcome import Outcome
from greso_service.core.prompts import Index
from greso_service.core.state import RunState

_SUMMED = (
    "examined", "selected", "skipped_easy", "skipped_hard", "groups", "effective", "easy", "hard", "rollouts", "rounds",
)  # fmt: skip

_LETTERS = {
    Outcome.UNDETERMINED: "u",
    Outcome.EFFECTIVE: "v",
    Outcome.EASY: "e",
    Outcome.HARD: "h",
    sample.SKIPPED_EASY: "x",
    sample.SKIPPED_HARD: "y",
}
_LETTER = np.array([_LETTERS[what] for what in sorted(_LETTERS)])


def row(run: str, state: RunState, active_ms: int, now: float) -> dict[str, Any]:
    """A run in the overview of all. `now`: seconds since 1970."""
    content, found = _overview(run, state, active_ms, now)
    return {**content, "advice": [one.code for one in found]}


def overview(run: str, state: RunState, active_ms: int, now: float) -> Answer:
    """One run: its row, its spec and the advice in full."""
    content, found = _overview(run, state, active_ms, now)
    return _answer({**content, "spec": state.spec.to_dict(), "advice": [asdict(one) for one in found]})


def _overview(run: str, state: RunState, active_ms: int, now: float) -> tuple[dict[str, Any], list[advice.Advice]]:
    measured = Signals.of(run, state, max(now - active_ms / 1000, 0.0))
    found = advice.advise(measured)
    status = advice.status(measured, found)
    content = {
        **answers.summary(run, state),
        "active_at": datetime.fromtimestamp(active_ms / 1000, UTC),
        "policy": state.spec.policy,
        "saved_estimate": advice.savings.estimate(measured),
        "recent": _stretch(measured.recent),
        "first": {"steps": measured.first.steps, "effective": measured.first.effective},
        "status": status,
        "headline": advice.headline(measured, status, found),
    }
    return content, found


def _stretch(stretch: Stretch) -> dict[str, Any]:
    zero_variance = {kind: stretch.zero_variance(kind) for kind in ("easy", "hard")}
    return {
        "steps": stretch.steps,
        "skip_rate": stretch.skip_rate,
        "effective": stretch.effective,
        "zero_variance": zero_variance if stretch.groups else None,
        "rounds": stretch.rounds,
    }


def curves(state: RunState, after: int, points: int) -> Answer:
    """The steps after `after` as columns of at most `points` numbers, each the sum over as many steps as it takes."""
    rows = state.steps.rows
    rows = rows[int(np.searchsorted(rows["step"], after, side="right")) :]
    each = max(-(-len(rows) // points), 1)
    starts = np.arange(0, len(rows), each)
    last = np.minimum(starts + each, len(rows)) - 1
    columns: dict[str, Any] = {
        "step": rows["step"][last],
        "steps_per_point": each,
        "steps_in_last_point": len(rows) - int(starts[-1]) if len(rows) else 0,
    }
    for name in _SUMMED:
        # The running sum's type would else be the column's, 32 bits for rounds.
        columns[name] = np.add.reduceat(rows[name], starts, dtype=np.int64) if len(rows) else []
    columns |= {name: rows[name][last] for name in ("p_easy", "p_hard")}
    return _answer(
        {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in columns.items()}
    )


def selection_map(state: RunState, sort: str, limit: int) -> Answer:
    """What became of the sampled prompts, visit by visit; `limit` of them by descending `sort`."""
    index = np.asarray(state.sample.index, np.int64)
    order = np.lexsort((index, *(-key for key in _map_keys(state, sort, index))))[:limit]
    prompts = answers.prompt_rows(state, index[order])
    for prompt, slot in zip(prompts, order.tolist(), strict=True):
        steps, what = state.sample.visits(slot)
        prompt["steps"] = steps.tolist()
        prompt["what"] = "".join(_LETTER[what])
    return _answer({"sampled": index.size, "prompts": prompts})


def _map_keys(state: RunState, sort: str, index: Index) -> list[NDArray[np.float64]]:
    """What decides the order, the least important first."""
    streak = state.prompts.streak[index].astype(np.float64)
    if sort == "kind":
        return [streak, state.prompts.kind[index].astype(np.float64)]
    return [streak, answers.sort_values(state, sort)[index]]


def _answer(content: dict[str, Any]) -> Answer:
    return Answer(orjson.dumps(content))
