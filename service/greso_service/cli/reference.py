"""Writes the generated parts of the documentation: `python -m greso_service.cli.reference docs`.

A test fails while they differ from the code.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import typer.main
from typer.core import TyperGroup

from greso_service.cli import app
from greso_service.settings import Settings, allowed, default_text, option, variable
from greso_service.telemetry.catalogue import SECTIONS, Metric, exposed

BEGIN: Final = "<!-- generated: python -m greso_service.cli.reference docs -->"
END: Final = "<!-- end of the generated part -->"
WIDTH: Final = 100  # columns of the help texts


def settings_table() -> str:
    """The settings as a Markdown table."""
    lines = ["| option | variable | default | allowed | meaning |", "|---|---|---|---|---|"]
    for name, field in Settings.model_fields.items():
        cells = (
            f"`{option(name)}`",
            f"`{variable(name)}`",
            default_text(field),
            allowed(field),
            field.description or "",
        )
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines)


def commands() -> str:
    """The help of `greso` and each of its commands, as Markdown."""
    group = typer.main.get_group(app)
    with group.make_context("greso", [], resilient_parsing=True, terminal_width=WIDTH) as context:
        return "\n\n".join(_helped(group, "greso", context))


def _helped(command: Any, name: str, context: Any) -> Iterator[str]:
    yield f"## {name}\n\n```text\n{command.get_help(context)}\n```"
    if isinstance(command, TyperGroup):
        for each, inner in command.commands.items():
            with inner.make_context(each, [], parent=context, resilient_parsing=True, terminal_width=WIDTH) as deeper:
                yield from _helped(inner, f"{name} {each}", deeper)


def metrics_tables() -> str:
    """Every metric, a table for each section of the catalogue."""
    parts = []
    for heading, metrics in SECTIONS.items():
        lines = [f"## {heading}", "", "| metric | kind | labels | replicas | meaning |", "|---|---|---|---|---|"]
        for metric in metrics:
            cells = (f"`{exposed(metric)}`", metric.kind, ", ".join(_labels(metric)), metric.over, metric.help)
            lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _labels(metric: Metric) -> Iterator[str]:
    for label, values in metric.labels.items():
        yield f"`{label}`" + (f" ({', '.join(values)})" if values else "")


GENERATED: Final = {"configuration.md": settings_table, "cli.md": commands, "metrics.md": metrics_tables}
"""File under docs/ -> what stands between its two marks."""


def refreshed(path: Path) -> str:
    """The text of a file of GENERATED with its generated part made anew."""
    before, _, rest = path.read_text().partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise ValueError(f"{path} lacks the line {BEGIN} or {END}")
    return f"{before}{BEGIN}\n\n{GENERATED[path.name]()}\n\n{END}{after}"


if __name__ == "__main__":
    for file in GENERATED:
        target = Path(sys.argv[1], file)
        target.write_text(refreshed(target))
