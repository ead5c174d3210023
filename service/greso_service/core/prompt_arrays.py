"""PromptArrays: what a run knows of each of its prompts, a column an array."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from greso_service.core.arrays import grown


@dataclass(slots=True)
class PromptArrays:
    """One row per prompt, by index; rows beyond the table's size are room to grow."""

    streak: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    kind: NDArray[np.int8] = field(default_factory=lambda: np.zeros(0, np.int8))
    visits: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    rewards: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    mean: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0, np.float64))
    last_step: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    # What rankings go by: the Beta posterior's counts above Beta(1, 1); the Gaussian over the difficulty and the chance
    # that the prompt is hopeless (0 stands for the prior). `last_step` is also the step from which they age.
    passed: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    failed: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    difficulty: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    variance: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    hopeless: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    # Steps, plus 1 so that 0 is never: the last one that a ranked draw took the prompt for, and the last one in which
    # an audit took it though it would have been skipped (negative: as hard). `heard`: whether that was counted.
    drawn: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    audited: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    heard: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    pooled: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    domain: NDArray[np.uint8] = field(default_factory=lambda: np.zeros(0, np.uint8))  # number; 0: none

    def grow(self, size: int) -> None:
        """Make room for `size` prompts."""
        for name in self.__slots__:
            setattr(self, name, grown(getattr(self, name), size))


ROW_BYTES: Final[int] = sum(getattr(PromptArrays(), name).itemsize for name in PromptArrays.__slots__)
"""Memory of a prompt's row."""
