"""Audits of random runs: counted as a plain book-keeper counts them, whatever comes late, twice or not at all."""

from __future__ import annotations

from typing import Any

from hypothesis import given

from greso_service.core.audit import RESTARTS
from greso_service.core.events import Event, Patched, Pooled, Priors, Reported, Selected
from greso_service.core.outcome import Outcome, classify
from greso_service.core.policy import RANKINGS
from greso_service.core.spec import RunSpec

from .traces import Action, play, specs, traces


class Book:
    """What audits find, one group after another, in plain dictionaries."""

    def __init__(self, spec: RunSpec) -> None:
        self.spec = spec
        self.notes: dict[int, tuple[int, str]] = {}
        self.seen: set[int] = set()
        self.found = self.nothing()

    def nothing(self) -> dict[str, list[int]]:
        return {kind: [0, 0, 0] for kind in ("easy", "hard", "kept")}

    def note(self, event: Event) -> None:
        match event:
            case Selected() if event.audited is not None:
                assert self.seen >= {*event.audited.easy, *event.audited.hard}, "only prompts seen before are audited"
                self.notes |= dict.fromkeys(event.audited.easy, (event.step, "easy"))
                self.notes |= dict.fromkeys(event.audited.hard, (event.step, "hard"))
            case Patched():
                before, self.spec = self.spec, self.spec.changed(event.changes)
                if any(getattr(before, name) != getattr(self.spec, name) for name in RESTARTS):
                    self.found, self.notes = self.nothing(), {}
            case Reported():
                self.report(event)
            case _:
                assert isinstance(event, Selected | Pooled | Priors)

    def report(self, event: Reported) -> None:
        outcomes = classify(event.rewards, self.spec).outcome.tolist()
        sizes = event.rewards.lengths.tolist()
        for index, outcome, size in zip(event.index.tolist(), outcomes, sizes, strict=True):
            step, kind = self.notes.get(index, (None, "kept"))
            counts = index in self.seen and (self.spec.shadow or self.spec.audit_share or self.spec.policy in RANKINGS)
            if outcome != Outcome.UNDETERMINED and (step == event.step or (step is None and counts)):
                self.notes.pop(index, None)
                for place, amount in enumerate((1, outcome == Outcome.EFFECTIVE, size)):
                    self.found[kind][place] += amount
            self.seen.add(index)


@given(specs, traces)
def test_audits_are_counted_as_a_book_keeper_does(spec: dict[str, Any], trace: list[Action]) -> None:
    state, [_, *events] = play(spec, trace)
    book = Book(RunSpec.of(spec))
    for event in events:
        book.note(event)
    audits = {"easy": state.audits.easy, "hard": state.audits.hard, "kept": state.audits.kept}
    assert {kind: [one.groups, one.effective, one.rollouts] for kind, one in audits.items()} == book.found
    assert 0 <= state.totals.false_easy <= state.totals.audited_easy
    assert 0 <= state.totals.false_hard <= state.totals.audited_hard
    if state.audits.lost is not None:
        assert 0 <= state.audits.lost <= 1
    assert state.audits.all.effective <= state.audits.all.groups
