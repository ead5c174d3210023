"""Mark: a place in a run's history, which tells one history from another."""

from __future__ import annotations

import zlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a run's history: `number` events, with `chain` = CRC-32 over their payloads one after another."""

    number: int = 0
    chain: int = 0

    def then(self, payload: bytes) -> Mark:
        """The mark after one more event."""
        return Mark(self.number + 1, zlib.crc32(payload, self.chain))

    def __str__(self) -> str:
        return f"{self.number}-{self.chain}"

    @classmethod
    def parse(cls, text: bytes) -> Mark:
        """The mark that `str` wrote."""
        number, _, chain = text.partition(b"-")
        return cls(int(number), int(chain))


START = Mark()
"""The mark of a run without events."""
