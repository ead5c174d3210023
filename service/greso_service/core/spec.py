"""RunSpec: the parameters of one run, their defaults, ranges and sources, each stated once."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PAPER = "arXiv 2506.02177"
REFERENCE = "the reference implementation of arXiv 2506.02177"
MOPPS = "arXiv 2507.04632"
OURS = "ours"

MOST_MIXED = 1024
"""Largest group size of policy p_mixed, whose score is a product of as many factors."""

POLICIES = ("greso", "uniform", "band", "mopps", "p_mixed", "irt")
AUTO = "auto"
"""The word for a target that the run tunes by itself."""

DOMAIN_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
DOMAIN_FIELDS = {
    "target_zero_variance": "share of the domain's groups that may be zero-variance (default: the run's)",
    "easy_share": "part of that target left to easy groups (default: the run's)",
    "quota": "share of the prompts that draws take (default: with the others, what the quotas leave, by size)",
}
"""What may differ in a domain; each in [0, 1]."""

_ROUNDING = 1e-9
"""By how much quotas that were meant to sum to 1 may be above it."""

MOST_DOMAINS = 32
"""Domains of a run: each is a label in its metrics."""

STREAK_RULES = ("zero_variance", "same_kind")

FIXED_AT_CREATION = frozenset({"group_size", "seed", "streak_rule"})
"""Fields that a live run can't change: past decisions and streaks were made with them."""


@dataclass(frozen=True, slots=True)
class Param:
    """What a user may know about one field: meaning, source of the default, inclusive bounds or the choices.

    `words`: what may stand in a number's place.
    """

    help: str
    source: str
    low: float = -math.inf
    high: float = math.inf
    choices: tuple[str, ...] = ()
    words: tuple[str, ...] = ()


class SpecError(ValueError):
    """Some fields of a spec are out of range: `faults` pairs each field's name with what is wrong."""

    def __init__(self, faults: list[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{name}: {detail}" for name, detail in faults))
        self.faults = faults


def _param(
    default: Any,
    help: str,
    source: str,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    choices: tuple[str, ...] = (),
    words: tuple[str, ...] = (),
) -> Any:
    return field(default=default, metadata={"param": Param(help, source, low, high, choices, words)})


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """The parameters of one run. Build it with `RunSpec.of`, which validates.

    Probabilities and shares are in [0, 1]; sizes count prompts, except `group_size` (responses per prompt). `domains`:
    name -> those of `DOMAIN_FIELDS` that differ in it.
    """

    policy: str = _param("greso", "rule that decides which prompts to keep", OURS, choices=POLICIES)
    seed: int = _param(0, "seed of the keyed draws and of the epoch permutations", OURS, low=0, high=2**63 - 1)
    group_size: int = _param(8, "G, responses sampled per prompt", PAPER, low=1, high=65_535)
    train_batch_size: int = _param(256, "B_t, effective groups that a step needs", PAPER, low=1, high=1_000_000)
    rollout_batch_size: int = _param(384, "prompts to roll out in one round, at most", PAPER, low=1, high=1_000_000)
    min_rollout_batch_size: int = _param(
        1, "prompts to roll out in one round, at least", "ours (the reference clamps at 64)", low=1, high=1_000_000
    )
    safety_factor: float = _param(1.25, "margin on the next batch of an incomplete step", PAPER, low=0, high=1e6)
    target_zero_variance: float | str = _param(
        0.25,
        'share of zero-variance groups to steer to; "auto": the run tunes it, inside target_bounds',
        PAPER,
        low=0,
        high=1,
        words=(AUTO,),
    )
    target_bounds: tuple[float, float] = _param(
        (0.02, 0.5), "lowest and highest target_zero_variance that the run tunes to", OURS, low=0, high=1
    )
    easy_share: float = _param(1 / 3, "part of that target left to easy groups", PAPER, low=0, high=1)
    p_easy: float = _param(0.5, "exploration probability of easy prompts at the start", PAPER, low=0, high=1)
    p_hard: float = _param(0.5, "exploration probability of hard prompts at the start", PAPER, low=0, high=1)
    exploration_step: float = _param(0.01, "how far a step moves p_easy and p_hard", PAPER, low=0, high=1)
    exploration_bounds: tuple[float, float] = _param(
        (0.05, 0.95), "lowest and highest p_easy and p_hard", REFERENCE, low=0, high=1
    )
    min_keep_probability: float = _param(0.01, "floor of the keep probability", REFERENCE, low=0, high=1)
    reward_tolerance: float = _param(1e-6, "rewards differ when max - min exceeds this", OURS, low=0, high=1e300)
    solved_reward: float = _param(1.0, "mean reward of a solved (easy) group", OURS, low=-1e300, high=1e300)
    streak_rule: str = _param(
        "zero_variance",
        "what extends a streak: any zero-variance group (the paper) or one of the same kind (the reference)",
        PAPER,
        choices=STREAK_RULES,
    )
    pass_rate_band: tuple[float, float] = _param(
        (0.1, 0.9), "policy band: lowest and highest estimated pass rate that is rolled out", OURS, low=0, high=1
    )
    posterior_decay: float = _param(
        1.0, "policies band, mopps, p_mixed: what a group leaves of a prompt's older counts", MOPPS, low=0, high=1
    )
    exploration_share: float = _param(
        0.05, "rankings: part of a draw that walks the pool in epochs, whatever its score", OURS, low=0, high=1
    )
    cooldown_steps: int = _param(
        2, "rankings: steps for which a draw leaves a prompt alone that it has taken", OURS, low=0, high=1_000_000
    )
    rest_steps: float = _param(
        20.0,
        "policy irt: steps after which a prompt that was rolled out counts half of what it would",
        OURS,
        low=0,
        high=1e6,
    )
    audit_share: float = _param(
        0.0,
        "share of the prompts to be skipped that are rolled out all the same, to learn what a skip loses",
        OURS,
        low=0,
        high=1,
    )
    shadow: bool = _param(False, "roll everything out, and only note what would have been skipped", OURS)
    domains: Mapping[str, Mapping[str, float]] = field(
        default_factory=dict,
        metadata={"param": Param("what differs in a domain, by its name: its own target, its quota of draws", OURS)},
    )
    easy_min_mean: float | None = _param(
        None, "groups with at least this mean count as easy for the streak", "reference 0.98", low=-1e300, high=1e300
    )
    hard_max_mean: float | None = _param(
        None, "groups with at most this mean count as hard for the streak", "reference 0.11", low=-1e300, high=1e300
    )

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> RunSpec:
        """The spec with `given` fields and defaults for the rest. Raises `SpecError` naming every bad field.

        A default p_easy or p_hard is moved inside the given `exploration_bounds`; a given one must lie inside.
        """
        try:
            spec = cls(**_with_tuples(given))
        except TypeError as error:
            raise SpecError([("", str(error))]) from None
        return spec._checked(given)

    def changed(self, changes: Mapping[str, Any]) -> RunSpec:
        """The spec with `changes` of a live run applied. Raises `SpecError`, also for fields fixed at creation.

        New bounds move p_easy and p_hard inside, unless these are among the changes.
        """
        fixed = sorted(FIXED_AT_CREATION & changes.keys())
        if fixed:
            raise SpecError([(name, "can't change in a live run; create another run") for name in fixed])
        return dataclasses.replace(self, **_with_tuples(changes))._checked(changes)

    def _checked(self, given: Mapping[str, Any]) -> RunSpec:
        if faults := _range_faults(self):
            raise SpecError(faults)
        low, high = self.exploration_bounds
        moved = {p: min(max(getattr(self, p), low), high) for p in ("p_easy", "p_hard") if p not in given}
        spec = dataclasses.replace(self, **moved)
        if faults := _cross_faults(spec):
            raise SpecError(faults)
        return spec

    def to_dict(self) -> dict[str, Any]:
        """Every field by name, JSON-ready."""
        fields = dataclasses.asdict(dataclasses.replace(self, domains={}))
        fields["domains"] = {name: dict(sorted(domain.items())) for name, domain in sorted(self.domains.items())}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}

    def differences(self, other: RunSpec) -> list[str]:
        """Where two specs differ, as 'field: this one's value, not the other's'."""
        mine, theirs = self.to_dict(), other.to_dict()
        return [f"{name}: {mine[name]!r}, not {theirs[name]!r}" for name in mine if mine[name] != theirs[name]]


def params() -> dict[str, tuple[dataclasses.Field[Any], Param]]:
    """Every field of RunSpec with its `Param`, in order: the one table that the wire model and the docs are made of."""
    return {f.name: (f, f.metadata["param"]) for f in dataclasses.fields(RunSpec)}


def _with_tuples(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}


def _range_faults(spec: RunSpec) -> list[tuple[str, str]]:
    faults = []
    for name, (_, param) in params().items():
        value = getattr(spec, name)
        if param.choices:
            if value not in param.choices:
                faults.append((name, f"must be one of {', '.join(param.choices)}"))
        elif name == "domains":
            faults += _domain_faults(value)
        elif value is not None and value not in param.words:
            numbers = value if isinstance(value, tuple) else (value,)
            if any(isinstance(number, str) for number in numbers) or not all(
                math.isfinite(number) and param.low <= number <= param.high for number in numbers
            ):
                words = "".join(f' or "{word}"' for word in param.words)
                faults.append((name, f"must be in [{param.low:g}, {param.high:g}]{words}"))
    return faults


def _domain_faults(domains: Mapping[str, Mapping[str, float]]) -> list[tuple[str, str]]:
    faults = []
    if len(domains) > MOST_DOMAINS:
        faults.append(("domains", f"has {len(domains)} domains; {MOST_DOMAINS} are the most"))
    for name, own in domains.items():
        if not re.fullmatch(DOMAIN_NAME, name):
            faults.append((f"domains/{name}", f"a domain's name must match {DOMAIN_NAME}"))
        for field_name, value in own.items():
            if field_name not in DOMAIN_FIELDS:
                faults.append((f"domains/{name}/{field_name}", f"must be one of {', '.join(DOMAIN_FIELDS)}"))
            elif not 0 <= value <= 1:
                faults.append((f"domains/{name}/{field_name}", "must be in [0, 1]"))
    if not faults and math.fsum(own.get("quota", 0) for own in domains.values()) > 1 + _ROUNDING:
        faults.append(("domains", "their quotas sum to more than 1"))
    return faults


def _cross_faults(spec: RunSpec) -> list[tuple[str, str]]:
    faults = []
    low, high = spec.exploration_bounds
    if low > high:
        faults.append(("exploration_bounds", "the lower bound exceeds the upper"))
    else:
        faults += [
            (name, f"must be inside exploration_bounds [{low:g}, {high:g}]")
            for name in ("p_easy", "p_hard")
            if not low <= getattr(spec, name) <= high
        ]
    if spec.policy == "p_mixed" and spec.group_size > MOST_MIXED:
        faults.append(("policy", f"p_mixed takes groups of {MOST_MIXED:,} responses at most; irt takes any"))
    if spec.pass_rate_band[0] > spec.pass_rate_band[1]:
        faults.append(("pass_rate_band", "the lower rate exceeds the upper"))
    if spec.target_bounds[0] > spec.target_bounds[1]:
        faults.append(("target_bounds", "the lower bound exceeds the upper"))
    if spec.min_rollout_batch_size > spec.rollout_batch_size:
        faults.append(("min_rollout_batch_size", f"exceeds rollout_batch_size ({spec.rollout_batch_size})"))
    if spec.safety_factor <= 0:
        faults.append(("safety_factor", "must be greater than 0"))
    if spec.easy_min_mean is not None and spec.hard_max_mean is not None and spec.hard_max_mean >= spec.easy_min_mean:
        faults.append(("hard_max_mean", f"must be below easy_min_mean ({spec.easy_min_mean:g})"))
    return faults
