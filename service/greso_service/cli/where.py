"""The options that commands share which ask a running service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_URL = "http://127.0.0.1:8080"

Url = Annotated[str, typer.Option("--url", envvar="GRESO_URL", show_envvar=True, help="Where the service answers.")]
ApiKeyFile = Annotated[
    Path | None,
    typer.Option(
        "--api-key-file",
        metavar="FILE",
        envvar="GRESO_API_KEY_FILE",
        show_envvar=True,
        help="File with the key for a service that wants one; else GRESO_API_KEY is the key.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the service's JSON instead of a table.")]
