"""Writes the dashboards: `.venv/bin/python -m deploy.grafana.make` (`--check` only says which are not current)."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

from deploy.grafana import fleet, run, service
from grafana_foundation_sdk.cog.encoder import JSONEncoder

FOLDER: Final = Path(__file__).parent / "dashboards"


def dashboards() -> dict[Path, str]:
    """Every file and what belongs in it."""
    boards = {"run": run.board, "service": service.board, "fleet": fleet.board}
    return {FOLDER / f"{name}.json": _text(board().build()) for name, board in boards.items()}


def _text(board: object) -> str:
    content = json.loads(json.dumps(board, cls=JSONEncoder))
    for number, panel in enumerate(content["panels"], 1):
        panel["id"] = number  # links to a panel keep their meaning from one start of Grafana to the next
    return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> int:
    """Write the files that are not current, or with `--check` fail if there are any. Returns the exit code."""
    stale = [path for path, text in dashboards().items() if not path.exists() or path.read_text() != text]
    if arguments == ["--check"]:
        for path in stale:
            sys.stderr.write(f"{path} is not current; run: python -m deploy.grafana.make\n")
        return 1 if stale else 0
    if arguments:
        sys.stderr.write(f"{__doc__}\n")
        return 2
    FOLDER.mkdir(exist_ok=True)
    for path in stale:
        path.write_text(dashboards()[path])
        sys.stdout.write(f"wrote {path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
