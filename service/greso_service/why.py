"""Why a prompt is rolled out or not in the step at work, for people: as JSON bytes. Its schema: `api/wire_views.py`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from greso_service import answers
from greso_service.answers import Answer
from greso_service.core import difficulty, policy, ranked_draw
from greso_service.core.controller import NO_STEP
from greso_service.core.draws import audit_uniforms_by_step, uniforms_by_step
from greso_service.core.policy import RANKINGS, Selection
from greso_service.core.prompts import UNKNOWN, Index
from greso_service.core.question import beta_mean
from greso_service.core.ranked_draw import Standing
from greso_service.core.state import RunState

AHEAD = 1000
"""Steps that are searched for the next one that would keep a prompt."""


def answer(state: RunState, name: str) -> Answer | None:
    """Whether a prompt is kept in the step at work, and why; None if the run doesn't know it."""
    index = answers.named_in_path(state, name)
    if index[0] == UNKNOWN:
        return None
    step = _step_at_work(state)
    row = answers.prompt_rows(state, index)[0]
    content = {field: row[field] for field in ("prompt", "kind", "streak", "keep_probability", "visits")}
    content |= {"step": step, **_predicted(state, index, step)}
    content |= {"next_kept_step": None, "rank": None, "ranked": None, "free_from": None}
    content |= _ranked(state, index, content) if state.spec.policy in RANKINGS else _filtered(state, index, content)
    del content["visits"]
    return Answer(orjson.dumps(content))


def _predicted(state: RunState, index: Index, step: int) -> dict[str, float]:
    """What the item-response model expects of the prompt, whatever the policy is."""
    belief, ability = state.beliefs(index, step), state.ability.value
    return {
        "pass_rate": float(difficulty.pass_rate(belief, ability)[0]),
        "effective_chance": float(difficulty.effective(belief, ability, state.spec.group_size)[0]),
    }


def _step_at_work(state: RunState) -> int:
    """The newest step that anything is known of, or the one behind it if that is complete."""
    rows = state.steps.rows
    newest = max(state.progress.step, int(rows["step"][-1]) if len(rows) else NO_STEP)
    return newest + state.progress.is_complete(newest)


# Filters


def _filtered(state: RunState, index: Index, content: dict[str, Any]) -> dict[str, Any]:
    steps = np.arange(content["step"], content["step"] + AHEAD + 1)
    draws, selection = _over_steps(state, index, steps)
    kept = np.flatnonzero(selection.keep)
    told = {
        "draw": float(draws[0]),
        "keep": bool(selection.keep[0]),
        "next_kept_step": int(steps[kept[0]]) if kept.size else None,
    }
    sentence = _sentence(state, {**content, **told}, bool(selection.audited[0]))
    if _undrawn(state, int(index[0])):
        told |= {"keep": False, "next_kept_step": None}
        sentence = f"{_NO_SHARE}. If the trainer offers it: {sentence[0].lower()}{sentence[1:]}"
    return {**told, "sentence": sentence}


def _undrawn(state: RunState, index: int) -> bool:
    """Whether a prompt is of a domain that has prompts in the pool, and no share of the draws."""
    numbers = {scope.number for scope in state.scopes()}
    return bool(state.prompts.pooled[index]) and None not in numbers and int(state.prompts.domain[index]) not in numbers


def _over_steps(state: RunState, index: Index, steps: NDArray[np.int64]) -> tuple[NDArray[np.float64], Selection]:
    """One prompt's draws in these steps, and what the run's filter decides of it in each if nothing changes."""
    hash_, seed = state.table.hashes[index[0]], state.spec.seed
    draws = uniforms_by_step(hash_, seed, steps)
    question = state.question(int(steps[0]), np.full(steps.size, index[0]))
    question = replace(question, keyed=lambda: draws, audits=lambda: audit_uniforms_by_step(hash_, seed, steps))
    return draws, policy.select(question)


def _sentence(state: RunState, content: dict[str, Any], audited: bool) -> str:
    spec, step, next_kept = state.spec, content["step"], content["next_kept_step"]
    if spec.policy == "uniform":
        return f"The policy is uniform, which keeps every prompt: kept in step {step}."
    if content["keep_probability"] >= 1:
        return f"{_always(state, content)}, so it is kept in step {step}, whatever its draw."
    reason = _band(state, content) if spec.policy == "band" else _reason(state, content)
    text = f"{reason}; its draw for step {step} is {_short(content['draw'])}"
    if audited:
        why = "the run is a shadow run" if spec.shadow else "this step's audit takes it, to see what skips lose"
        return f"{text}: the policy would skip it, but {why}, so it is rolled out."
    text += f": {'kept' if content['keep'] else 'skipped'}."
    if content["keep"]:
        return text
    if next_kept is None:
        return f"{text} If nothing changes, none of the next {AHEAD:,} steps keeps it."
    return f"{text} If nothing changes, step {next_kept} is the next that keeps it."


def _always(state: RunState, content: dict[str, Any]) -> str:
    """Why a prompt is kept for certain."""
    if state.spec.policy == "band":
        return _band(state, content).partition(", so it")[0]
    if content["kind"] == "new":
        return "No group of it was judged yet"
    if content["kind"] == "effective" or not content["streak"]:
        return "Its last group was effective"
    return _reason(state, content).partition(", so it")[0] + ", but its keep probability is 1"


def _band(state: RunState, content: dict[str, Any]) -> str:
    if not content["visits"]:
        return "No group of it was reported yet"
    low, high = state.spec.pass_rate_band
    index = answers.named_in_path(state, content["prompt"])
    rate = float(beta_mean(state.view.of(index))[0])
    where = "inside" if low <= rate <= high else "outside of"
    return (
        f"Its estimated pass rate {_short(rate)} is {where} pass_rate_band [{low:g}, {high:g}], so it is kept with"
        f" probability {_short(content['keep_probability'])}"
    )


def _reason(state: RunState, content: dict[str, Any]) -> str:
    streak, kind, probability = content["streak"], content["kind"], content["keep_probability"]
    index = answers.named_in_path(state, content["prompt"])
    domain = state.domains[int(state.prompts.domain[index[0]])] if state.domains else state
    p = getattr(domain.progress.exploration, kind)
    groups = "Its last group" if streak == 1 else f"Its last {streak:,} groups"
    taught = f"taught nothing ({'solved' if kind == 'easy' else 'not solved'}{'' if streak == 1 else ' the last time'})"
    power = _short(p) if streak == 1 else f"{_short(p)}^{streak:,}"
    if streak == 1 and p == probability:
        reckoned = power
    elif probability > p**streak and probability == state.spec.min_keep_probability:
        reckoned = f"{_short(probability)}, the floor min_keep_probability ({power} is less)"
    else:
        reckoned = f"{power} = {_short(probability)}"
    return f"{groups} {taught}, so it is kept with probability {reckoned}"


# Rankings


def _ranked(state: RunState, index: Index, content: dict[str, Any]) -> dict[str, Any]:
    """Of a prompt outside of the pool nobody can say: what it is compared with is known when it is offered."""
    step = content["step"]
    pooled = bool(state.prompts.pooled[index[0]])
    stands = ranked_draw.standing(state, step, int(index[0])) if pooled else None
    told = {
        "draw": float(state.question(step, index).draws[0]),
        "keep": None if stands is None else state.spec.shadow or stands.taken,
        "rank": stands and stands.rank,
        "ranked": stands and stands.among,
        "free_from": stands and stands.free_from,
    }
    return {**told, "sentence": f"{_expected(state, content)} {_place(state, stands, step)}"}


def _expected(state: RunState, content: dict[str, Any]) -> str:
    score = _short(content["keep_probability"])
    known = "" if content["visits"] else "It was never rolled out. "
    match state.spec.policy:
        case "irt":
            text = f"The model expects a pass rate of {_short(content['pass_rate'])}, and an effective group with"
            text += f" probability {_short(content['effective_chance'])}; its score is {score}"
        case "p_mixed":
            text = f"By its own rewards a group is effective with probability {score}, its score"
        case _:
            text = f"A sample of what its pass rate may be, by its own rewards, scores {score}; 1 is a pass rate of 1/2"
    return f"{known}{text}."


_NO_SHARE = "Its domain has no share of the draws, so none takes it"


def _place(state: RunState, stands: Standing | None, step: int) -> str:
    if stands is None:
        return "It is not in the pool: the best of the candidates that are offered with it are taken."
    if not stands.among:
        return f"{_NO_SHARE}."
    if stands.rank is None and stands.free_from is None:
        return f"Step {step} ranks another part of the pool: it is taken only if the walk brings it."
    if stands.free_from is not None:
        return f"It was drawn lately, so draws leave it alone until step {stands.free_from}."
    text = f"That is rank {stands.rank:,} of {stands.among:,} prompts that step {step} ranks;"
    if state.spec.shadow:
        return f"{text} but the run is a shadow run: draws walk the pool."
    text += f" its next draw takes the best {stands.by_rank:,}"
    if stands.walked:
        text += f", and {stands.walked:,} more as the walk of the pool brings them"
    return f"{text}: {'taken' if stands.taken else 'left out, unless the walk brings it'}."


def _short(value: float) -> str:
    """A probability with two digits that count."""
    return f"{value:.2g}"
