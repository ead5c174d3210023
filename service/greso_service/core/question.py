"""What a policy is asked, and what it may know of the prompts: arrays of a run, read and never written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greso_service.core.controller import Exploration
from greso_service.core.difficulty import Ability
from greso_service.core.prompt_arrays import PromptArrays
from greso_service.core.prompts import UNKNOWN, Index
from greso_service.core.spec import RunSpec

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class PromptView:
    """What a policy may know of some prompts of a run: the columns of `PromptArrays`, gathered when asked for.

    `index`: int64[n] or a slice of rows; prompts never seen (`UNKNOWN`) read as 0 in every column.
    """

    rows: PromptArrays
    index: Index | slice
    _gathered: dict[str, NDArray[Any]] = field(default_factory=dict, repr=False, compare=False)

    def column(self, name: str) -> NDArray[Any]:
        """A column of `PromptArrays` at `index`."""
        column: NDArray[Any] = getattr(self.rows, name)
        if isinstance(self.index, slice):
            return column[self.index]
        if not column.size:
            return np.zeros(self.index.size, column.dtype)
        gathered: NDArray[Any] = column[self.index]
        gathered[self.index == UNKNOWN] = 0
        return gathered

    def of(self, index: Index) -> PromptView:
        """The same for other prompts of the run."""
        return PromptView(self.rows, index)

    @property
    def streak(self) -> NDArray[np.int32]:
        """int32[n]: z."""
        return self._once("streak")

    @property
    def kind(self) -> NDArray[np.int8]:
        """int8[n]: the `Outcome` of the latest judged group, 0 before any."""
        return self._once("kind")

    def _once(self, name: str) -> NDArray[Any]:
        """A column that is asked for several times in a decision."""
        if name not in self._gathered:
            self._gathered[name] = self.column(name)
        return self._gathered[name]


@dataclass(frozen=True, slots=True)
class PerPrompt:
    """p_easy and p_hard of n candidates, each its own: float64[n]."""

    easy: Floats
    hard: Floats


Bases = Exploration | PerPrompt
"""The bases of keep probabilities: one pair for all candidates, or one for each."""


@dataclass(frozen=True, slots=True)
class Question:
    """A decision to make in a step about n candidates.

    `batch`: prompts that a round takes now. `keyed`, `audits`: make the candidates' draws for decisions and for audits,
    float64[n], uniform in [0, 1).
    """

    spec: RunSpec
    exploration: Bases
    ability: Ability
    step: int
    batch: int
    candidates: PromptView
    keyed: Callable[[], Floats]
    audits: Callable[[], Floats]
    _drawn: list[Floats] = field(default_factory=list)

    @property
    def draws(self) -> Floats:
        """The candidates' draws; made once."""
        if not self._drawn:
            self._drawn.append(self.keyed())
        return self._drawn[0]


def beta_mean(candidates: PromptView) -> Floats:
    """float64[n]: the mean of the Beta posterior over each prompt's pass rate; 1/2 where nothing is known."""
    passed, failed = (
        column.astype(np.float64) for column in (candidates.column("passed"), candidates.column("failed"))
    )
    mean: Floats = (1 + passed) / (2 + passed + failed)
    return mean


def known(candidates: PromptView) -> Bools:
    """bool[n]: whether there was a reward of the prompt, or a prior."""
    return candidates.column("variance") > 0
