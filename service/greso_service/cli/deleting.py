"""`greso delete`."""

from __future__ import annotations

import sys

import typer

from greso_service.cli.service import Service, ServiceError


def delete(service: Service, run: str, *, yes: bool) -> None:
    """Delete a run; asks before, unless `yes`. Raises `ServiceError` where there is nobody to ask."""
    if not yes:
        state = service.get("v1", "runs", run)
        if not sys.stdin.isatty():
            raise ServiceError("a deletion can't be undone, and nobody is there to ask; give --yes")
        typer.confirm(
            f"{run} is at step {state['step']:,} with {state['totals']['groups']:,} groups; delete it for good?",
            abort=True,
        )
    service.delete("v1", "runs", run)
    typer.echo(f"{run} is deleted")
