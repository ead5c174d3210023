"""``python -m greso_client.trainer``: what ``greso train`` runs, for environments without the service's packages."""

import importlib.util
import os
import sys
from collections.abc import Sequence

from greso_client.trainer.options import parse

NEEDED = ("torch", "transformers", "numpy", "rich")


def main(arguments: Sequence[str] | None = None) -> int:
    """Train as these command-line arguments say (default: the program's own).

    Returns the exit code: 0, 1 when something is wrong, 130 when interrupted.
    """
    options = parse(sys.argv[1:] if arguments is None else arguments)
    missing = [package for package in NEEDED if importlib.util.find_spec(package) is None]
    if missing:
        print(  # noqa: T201
            f"greso train: {', '.join(missing)} not installed; run in the checkout: pip install '.[trainer]'",
            file=sys.stderr,
        )
        return 1
    # OpenMP's threads spin while they wait for each other, which on a busy machine made training 3-10 times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from greso_client.trainer.command import run  # noqa: PLC0415 - loads torch, which takes seconds

    return run(options)


if __name__ == "__main__":
    sys.exit(main())
