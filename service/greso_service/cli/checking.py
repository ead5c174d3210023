"""`greso check`: what is set, what Redis is like, and what to fix."""

from __future__ import annotations

import typer

from greso_service.access.preflight import look as access
from greso_service.errors import StartupError
from greso_service.history.embedded import DataDirInUseError, EmbeddedRedis, find_server
from greso_service.misspelt import variables
from greso_service.preflight import Finding, look
from greso_service.settings import Settings

COLOUR = {"ok": "green", "warning": "yellow", "error": "red"}


def check(settings: Settings, *, strict: bool = False) -> int:
    """Print a line for each thing looked at; 1 if one of them is an error, or with `strict` a warning, else 0."""
    findings = [*_settings(settings), *access(settings), *_redis(settings)]
    for finding in findings:
        level = typer.style(f"{finding.level:8}", fg=COLOUR[finding.level])
        typer.echo(f"{level}{finding.subject:12}{finding.found}")
        if finding.fix:
            typer.echo(f"{'':8}{'':12}-> {finding.fix}")
    wrong = {"error", "warning"} if strict else {"error"}
    return 1 if any(finding.level in wrong for finding in findings) else 0


def _settings(settings: Settings) -> list[Finding]:
    changed = [f"{name}={value}" for name, value in settings.listed().items() if name in settings.model_fields_set]
    findings = [Finding("ok", "settings", ", ".join(changed) or "all defaults")]
    strays = [Finding("warning", "settings", f"{name} is set but is no setting", fix) for name, fix in variables()]
    return [*findings, *strays]


def _redis(settings: Settings) -> list[Finding]:
    try:
        if settings.redis_url is not None:
            return look(settings)
        return _embedded(settings)
    except StartupError as error:
        return [Finding("error", "redis", str(error))]


def _embedded(settings: Settings) -> list[Finding]:
    try:
        with EmbeddedRedis(settings.data_dir, settings.redis_server, settings.redis_fsync) as embedded:
            found = f"embedded, starts ({find_server(settings.redis_server)}), data in {settings.data_dir}"
            return [Finding("ok", "redis", found), *look(settings.model_copy(update={"redis_url": embedded.url}))]
    except DataDirInUseError as running:
        found = f"embedded, of the service that runs (pid {running.pid}) on {settings.data_dir}"
        return [Finding("ok", "redis", found), *look(settings.model_copy(update={"redis_url": running.url}))]
