"""Audits of random runs: counted as a plain book-keeper counts them, whatever comes late, twice or not at all."""

from __future__ import annotations

from typing import Any

from hypothesis import given

from greso_service.core.audit import RESTARTS
from greso_service.core.events import Event, Joined, Patched, Pooled, Priors, Reported, Selected
from greso_service.core.outcome import Outcome, classify
from greso_service.core.policy import RANKINGS
from greso_service.core.spec import RunSpec

from .traces import Action, play, specs, traces


class Book:
    """What audits find, one group after another, in plain dictionaries."""

    def __init__(self, spec: RunSpec) -> None:
        self.spec = spec
        self.notes: dict[int, tuple[int, str]] = {}
        self.heard: set[int] = set()
        self.known: set[int] = set()
        self.found = self.nothing()

    def nothing(self) -> dict[str, list[int]]:
        return {kind: [0, 0, 0] for kind in ("easy", "hard", "kept")}

    def note(self, event: Event) -> None:
        match event:
            case Selected() if event.audited is not None:
                audited = {*event.audited.easy, *event.audited.hard}
                assert self.known >= audited, "only prompts that something is known of are audited"
                self.heard -= audited
                self.notes |= dict.fromkeys(event.audited.easy, (event.step, "easy"))
                self.notes |= dict.fromkeys(event.audited.hard, (event.step, "hard"))
            case Patched():
                before, self.spec = self.spec, self.spec.changed(event.changes)
                if any(getattr(before, name) != getattr(self.spec, name) for name in RESTARTS):
                    self.found = self.nothing()
                    self.heard |= self.notes.keys()
            case Reported():
                self.report(event)
            case Priors():
                self.known |= set(event.index.tolist())
            case _:
                assert isinstance(event, Selected | Pooled | Joined | Priors)

    def report(self, event: Reported) -> None:
        outcomes = classify(event.rewards, self.spec).outcome.tolist()
        sizes = event.rewards.lengths.tolist()
        audits = self.spec.shadow or self.spec.audit_share or self.spec.policy in RANKINGS
        known = self.known.copy()
        for index, outcome, size in zip(event.index.tolist(), outcomes, sizes, strict=True):
            self.known |= {index} if size else set()
            step, kind = self.notes.get(index, (-1, "kept"))
            if outcome == Outcome.UNDETERMINED:
                continue
            if step == event.step and index not in self.heard:
                self.heard.add(index)
                self.add(kind, outcome, size)
            elif step < event.step and index in known and audits:
                self.add("kept", outcome, size)

    def add(self, kind: str, outcome: int, size: int) -> None:
        for place, amount in enumerate((1, outcome == Outcome.EFFECTIVE, size)):
            self.found[kind][place] += amount


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
