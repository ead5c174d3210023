"""`greso top`: the essentials of the page, live in a terminal."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from greso_service.cli.looking import domains_table
from greso_service.cli.service import Object, Service, ServiceError
from greso_service.core.advice.words import short
from greso_service.core.policy import RANKINGS

if TYPE_CHECKING:
    from types import FrameType

PIPE_WIDTH = 120  # columns where there is no terminal
DRAWN_EVERY = 0.25  # seconds; keys are heard at once
MOST_RUNS = 100  # that the service tells at a time
STEERED = "greso"  # the policy that p_easy and p_hard decide in
BARS, ASCII_BARS = "▁▂▃▄▅▆▇█", "_.:-=+*#"

STATUS = {
    "saving": "green",
    "filtering": "blue",
    "learning": "cyan",
    "off": "dim",
    "stuck": "bold red",
    "idle": "yellow",
}
LEVEL = {"problem": "bold red", "warning": "yellow", "hint": "cyan", "good": "green"}


def top(service: Service, run: str | None, every: float, *, once: bool) -> None:
    """Show the runs, or one run, anew every so many seconds until q or Ctrl-C; once where there is no terminal.

    Raises:
        ServiceError: the service does not answer, and it was to be asked once.
    """
    terminal = sys.stdout.isatty()
    console = Console(markup=False, highlight=False, width=None if terminal else PIPE_WIDTH)
    if once or not terminal:
        console.print(drawn(_ask(service, run, console), console))
        return
    watch = Watch(lambda: _ask(service, run, console), every)
    live = Live(console=console, screen=True, auto_refresh=False)
    with suppress(KeyboardInterrupt), _interrupted_by_sigterm(), _keys() as pressed, live:
        watch.start()
        while "q" not in pressed().lower():
            live.update(_screen(watch, service.url, console), refresh=True)


@dataclass
class Watch:
    """Asks again and again in a thread of its own, so that keys are heard while a service does not answer."""

    ask: Callable[[], Object]
    every: float
    content: Object | None = None
    failure: str = ""
    answered: float = field(default_factory=time.monotonic)

    def start(self) -> None:
        """Begin; the thread ends with the process."""
        threading.Thread(target=self._go_on, daemon=True).start()

    def _go_on(self) -> None:
        while True:
            try:
                self.content = self.ask()
                self.failure, self.answered = "", time.monotonic()
            except ServiceError as error:
                self.failure = str(error)
            except Exception as error:  # noqa: BLE001  # the thread must live, and what ended it must be seen
                self.failure = f"it can't be asked ({type(error).__name__}: {error})"
            time.sleep(self.every)


def _ask(service: Service, run: str | None, console: Console) -> Object:
    if run is None:
        content = service.get("v1", "overview", limit=max(min(console.height - 6, MOST_RUNS), 1))
    else:
        curves = service.get("v1", "runs", run, "curves", points=max(_bars(console), 10))
        content = {**service.get("v1", "runs", run, "overview"), "curves": curves}
    try:
        drawn(content, console)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise ServiceError(
            f"the service at {service.url} answers what this greso can't show ({type(error).__name__}: {error});"
            " use the greso of the service's version"
        ) from error
    return content


def _bars(console: Console) -> int:
    """Points that a curve has room for."""
    return max(min(console.width - 36, 120), 1)


def _screen(watch: Watch, url: str, console: Console) -> RenderableType:
    parts: list[RenderableType] = [Text(f"greso at {url}   q: leave", style="dim", no_wrap=True, overflow="ellipsis")]
    if watch.failure:
        silent = (
            f" Since {time.monotonic() - watch.answered:.0f} s; trying again." if watch.content else " Trying again."
        )
        parts.append(Text(f"{watch.failure}.{silent}", style="bold red"))
    if watch.content is not None:
        parts.append(drawn(watch.content, console))
    elif not watch.failure:
        parts.append(Text("asking ..."))
    return Group(*parts)


def drawn(content: Object, console: Console) -> RenderableType:
    """Runs, or one run with its curves, as the service told them, for a console of this width."""
    return _run(content, console) if "curves" in content else _runs(content, console)


# All runs

# From what a narrow terminal still shows to what only a wide one does; the names are the widths, at least.
COLUMNS: dict[str, Callable[[Object], str]] = {
    "skip rate": lambda run: _percent(run["recent"]["skip_rate"]),
    "yield": lambda run: _percent(run["recent"]["effective"]),
    "at start": lambda run: _percent(run["first"]["effective"]),
    "saved": lambda run: _estimated(run["saved_estimate"]),
    "at most": lambda run: "-" if run["policy"] in RANKINGS else f"{run['totals']['rollouts_avoided']:,}",
    "rollouts": lambda run: f"{run['totals']['rollouts']:,}",
    "p_easy": lambda run: f"{run['exploration']['easy']:.2f}" if _steered(run) else "-",
    "p_hard": lambda run: f"{run['exploration']['hard']:.2f}" if _steered(run) else "-",
    "step": lambda run: f"{run['step']:,}",
    "rounds": lambda run: "-" if run["recent"]["rounds"] is None else f"{run['recent']['rounds']:.1f}",
    "pool": lambda run: f"{run['pool']:,}",
}


def _steered(run: Object) -> bool:
    """Whether p_easy and p_hard of the run decide: where it has domains, each has its own."""
    return run["policy"] == STEERED and not any(row["domain"] for row in run["domains"])


def _runs(content: Object, console: Console) -> RenderableType:
    runs, others = content["runs"], _others(content)
    if not runs and others:
        return Group(*others)
    if not runs:
        return Text("no runs yet: a trainer creates one when it starts")
    named = min(max(len(run["run"]) for run in runs), max(console.width // 3, 8))
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("run", max_width=named, no_wrap=True, overflow="ellipsis")
    table.add_column("status", no_wrap=True)
    room, chosen = console.width - named - max(map(len, STATUS)) - 2, []
    for name, value in COLUMNS.items():
        room -= max(len(name), *(len(value(run)) for run in runs)) + 2
        if room < 0:
            break
        chosen.append(value)
        table.add_column(name, justify="right", no_wrap=True)
    for run in runs:
        table.add_row(run["run"], Text(run["status"], STATUS.get(run["status"], "")), *(value(run) for value in chosen))
    more = [Text("there are more runs", style="dim")] if content["cursor"] else []
    return Group(table, Text(""), *others, *more, *map(_headline, runs))


def _others(content: Object) -> list[Text]:
    """The runs without figures."""
    told = {"not in memory, being read": content["cold"], "not readable, see the log": content["unreadable"]}
    return [Text(f"{what}: {', '.join(runs)}", style="yellow") for what, runs in told.items() if runs]


def _estimated(saved: int | None) -> str:
    return "-" if saved is None else f"~{short(saved)}" if saved else "0"


def _headline(run: Object) -> Text:
    return Text.assemble((f"{run['run']}: ", "bold"), (run["headline"], STATUS.get(run["status"], "")))


# One run


def _run(content: Object, console: Console) -> RenderableType:
    totals, recent = content["totals"], content["recent"]
    shadow = " in shadow mode" if content["spec"]["shadow"] else ""
    facts = (
        f"{content['policy']}{shadow}, {content['prompts']:,} prompts, epoch {content['epoch']},"
        f" step {content['step']:,}",
        f"rollouts {totals['rollouts']:,}{_saved(content)}",
        f"last {recent['steps']} steps: {_percent(recent['skip_rate'])} skipped, {_percent(recent['effective'])}"
        f" effective ({_percent(content['first']['effective'])} at the start)",
        *_audited(content["audit"]),
    )
    parts: list[RenderableType] = [_headline(content), Text("")]
    for advice in content["advice"]:
        parts.append(Text.assemble((f"{advice['level']}: ", LEVEL.get(advice["level"], "")), (advice["title"], "bold")))
        parts += [
            Text(f"  {text}") for text in (advice["detail"], advice["change"] and f"-> {advice['change']}") if text
        ]
    parts += [Text(""), *map(Text, facts), Text("")]
    if content["domains"]:
        parts += [domains_table(content["domains"], steered=content["policy"] == STEERED), Text("")]
    if content["curves"]["step"]:
        parts.append(_curves(content, console))
    return Group(*parts)


def _saved(content: Object) -> str:
    """What was saved: nothing to tell of a run that rolls out everything; and no bound is known of a ranking."""
    avoided, saved, policy = content["totals"]["rollouts_avoided"], content["saved_estimate"], content["policy"]
    if (policy == "uniform" or content["spec"]["shadow"]) and not (avoided or saved):
        return ""
    most = "" if policy in RANKINGS else f", {avoided:,} at most"
    return f", saved {_estimated(saved)} if the model were unchanged{most}"


def _audited(audit: Object) -> Iterator[str]:
    """What audits found, if anything."""
    kinds = {f"to be skipped as {kind}": audit[kind] for kind in ("easy", "hard")} | {"kept": audit["kept"]}
    if audit["easy"]["groups"] or audit["hard"]["groups"]:
        told = (f"{name} {_taught(found)}" for name, found in kinds.items() if found["groups"])
        yield f"audited groups that taught: {', '.join(told)}"
    shadow = audit["shadow"]
    if shadow and shadow["rollouts_saved"] is not None:
        lost = (
            "" if shadow["lost_share"] is None else f", {_percent(shadow['lost_share'])} of the effective groups lost"
        )
        yield f"shadow: {shadow['rollouts_saved']:,} of {shadow['rollouts']:,} rollouts would have been saved{lost}"


def _taught(found: Object) -> str:
    low, high = found["interval"]
    return f"{_percent(found['effective'] / found['groups'])} ({_percent(low)} to {_percent(high)})"


def _curves(content: Object, console: Console) -> Table:
    curves, target, steered = content["curves"], content["target"], _steered(content)
    skipped = [easy + hard for easy, hard in zip(curves["skipped_easy"], curves["skipped_hard"], strict=True)]
    lines: dict[str, list[float | None]] = {
        "skip rate": _ratios(skipped, curves["examined"]),
        "yield": _ratios(curves["effective"], curves["groups"]),
        f"easy (to {target['easy']:.2f})" if steered else "easy": _ratios(curves["easy"], curves["groups"]),
        f"hard (to {target['hard']:.2f})" if steered else "hard": _ratios(curves["hard"], curves["groups"]),
        **({"p_easy": curves["p_easy"], "p_hard": curves["p_hard"]} if steered else {}),
    }
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("share", no_wrap=True)
    table.add_column(f"steps {curves['step'][0]:,} to {curves['step'][-1]:,}", no_wrap=True, overflow="crop")
    table.add_column("now", justify="right", no_wrap=True)
    table.add_column("most", justify="right", no_wrap=True)
    for name, values in lines.items():
        known = [value for value in values if value is not None]
        now, most = (known[-1], max(known)) if known else (None, None)
        bars = sparkline(values, ascii_only=console.options.ascii_only)[-_bars(console) :]
        table.add_row(name, bars, _percent(now), _percent(most))
    return table


def _ratios(parts: list[int], wholes: list[int]) -> list[float | None]:
    return [part / whole if whole else None for part, whole in zip(parts, wholes, strict=True)]


def sparkline(values: list[float | None], *, ascii_only: bool = False) -> str:
    """One character a value, from 0 to the largest of them; a blank where there is none."""
    bars = ASCII_BARS if ascii_only else BARS
    most = max((value for value in values if value is not None), default=0.0) or 1.0
    return "".join(" " if value is None else bars[round(value / most * (len(bars) - 1))] for value in values)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f} %"


# The terminal


def _nobody_types() -> str:
    time.sleep(DRAWN_EVERY)
    return ""


@contextmanager
def _keys() -> Iterator[Callable[[], str]]:
    """What was pressed, waited for a moment; without echo and without waiting for a line."""
    if not sys.stdin.isatty():
        yield _nobody_types
        return
    import termios  # noqa: PLC0415  # not everywhere
    import tty  # noqa: PLC0415

    stdin = sys.stdin.fileno()
    before = termios.tcgetattr(stdin)

    def pressed() -> str:
        ready, _, _ = select.select([stdin], [], [], DRAWN_EVERY)
        return os.read(stdin, 64).decode(errors="ignore") if ready else ""

    try:
        tty.setcbreak(stdin)
        yield pressed
    finally:
        termios.tcsetattr(stdin, termios.TCSADRAIN, before)


@contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """SIGTERM ends it as Ctrl-C does: the terminal is left as it was."""

    def interrupt(_number: int, _frame: FrameType | None) -> Any:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
