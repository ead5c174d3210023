"""What names and numbers may be (the HTTP contract), wherever they come from: requests, logs, imported histories."""

from __future__ import annotations

from typing import Final

RUN: Final = "[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
"""What a run's name matches, as a part of a pattern."""

RUN_NAME: Final = f"^{RUN}$"

LARGEST_STEP: Final = 2**53 - 1
"""The largest integer that every JSON reader keeps exact."""
