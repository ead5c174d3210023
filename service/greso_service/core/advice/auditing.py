"""What skips lose: rules about audits and shadow runs. They speak once enough groups were audited."""

from __future__ import annotations

from collections.abc import Iterator

from greso_service.core import controller
from greso_service.core.advice.filtering import retarget
from greso_service.core.advice.signals import Signals
from greso_service.core.advice.trainer import ENOUGH_GROUPS, ENOUGH_STEPS
from greso_service.core.advice.words import Advice, patch, percent, short
from greso_service.core.audit import Found
from greso_service.core.spec import RunSpec

ENOUGH_AUDITS = 100
"""Audited groups from which a false-skip rate is told: known within 10 points (95 %)."""

LOSING = 0.5
"""Part of the yield of the prompts kept from which that of the skipped is a loss: a skip saves less than half."""

MUCH = 0.25
"""Share of candidates skipped from which somebody should know what that loses."""

ADVISED = 0.01
"""Audit share that costs little and tells within some tens of steps."""


def false_skips(signals: Signals) -> Iterator[Advice]:
    """Skipped prompts would have taught at least `LOSING` as often as those kept; a warning if they do as often."""
    audits = signals.state.audits
    kept = audits.kept.rate
    if signals.ranking or audits.kept.groups < ENOUGH_AUDITS or not kept:
        return
    for kind, found in (("easy", audits.easy), ("hard", audits.hard)):
        low, _ = found.interval()
        if found.groups >= ENOUGH_AUDITS and low >= LOSING * kept:
            yield Advice(
                f"false_skips_{kind}",
                "warning" if low >= kept else "hint",
                f"Skips of {kind} prompts lose groups that teach",
                f"Of {found.groups:,} prompts that would have been skipped as {kind}, and were rolled out to see,"
                f" {_rate(found)} taught; of those kept {_rate(audits.kept)}.",
                f"to skip fewer of them, {_skip_less(signals, kind)}",
            )


def _rate(found: Found) -> str:
    low, high = found.interval()
    return f"{percent(found.rate or 0)} ({percent(low)} to {percent(high)})"


def _skip_less(signals: Signals, kind: str) -> str:
    spec, run = signals.spec, signals.run
    if spec.policy == "band":
        low, high = spec.pass_rate_band
        return patch(run, pass_rate_band=[low, (1 + high) / 2] if kind == "easy" else [low / 2, high])
    if signals.state.domains or getattr(signals.state.progress.exploration, kind) >= spec.exploration_bounds[1]:
        return patch(run, min_keep_probability=min(max(4 * spec.min_keep_probability, 0.05), 1.0))
    target, share = (
        getattr(controller.targets(spec, signals.state.progress.tuning), kind),
        signals.late.zero_variance(kind) or 0.0,
    )
    return retarget(signals, **{kind: max(1.5 * target, 1.25 * share, 0.01)})


def ranking_misses(signals: Signals) -> Iterator[Advice]:
    """What a ranking leaves out teaches as often as what it takes, and that is not nearly always."""
    audits = signals.state.audits
    left, kept = audits.left_out, audits.kept
    if not signals.ranking or min(left.groups, kept.groups) < ENOUGH_AUDITS or kept.rate is None:
        return
    if kept.rate >= 0.9 or left.interval()[0] < kept.rate:
        return
    yield Advice(
        "ranking_misses",
        "warning",
        "The ranking takes no better prompts than it leaves out",
        f"Of {left.groups:,} groups of prompts that it would have left out {_rate(left)} taught, of"
        f" {kept.groups:,} of those that it takes {_rate(kept)}.",
        f"to learn more of the prompts, {patch(signals.run, exploration_share=_doubled(signals))}",
    )


def _doubled(signals: Signals) -> float:
    return min(max(2 * signals.spec.exploration_share, 0.1), 1.0)


def not_audited(signals: Signals) -> Iterator[Advice]:
    """Much is left out, and none of it is tried."""
    spec, recent, skipped = signals.spec, signals.recent, signals.recent.skipped
    if spec.shadow or spec.audit_share or recent.steps < ENOUGH_STEPS or signals.state.audits.left_out.groups:
        return
    title = "Nobody knows what is lost by the skips"
    if (recent.skip_rate or 0.0) >= MUCH and skipped >= ENOUGH_GROUPS:
        cost = round(ADVISED * skipped / recent.steps * spec.group_size)
        yield Advice(
            "not_audited",
            "hint",
            title,
            f"{percent(recent.skip_rate or 0)} of the candidates are skipped, and no chance sample of them is rolled"
            " out to see how many would have taught by now.",
            f"to know it for about {max(cost, 1):,} responses a step, {patch(signals.run, audit_share=ADVISED)}",
        )
    elif signals.ranking and signals.walked and not spec.exploration_share and recent.groups >= ENOUGH_GROUPS:
        yield Advice(
            "not_audited",
            "hint",
            "Nobody knows what the ranking leaves out",
            "exploration_share and audit_share are 0: a prompt that ranks low is never seen again, though the model"
            " may have learnt it.",
            f"to see each again, {patch(signals.run, exploration_share=RunSpec().exploration_share)}",
        )


def shadow(signals: Signals) -> Iterator[Advice]:
    """A shadow run: what its policy would have done."""
    spec, audits = signals.spec, signals.state.audits
    if not spec.shadow:
        return
    every, kept, left, saved = audits.all, audits.kept, audits.left_out, audits.saved
    detail, change = f"What policy {spec.policy} would have skipped is only noted.", ""
    if left.groups < ENOUGH_AUDITS or kept.groups < ENOUGH_AUDITS or saved is None:
        detail += (
            f" So far {left.groups:,} groups of such prompts came, and {kept.groups:,} of others: too few to tell."
        )
    else:
        done = "left out" if signals.ranking else "skipped"
        detail = (
            f"Of {every.groups:,} groups of prompts that came again policy {spec.policy} would have {done}"
            f" {percent(left.groups / every.groups)}. Of these {_rate(left)} taught, of the others {_rate(kept)}."
        )
        if not signals.ranking:
            detail += f" With them {percent(audits.lost or 0)} of all their effective groups would have been lost."
        cheaper = f"for {short(saved)} of {short(every.rollouts)} responses less" if saved > 0 else "no cheaper"
        detail += f" As many effective groups would have come {cheaper}."
        change = f"to let it skip, {patch(signals.run, shadow=False)}" if saved > 0 else ""
    yield Advice("shadow", "hint", "Shadow mode: everything is rolled out", detail, change)


RULES = (false_skips, ranking_misses, not_audited, shadow)
