"""`greso replay`: reads a log, replays it under the policies asked for, and shows what comes of it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from greso_service.api import wire_requests
from greso_service.core.spec import POLICIES, RunSpec, SpecError, params
from greso_service.errors import GresoError
from greso_service.whatif import files, plot, table
from greso_service.whatif.log import Log
from greso_service.whatif.plain import Fields
from greso_service.whatif.read import read
from greso_service.whatif.result import Contender, result

MOVED_BY_BOUNDS: Final = ("p_easy", "p_hard")
LISTS: Final = "write a list as [0.2,0.8]"

_COMMA = re.compile(r",(?![^\[]*\])")  # but none inside of a list


class AskedWrongly(GresoError):
    """A policy or a parameter that there is not."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the options say: policies (with their own parameters), parameters of all, and such with an own option."""

    policies: Sequence[str]
    sets: Sequence[str]
    fixed: Mapping[str, Any]

    def spec(self, log: Log) -> RunSpec:
        """What all policies have in common: the run's spec if the log is of one, and what was set."""
        own = dict(log.spec) or {"group_size": log.group_size()}
        return _spec(own, {**_assigned(self.sets, "--set"), **self.fixed}, "--set")

    def contenders(self, spec: RunSpec) -> list[Contender]:
        """The policies to be replayed. Raises `AskedWrongly`."""
        found = {}
        for asked in self.policies or ("uniform", *(name for name in POLICIES if name != "uniform")):
            name, colon, given = asked.partition(":")
            if name not in POLICIES:
                raise AskedWrongly(f"--policy {asked}: there is no policy {name!r}; there are {', '.join(POLICIES)}")
            what = f"--policy {asked}"
            sets = _assigned(_COMMA.split(given), what) if colon else {}
            # The log is all there is: nothing can be rolled out beside what a policy keeps.
            found[asked] = _spec(
                {**spec.to_dict(), "audit_share": 0.0, "shadow": False}, {**sets, "policy": name}, what
            )
        return [Contender(name, own) for name, own in found.items()]


def replay(
    logs: Sequence[str],
    fields: Fields,
    asked: Asked,
    *,
    keep: float | None,
    sort: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    """Replay logs and print what comes of it. Raises `GresoError`."""
    asked.contenders(RunSpec())  # what is asked wrongly is told before a large log is read
    with _shown() as progress:
        task = progress.add_task("reading", total=None)
        log = read(logs, fields, sort=sort, told=lambda done, size: progress.update(task, completed=done, total=size))
        spec = asked.spec(log)
        found = result(
            log,
            spec,
            asked.contenders(spec),
            keep,
            lambda what, done, size: progress.update(task, description=what, completed=done, total=size),
        )
    saved = [] if out is None else files.save(out, found)
    if as_json:
        print(json.dumps(files.content(found), indent=2, ensure_ascii=False))  # noqa: T201
    else:
        width = None if sys.stdout.isatty() else table.WIDTH
        Console(markup=False, highlight=False, width=width).print(table.tables(found))
    if out is not None:
        _say(f"written: {', '.join(map(str, saved))}")
        if not plot.available():
            _say("no picture: it needs matplotlib; run: pip install matplotlib")
    elif not as_json:
        _say("\nwith --out DIR also a picture, CSV and JSON")


def _say(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201


@contextmanager
def _shown() -> Iterator[Progress]:
    """A bar on a terminal, gone when all is done."""
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TimeRemainingColumn(compact=True),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as progress:
        yield progress


def _assigned(sets: Sequence[str], what: str) -> dict[str, Any]:
    """FIELD=VALUE as a dictionary; values are JSON, or else text."""
    fields = {}
    for given in sets:
        name, equals, value = given.partition("=")
        if not equals or name not in params() or name == "policy":
            known = ", ".join(name for name in params() if name != "policy")
            lists = "" if equals else f"; {LISTS}"
            raise AskedWrongly(f"{what}: {given!r} is no FIELD=VALUE with one of the fields {known}{lists}")
        try:
            fields[name] = json.loads(value)
        except ValueError:
            fields[name] = value
    return fields


def _spec(own: Mapping[str, Any], sets: Mapping[str, Any], what: str) -> RunSpec:
    """The spec with `sets`. New bounds move p_easy and p_hard inside, unless these are set, too."""
    moved = MOVED_BY_BOUNDS if "exploration_bounds" in sets else ()
    fields = {name: value for name, value in own.items() if name not in moved} | dict(sets)
    try:
        return RunSpec.of(wire_requests.RunSpec.model_validate_json(json.dumps(fields)).model_dump(exclude_unset=True))
    except ValidationError as error:
        first = error.errors()[0]
        lists = f"; {LISTS}" if first["type"] in {"list_type", "tuple_type"} else ""
        raise AskedWrongly(f"{what}: {'/'.join(map(str, first['loc']))}: {first['msg'].lower()}{lists}") from None
    except SpecError as error:
        raise AskedWrongly(f"{what}: {error}") from None
