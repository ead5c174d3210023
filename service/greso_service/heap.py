"""Memory that this process has freed: the C library keeps most of it for later, unless it is told to give it back.

glibc on Linux. It takes large blocks from the system one by one, but the more of them it has freed the larger they must
be, up to 32 MiB; what is smaller comes from heaps, one a thread, of which it gives little back by itself.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Final

_WORTH: Final = 2**22
"""Bytes that the process has grown or shrunk by, from which on it is worth looking through what was freed, for some
milliseconds. What ends large work shrinks it, and leaves small blocks behind."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt(3)
_LARGE: Final = 2**20
"""Bytes from which on a block is always one of the system's: it goes back when it is freed."""
_KEPT: Final = 2**23
"""Bytes at a heap's end that stay for the next request: to fetch them each time would cost more than they do."""

_STATM: Final = Path("/proc/self/statm")


class Heap:
    """Makes the C library give memory back, where it is glibc."""

    def __init__(self) -> None:
        library = ctypes.CDLL(None)
        self._trim = getattr(library, "malloc_trim", None) if _STATM.exists() else None
        if self._trim is not None:
            library.mallopt(_MMAP_THRESHOLD, _LARGE)
            library.mallopt(_TRIM_THRESHOLD, _KEPT)
        self._before = resident()

    def give_back(self) -> bool:
        """Give freed memory back if much was taken or freed since the last time; whether it was. Best in a thread."""
        if self._trim is None or abs(resident() - self._before) < _WORTH:
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
