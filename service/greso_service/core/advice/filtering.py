"""How well the filter works: rules about targets, exploration and the pool. Each returns findings.

p goes down while a step's share of easy (hard) groups is at or above its target, else up (algorithm.md, section 3). So
a p that stays at its lower bound means: still too many, and p can't skip more. A p at its upper bound means: fewer than
the target even though nearly everything is tried again, so the target skips nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict

import numpy as np

from greso_service.core import controller
from greso_service.core.advice.signals import Signals
from greso_service.core.advice.trainer import ENOUGH_GROUPS, ENOUGH_STEPS
from greso_service.core.advice.words import Advice, patch, percent
from greso_service.core.outcome import Outcome
from greso_service.core.spec import AUTO, RunSpec

SKIPS = 0.05
"""Share of candidates skipped from which the filter counts as at work: less is no more than the swing of a step."""

SCARCE = 0.05
"""Share of effective groups below which hardly any group teaches: 20 of them for one that does."""

WASTED = 0.1
"""Share of groups of one kind from which a filter that skips nothing is a loss worth a warning."""

_KINDS = {"easy": Outcome.EASY, "hard": Outcome.HARD}
_NEAR = 1e-9  # p is rounded to 12 digits


def steering(signals: Signals) -> Iterator[Advice]:
    """Targets missed, and p at a bound, for each kind; only once prompts come back and there is enough to go by."""
    late = signals.late
    if not _telling(signals) or signals.spec.policy != "greso" or signals.spec.shadow:
        return  # in a shadow run there are groups that the policy would have skipped, and steers by the others alone
    if signals.state.domains:
        return  # each steers for itself, and the sum of them hides what it does
    skip_rate, total = signals.recent.skip_rate or 0.0, late.sum("easy") + late.sum("hard")
    if total < SKIPS * late.groups and skip_rate < SKIPS:
        yield Advice(
            "nothing_to_skip",
            "hint",
            "There is hardly anything to skip",
            f"Only {percent(total / late.groups)} of the groups teach nothing: the prompts fit the model.",
        )
        return
    tuned = signals.spec.target_zero_variance == AUTO  # a target on its way to where it pays
    for kind in _KINDS:
        found = _at_low_bound(signals, kind)
        if not found and not tuned:
            found = _at_high_bound(signals, kind) or _missed(signals, kind)
        if found:
            yield found


def _telling(signals: Signals) -> bool:
    late = signals.late
    return late.steps >= ENOUGH_STEPS and late.groups >= ENOUGH_GROUPS and signals.coming_back


def _measured(signals: Signals, kind: str) -> tuple[float, float, float]:
    """Share of groups of the kind lately, its target, and the p in force."""
    target, exploration = (
        controller.targets(signals.spec, signals.state.progress.tuning),
        signals.state.progress.exploration,
    )
    return signals.late.zero_variance(kind) or 0.0, getattr(target, kind), getattr(exploration, kind)


def _at_bound(signals: Signals, kind: str, bound: float) -> bool:
    """Whether p is at the bound, and was for `ENOUGH_STEPS` steps."""
    before, (_, _, p) = signals.late.rows[f"p_{kind}"][-ENOUGH_STEPS:], _measured(signals, kind)
    return abs(p - bound) < _NEAR and bool((np.abs(before - bound) < _NEAR).all())


def _at_low_bound(signals: Signals, kind: str) -> Advice | None:
    """p_kind can't go lower, and there are still more such groups than the target; a warning from half of all on."""
    (low, high), (share, target, _) = signals.spec.exploration_bounds, _measured(signals, kind)
    if low == high or not target or share < target or not _at_bound(signals, kind, low):
        return None
    detail, change = _source(signals, kind)
    return Advice(
        f"at_low_bound_{kind}",
        "warning" if share >= 0.5 else "hint",
        f"p_{kind} can't skip more",
        f"p_{kind} is at its lower bound {low:g}, and still {percent(share)} of the groups of the"
        f" last {signals.late.steps} steps are {kind} (the target is"
        f" {percent(target)}). {detail}",
        change,
    )


def _source(signals: Signals, kind: str) -> tuple[str, str]:
    """Where the groups of a kind come from, and what would make fewer of them."""
    lately, spec, run = signals.lately, signals.spec, signals.run
    streak = lately.streak[lately.kind == _KINDS[kind]]
    fresh = np.count_nonzero(streak == 1) / streak.size if streak.size else 1.0
    if fresh >= 0.5:
        other = "harder" if kind == "easy" else "easier"
        return (
            f"{percent(fresh)} of them come from prompts that were new or effective the time before, which no p skips.",
            f"{_add(other, run)}; to skip less and explore more, "
            + retarget(signals, **{kind: 1.25 * _measured(signals, kind)[0]}),
        )
    detail = f"{percent(1 - fresh)} of them come from prompts tried again, to see whether they teach by now."
    low, high = spec.exploration_bounds
    floored = low ** (streak[streak > 1].astype(np.float64) - 1) <= spec.min_keep_probability
    if np.count_nonzero(floored) >= 0.5 * floored.size:
        return detail, f"to try them less often, {patch(run, min_keep_probability=spec.min_keep_probability / 4)}"
    return detail, f"to try them less often, {patch(run, exploration_bounds=[low / 4, high])}"


def _at_high_bound(signals: Signals, kind: str) -> Advice | None:
    """p_kind can't go higher: the target is above what comes, so it keeps nearly everything.

    Below `SKIPS` of the groups there is little to gain. A warning if more of them come than the paper's target allows,
    or nothing is skipped although `WASTED` could be.
    """
    (low, high), (share, target, _) = signals.spec.exploration_bounds, _measured(signals, kind)
    if low == high or not SKIPS <= share < target or not _at_bound(signals, kind, high):
        return None
    skip_rate = signals.recent.skip_rate or 0.0
    lost = share >= getattr(controller.targets(RunSpec(), None), kind) or (share >= WASTED and skip_rate < SKIPS)
    # One change for both kinds, if both are at their bound: two would undo each other.
    wanted = {each: _measured(signals, each)[0] / 2 for each in _KINDS if _at_bound(signals, each, high)}
    return Advice(
        f"at_high_bound_{kind}",
        "warning" if lost else "hint",
        f"The target is too high: few {kind} prompts are skipped" if lost else f"More {kind} prompts could be skipped",
        f"{percent(share)} of the groups of the last {signals.late.steps} steps are {kind}, fewer than the target of"
        f" {percent(target)}, so p_{kind} has gone"
        f" up to its bound {high:g}, where it skips little. {percent(skip_rate)} of all candidates are skipped.",
        f"to save more, {retarget(signals, **wanted)}",
    )


def retarget(signals: Signals, **wanted: float) -> str:
    """How to give these kinds these targets; a kind not named keeps its own."""
    spec = signals.spec
    if spec.target_zero_variance == AUTO:
        low, high = spec.target_bounds
        return patch(signals.run, target_bounds=[low, min(float(f"{1.25 * high:.2g}"), 1.0)])
    targets = {**asdict(controller.targets(spec, signals.state.progress.tuning)), **wanted}
    total = min(float(f"{sum(targets.values()):.2g}"), 1.0)
    share = float(f"{min(targets['easy'] / total, 1.0):.2g}") if total else spec.easy_share
    changed = {"target_zero_variance": total}
    return patch(signals.run, **changed if abs(share - spec.easy_share) < 0.02 else {**changed, "easy_share": share})


def _missed(signals: Signals, kind: str) -> Advice | None:
    """More groups of the kind than the target, by a quarter and by more than chance, while p is on its way down.

    A warning if it will take more than 100 steps to the bound, a hint otherwise: that is what steering looks like.
    """
    late, spec, (share, target, p) = signals.late, signals.spec, _measured(signals, kind)
    chance = 3 * math.sqrt(target * (1 - target) / late.groups)  # three standard errors
    step, low = spec.exploration_step, spec.exploration_bounds[0]
    falling = p < float(late.rows[f"p_{kind}"][0]) - _NEAR
    if not target or share - target <= max(0.25 * target, chance) or p <= low + _NEAR or (step and not falling):
        return None
    steps = math.ceil((p - low) / step) if step else math.inf
    name = f"p_{kind}"
    if not step:
        way, change = f"{name} stays at {p:.2g}, as exploration_step is 0.", patch(signals.run, exploration_step=0.01)
    else:
        way = f"{name} is {p:.2g} and goes down by {step:g} a step: {steps} steps to its bound {low:g}."
        change = patch(signals.run, exploration_step=float(f"{(p - low) / 50:.1g}"))
        if steps <= 100:
            change = f"wait; or, to get there sooner, {patch(signals.run, **{name: max(low, float(f'{p / 2:.2g}'))})}"
    return Advice(
        f"target_missed_{kind}",
        "warning" if steps > 100 else "hint",
        f"More {kind} groups than the target",
        f"{percent(share)} of the groups of the last {late.steps} steps are {kind}, the target is {percent(target)}."
        f" {way}",
        change,
    )


def _add(kind: str, run: str) -> str:
    return f"add {kind} prompts: PUT /v1/runs/{run}/pool, or offer them to select"


def hardly_any_teaches(signals: Signals) -> bool:
    """Whether nearly all groups of the last steps were wasted, whatever was skipped before them."""
    return (signals.late.effective or 0.0) < SCARCE


def pool_exhausted(signals: Signals) -> Iterator[Advice]:
    """9 of 10 candidates are skipped; or half, and each step walks the whole pool, or hardly a group teaches. Even the
    best of a ranking hardly teach."""
    late, state = signals.late, signals.state
    rate, scarce = late.skip_rate or 0.0, hardly_any_teaches(signals)
    a_step = late.sum("examined") / late.steps if late.steps else 0.0
    walked = any(scope.walk.cursor.size for scope in state.scopes()) and a_step >= state.pool_size and rate >= 0.5
    used_up = scarce if signals.ranking else walked or rate >= 0.9 or (rate >= 0.5 and scarce)
    if not _telling(signals) or signals.spec.shadow or not used_up:
        return
    easy, hard = (int(state.streaks.table[kind, 1:].sum()) for kind in _KINDS.values())
    scope = f"Each step walks the whole pool of {state.pool_size:,} prompts. " if walked else ""
    scope += "The best are taken" if signals.ranking else f"{percent(rate)} of the candidates are skipped"
    yield Advice(
        "pool_exhausted",
        "warning",
        "Few prompts are left that teach",
        f"{scope}, and {percent(late.effective or 0)} of the groups rolled out teach. Of {signals.distinct:,} prompts"
        f" {easy:,} were last all solved and {hard:,} not at all.",
        _add("harder" if easy >= hard else "easier", signals.run),
    )


def short_steps(signals: Signals) -> Iterator[Advice]:
    """Half of the last steps ended short of `train_batch_size`, by a tenth of it on average."""
    late, spec = signals.late, signals.spec
    batch, rate = spec.train_batch_size, late.effective
    if late.steps < ENOUGH_STEPS or not rate:
        return
    short, mean = late.rows["effective"] < batch, late.sum("effective") / late.steps
    if np.count_nonzero(short) < 0.5 * late.steps or mean >= 0.9 * batch:
        return
    needed = math.ceil(spec.safety_factor * batch / rate)
    more = f"if so few are meant, set train_batch_size to {max(round(mean), 1)}; else let a step take more rounds"
    more += " (max_rounds of the client's collect)"
    if spec.rollout_batch_size < needed <= 1_000_000:
        more += f", or {patch(signals.run, rollout_batch_size=needed)}"
    yield Advice(
        "short_steps",
        "warning",
        "Steps train on too few groups",
        f"Steps ended with {mean:,.0f} effective groups on average instead of {batch:,}, after {late.rounds or 0:.1f}"
        f" rounds; {percent(rate)} of {late.groups / late.steps:,.0f} groups were effective.",
        more,
    )


def before_filtering(signals: Signals) -> Iterator[Advice]:
    """Nothing can be skipped: the policy keeps everything, or no prompt has come a second time yet."""
    state = signals.state
    if signals.spec.policy == "uniform":
        yield Advice(
            "policy_uniform",
            "hint",
            "The filter is off",
            "The policy is uniform: every prompt is kept. That is right for a run to compare others with.",
            f"unless it is there for that, {patch(signals.run, policy='greso')}",
        )
    elif signals.ranking and signals.judged and not signals.coming_back:
        yield Advice(
            "first_epoch",
            "hint",
            "The ranking is still getting to know the prompts",
            f"{signals.distinct:,} of {state.table.size:,} prompts were rolled out, hardly any twice. Of the others it"
            " knows nothing, and takes any of them.",
        )
    elif signals.judged and not signals.coming_back:
        left, progress = "", ""
        a_step = signals.recent.sum("examined") / signals.recent.steps if signals.recent.steps else 0.0
        if state.cursor.size and not state.cursor.epoch and a_step:
            steps = math.ceil((state.cursor.size - state.cursor.position) / a_step)
            progress = f" {percent(state.cursor.position / state.cursor.size)} of the pool are walked,"
            left = f" about {steps:,} steps are left of the first epoch."
        yield Advice(
            "first_epoch",
            "hint",
            "First epoch: nothing can be skipped yet",
            f"A prompt can be skipped when it comes a second time.{progress or _none_twice(signals)}{left}",
        )


def _none_twice(signals: Signals) -> str:
    """What a trainer that brings its own candidates can compare with its data set."""
    if signals.recent.steps < ENOUGH_STEPS:
        return ""
    steps = int(np.count_nonzero(signals.state.steps.rows["groups"]))
    return (
        f" In {steps:,} steps hardly any of {signals.distinct:,} ids has come twice. If the data set has fewer prompts"
        " than that, the ids change from epoch to epoch; they must stay the same."
    )


def large_rounds(signals: Signals) -> Iterator[Advice]:
    """Steps of one round bring more effective groups than `train_batch_size`, by more than a quarter."""
    late, spec = signals.late, signals.spec
    batch, rate = spec.train_batch_size, late.effective
    if not _telling(signals) or not rate or (late.rounds or 0.0) > 1.1 or spec.policy == "uniform":
        return
    mean, wanted = late.sum("effective") / late.steps, math.ceil(1.1 * batch / rate)
    if mean <= 1.25 * batch or wanted > 0.9 * spec.rollout_batch_size:
        return
    yield Advice(
        "large_rounds",
        "hint",
        "Rounds bring more effective groups than a step needs",
        f"A round of {late.groups / late.steps:,.0f} groups brings {mean:,.0f} effective ones, and train_batch_size is"
        f" {batch:,}. The figures of what is saved count them all.",
        f"unless the trainer uses them all, {patch(signals.run, rollout_batch_size=wanted)}",
    )


RULES = (before_filtering, steering, pool_exhausted, short_steps, large_rounds)
