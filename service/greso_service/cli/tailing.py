"""`greso tail`: what happens to a run, as it happens."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from typing import Any, Final, TypeGuard

import typer
from rich.console import Console
from rich.text import Text

from greso_service.cli.service import Object, Refused, Service, ServiceError

PAUSE: Final = 1.0
"""Seconds before a stream that ended is asked for again."""

SILENCE: Final = 45.0
"""Seconds without a byte after which a stream counts as lost; a living one has a heartbeat each 15."""

_AWAY, _NOT_THERE = 503, 409
COLOUR: Final = {"reported": "green", "selected": "cyan", "rewound": "bold red"}  # the others: magenta

Event = tuple[str, str, Object]
"""Id, type and what it says."""


def tail(service: Service, run: str, after: str | None, lines: int, *, follow: bool, as_json: bool) -> None:
    """Print the run's last events, or those behind `after`, and then each as it is written. Raises `ServiceError`."""
    show = _show_json if as_json else _show_line(Console(markup=False, emoji=False, highlight=False, soft_wrap=True))
    begin: dict[str, str | int] = {"last": lines} if after is None else {"after": after}
    stream = Stream(service, run, begin, follow=follow)
    try:
        with suppress(KeyboardInterrupt):
            for event in stream.events():
                show(event)
    except BrokenPipeError:  # whoever read it has enough; nothing more is to be written when Python ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Stream:
    """A run's events, asked for again behind the last one whenever the service goes away."""

    def __init__(self, service: Service, run: str, begin: dict[str, str | int], *, follow: bool) -> None:
        self._service = service
        self._path = ("v1", "runs", run, "events")
        self._query = {**begin, "follow": str(follow).lower()}
        self._follow = follow
        self._last_id = ""
        self._waiting = False
        self._lost: Refused | None = None  # what was said when the place to go on at was not there any more

    def events(self) -> Iterator[Event]:
        """Them, without end if they are to be followed. Raises `ServiceError`, later only for what can't be awaited."""
        while True:
            try:
                yield from self._connected()
            except ServiceError as error:
                if self._follow and self._last_id and self._lost is None and _not_there(error):
                    self._lost = error
                    continue
                if not (self._follow and self._last_id) or (isinstance(error, Refused) and error.status != _AWAY):
                    raise
                self._wait(str(error))
            if not self._follow:
                return
            time.sleep(PAUSE)

    def _connected(self) -> Iterator[Event]:
        query, headers = self._query, {"Last-Event-ID": self._last_id} if self._last_id else {}
        if self._lost is not None:  # from the oldest that is there
            query, headers = {"follow": self._query["follow"]}, {}
        fields: dict[str, str] = {}
        for line in self._service.lines(*self._path, query=query, headers=headers, silence=SILENCE):
            name, _, value = line.decode().rstrip("\r\n").partition(":")
            if name:
                fields[name] = value.removeprefix(" ")
                continue
            if line != b"\n":  # a comment: the service is there
                continue
            if self._lost is not None and "id" in fields:
                self._go_on_at(fields["id"], self._lost)
            self._last_id = fields.get("id", self._last_id)
            self._waiting = False
            if "data" in fields:
                yield self._last_id, fields.get("event", ""), json.loads(fields["data"])
            fields = {}

    def _go_on_at(self, mark: str, lost: Refused) -> None:
        """Say what was trimmed before it came here. Raises `lost` if nothing was: the history is another one."""
        told, begun = _number(self._last_id), _number(mark)
        if begun <= told:
            raise lost
        typer.echo(f"events {told + 1:,} to {begun:,} were trimmed before they came here; it goes on behind", err=True)
        self._lost = None

    def _wait(self, reason: str) -> None:
        if not self._waiting:
            typer.echo(f"{reason}; waiting for it", err=True)
        self._waiting = True


def _not_there(error: ServiceError) -> TypeGuard[Refused]:
    return isinstance(error, Refused) and error.status == _NOT_THERE


def _number(mark: str) -> int:
    return int(mark.partition("-")[0])


def _show_json(event: Event) -> None:
    mark, kind, content = event
    print(json.dumps({"id": mark, "event": kind, **content}, ensure_ascii=False), flush=True)  # noqa: T201


def _show_line(console: Console) -> Callable[[Event], None]:
    def show(event: Event) -> None:
        _, kind, content = event
        number = f"{content.get('number', '')}"
        console.print(
            Text.assemble(
                (_clock(content.get("at")), "dim"), f"  {number:>6}  ", (f"{kind:8}", COLOUR.get(kind, "magenta")),
                f"  {sentence(kind, content)}",
            )
        )  # fmt: skip

    return show


def _clock(at: Any) -> str:
    """A time of the service as this place's clock shows it."""
    try:
        return datetime.fromisoformat(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (TypeError, ValueError, OverflowError):
        return f"{'-':19}"


def sentence(kind: str, content: Object) -> str:
    """What an event says, for people; of one that is not known all that is in it."""
    try:
        return ", ".join(_PARTS[kind](content))
    except (LookupError, TypeError, ValueError, AttributeError):
        return json.dumps({name: value for name, value in content.items() if name not in {"number", "at"}})


def _created(content: Object) -> Iterator[str]:
    spec = content["spec"]
    yield f"policy {spec['policy']}"
    yield f"groups of {spec['group_size']:,}"
    yield f"{spec['train_batch_size']:,} effective groups a step"
    yield f"seed {spec['seed']}"


def _patched(content: Object) -> Iterator[str]:
    yield from (f"{name} = {json.dumps(value)}" for name, value in content["changes"].items())


def _pooled(content: Object) -> Iterator[str]:
    yield f"{content['joined']:,} prompts join the pool"
    if content["new_prompts"]:
        yield f"{content['new_prompts']:,} new"


def _joined(content: Object) -> Iterator[str]:
    yield f"{content['joined']:,} prompts join domains"
    if content["new_domains"]:
        yield f"new: {' '.join(content['new_domains'])}"


def _priors(content: Object) -> Iterator[str]:
    yield f"{content['prompts']:,} prompts with something known beforehand"


def _selected(content: Object) -> Iterator[str]:
    how = "" if content["epoch"] is None else " (draw by rank)" if content["ranked"] else " (draw)"
    yield f"step {content['step']:,}{how}: {content['selected']:,} of {content['examined']:,} selected"
    skipped, audited = content["skipped"], content["audited"]
    if any(skipped.values()):
        yield f"{skipped['easy']:,} easy and {skipped['hard']:,} hard skipped"
    if audited and any(audited.values()):
        yield f"{sum(audited.values()):,} audited"


def _reported(content: Object) -> Iterator[str]:
    yield f"step {content['step']:,}: {content['groups']:,} groups"
    if content["groups"]:
        yield f"{content['mixed']:,} of them mixed"
        yield f"{content['rollouts']:,} rollouts"
    if content["mean"] is not None:
        yield f"mean reward {content['mean']:.3g}"
    if content["new_prompts"]:
        yield f"{content['new_prompts']:,} new prompts"
    if content["final"]:
        yield "final"


def _rewound(content: Object) -> Iterator[str]:
    yield f"back to step {content['step']:,}"
    yield f"generation {content['generation']:,}"


def _forked(content: Object) -> Iterator[str]:
    step = content["step"]
    yield f"begins as {content['run']} was {'then' if step is None else f'when step {step:,} completed'}"


_PARTS: Final[dict[str, Callable[[Object], Iterator[str]]]] = {
    "created": _created,
    "patched": _patched,
    "pooled": _pooled,
    "joined": _joined,
    "priors": _priors,
    "selected": _selected,
    "reported": _reported,
    "rewound": _rewound,
    "forked": _forked,
}
