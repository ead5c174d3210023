"""Memory that was freed goes back to the system."""

from __future__ import annotations

import subprocess
import sys

import pytest

from greso_service import heap

LARGE = """
from greso_service.heap import Heap, resident
heap = Heap()
before = resident()
blocks = [bytearray(b"." * 30_000_000)]  # once it is freed glibc would take all smaller ones from its heap
del blocks
blocks = [bytearray(b"." * 2_000_000) for _ in range(50)]
last = bytes(50_000)
held = resident()
del blocks
print(held - before, resident() - before)
"""

FREED = """
from greso_service.heap import Heap, resident
heap = Heap()
before = resident()
assert not heap.give_back(), "there is nothing yet"
held = [bytes(50_000) for _ in range(2_000)]
last = bytes(50_000)
del held
kept = resident()
assert heap.give_back()
print(kept - before, resident() - before)
"""


@pytest.mark.skipif(not heap.resident(), reason="reads /proc")
@pytest.mark.parametrize("story", [FREED, LARGE], ids=["small blocks, when told", "large ones, at once"])
def test_what_was_freed_below_what_is_used_is_given_back(story: str) -> None:
    ran = subprocess.run([sys.executable, "-c", story], capture_output=True, text=True, check=True, timeout=60)
    kept, left = map(int, ran.stdout.split())
    assert kept > 80_000_000
    assert left < kept / 4


def test_where_the_library_can_not_it_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heap, "_STATM", heap._STATM.with_name("nothing"))
    assert heap.resident() == 0
    assert not heap.Heap().give_back()
