"""Environment variables that look like settings of the service and are none."""

from __future__ import annotations

import os
from collections.abc import Iterator
from difflib import get_close_matches

from greso_service.settings import ENV_PREFIX, Settings, variable

_CLIENTS = {"GRESO_URL", "GRESO_API_KEY", "GRESO_API_KEY_FILE"}  # of the client, and the commands that ask a service


def variables() -> Iterator[tuple[str, str]]:
    """Each with what to do about it."""
    known = {variable(name) for name in Settings.model_fields} | _CLIENTS
    for name in sorted(os.environ):
        if name.startswith(ENV_PREFIX) and name not in known:
            meant = get_close_matches(name, known, n=1, cutoff=0.8)
            hint = f"did you mean {meant[0]}?" if meant else "`greso serve --help` lists all"
            yield name, f"correct its name, or unset it; {hint}"
