"""A run that can go back in time: everything done to it is written down, and going back is living anew.

To rewind to a step, the oracle starts from nothing, does again what was done until the step completed, leaves out what
was asked for later steps, and counts the step as complete. Nothing is ever undone, so nothing can be left behind.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from .model import Run

if TYPE_CHECKING:
    from .records import Spec

Results = list[tuple[str, tuple[float, ...]]]


@dataclass(frozen=True)
class Request:
    """What was sent to the service and the JSON that it answered."""

    method: str
    suffix: str
    body: dict[str, Any]
    answer: Any


@dataclass(frozen=True)
class Deed:
    """One thing done to the run: the model's method, its arguments, and the request that stood behind it."""

    name: str
    arguments: tuple[Any, ...]
    options: dict[str, Any] = field(default_factory=dict)
    asked_step: int | None = None
    request: Request | None = None

    @property
    def is_draw(self) -> bool:
        return self.request is not None and self.request.suffix == "/draw"

    def do(self, run: Run) -> Any:
        return getattr(run, self.name)(*self.arguments, **self.options)


class Life(Run):
    """A run with its past."""

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        self.first_spec = spec
        self.deeds: list[Deed] = []
        # Ascending: all steps up to the first number completed when so many deeds were done.
        self.completed: list[tuple[int, int]] = []
        # A forgotten draw lay before one that is remembered: nobody draws its positions of the walk again.
        self.walk_has_gaps = False

    def remember(self, request: Request) -> None:
        """The request behind the latest deed."""
        self.deeds[-1] = replace(self.deeds[-1], request=request)

    def report(self, step: int, results: Results, *, final: bool = False) -> dict[str, Any]:
        if self.newest is None or step > self.newest:
            self._note_completed(step - 1)
        self.deeds.append(Deed("report", (step, results), {"final": final}))
        answer = super().report(step, results, final=final)
        if self.steps[step].complete:
            self._note_completed(step)
        return answer

    def asked(self, step: int, selected: int, skipped_easy: int, skipped_hard: int) -> None:
        self.deeds.append(Deed("asked", (step, selected, skipped_easy, skipped_hard), asked_step=step))
        super().asked(step, selected, skipped_easy, skipped_hard)

    def add(self, prompts: list[str]) -> int:
        self.deeds.append(Deed("add", (prompts,)))
        return super().add(prompts)

    def change(self, changes: dict[str, Any]) -> None:
        self.deeds.append(Deed("change", (changes,)))
        super().change(changes)

    def end(self, step: int) -> None:
        self._note_completed(step)
        self.deeds.append(Deed("end", (step,)))
        super().end(step)

    def _note_completed(self, step: int) -> None:
        if step >= 0 and step > self.newest_complete():
            self.completed.append((step, len(self.deeds)))

    def newest_complete(self) -> int:
        """The newest complete step; -1 when none is."""
        return self.completed[-1][0] if self.completed else -1

    def at(self, step: int) -> Life:
        """The run as it was when `step` completed, of generation 0."""
        assert step <= self.newest_complete()
        length = next(length for up_to, length in self.completed if up_to >= step)
        past = Life(self.first_spec)
        past.walk_has_gaps = self.walk_has_gaps
        forgotten_draw = False
        for deed in self.deeds[:length]:
            if deed.asked_step is not None and deed.asked_step > step:
                forgotten_draw |= deed.is_draw
                continue
            past.walk_has_gaps |= deed.is_draw and forgotten_draw
            deed.do(past)
            past.deeds[-1] = deed
        if past.newest_complete() < step:
            past.end(step)
        return past

    def rewind(self, step: int) -> None:
        """Forget all of later steps."""
        generation, past = self.generation + 1, self.at(step)
        vars(self).update(vars(past))
        self.generation = generation

    def fork(self, step: int | None = None) -> Life:
        """A run that begins where this one was when `step` completed, or where it is."""
        if step is not None:
            return self.at(step)
        other = copy.deepcopy(self)
        other.generation = 0
        return other
