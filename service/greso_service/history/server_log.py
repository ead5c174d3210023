"""What a Redis server wrote to its log before it ended."""

from __future__ import annotations

from pathlib import Path
from typing import Final

LINES: Final = 3
LONGEST: Final = 16_384  # bytes looked at from the end: a crash report is longer, and its head names the reason


def length(path: Path) -> int:
    """Bytes of the log; 0 if there is none."""
    return path.stat().st_size if path.exists() else 0


def last_words(path: Path, since: int = 0, nothing: str = "nothing") -> str:
    """The last lines behind byte `since`, in one line that names the file; `nothing` if there are none."""
    begin = max(since, length(path) - LONGEST)
    with path.open("rb") as file:
        file.seek(begin)
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines()]
    return f"{' | '.join(list(filter(None, lines))[-LINES:]) or nothing} (see {path})"
