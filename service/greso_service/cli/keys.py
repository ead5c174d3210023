"""`greso keys`: who may use a service. The commands import what they need when they run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

keys = typer.Typer(
    name="keys",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)

KeysFile = Annotated[
    Path | None,
    typer.Option(
        "--keys-file",
        "--keys",
        metavar="FILE",
        envvar="GRESO_KEYS_FILE",
        show_envvar=True,
        help="The file that the service is given.",
        show_default=False,
    ),
]
Tenant = Annotated[str | None, typer.Option("--tenant", metavar="NAME", help="Only keys of this tenant.")]


@keys.callback()
def about() -> None:
    """Make, list and revoke the keys of a service.

    A service that is started with --keys-file answers only those who send a key of that file, as in
    Authorization: Bearer KEY. A key belongs to one tenant, whose runs are all that it shows. Its scopes say what it may
    do: read looks; write creates runs, selects, reports, forks; admin deletes, rewinds, imports. Each includes those
    before it.

    Changes take effect within a second or two, without a restart. To rotate a key: add one with the same tenant and
    scopes, give it to all who use the old one, and revoke that. The file holds no key, only what tells one when it
    comes.

    \b
    Examples:
      greso keys add --keys-file keys.json --tenant team-a --name trainer --scopes admin
      greso keys list --keys-file keys.json
      greso keys revoke --keys-file keys.json trainer
      greso serve --keys-file keys.json
    """  # \b keeps the lines apart in --help


@keys.command()
def add(
    tenant: Annotated[str, typer.Option("--tenant", metavar="NAME", help="Whose it is.", show_default=False)],
    scopes: Annotated[
        str, typer.Option("--scopes", metavar="SCOPE[,SCOPE]", help="What it may do: read, write, admin.")
    ] = "write",
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="What to call it. Default: its id.")
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option("--expires", metavar="WHEN", help="As 12h, 90d, 2027-01-31 or 2027-01-31T12:00Z. Default: never."),
    ] = None,
    keys_file: KeysFile = None,
) -> None:
    """Make a key, and print it: this once, for nobody can tell it again.

    The key alone goes to standard output, what it is to standard error. The file is made if it is not there, for its
    owner alone; a service of another user must be able to read it. A trainer that resumes from checkpoints rewinds its
    run, which takes admin.

    \b
    Examples:
      greso keys add --keys-file keys.json --tenant team-a --name trainer --scopes admin --expires 90d
      greso keys add --keys-file keys.json --tenant team-a --name prometheus --scopes read
      (umask 077; greso keys add --keys-file keys.json --tenant team-a --scopes admin > team-a.key)
    """
    from greso_service.cli.keeping import add  # noqa: PLC0415

    add(keys_file, tenant=tenant, scopes=scopes, name=name, expires=expires)


@keys.command("list")
def listed(
    tenant: Tenant = None,
    keys_file: KeysFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """List the keys: id, name, tenant, scopes, since when and until when. What the keys are is not known.

    \b
    Examples:
      greso keys list --keys-file keys.json
      greso keys list --keys-file keys.json --tenant team-a --json
    """
    from greso_service.cli.keeping import show  # noqa: PLC0415

    show(keys_file, tenant, as_json)


@keys.command()
def revoke(
    key: Annotated[str, typer.Argument(help="Its id, or its name if only one has it.", show_default=False)],
    tenant: Tenant = None,
    keys_file: KeysFile = None,
) -> None:
    """Take a key away: running services refuse it within a second or two.

    \b
    Examples:
      greso keys revoke --keys-file keys.json 3f9a01c2
      greso keys revoke --keys-file keys.json trainer --tenant team-a
    """
    from greso_service.cli.keeping import revoke  # noqa: PLC0415

    revoke(keys_file, key, tenant)
