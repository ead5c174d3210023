"""The target that tunes itself: what exploring brings, kind by kind, and where the targets go for it. Pure functions.

Once a step, each kind's target goes up while exploring the kind pays, else down. What pays: let one more explored group
of the kind be effective with probability e. Then the prompt is among those that are always kept, until its next group
without effect, for L effective groups on average. So a find brings L for 1 / e + L groups. With Y, the share of
effective groups now, that is the better use of them if L / (1 / e + L) >= Y, or

    e * L * (1 - Y) >= Y        with L = 1 / (1 - r), r: how often a group of a prompt that is always kept is effective.

A small stock wears out: where it is used up in a step or two, the same prompts come again and again. So what a find
brings counts for more by the groups of a step over the prompts in stock (those with streak 0).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from greso_service.core.spec import AUTO, RunSpec

START: Final = 0.25
"""The target that an automatic one begins with: the paper's."""

DECAY: Final = 0.98
"""What a step leaves of the older evidence: it goes back some 50 steps, as long as p takes from 0.5 to a bound."""

MOVE: Final = 1.03
"""The factor by which a step moves a target. Slower than p follows it, or the two would chase each other."""

AHEAD: Final = 2.0
"""A target is at most this factor away from the share measured: one out of reach would take long to come back."""

ENOUGH: Final = 5.0
"""Explored groups of a kind, by weight, without which nothing is said about it."""

LEAST: Final = 0.005
"""As high as a target may always be, however few groups of its kind are seen: it must be able to grow from nothing."""


@dataclass(frozen=True, slots=True)
class Tried:
    """Groups of prompts seen before: explored ones by kind, and those of streak 0; `found`: the effective among them.

    An explored group counts by its streak z, as the keep probability p ** z grows by z / p of itself with p: so the
    sums tell what a slightly higher p would bring. At the floor of the keep probability it counts nothing.
    """

    easy: float = 0.0
    easy_found: float = 0.0
    hard: float = 0.0
    hard_found: float = 0.0
    kept: float = 0.0
    kept_found: float = 0.0

    def plus(self, other: Tried, weight: float = 1.0) -> Tried:
        """The sum of `weight` times this and the other."""
        if other is NOTHING and self is NOTHING:  # the run's target is a number
            return self
        return Tried(
            weight * self.easy + other.easy,
            weight * self.easy_found + other.easy_found,
            weight * self.hard + other.hard,
            weight * self.hard_found + other.hard_found,
            weight * self.kept + other.kept,
            weight * self.kept_found + other.kept_found,
        )


NOTHING: Final = Tried()


@dataclass(frozen=True, slots=True)
class Tuning:
    """The targets in force, and the evidence behind them: sums over steps, a step's weight `DECAY` times the next's.

    `groups`, `effective`, `easy`, `hard`: judged groups; `steps`: the weights' sum; `stock`: prompts with streak 0.
    """

    target_easy: float
    target_hard: float
    tried: Tried = NOTHING
    groups: float = 0.0
    effective: float = 0.0
    easy: float = 0.0
    hard: float = 0.0
    steps: float = 0.0
    stock: int = 0

    @property
    def worth(self) -> float:
        """Effective groups for a discovery, the first one counted, and more where the stock is small."""
        tried = self.tried
        again = (tried.kept_found + 1) / (tried.kept + 2)
        scarcity = self.groups / self.steps / max(self.stock, 1) if self.steps else 0.0
        return (1 + scarcity) / (1 - again)

    def chance(self, kind: str) -> float | None:
        """How often exploring a prompt of the kind finds an effective group; None while that is not known."""
        tried = float(getattr(self.tried, kind))
        return float(getattr(self.tried, f"{kind}_found")) / tried if tried >= ENOUGH else None

    @property
    def needed(self) -> float:
        """The chance from which exploring pays; infinite while every group is effective."""
        wasted = self.groups - self.effective
        return self.effective / wasted / self.worth if wasted else float("inf")


def begun(spec: RunSpec, target: float = START) -> Tuning:
    """The tuning of a run, at its start or as it is put on automatic, with the target that it has."""
    low, high = spec.target_bounds
    target = min(max(target, low), high)
    easy = spec.easy_share * target
    return Tuning(easy, target - easy)


def bounded(tuning: Tuning, spec: RunSpec) -> Tuning:
    """The same with the targets inside the bounds, each kind's part of them by `easy_share`."""
    return replace(
        tuning,
        target_easy=_inside(tuning.target_easy, spec, spec.easy_share),
        target_hard=_inside(tuning.target_hard, spec, 1 - spec.easy_share),
    )


def _inside(target: float, spec: RunSpec, part: float) -> float:
    low, high = spec.target_bounds
    return min(max(target, low * part), high * part)


def tuned(tuning: Tuning, spec: RunSpec, tried: Tried, *, easy: int, hard: int, effective: int, stock: int) -> Tuning:
    """The tuning after a step with these judged groups; `stock`: prompts with streak 0."""
    now = replace(
        tuning,
        tried=tuning.tried.plus(tried, DECAY),
        groups=DECAY * tuning.groups + easy + hard + effective,
        effective=DECAY * tuning.effective + effective,
        easy=DECAY * tuning.easy + easy,
        hard=DECAY * tuning.hard + hard,
        steps=DECAY * tuning.steps + 1,
        stock=stock,
    )
    return bounded(replace(now, target_easy=_moved(now, "easy"), target_hard=_moved(now, "hard")), spec)


def _moved(tuning: Tuning, kind: str) -> float:
    target = float(getattr(tuning, f"target_{kind}"))
    chance = tuning.chance(kind)
    if chance is None:
        return target
    target = target * MOVE if chance >= tuning.needed else target / MOVE
    share = float(getattr(tuning, kind)) / tuning.groups
    return min(max(target, share / AHEAD), max(share * AHEAD, LEAST))


def reason(tuning: Tuning | None, spec: RunSpec) -> str:
    """Why the targets are what they are, in a sentence or two for people."""
    if spec.target_zero_variance != AUTO or tuning is None:
        return "set by target_zero_variance and easy_share"
    told = [
        _told(tuning, spec, kind, part) for kind, part in (("easy", spec.easy_share), ("hard", 1 - spec.easy_share))
    ]
    if not any(told):
        return "begins with the paper's target; no prompts without effect were tried again so far"
    worth = f"; a find brings {tuning.worth:.1f} effective groups" if tuning.groups else ""
    return "; ".join(filter(None, told)) + worth


def _told(tuning: Tuning, spec: RunSpec, kind: str, part: float) -> str:
    chance, needed = tuning.chance(kind), tuning.needed
    if chance is None:
        return ""
    up = chance >= needed
    target, end = getattr(tuning, f"target_{kind}"), spec.target_bounds[up] * part
    way = f"at its {'highest' if up else 'lowest'}" if target == end else ("up" if up else "down")
    return (
        f"{kind} {way}: {chance:.0%} of the {kind} prompts tried again were effective,"
        f" {'at least' if up else 'less than'} the {min(needed, 1):.0%} from which that pays"
    )
