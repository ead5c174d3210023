"""A log out of the export of a run: what still counts of its history after rewinds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from greso_service.core.events import (
    Created,
    Event,
    Joined,
    Patched,
    Pooled,
    Priors,
    Reported,
    Rewound,
    Selected,
    Span,
)
from greso_service.core.mark import START, Mark
from greso_service.core.outcome import Rewards
from greso_service.core.spec import RunSpec, SpecError
from greso_service.history import codec
from greso_service.history.codec import CodecError
from greso_service.history.exported import Checker, ExportError
from greso_service.whatif.log import Entry, Log, LogError

if TYPE_CHECKING:
    from greso_service.whatif.read import Line

_WHOLE = "The export of a run with policy uniform, or with shadow, tells the whole."


def log(lines: Iterable[Line], source: str) -> Log:
    """The log in an export. Raises `LogError`."""
    checker = Checker()
    try:
        payloads = [payload for line in lines if (payload := checker.take(line.text)) is not None]
        checker.finish()
        events = counting(payloads)
        spec = _spec(events)
    except (CodecError, ExportError, SpecError) as error:
        raise LogError(f"{source}: {error}") from None
    name = f"{source} (run {checker.manifest['run']})"
    return Log(name, _entries(events), spec.to_dict(), tuple(_notes(events, spec)))


def counting(payloads: Sequence[bytes]) -> list[Event]:
    """The events of a history that count after its rewinds; no rewind is among them."""
    marks, events = [START], list[Event]()
    after, kept = START, tuple[Span, ...]()
    for payload in payloads:
        marks.append(marks[-1].then(payload))
        events.append(codec.decode(payload).event)
        if isinstance(events[-1], Rewound):
            after, kept = marks[-1], events[-1].kept
    spans = (*kept, Span(after, marks[-1], None))
    if not all(_holds(marks, place) for span in spans for place in (span.after, span.until)):
        raise CodecError("a rewind names events that are not there")
    return [event for span in spans for event in events[span.after.number : span.until.number] if span.counts(event)]


def _holds(marks: Sequence[Mark], place: Mark) -> bool:
    return place.number < len(marks) and marks[place.number] == place


def _spec(events: Sequence[Event]) -> RunSpec:
    """The spec in force in the end."""
    if not events or not isinstance(events[0], Created):
        raise CodecError("the history does not begin with its creation")
    spec = RunSpec.of(events[0].spec)
    for event in events:
        if isinstance(event, Patched):
            spec = spec.changed(event.changes)
    return spec


def _entries(events: Iterable[Event]) -> list[Entry]:
    """Prompts, what was known of them, and groups; the reports of one step together."""
    entries: list[Entry] = []
    step: list[Reported] = []
    for event in events:
        if not isinstance(event, Reported | Pooled | Joined | Priors):
            continue
        if not isinstance(event, Reported) or (step and event.step != step[0].step):
            entries += _joined(step)
            step = []
        if isinstance(event, Reported):
            step.append(event)
        else:
            entries.append(event)
    return entries + _joined(step)


def _joined(reports: Sequence[Reported]) -> list[Reported]:
    """Reports of one step as one, none if they have no groups."""
    if not any(report.index.size for report in reports):
        return []
    rewards = Rewards(
        np.concatenate([report.rewards.lengths for report in reports]),
        np.concatenate([report.rewards.values for report in reports]),
    )
    new = [prompt for report in reports for prompt in report.new]
    index = np.concatenate([report.index for report in reports])
    return [Reported(reports[0].step, True, new, index, rewards)]


def _notes(events: Iterable[Event], spec: RunSpec) -> Iterator[str]:
    chosen = [event for event in events if isinstance(event, Selected)]
    skipped = sum(event.skipped_easy + event.skipped_hard for event in chosen)
    if skipped and not spec.shadow:
        yield (
            f"The run was filtered itself (policy {spec.policy}): {skipped:,} of {sum(e.examined for e in chosen):,}"
            " candidates were skipped and are not in the log, so what is told is what policies would save beyond that."
            f" {_WHOLE}"
        )
    if any(event.ranked and event.ranked.walked < len(event.ranked.index) for event in chosen) and not spec.shadow:
        yield (
            f"The run was ranked itself (policy {spec.policy}): the log lacks what the ranking left out, so what is"
            f" told is what policies would save beyond that. {_WHOLE}"
        )
