"""What the filter saves, as far as a run alone can tell: rules, and an estimate that says what it rests on.

How many rollouts a run would have needed without the filter is not in its history. Skips times the group size is an
upper bound, often a far too high one: a candidate that is skipped is offered again in each walk over the pool. The
estimate compares what a rollout earns with what it earned in the first steps, before anything was skipped. It takes
the model to be unchanged, which it is not: only a run with policy uniform beside this one measures the saving.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from greso_service.core import quotas
from greso_service.core.advice.filtering import SKIPS, hardly_any_teaches
from greso_service.core.advice.signals import Signals, Stretch, complete
from greso_service.core.advice.trainer import ENOUGH_GROUPS, ENOUGH_STEPS
from greso_service.core.advice.words import Advice, percent, short
from greso_service.core.outcome import Outcome

CLEARLY = 1.05
"""A rollout that earns so many times what it earned at the start earns clearly more, if chance does not explain it."""

CAVEAT = "The model has changed since the start: only a run with policy uniform beside this one measures the saving."


def upper(signals: Signals) -> int:
    """Responses that the skipped candidates would have cost, each time that they were skipped: an upper bound."""
    totals = signals.state.totals
    return (totals.skipped_easy + totals.skipped_hard) * signals.spec.group_size


def estimate(signals: Signals) -> int | None:
    """Responses saved, had the model stayed as it was in the first steps; None if these tell nothing.

    For each step with skips, or behind the first ones of a ranking, its effective groups x (what one cost in the first
    steps - what one cost in that step), summed; a step in which they cost more counts against it. From 0 to `upper`,
    of which a ranking knows nothing. None with quotas, too.
    """
    most, then, first = upper(signals), signals.first.effective, signals.first.rows
    if not most and (not signals.ranking or signals.spec.shadow):
        return 0
    if not then or quotas.in_force(signals.spec):  # other quotas, other prompts: the start is no measure
        return None
    rows = complete(signals.state, signals.state.steps.rows)
    counted = rows["step"] > first["step"][-1] if signals.ranking else rows["skipped_easy"] + rows["skipped_hard"] > 0
    counted &= rows["groups"] > 0
    effective, groups, rollouts = (rows[name][counted] for name in ("effective", "groups", "rollouts"))
    # A step's rollouts earned `times` what they did at the start, and would have cost as many times more there.
    times = effective / (groups * then)
    saved = max(round(float(np.sum(rollouts * (times - 1)))), 0)
    return saved if signals.ranking else min(saved, most)


def saving(signals: Signals) -> Iterator[Advice]:
    """`SKIPS` of the candidates or more are skipped, or they are ranked: `saving` if a rollout earns clearly more than
    at the start, else `filtering`. Neither while hardly any group teaches: who rolls out nothing but waste saves
    nothing."""
    recent, first = signals.recent, signals.first
    rate, now, then = recent.skip_rate or 0.0, recent.effective, first.effective
    if now is None or hardly_any_teaches(signals) or not _at_work(signals):
        return
    better = _earns_more(recent, first)
    what = "Takes the best prompts" if signals.ranking else f"Skips {percent(rate)} of the candidates"
    detail = [f"{percent(now)} of the groups rolled out teach something{_start(signals)}."]
    if now and then:
        costs = [stretch.sum("rollouts") / stretch.sum("effective") for stretch in (recent, first)]
        costs_now, costs_then = (f"{cost:,.1f}" if cost < 100 else f"{cost:,.0f}" for cost in costs)
        detail.append(f"An effective group costs {costs_now} responses, {costs_then} then.")
    left, kept = signals.state.audits.left_out, signals.state.audits.kept
    if signals.ranking and left.groups >= 50 and kept.rate is not None:
        low, high = left.interval()
        detail.append(
            f"Of prompts that it would have left out and the walk brought {percent(left.rate or 0)} ({percent(low)} to"
            f" {percent(high)}) taught, of those that it took {percent(kept.rate)}."
        )
    detail.append(_told(signals))
    again = signals.lately.again
    if again.size >= 50 and not signals.ranking:
        taught = np.count_nonzero(again == Outcome.EFFECTIVE) / again.size
        detail.append(
            f"Exploration: of the groups of prompts tried again after one that taught nothing {percent(taught)} taught."
        )
    yield Advice(
        "saving" if better else "filtering",
        "good" if better else "hint",
        what + ("" if better else "; what that saves can't be told"),
        " ".join(detail),
        "" if better else "to know what it saves, train a second run with policy uniform and compare",
    )


def _at_work(signals: Signals) -> bool:
    """Whether the policy leaves out enough for its effect to be told."""
    recent = signals.recent
    if not signals.ranking:
        return (recent.skip_rate or 0.0) >= SKIPS and recent.skipped >= ENOUGH_GROUPS
    return (
        not signals.spec.shadow
        and signals.coming_back
        and recent.steps >= ENOUGH_STEPS
        and recent.groups >= ENOUGH_GROUPS
    )


def _earns_more(now: Stretch, then: Stretch) -> bool:
    """Whether a rollout earns clearly more: by `CLEARLY`, and by two standard errors (95%)."""
    if now.effective is None or then.effective is None:
        return False
    chance = math.sqrt(sum(share * (1 - share) / one.groups for one in (now, then) if (share := one.effective)))
    return now.effective > CLEARLY * then.effective and now.effective - then.effective > 2 * chance


def _told(signals: Signals) -> str:
    saved, most = estimate(signals), upper(signals)
    if saved is None:
        known = f"There is no yield of {start_name(signals)} steps to compare with."
    elif saved:
        known = f"About {short(saved)} rollouts saved so far, if the model were unchanged."
    else:
        known = "Compared with the start no rollouts are saved."
    if signals.ranking:
        return f"{known} {CAVEAT}"
    return f"{known} {most:,} skipped at most (an upper estimate: each time that a candidate comes counts). {CAVEAT}"


def _start(signals: Signals) -> str:
    then = signals.first.effective
    return "" if then is None else f", {percent(then)} at the {start_name(signals)} start"


def start_name(signals: Signals) -> str:
    """What the first steps are called."""
    return "unranked" if signals.ranking else "unfiltered"


RULES = (saving,)
