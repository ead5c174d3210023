"""Memory that this process has freed: the C library keeps most of it for later, unless it is told to give it back."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Final

_WORTH: Final = 16 * 2**20
"""Bytes that the process has grown by before it is worth looking through what was freed: that may take 50 ms."""

_STATM: Final = Path("/proc/self/statm")


class Heap:
    """Gives memory back where the C library is one that keeps it, glibc on Linux."""

    def __init__(self) -> None:
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if _STATM.exists() else None
        self._before = resident()

    def give_back(self) -> bool:
        """Give freed memory back if the process has grown since the last time; whether it has. Best in a thread."""
        now = resident()
        self._before = min(self._before, now)
        if self._trim is None or now - self._before < _WORTH:
            return False
        self._trim(0)
        self._before = resident()
        return True


def resident() -> int:
    """Bytes of this process that are in memory; 0 where that is not told."""
    try:
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
