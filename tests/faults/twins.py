"""What a run's history says of its reports, and the run that never saw a fault to compare it with."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import greso_client
from greso_client import Client, Group
from greso_service.core.events import Created, Event, Reported, Selected
from greso_service.core.state import RunState
from greso_service.history import codec, exported

from ..folding import content, fold  # noqa: TID252 - tests are no installed package
from ..servers import Service  # noqa: TID252


def history(service: Service, run: str) -> list[Event]:
    """A run's history but for selections and times: how it was set up (once), and each report in order."""
    answer = service.call("GET", f"/v1/runs/{run}/export")
    assert answer.status_code == 200, answer.text
    kept: list[Event] = []
    for payload in exported.read(answer.content.splitlines(keepends=True)):
        event = codec.decode(payload).event
        if isinstance(event, Reported):
            kept.append(replace(event, seconds=None))
        elif not isinstance(event, Selected) and type(event) not in set(map(type, kept)):
            kept.append(event)  # a trainer that starts again says its pool again, which changes nothing
    return kept


def to_the_bit(events: Sequence[Event]) -> list[bytes]:
    """Events as they are stored, but for when they were."""
    return [codec.encode(codec.Recorded(event, 0, 0)) for event in events]


def named(events: Sequence[Event]) -> list[str]:
    """Events in words, to see where two histories part."""
    return [
        f"{event.step} {event.index.tolist()} {event.final}" if isinstance(event, Reported) else type(event).__name__
        for event in events
    ]


def folded(events: Sequence[Event]) -> dict[str, Any]:
    """All that follows from the events."""
    created, *others = events
    assert isinstance(created, Created)
    return content(fold(RunState(created), others))


@dataclass
class Trained:
    """Reports as a trainer made them, to be made again at a service without faults."""

    spec: dict[str, Any]
    pool: Sequence[str]
    made: list[tuple[int, list[Group], bool]] = field(default_factory=list)

    def set_up(self, client: Client) -> None:
        """Create the run and its pool."""
        client.create_run(**self.spec)
        client.add_prompts(self.pool)

    def report(self, client: Client, step: int, groups: Sequence[Group], final: bool = False) -> greso_client.Reported:
        """Report, and remember it."""
        self.made.append((step, list(groups), final))
        return client.report(step, groups, final=final)

    def assert_kept(self, service: Service, run: str) -> None:
        """The run's history has every report once, in order: to the bit as if nothing had ever gone wrong."""
        twin = f"{run}-twin"
        with Client(service.url, run=twin, strict=True, budget=60.0) as client:
            self.set_up(client)
            for step, groups, final in self.made:
                client.report(step, groups, final=final)
        kept, wanted = history(service, run), history(service, twin)
        parted = "\n".join(difflib.unified_diff(named(wanted), named(kept), "reported", "kept", lineterm="", n=1))
        assert not parted, parted
        assert to_the_bit(kept) == to_the_bit(wanted)
        assert folded(kept) == folded(wanted)
