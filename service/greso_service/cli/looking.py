"""`greso runs` and `greso show`: what a running service tells about its runs, as tables or JSON."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from greso_service.cli.service import Object, Service

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PIPE_WIDTH = 240  # characters

SUMMARY = ("run", "policy", "step", "prompts", "skip rate", "rollouts", "avoided", "p_easy", "p_hard")


def show_runs(service: Service, limit: int, as_json: bool) -> None:
    """Print one line for each of the `limit` runs that were active last."""
    content = service.get("v1", "runs", limit=limit)
    # The list names the runs; each one's numbers are its own resource.
    runs = [{**listed, **service.get("v1", "runs", listed["run"])} for listed in content["runs"]]
    if as_json:
        _print_json({"runs": runs, "cursor": content["cursor"]})
        return
    if not runs:
        _print(f"no runs yet at {service.url}")
        return
    table = _table(*SUMMARY, "last active")
    for run in runs:
        active = datetime.fromisoformat(run["active_at"]).astimezone().strftime("%Y-%m-%d %H:%M")
        table.add_row(*_summary(run), active)
    _print(table)
    if content["cursor"]:
        _print(f"\nthere are more: --limit {2 * limit}")


def show_run(service: Service, name: str, steps: int, as_json: bool) -> None:
    """Print a run's totals and its latest `steps` steps."""
    run = service.get("v1", "runs", name)
    rows: list[Object] = []
    if steps:
        # The trainer numbers the steps, mostly one by one; the row after the newest reported one is the step at work.
        query = {"after": max(run["step"] - steps, -1), "limit": steps + 1}
        rows = service.get("v1", "runs", name, "steps", **query)["steps"][-steps:]
    if as_json:
        _print_json({**run, "steps": rows})
        return
    totals = run["totals"]
    head = _table(*SUMMARY)
    head.add_row(*_summary(run))
    _print(head)
    _print(
        f"\ngroups {totals['groups']:,}: effective {totals['effective']:,}, easy {totals['zero_variance']['easy']:,},"
        f" hard {totals['zero_variance']['hard']:,}, undetermined {totals['undetermined']:,}"
        f"\nepoch {run['epoch']}, generation {run['generation']}"
        "\navoided: skips x group size, an upper estimate of the rollouts saved\n"
    )
    if run["domains"]:
        _print(domains_table(run["domains"], steered=run["spec"]["policy"] == "greso"))
        _print("")
    if rows:
        _print(_steps_table(rows))


def show_prompt(service: Service, run: str, prompt: str, as_json: bool) -> None:
    """Print one prompt's state and its recent groups."""
    content = service.get("v1", "runs", run, "prompts", prompt)
    if as_json:
        _print_json(content)
        return
    facts = Table(box=None, show_header=False, pad_edge=False)
    for name, value in content.items():
        if not isinstance(value, list):
            facts.add_row(name.replace("_", " "), _cell(value))
    _print(facts)
    groups = content["groups"]
    if groups:
        table = _table(*(name.replace("_", " ") for name in groups[0]))
        for group in groups:
            table.add_row(*(_cell(value) for value in group.values()))
        _print("")
        _print(table)


def _summary(run: Object) -> Iterable[str]:
    totals = run["totals"]
    skipped = sum(totals["skipped"].values())
    yield run["run"]
    yield run["spec"]["policy"]
    yield str(run["step"])
    yield f"{run['prompts']:,}"
    yield f"{skipped / totals['examined']:.1%}" if totals["examined"] else "-"
    yield f"{totals['rollouts']:,}"
    yield f"{totals['rollouts_avoided']:,}"
    # Only in policy greso they decide, and where there are domains those of each domain.
    steered = run["spec"]["policy"] == "greso" and not any(row["domain"] for row in run["domains"])
    yield f"{run['exploration']['easy']:.2f}" if steered else "-"
    yield f"{run['exploration']['hard']:.2f}" if steered else "-"


def domains_table(domains: Iterable[Mapping[str, Any]], *, steered: bool) -> Table:
    """The domains of a run side by side; `steered`: whether their p_easy and p_hard decide."""
    rows = list(domains)
    names = ("domain", "pool", "share", "selected", "of all", "skipped", "groups", "effective")
    table = _table(*names, *(("target easy", "target hard", "p_easy", "p_hard") if steered else ()))
    selected = sum(row["totals"]["selected"] for row in rows)
    for row in rows:
        totals, exploration, target = row["totals"], row["exploration"], row["target"]
        steering = (target["easy"], target["hard"], exploration["easy"], exploration["hard"]) if steered else ()
        table.add_row(
            row["domain"] or "(none)",
            _cell(row["pool"]),
            "-" if row["share"] is None else f"{row['share']:.1%}",
            _cell(totals["selected"]),
            _part(totals["selected"], selected),
            _part(sum(totals["skipped"].values()), totals["examined"]),
            _cell(totals["groups"]),
            _part(totals["effective"], totals["groups"] - totals["undetermined"]),
            *(f"{value:.2f}" for value in steering),
        )
    return table


def _part(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"


def _steps_table(rows: Iterable[Mapping[str, Any]]) -> Table:
    flat = [dict(_flatten(row)) for row in rows]
    table = _table(*(name.replace("_", " ") for name in flat[0]))
    for row in flat:
        table.add_row(*(_cell(value) for value in row.values()))
    return table


def _flatten(row: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in row.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{name}_")
        else:
            yield prefix + name, value


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int):
        return f"{value:,}"
    return "-" if value is None else str(value)


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in columns:
        textual = name in {"run", "policy", "outcome", "kind", "domain"}
        table.add_column(name, justify="left" if textual else "right", overflow="fold")
    return table


def _print(content: object) -> None:
    # In a pipe there is no edge to fold lines at.
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    Console(markup=False, highlight=False, width=width).print(content)


def _print_json(content: Object) -> None:
    print(json.dumps(content, indent=2, ensure_ascii=False))  # noqa: T201
