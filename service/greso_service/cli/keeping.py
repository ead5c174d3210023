"""What `greso keys` does with the file of the keys."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import typer
from rich.console import Console
from rich.table import Table

from greso_service.access import key_file
from greso_service.access import keys as access
from greso_service.access.keys import Key, Keyring, KeysError, Scope

PIPE_WIDTH = 160  # columns where there is no terminal

_SPAN = re.compile(r"([1-9][0-9]{0,4})([hd])")


def add(path: Path | None, *, tenant: str, scopes: str, name: str | None, expires: str | None) -> None:
    """Make a key, keep what tells it, print it. Raises `KeysError`."""
    path, now = _given(path), datetime.now(UTC)
    asked = cast("list[Scope]", [scope.strip() for scope in scopes.split(",")])  # checked where the key is made
    until = None if expires is None else _until(expires, now)
    key, token = access.made(tenant=tenant, scopes=asked, name=name, now=now, expires=until)

    def edit(ring: Keyring) -> Keyring:
        if any(each.id == key.id for each in ring.keys):
            raise KeysError("the new key's id is taken, by chance; try again")
        return ring.with_key(key)

    new = not path.exists()
    key_file.change(path, edit)
    typer.echo(token)
    typer.echo(
        f"key {key.id} ({key.name}) of tenant {key.tenant} for {', '.join(key.scopes)},"
        f" {'valid until revoked' if key.expires is None else f'until {_time(key.expires)}'}."
        " It is shown this once: keep it now.",
        err=True,
    )
    if new:
        typer.echo(
            f"{path} was not there: it is a new file, and this key alone opens a service that reads it.", err=True
        )


def show(path: Path | None, tenant: str | None, as_json: bool) -> None:
    """Print the keys of a file. Raises `KeysError`."""
    ring, _ = key_file.read(_given(path))
    found = [key for key in ring.keys if tenant in {None, key.tenant}]
    now = datetime.now(UTC)
    if as_json:
        print(json.dumps({"keys": [_row(key, now) for key in found]}, indent=2))  # noqa: T201
        return
    if not found:
        typer.echo("no keys" if tenant is None else f"no keys of tenant {tenant}")
        return
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console = Console(markup=False, highlight=False, width=PIPE_WIDTH)
    console.print(_table(found, now))


def revoke(path: Path | None, name: str, tenant: str | None) -> None:
    """Take a key out of the file. Raises `KeysError`."""
    gone: list[Key] = []

    def edit(ring: Keyring) -> Keyring:
        rest, key = ring.without(name, tenant)
        gone.append(key)
        return rest

    path = _given(path)
    if not path.exists():  # revoking makes no file
        raise KeysError(f"there is no {path}; give the file that the service is given")
    key_file.change(path, edit)
    typer.echo(f"key {gone[0].id} ({gone[0].name}) of tenant {gone[0].tenant} is revoked")


def _given(path: Path | None) -> Path:
    if path is None:
        raise KeysError("which keys? give --keys-file FILE, or set GRESO_KEYS_FILE")
    return path


def _until(text: str, now: datetime) -> datetime:
    """The time that `--expires` says; a time without a zone is UTC, a day its beginning."""
    if span := _SPAN.fullmatch(text):
        return now + timedelta(hours=int(span[1]) * (24 if span[2] == "d" else 1))
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise KeysError(f"--expires is {text!r}; give a span as 12h or 90d, or a time as 2027-01-31T12:00Z") from None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    if when <= now:
        raise KeysError(f"--expires is {text!r}, which is over; give a time to come")
    return when


def _row(key: Key, now: datetime) -> dict[str, Any]:
    kept = key.model_dump(mode="json", exclude={"sha256"})
    return {**kept, "expired": key.expired(now)}


def _table(found: Sequence[Key], now: datetime) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("id", "name", "tenant", "scopes", "created", "expires"):
        table.add_column(column, overflow="fold")
    for key in found:
        until = "never" if key.expires is None else _time(key.expires) + (" (over)" if key.expired(now) else "")
        table.add_row(key.id, key.name, key.tenant, ", ".join(key.scopes), _time(key.created), until)
    return table


def _time(when: datetime) -> str:
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
