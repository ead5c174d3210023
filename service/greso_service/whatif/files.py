"""The result for machines: as JSON and CSV, and all of it in a folder."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from greso_service.core.audit import wilson
from greso_service.errors import GresoError
from greso_service.whatif import plot, table
from greso_service.whatif.calibrate import Score
from greso_service.whatif.judge import Judged
from greso_service.whatif.result import LEADER, Result

COLUMNS: Final = (
    "policy", "groups", "kept", "skipped_easy", "skipped_hard", "rollouts", "rollouts_saved", "effective",
    "effective_lost", "effective_lost_share", "effective_lost_low", "effective_lost_high", "lost_by_chance",
    "false_skips", "false_skips_low", "false_skips_high", "yield",
)  # fmt: skip


class NotWritten(GresoError):
    """The folder for the results can't be written."""


def content(result: Result) -> dict[str, Any]:
    """All of a result, ready for JSON. Shares are of 1; what can't be told is None."""
    rows = dict(zip(result.policies, rows_of(result), strict=True))
    policies = []
    for name, judged in result.policies.items():
        told = {**rows[name], "spec": judged.spec.to_dict(), "curve": result.curve(judged)}
        if judged.spec.policy == LEADER:
            told["exploration"] = asdict(judged.exploration)
        policies.append(told)
    found = result.calibration
    return {
        "source": result.source,
        "log": {"steps": result.steps, "prompts": result.prompts, **asdict(result.log), "again": asdict(result.again)},
        "keep": result.keep,
        "leader": None if result.keep is not None else result.leader,
        "policies": policies,
        "calibration": {
            "groups": found.groups,
            "luck": found.luck,
            "beta_less_irt": None if found.gap is None else asdict(found.gap),
            "models": {name: _score(score) for name, score in found.models.items() if score.groups},
            "first_groups": {name: _score(score) for name, score in found.first.items() if score.groups},
        },
        "notes": list(result.notes),
    }


def _score(score: Score) -> dict[str, Any]:
    bins = [
        {"groups": int(groups), "predicted": predicted / groups, "observed": observed / groups}
        for groups, predicted, observed in score.bins.tolist()
        if groups
    ]
    return {"groups": score.groups, "brier": score.brier, "log_loss": score.log_loss, "bins": bins}


def rows_of(result: Result) -> list[dict[str, Any]]:
    """A row for each policy, by the names in `COLUMNS`."""
    return [_row(result, name, judged) for name, judged in result.policies.items()]


def _row(result: Result, name: str, judged: Judged) -> dict[str, Any]:
    log, lost = result.log, judged.lost
    interval = wilson(lost, log.effective) if log.effective and judged.skipped else (None, None)
    false = wilson(lost, judged.skipped) if judged.skipped else (None, None)
    values = (
        name, log.groups, judged.kept, judged.skipped_easy, judged.skipped_hard, judged.rollouts,
        _share(log.rollouts - judged.rollouts, log.rollouts), judged.effective,
        lost, _share(lost, log.effective), *interval, result.chance(judged),
        _share(lost, judged.skipped), *false, _share(judged.effective, judged.kept),
    )  # fmt: skip
    return dict(zip(COLUMNS, values, strict=True))


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def as_csv(result: Result) -> str:
    """The rows of the policies, with a head."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows_of(result))
    return text.getvalue()


def save(folder: Path, result: Result) -> list[Path]:
    """Write the result as `replay.json`, `.csv`, `.txt` and, with matplotlib, `.png`; the files written.

    Each file is written whole or not at all. Raises `NotWritten`.
    """
    made: list[tuple[str, Callable[[Path], object]]] = [
        ("replay.json", lambda path: path.write_text(json.dumps(content(result), indent=2) + "\n")),
        ("replay.csv", lambda path: path.write_text(as_csv(result))),
        ("replay.txt", lambda path: path.write_text(table.text(result))),
    ]
    if plot.available():
        made.append(("replay.png", lambda path: plot.save(path, result)))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return [_written(folder / name, write) for name, write in made]
    except OSError as error:
        raise NotWritten(f"{error.filename or folder}: {error.strerror or error}") from None


def _written(path: Path, write: Callable[[Path], object]) -> Path:
    draft = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        write(draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return path
