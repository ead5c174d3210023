"""`greso rewind` and `greso fork`."""

from __future__ import annotations

import sys

import typer

from greso_service.cli.service import Service, ServiceError


def rewind(service: Service, run: str, step: int, *, yes: bool) -> None:
    """Rewind a run; asks before, unless `yes`. Raises `ServiceError` where there is nobody to ask."""
    before = service.get("v1", "runs", run)
    if not yes:
        if not sys.stdin.isatty():
            raise ServiceError("a rewind forgets what came later, and nobody is there to ask; give --yes")
        typer.confirm(
            f"{run} is at step {before['step']:,} with {before['totals']['groups']:,} groups; forget all that came"
            f" after step {step:,}?",
            abort=True,
        )
    after = service.post("v1", "runs", run, "rewind", step=step)
    forgotten = before["totals"]["groups"] - after["totals"]["groups"]
    typer.echo(
        f"{run} is back at step {after['step']:,}, generation {after['generation']}: {forgotten:,} groups forgotten."
        f" A trainer that carries generation {after['generation'] - 1} or an older one is refused from now on."
    )


def fork(service: Service, run: str, new: str, step: int | None) -> None:
    """Begin a new run from another."""
    made = service.post("v1", "runs", run, "fork", run=new, step=step)
    typer.echo(
        f"{new} begins as {run} was {'now' if step is None else f'when step {step:,} completed'}:"
        f" step {made['step']:,}, {made['totals']['groups']:,} groups, {made['prompts']:,} prompts"
    )
