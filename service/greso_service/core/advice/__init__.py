"""Advice: from a run's state alone, how it fares, what is off, and what to change."""

from __future__ import annotations

from greso_service.core import quotas
from greso_service.core.advice import auditing, dividing, filtering, savings, trainer
from greso_service.core.advice.signals import Signals
from greso_service.core.advice.words import LEVELS, Advice, percent, short

__all__ = ["IDLE", "Advice", "Signals", "advise", "headline", "savings", "status"]

IDLE = 3600.0
"""Seconds without a write after which a run counts as idle: longer than all but the longest steps."""

# What explains another finding away: the left one is the cause, and the right ones follow from it.
_STEERING = {
    f"{what}_{kind}" for what in ("target_missed", "at_low_bound", "at_high_bound") for kind in ("easy", "hard")
}
_SKIPPING = {"saving", "filtering"}
_EXPLAINS = {
    "ids_never_repeat": {"first_epoch", *_STEERING},
    "ids_all_the_same": {"pool_exhausted", "short_steps", *_SKIPPING, *_STEERING},
    "no_selections": _STEERING,
    "skips_ignored": {*_SKIPPING, *_STEERING},
    "nothing_solved": {"at_low_bound_hard", "target_missed_hard", "short_steps", "pool_exhausted", *_SKIPPING},
    "shaped_rewards": {"nothing_to_skip", "nothing_solved", "at_high_bound_easy", "at_high_bound_hard"},
    "pool_exhausted": {"short_steps", "at_low_bound_easy", "at_low_bound_hard"},
}


def advise(signals: Signals) -> list[Advice]:
    """All findings, the gravest first; without those that another one explains."""
    found = [advice for rule in trainer.RULES if (advice := rule(signals))]
    several = (*filtering.RULES, *dividing.RULES, *savings.RULES, *auditing.RULES)
    found += [advice for rules in several for advice in rules(signals)]
    explained: set[str] = set()
    for advice in found:  # causes stand before what follows from them, and what is explained explains nothing
        if advice.code not in explained:
            explained |= _EXPLAINS.get(advice.code, set())
    return sorted(
        (advice for advice in found if advice.code not in explained), key=lambda advice: LEVELS.index(advice.level)
    )


def status(signals: Signals, advice: list[Advice]) -> str:
    """How the run fares, in one word.

    idle: not written to for long, or never used. stuck: a problem, or a warning while nothing is skipped or hardly any
    group teaches, but not before anything can be. off: everything is rolled out, by policy uniform or in shadow mode.
    saving: `SKIPS` of the candidates or more are skipped, or they are ranked, and a rollout earns clearly more than at
    the start. filtering: as many are skipped, but what that saves can't be told. learning: none of these, yet.
    """
    # A trainer may select far ahead of its reports.
    wrong = any(one.level == "warning" and one.code != "no_reports" for one in advice)
    levels, codes = {one.level for one in advice}, {one.code for one in advice}
    if signals.idle >= IDLE or not len(signals.state.steps.rows):
        return "idle"
    if "problem" in levels:
        return "stuck"
    if {"policy_uniform", "shadow"} & codes:
        return "off"
    if "saving" in codes or "filtering" in codes:
        return "saving" if "saving" in codes else "filtering"
    return "stuck" if wrong and signals.coming_back else "learning"


def headline(signals: Signals, status: str, advice: list[Advice]) -> str:
    """One sentence for people."""
    rate, now, then = signals.recent.skip_rate, signals.recent.effective, signals.first.effective
    match status:
        case "idle" if not len(signals.state.steps.rows):
            text = "Nothing has happened yet: waiting for the first step."
        case "idle":
            skipped = rate and not signals.ranking
            saved = f"; its last steps skipped {percent(rate or 0)} of the candidates" if skipped else ""
            text = f"No write for {_duration(signals.idle)}: the trainer has ended, or stands still{saved}."
        case "stuck":
            text = f"{advice[0].title}."
        case "off" if signals.spec.shadow:
            text = f"Shadow mode: everything is rolled out{_in_shadow(signals)}."
        case "off":
            text = "The filter is off: every prompt is rolled out."
        case "saving" | "filtering":
            start = "" if then is None else f" ({percent(then)} at the {savings.start_name(signals)} start)"
            what = "Takes the best prompts" if signals.ranking else f"Skips {percent(rate or 0)} of the candidates"
            text = f"{what}; {percent(now or 0)} of the groups teach{start}"
            text += f": {_saved(signals, status)}{_warned(advice)}."
        case _:
            text = _learning(signals, advice)
    return text


def _in_shadow(signals: Signals) -> str:
    audits = signals.state.audits
    rate, saved = audits.left_out.rate, audits.saved
    if rate is None or saved is None or audits.left_out.groups < auditing.ENOUGH_AUDITS:
        return ""
    share = audits.left_out.groups / audits.all.groups
    verb = "left out" if signals.ranking else "skipped"
    return f"; policy {signals.spec.policy} would have {verb} {percent(share)}, of which {percent(rate)} taught"


def _saved(signals: Signals, status: str) -> str:
    saved = savings.estimate(signals)
    if saved is None and quotas.in_force(signals.spec):
        return "what that saves can't be told, as quotas change what the prompts earn"
    if saved is None:
        return f"what that saves can't be told, with no {savings.start_name(signals)} start to compare with"
    if status == "filtering":
        return "what that saves can't be told, as the model has changed"
    return f"about {short(saved)} rollouts saved, if the model were unchanged"


def _warned(advice: list[Advice]) -> str:
    """What speaks against a run that else looks well."""
    warning = next((one for one in advice if one.level == "warning"), None)
    return f". But: {warning.title[0].lower()}{warning.title[1:]}" if warning else ""


def _learning(signals: Signals, advice: list[Advice]) -> str:
    rate = signals.recent.skip_rate
    first = next((one for one in advice if one.code in {"first_epoch", "nothing_to_skip"}), None)
    if first:
        return f"{first.title}."
    if not signals.recent.steps:
        return "Too early to say: no step is complete yet."
    p = signals.state.progress.exploration
    if signals.ranking:
        return f"Ranks the prompts; {percent(signals.recent.effective or 0)} of the groups teach so far."
    skipped = "Skips nothing yet" if not rate else f"Skips {percent(rate)} of the candidates so far"
    if signals.spec.policy != "greso":
        return f"{skipped}; {percent(signals.recent.effective or 0)} of the groups teach."
    if signals.state.domains:
        return f"{skipped}; p_easy and p_hard of its domains are still being steered."
    return f"{skipped}; p_easy is at {p.easy:.2f} and p_hard at {p.hard:.2f}, still being steered."


def _duration(seconds: float) -> str:
    for name, length in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            number = int(seconds // length)
            return f"{number} {name}{'s' if number > 1 else ''}"
    return f"{int(seconds)} seconds"
