"""The result: what each policy would have done with a log, beside chance, and what is to be known about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from greso_service.core.policy import RANKINGS
from greso_service.core.spec import RunSpec
from greso_service.whatif.calibrate import Calibration, calibrated
from greso_service.whatif.judge import AsMany, Judged, Quota, Share, replayed
from greso_service.whatif.log import Log, LogError, Sums, observe

Said = Callable[[str, int, int], None]
"""Is told of what is being done, and of groups done and to do, for a progress bar."""

LEADER: Final = "greso"
"""The policy whose savings the rankings are given, unless a share is named."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A policy to be replayed. `name`: as it was asked for."""

    name: str
    spec: RunSpec


@dataclass(frozen=True, slots=True)
class Result:
    """What there is to tell. `again`: of `log`, the groups of prompts seen before, which alone can be skipped.

    `keep`: the share of these that rankings keep; None: as many as `leader` kept.
    """

    source: str
    spec: RunSpec
    log: Sums
    again: Sums
    prompts: int
    steps: int
    keep: float | None
    leader: str
    policies: Mapping[str, Judged]
    calibration: Calibration
    notes: tuple[str, ...] = field(default=())

    def chance(self, judged: Judged) -> float | None:
        """The share of effective groups lost by skipping as many groups of prompts seen before, whichever they are."""
        if not self.again.groups or not self.log.effective:
            return None
        return judged.skipped / self.again.groups * self.again.effective / self.log.effective

    def curve(self, judged: Judged) -> list[tuple[float, float]] | None:
        """A ranking's way from keeping first groups only to keeping all: shares of rollouts and of effective groups."""
        if judged.ranked is None or not self.log.effective:
            return None
        total = np.array([self.log.rollouts, self.log.effective])
        first = total - judged.ranked.sum(axis=0)
        points = np.concatenate([[first], first + np.cumsum(judged.ranked, axis=0)]) / total
        return [(float(x), float(y)) for x, y in points]


def result(
    log: Log, spec: RunSpec, contenders: Sequence[Contender], keep: float | None = None, said: Said | None = None
) -> Result:
    """Replay a log. `spec`: by which all are measured. Raises `LogError` if nothing can be told from the log."""
    seen = observe(log, spec)
    sums, again = Sums.of(seen), Sums.of(seen, again=True)
    _require_something(log, sums, again)
    progress = _Progress(said or (lambda _what, _done, _size: None), sums.groups)
    leader = next((one for one in contenders if one.spec.policy == LEADER), None) or Contender(LEADER, _leader(spec))
    wanted = any(one.spec.policy in RANKINGS for one in contenders) and keep is None
    judged: dict[str, Judged] = {}
    quota: Quota = Share(1.0)
    if wanted or leader in contenders:
        judged[leader.name] = replayed(log, seen, leader.spec, quota, progress.of(leader.name))
    for one in contenders:
        if one is leader:
            continue
        if one.spec.policy in RANKINGS:
            quota = AsMany(judged[leader.name].again) if keep is None else Share(keep)
        judged[one.name] = replayed(log, seen, one.spec, quota, progress.of(one.name))
    calibration = calibrated(log, seen, spec, progress.of("calibration"))
    return Result(
        log.source,
        spec,
        sums,
        again,
        1 + max(int(step.index.max(initial=-1)) for step in log.steps),
        len(log.steps),
        keep,
        leader.name,
        {one.name: judged[one.name] for one in contenders},
        calibration,
        (*log.notes, *_notes(sums, again, spec), *_outside(log, spec)),
    )


def _leader(spec: RunSpec) -> RunSpec:
    return spec.changed({"policy": LEADER})


@dataclass(slots=True)
class _Progress:
    said: Said
    size: int

    def of(self, what: str) -> Callable[[int], None]:
        """The watch over one replay."""
        done = 0

        def told(groups: int) -> None:
            nonlocal done
            done += groups
            self.said(what, done, self.size)

        return told


def _require_something(log: Log, sums: Sums, again: Sums) -> None:
    if not sums.groups:
        raise LogError(f"{log.source}: no group in it")
    if sums.undetermined == sums.groups:
        raise LogError(
            f"{log.source}: all {sums.groups:,} groups have fewer than two rewards, so none can be judged; a group is"
            " all responses to one prompt in one step: is the prompt field the right one?"
        )
    if not again.groups:
        raise LogError(
            f"{log.source}: no prompt comes twice (groups: {sums.groups:,}), so nothing can be told: a policy goes by"
            " what a prompt did before. If prompts do repeat, name the field that stays the same with --prompt-field,"
            " else log until a second epoch has begun"
        )


def _notes(sums: Sums, again: Sums, spec: RunSpec) -> Iterator[str]:
    judged = sums.groups - sums.undetermined
    if not sums.effective:
        kinds = "solved" if not sums.hard else "failed" if not sums.easy else "solved or failed as a whole"
        yield f"No group is effective: all were {kinds}. Whatever is skipped, no group that trains is lost."
    elif not sums.easy and sums.hard:
        yield (
            f"No group counts as easy: none is solved as a whole at solved_reward {spec.solved_reward:g}. If the best"
            " reward is another, say so with --set solved_reward=..."
        )
    if judged and sums.effective == judged:
        yield (
            "Every group is effective, so nothing should be skipped. If rewards are shaped (length, format), give the"
            " outcome's reward: shaping makes groups look effective."
        )
    if again.groups < 0.2 * sums.groups:
        yield (
            f"Only {again.groups / sums.groups:.0%} of the groups are of prompts seen before: the training has hardly"
            " begun its second epoch, and savings grow from there on."
        )
    if sums.undetermined:
        yield f"{sums.undetermined:,} groups have fewer than two rewards and count as neither effective nor not."


def _outside(log: Log, spec: RunSpec) -> Iterator[str]:
    """Pass rates are made of rewards from 0 to `solved_reward`."""
    values = np.concatenate([step.rewards.values for step in log.steps])
    outside = int(np.count_nonzero((values < 0) | (values > spec.solved_reward)))
    if outside and spec.solved_reward > 0:
        goes = ", ".join(sorted({*RANKINGS, "band"}))
        yield (
            f"{outside / values.size:.1%} of the rewards lie outside of 0 to {spec.solved_reward:g}. As pass rates they"
            f" count as 0 or 1, so what is said of {goes} and of predicted pass rates may mislead: give the outcome's"
            " reward, or say what a solved one earns with --set solved_reward=..."
        )
