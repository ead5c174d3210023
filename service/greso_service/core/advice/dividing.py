"""Advice on how draws are divided among domains."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from greso_service.core import quotas
from greso_service.core.advice.signals import Signals
from greso_service.core.advice.trainer import ENOUGH_STEPS
from greso_service.core.advice.words import Advice, percent
from greso_service.core.domains import REST, Domain

SHORT: Final = 0.5
"""Part of its share below which a domain clearly gives less than it was asked to."""


def never_drawn(signals: Signals) -> Iterator[Advice]:
    """Prompts that no draw can take although nobody said so: the quotas of other domains leave nothing."""
    spec, domains = signals.spec, signals.state.domains
    if not quotas.in_force(spec) or not domains:
        return
    shares = quotas.shares(spec, domains)
    left = [
        domain
        for domain, share in zip(domains, shares, strict=True)
        if domain.pooled and not share and "quota" not in spec.domains.get(domain.name, {})
    ]
    if left:
        prompts = sum(domain.pooled for domain in left)
        yield Advice(
            "never_drawn",
            "warning",
            "Some prompts are never drawn",
            f"The quotas of the other domains take all: nothing is left for {_named(left)}, {prompts:,} prompts in all."
            " Was a name misspelt, or a domain forgotten?",
            "give each domain a quota, or let the quotas sum to less than 1 (PATCH domains, the whole mapping).",
        )


def quota_not_met(signals: Signals) -> Iterator[Advice]:
    """A domain that gives far less than its share: it is used up, or all of it is skipped."""
    state, late = signals.state, signals.late
    if not quotas.in_force(signals.spec) or not state.domains or late.steps < ENOUGH_STEPS:
        return
    since, total = int(late.rows["step"][0]), late.sum("selected")
    for domain, share in zip(state.domains, quotas.shares(signals.spec, state.domains), strict=True):
        rows = domain.steps.rows
        drawn = int(rows["selected"][rows["step"] >= since].sum()) / total if total else share
        if share and drawn < SHORT * share:
            who = _named([domain])
            yield Advice(
                "quota_not_met",
                "hint",
                f"{who[0].upper()}{who[1:]} don't give their share",
                f"They have {percent(share)} of the draws, and gave {percent(drawn)} of the last {late.steps} steps:"
                " the others fill up. Each draw walks the whole domain for what is not skipped, so the skip rate and"
                " rollouts_avoided of the run say little.",
                "lower the quota, add prompts, or raise the domain's target_zero_variance, to explore more of it.",
            )


def _named(domains: list[Domain]) -> str:
    names = [domain.name for domain in domains if domain.name != REST]
    said = [f"the prompts of {', '.join(names)}"] if names else []
    return " and ".join([*said, *(["the prompts without a domain"] if len(names) < len(domains) else [])])


RULES: Final[tuple[Callable[[Signals], Iterator[Advice]], ...]] = (never_drawn, quota_not_met)
