"""`greso` and `python -m greso_service`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; if the service extra is not installed, say so in one line."""
    try:
        from greso_service.cli import run  # noqa: PLC0415  # the extra may not be installed
    except ModuleNotFoundError as error:
        package = (error.name or "greso_service").partition(".")[0]
        if package in {"greso_service", "greso_client"}:
            raise
        sys.exit(
            f"greso: the service needs {package}, which is not installed; run in the checkout: pip install '.[service]'"
        )
    run()


if __name__ == "__main__":
    main()
