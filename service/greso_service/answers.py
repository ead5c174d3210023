"""The answers of the HTTP contract, as JSON bytes made from a state. Their schemas are in `api/wire.py`."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from greso_service import audited, by_domain
from greso_service.core import controller, difficulty, policy, target
from greso_service.core.assessment import Assessment
from greso_service.core.controller import Exploration
from greso_service.core.drawing import Drawn
from greso_service.core.draws import IdError, Ids
from greso_service.core.events import Reported, Selected
from greso_service.core.outcome import Outcome
from greso_service.core.policy import Reason, Selection
from greso_service.core.prompts import UNKNOWN, Index
from greso_service.core.spec import AUTO
from greso_service.core.state import RunState
from greso_service.errors import Fault, InvalidInput

KINDS = {"new": Outcome.UNDETERMINED, "effective": Outcome.EFFECTIVE, "easy": Outcome.EASY, "hard": Outcome.HARD}
_KIND_NAMES = {int(kind): name for name, kind in KINDS.items()}


@dataclass(frozen=True, slots=True)
class Answer:
    """A JSON body; `replayed` when it is the first answer to an idempotency key, given again."""

    body: bytes
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class PromptQuery:
    """Which prompts to list: of one `kind` or all, by descending `sort`, `limit` of them from `cursor` on.

    `search`: only those whose id contains it; `domain`: only those of it, without one if it is empty.
    """

    kind: str | None
    sort: str
    limit: int
    cursor: str | None
    search: str = ""
    domain: str | None = None


def run(name: str, state: RunState, generation: int | None = None) -> Answer:
    """Spec and state of a run; of another generation than the state's, if given."""
    content = {**summary(name, state), "spec": state.spec.to_dict()}
    return Answer(_json(content if generation is None else {**content, "generation": generation}))


def summary(name: str, state: RunState) -> dict[str, Any]:
    """The state of a run, JSON-ready."""
    totals = state.totals
    skipped = {"easy": totals.skipped_easy, "hard": totals.skipped_hard}
    return {
        "run": name,
        "generation": state.generation,
        "step": max(state.progress.step, 0),
        "exploration": _exploration(state.progress.exploration),
        "target": _target(state),
        "prompts": state.table.size,
        "pool": state.pool_size,
        "epoch": state.epoch,
        "totals": {
            "examined": totals.examined,
            "selected": totals.selected,
            "skipped": skipped,
            "groups": totals.groups,
            "effective": totals.effective,
            "zero_variance": {"easy": totals.easy, "hard": totals.hard},
            "undetermined": totals.undetermined,
            "rollouts": totals.rollouts,
            "rollouts_avoided": sum(skipped.values()) * state.spec.group_size,
            "seconds": {"rollout": totals.rollout_seconds, "update": totals.update_seconds},
            "effective_per_rollout_second": totals.timed_effective / totals.rollout_seconds
            if totals.rollout_seconds
            else None,
        },
        "audit": audited.content(state),
        "domains": by_domain.content(state),
    }


def _target(state: RunState) -> dict[str, Any]:
    progress, spec = state.progress, state.spec
    wanted = controller.targets(spec, progress.tuning)
    return {
        "easy": wanted.easy,
        "hard": wanted.hard,
        "auto": spec.target_zero_variance == AUTO,
        "reason": target.reason(progress.tuning, spec),
    }


def pool(added: int, size: int, priors: int | None = None) -> bytes:
    """The answer to an upload; `priors`: to how many prompts it gave one, None if it had none to give."""
    answer = {"added": added, "pool": size}
    return _json(answer if priors is None else {**answer, "priors": priors})


def select(state: RunState, event: Selected, selection: Selection, *, explain: bool, stale: bool) -> bytes:
    """The answer to a select."""
    answer = {
        "selected": np.flatnonzero(selection.keep),
        "examined": event.examined,
        "skipped": {"easy": event.skipped_easy, "hard": event.skipped_hard},
        "exploration": _exploration(state.progress.exploration),
        "rollout_batch_size": state.batch_size(event.step),
        "generation": state.generation,
        "stale": stale,
    }
    if explain:
        columns = (selection.keep, selection.reason, selection.keep_probability, selection.streak)
        answer["decisions"] = [
            {"keep": keep, "reason": _REASON_NAMES[reason], "keep_probability": probability, "streak": streak}
            for keep, reason, probability, streak in zip(*(column.tolist() for column in columns), strict=True)
        ]
    return _json(answer)


def draw(state: RunState, drawn: Drawn, prompts: list[str]) -> bytes:
    """The answer to a draw."""
    return _json(
        {
            "prompts": prompts,
            "epoch": drawn.epoch,
            "examined": drawn.event.examined,
            "skipped": {"easy": drawn.event.skipped_easy, "hard": drawn.event.skipped_hard},
            "exploration": _exploration(state.progress.exploration),
            "generation": state.generation,
        }
    )


def report(state: RunState, event: Reported, assessed: Assessment) -> bytes:
    """The answer to a report, from the state before it."""
    outcome, counts, progress = assessed.outcomes.outcome, assessed.counts, assessed.progress
    groups, effective = progress.counts.groups, progress.counts.effective
    if assessed.late and event.step != progress.step:  # an earlier step: its counts are those of its row
        groups, effective = state.steps.judged(event.step)
    return _json(
        {
            "effective": np.flatnonzero(outcome == Outcome.EFFECTIVE),
            "zero_variance": {"easy": counts.easy, "hard": counts.hard},
            "undetermined": event.index.size - counts.groups,
            "step": {
                "number": event.step,
                "groups": groups,
                "effective": effective,
                "missing": max(state.spec.train_batch_size - effective, 0),
                "complete": progress.is_complete(event.step),
            },
            "next_rollout_batch_size": state.batch_size(event.step, progress),
            "exploration": _exploration(progress.exploration),
            "generation": state.generation,
        }
    )


def steps(state: RunState, after: int, limit: int, domain: str | None = None) -> Answer:
    """The rows of at most `limit` steps after `after`, of the run or of one of its domains."""
    rows = by_domain.ledger(state, domain).steps.rows
    start = int(np.searchsorted(rows["step"], after, side="right"))
    return Answer(_json({"steps": [_step(state, row) for row in rows[start : start + limit]]}))


def _step(state: RunState, row: Any) -> dict[str, Any]:
    plain = dict(zip(row.dtype.names, row.tolist(), strict=True))
    return {
        "step": plain["step"],
        "examined": plain["examined"],
        "selected": plain["selected"],
        "skipped": {"easy": plain["skipped_easy"], "hard": plain["skipped_hard"]},
        "groups": plain["groups"],
        "effective": plain["effective"],
        "zero_variance": {"easy": plain["easy"], "hard": plain["hard"]},
        "rollouts": plain["rollouts"],
        "seconds": {"rollout": plain["rollout_s"], "update": plain["update_s"]},
        "p_easy": plain["p_easy"],
        "p_hard": plain["p_hard"],
        "rounds": plain["rounds"],
        "complete": state.progress.is_complete(plain["step"]),
    }


def prompts(state: RunState, query: PromptQuery) -> Answer:
    """A page of prompts and the cursor of the next one, null at the end."""
    size = state.table.size
    values = sort_values(state, query.sort)
    wanted = np.ones(size, np.bool_) if query.kind is None else state.view.kind == KINDS[query.kind]
    if query.domain is not None:
        wanted &= state.prompts.domain[:size] == by_domain.number(state, query.domain)
    if query.search:
        wanted &= state.table.containing(query.search.encode(errors="surrogatepass"))
    if query.cursor is not None:
        value, place = _parse_cursor(query.cursor)
        wanted &= (values < value) | ((values == value) & (np.arange(size) > place))
    index = np.flatnonzero(wanted)
    more = index.size > query.limit
    if more:
        # The page's last value decides who is in; ties are settled by index in the sort below.
        bound = -np.partition(-values[index], query.limit - 1)[query.limit - 1]
        index = index[values[index] >= bound]
    index = index[np.lexsort((index, -values[index]))][: query.limit]
    cursor = _make_cursor(values[index[-1]], index[-1]) if more else None
    return Answer(_json({"prompts": prompt_rows(state, index), "cursor": cursor}))


def sort_values(state: RunState, sort: str) -> NDArray[np.float64]:
    """float64[prompts]: the column to sort prompts by; -inf where a prompt has no value yet."""
    size = state.table.size
    column: NDArray[Any] = getattr(state.prompts, sort)[:size]
    absent = state.prompts.rewards[:size] == 0 if sort == "mean" else state.prompts.visits[:size] == 0
    return np.where(absent, -np.inf, column)


def prompt_rows(state: RunState, index: Index) -> list[dict[str, Any]]:
    """Prompts as they are listed, JSON-ready but for NaN (null)."""
    step = max(state.progress.step, 0)
    decided = policy.decide(state.question(step, index))
    rows = state.prompts
    names = [domain.name or None for domain in state.domains] or [None]
    columns = {
        "prompt": state.table.texts(index),
        "domain": [names[number] for number in rows.domain[index].tolist()],
        "streak": rows.streak[index].tolist(),
        "kind": [_KIND_NAMES[kind] for kind in rows.kind[index].tolist()],
        "keep_probability": decided.keep_probability.tolist(),
        "pass_rate": difficulty.pass_rate(state.beliefs(index, step), state.ability.value).tolist(),
        "visits": rows.visits[index].tolist(),
        "mean": np.where(rows.rewards[index] > 0, rows.mean[index], np.nan).tolist(),
        "last_step": np.ma.masked_array(rows.last_step[index], rows.visits[index] == 0).tolist(),
    }
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def named_in_path(state: RunState, name: str) -> Index:
    """int64[1]: the index of the prompt that a path names, `UNKNOWN` if the run doesn't know it."""
    try:
        return state.table.find(Ids.of([name]))
    except IdError as error:
        raise InvalidInput(Fault("/path/prompt", error.detail)) from None


def prompt(state: RunState, name: str) -> Answer | None:
    """One prompt with its recent groups, newest first; None if the run doesn't know it."""
    index = named_in_path(state, name)
    if index[0] == UNKNOWN:
        return None
    [row] = prompt_rows(state, index)
    row["groups"] = [
        {
            "step": int(group["step"]),
            "count": int(group["count"]),
            "mean": float(group["mean"]),
            "min": float(group["low"]),
            "max": float(group["high"]),
            "outcome": Outcome(int(group["outcome"])).name.lower(),
        }
        for group in state.recent(int(index[0]))
    ]
    return Answer(_json(row))


def _make_cursor(value: np.float64, place: np.int64) -> str:
    return base64.urlsafe_b64encode(f"{float(value)!r} {int(place)}".encode()).decode().rstrip("=")


def _parse_cursor(cursor: str) -> tuple[float, int]:
    try:
        value, place = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).split()
        return float(value), int(place)
    except (ValueError, binascii.Error):
        raise InvalidInput(Fault("/query/cursor", "is not a cursor that this service gave")) from None


def _exploration(exploration: Exploration) -> dict[str, float]:
    return {"easy": exploration.easy, "hard": exploration.hard}


def _json(content: dict[str, Any]) -> bytes:
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)


_REASON_NAMES = [reason.name.lower() for reason in Reason]
