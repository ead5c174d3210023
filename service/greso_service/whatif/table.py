"""The result for people: tables and a few sentences."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.constrain import Constrain
from rich.table import Table
from rich.text import Text

from greso_service.core.audit import wilson
from greso_service.core.policy import RANKINGS
from greso_service.whatif.calibrate import CONSTANT
from greso_service.whatif.judge import Judged
from greso_service.whatif.result import LEADER, Result

WIDTH: Final = 180
"""Columns of what goes into a file or a pipe, where nothing need be folded."""

LINE: Final = 110
"""Columns of a sentence, at most."""

MODELS: Final = {"beta": "Beta posterior (band, mopps, p_mixed)", "irt": "item response (irt)", CONSTANT: "their mean"}
"""What the models of `calibrate` are called."""


def text(result: Result) -> str:
    """The tables as plain text."""
    console = Console(file=io.StringIO(), width=WIDTH, color_system=None, markup=False, highlight=False)
    console.print(tables(result))
    written = console.file.getvalue()  # type: ignore[attr-defined]  # it is the StringIO
    return "".join(line.rstrip() + "\n" for line in written.splitlines())


def tables(result: Result) -> RenderableType:
    """All there is to say."""
    parts: list[RenderableType] = [Text(line) for line in _head(result)]
    parts += [Text(""), _policies(result), Text("")]
    parts += [Text(line) for line in _legend(result)]
    if result.calibration.groups:
        parts += [Text(""), _calibration(result)]
    for sentence in (*findings(result), *result.notes):
        parts += [Text(""), Constrain(Text(sentence), LINE)]
    return Group(*parts)


def _head(result: Result) -> Iterator[str]:
    log, again = result.log, result.again
    yield result.source
    yield (
        f"{log.groups:,} groups ({log.rollouts:,} rollouts) of {result.prompts:,} prompts in {result.steps:,} steps:"
        f" {percent(log.effective, log.groups)} effective, {percent(log.easy, log.groups)} easy,"
        f" {percent(log.hard, log.groups)} hard"
    )
    yield f"{again.groups:,} of them are of prompts seen before, which alone a policy can skip"


def _policies(result: Result) -> Table:
    table = _table("policy", "kept", "skipped easy", "hard", "rollouts saved", "effective lost", "by chance")
    for name in ("false skips", "yield"):
        table.add_column(name, justify="right")
    for name, judged in result.policies.items():
        chance = result.chance(judged)
        table.add_row(
            name,
            f"{judged.kept:,}",
            f"{judged.skipped_easy:,}",
            f"{judged.skipped_hard:,}",
            percent(result.log.rollouts - judged.rollouts, result.log.rollouts),
            _ranged(judged.lost, result.log.effective if judged.skipped else 0),
            "-" if chance is None else f"{chance:.1%}",
            _ranged(judged.lost, judged.skipped),
            percent(judged.effective, judged.kept),
        )
    return table


def _legend(result: Result) -> Iterator[str]:
    yield "effective lost: of all effective groups, those that it would have skipped (95 %)"
    yield "by chance: the same when as many are skipped at random"
    yield "false skips: of the skipped groups, the effective ones (95 %); yield: of the kept groups, the effective ones"
    if any(judged.spec.policy in RANKINGS for judged in result.policies.values()):
        kept = f"as many as {result.leader} in each step" if result.keep is None else f"{result.keep:.0%} of each step"
        yield f"rankings keep {kept}, of the prompts seen before"
    if any(judged.spec.policy == "irt" for judged in result.policies.values()):
        yield "irt goes by a group's worth (a hard prompt's rare success the most), not by whether it is effective"


def _calibration(result: Result) -> Table:
    found = result.calibration
    table = _table("predicted pass rates", "groups", "Brier score", "log loss", "skill")
    constant = found.models[CONSTANT].brier
    for name, score in found.models.items():
        skill = "-" if not constant or name == CONSTANT else f"{1 - score.brier / constant:.1%}"
        table.add_row(MODELS[name], f"{score.groups:,}", f"{score.brier:.4f}", f"{score.log_loss:.4f}", skill)
    if found.luck is not None:
        table.add_row("luck alone (the least that is left)", "", f"{found.luck:.4f}", "", "")
    return table


def findings(result: Result) -> Iterator[str]:
    """What stands out, a sentence each."""
    for name, judged in result.policies.items():
        if judged.spec.policy == LEADER and judged.skipped and result.log.effective:
            saved = percent(result.log.rollouts - judged.rollouts, result.log.rollouts)
            lost = percent(judged.lost, result.log.effective)
            yield (
                f"{name} would have saved {saved} of the rollouts and lost {lost} of the effective groups:"
                f" {percent(judged.effective, judged.kept)} of the groups it keeps train, against"
                f" {percent(result.log.effective, result.log.groups)} of all."
            )
    if sentence := _best(result):
        yield sentence
    found = result.calibration
    if found.gap is not None and found.gap.clear:
        better, worse = ("irt", "beta") if found.gap.mean > 0 else ("beta", "irt")
        yield (
            f"Pass rates: the {MODELS[better]} is closer than the {MODELS[worse]}: Brier score"
            f" {found.models[better].brier:.4f} against {found.models[worse].brier:.4f}"
            f" (better by {abs(found.gap.mean):.4f} +- {found.gap.side:.4f} at 95 %)."
        )


def _best(result: Result) -> str | None:
    """Who loses least where all keep as many; None if that is not clear."""
    rivals = {
        name: judged
        for name, judged in result.policies.items()
        if judged.spec.policy in RANKINGS or (result.keep is None and name == result.leader)
    }
    if len(rivals) < 2 or not result.log.effective:
        return None
    first, second = sorted(rivals.items(), key=lambda one: one[1].lost)[:2]
    if not first[1].skipped or _overlap(first[1], second[1], result.log.effective):
        return None
    return (
        f"Of those that keep as many groups, {first[0]} loses least: {percent(first[1].lost, result.log.effective)} of"
        f" the effective ones; next is {second[0]} with {percent(second[1].lost, result.log.effective)}."
    )


def _overlap(first: Judged, second: Judged, effective: int) -> bool:
    return wilson(first.lost, effective)[1] >= wilson(second.lost, effective)[0]


def percent(part: int, whole: int) -> str:
    """A share; `-` of nothing."""
    return f"{part / whole:.1%}" if whole else "-"


def _ranged(part: int, whole: int) -> str:
    if not whole:
        return "-"
    low, high = wilson(part, whole)
    return f"{part / whole:.1%} ({100 * low:.1f}-{100 * high:.1f})"


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column(first, overflow="fold")
    for name in others:
        table.add_column(name, justify="right")
    return table
