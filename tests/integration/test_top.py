"""`greso top` against a real service: in a real terminal, in a pipe, and with the service away."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import pytest
from rich.console import Console

from greso_service.cli.top import ASCII_BARS, drawn, sparkline

from ..servers import GRESO, Service, eventually, free_port  # noqa: TID252

# Makes the terminal at its standard input the one that it is controlled by, so that Ctrl-C comes from there.
CONTROLLED = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
ALTERNATE, NORMAL, SHOWN_CURSOR = "\x1b[?1049h", "\x1b[?1049l", "\x1b[?25h"
WIDE = (120, 40)


class Terminal:
    """`greso <arguments>` in a terminal of its own."""

    def __init__(self, *arguments: str, size: tuple[int, int] = WIDE, environment: Mapping[str, str] = {}) -> None:
        self.master, self.slave = pty.openpty()
        self.resize(*size)
        self.before = termios.tcgetattr(self.slave)
        self.written = ""
        self.process = subprocess.Popen(
            [sys.executable, "-c", CONTROLLED, str(GRESO), *arguments],
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            env={"PATH": os.environ["PATH"], "TERM": "xterm-256color", "LANG": "C.UTF-8", **environment},
        )
        os.set_blocking(self.master, False)

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)

    def read(self) -> str:
        """What was written since the last call."""
        try:
            fresh = os.read(self.master, 2**20).decode(errors="replace")
        except BlockingIOError:
            fresh = ""
        self.written += fresh
        return fresh

    def shows(self, *words: str) -> None:
        """Wait until all of these words were written after this call."""
        seen = ""

        def has_come() -> bool:
            nonlocal seen
            seen += self.read()
            return all(word in seen for word in words)

        eventually(has_come, 30.0, lambda: repr(seen[-3000:]))

    def press(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def left(self) -> int:
        """The exit status; the terminal must be as it was, with the cursor and its own screen."""

        def ended() -> bool:
            self.read()
            return self.process.poll() is not None

        eventually(ended, 20.0, lambda: repr(self.written[-2000:]))
        self.read()
        assert self.written.count(ALTERNATE) == self.written.count(NORMAL)
        if ALTERNATE in self.written:
            assert SHOWN_CURSOR in self.written.rpartition(NORMAL)[0].rpartition(ALTERNATE)[2] + self.written[-200:]
        assert termios.tcgetattr(self.slave) == self.before
        assert "Traceback" not in self.written
        return self.process.returncode


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with a run that saves and one that nobody used."""
    service = Service(tmp_path_factory.mktemp("top"))
    try:
        service.start()
        service.json("PUT", "/v1/runs/unused", {})
        service.json("PUT", "/v1/runs/saves", {"train_batch_size": 4, "rollout_batch_size": 32})
        names = [f"p{number}" for number in range(60)]
        service.json("PUT", "/v1/runs/saves/pool", {"prompts": names})
        for step in range(25):
            drawn = service.json("POST", "/v1/runs/saves/draw", {"step": step})["prompts"]
            results = [{"prompt": name, "rewards": [[0, 1], [0, 0], [1, 1]][int(name[1:]) % 3]} for name in drawn]
            service.json("POST", "/v1/runs/saves/report", {"step": step, "results": results, "final": True})
        yield service
    finally:
        service.close()


@pytest.mark.parametrize(
    "key", [pytest.param(b"q", marks=pytest.mark.slow), pytest.param(b"\x03", id="ctrl-c")], ids=repr
)
def test_it_is_left_by_a_key_and_leaves_the_terminal_as_it_was(served: Service, key: bytes) -> None:
    with Terminal("top", "--url", served.url) as terminal:
        terminal.shows("saves: ", "saving", "of the groups teach", "unused: ")
        terminal.press(key)
        assert terminal.left() == 0


@pytest.mark.slow
def test_sigterm_leaves_the_terminal_as_it_was(served: Service) -> None:
    with Terminal("top", "saves", "--url", served.url) as terminal:
        terminal.shows("skip rate", "p_hard")
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.left() == 0


def test_it_shows_what_happens(served: Service) -> None:
    served.json("PUT", "/v1/runs/live", {})
    with Terminal("top", "live", "--every", "0.2", "--url", served.url) as terminal:
        terminal.shows("Nothing has happened yet")
        served.json("POST", "/v1/runs/live/report", {"step": 7, "results": [], "final": True})
        terminal.shows("step 7")
        terminal.resize(50, 12)
        terminal.shows("step 7")
        terminal.press(b"q")
        assert terminal.left() == 0
    served.call("DELETE", "/v1/runs/live")


@pytest.mark.slow
def test_it_goes_on_trying_while_the_service_is_away(tmp_path: Path) -> None:
    port = free_port()
    with Terminal("top", "--every", "0.2", "--url", f"http://127.0.0.1:{port}", size=(200, 40)) as terminal:
        terminal.shows("no service answers at", "Trying again")
        service = Service(tmp_path, port=port)
        try:
            service.start()
            terminal.shows("no runs yet")
            service.json("PUT", "/v1/runs/new", {})
            terminal.shows("new: ")
            service.kill()
            terminal.shows("no service answers at", "trying again", "new: ")
        finally:
            service.close()
        terminal.press(b"q")
        assert terminal.left() == 0


@pytest.mark.slow
def test_it_is_left_while_the_service_does_not_answer(start_service: Callable[..., Service]) -> None:
    frozen = start_service()
    with Terminal("top", "--every", "0.2", "--url", frozen.url) as terminal:
        terminal.shows("no runs yet")
        frozen.signal(signal.SIGSTOP)
        terminal.press(b"q")
        assert terminal.left() == 0
    frozen.signal(signal.SIGCONT)


@pytest.mark.parametrize("option", [[], pytest.param(["--once"], marks=pytest.mark.slow)])
def test_in_a_pipe_it_prints_once(served: Service, option: list[str]) -> None:
    done = subprocess.run(
        [str(GRESO), "top", *option, "--url", served.url], capture_output=True, text=True, timeout=30, check=True
    )
    assert re.search(r"^saves +saving +\d+ %", done.stdout, re.MULTILINE)
    assert re.search(r"^unused +idle +- ", done.stdout, re.MULTILINE)
    assert "\x1b" not in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("environment", [{}, {"NO_COLOR": "1"}], ids=["colours", "none"])
def test_once_in_a_terminal_prints_and_ends(served: Service, environment: dict[str, str]) -> None:
    with Terminal("top", "saves", "--once", "--url", served.url, environment=environment) as terminal:
        assert terminal.left() == 0
        assert ALTERNATE not in terminal.written
        assert "yield" in terminal.written
        assert bool(re.search(r"\x1b\[[\d;]*3\d", terminal.written)) == (not environment)


def test_a_run_that_is_not_there_and_a_service_that_is_away_are_one_line(served: Service) -> None:
    for arguments, said in (
        (["none", "--url", served.url], "greso: there is no run none; create it with PUT /v1/runs/none\n"),
        (["--url", "http://127.0.0.1:1"], "greso: no service answers at http://127.0.0.1:1 "),
    ):
        done = subprocess.run([str(GRESO), "top", *arguments], capture_output=True, text=True, timeout=30, check=False)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(said)
        assert done.stderr.count("\n") == 1


# What is drawn


def lines_of(content: Any, width: int, encoding: str = "utf-8") -> list[str]:
    """The lines printed on a terminal so wide."""
    output = io.TextIOWrapper(io.BytesIO(), encoding)
    console = Console(file=output, width=width, highlight=False, markup=False)
    console.print(drawn(content, console))
    output.flush()
    output.seek(0)
    return output.read().splitlines()


@pytest.mark.parametrize("width", [24, 40, 60, 80, 200])
def test_it_fits_any_width(served: Service, width: int) -> None:
    runs = served.json("GET", "/v1/overview")
    run = {**served.json("GET", "/v1/runs/saves/overview"), "curves": served.json("GET", "/v1/runs/saves/curves")}
    for content in (runs, run):
        lines = lines_of(content, width)
        assert max(map(len, lines)) <= width
    table = lines_of(runs, width)
    assert ("skip rate" in table[0]) == (width >= 40)
    assert ("pool" in table[0]) == (width >= 200)
    assert any(line.startswith("saves") and "saving" in line for line in table)


def test_without_unicode_there_are_bars_all_the_same(served: Service) -> None:
    run = {**served.json("GET", "/v1/runs/saves/overview"), "curves": served.json("GET", "/v1/runs/saves/curves")}
    [line] = [line for line in lines_of(run, 100, "ascii") if line.startswith("p_hard")]
    assert set(line.split()[1]) <= set(ASCII_BARS)


@pytest.mark.parametrize(
    ("values", "bars"),
    [([], ""), ([0.0, 0.5, 1.0], "▁▅█"), ([None, 0.2, None, 0.1], " █ ▅"), ([0.0, 0.0], "▁▁"), ([None], " ")],
)
def test_sparklines(values: list[float | None], bars: str) -> None:
    assert sparkline(values) == bars


def test_runs_without_figures_are_named(served: Service) -> None:
    runs = served.json("GET", "/v1/overview")
    told = lines_of({**runs, "cold": ["large", "other"], "unreadable": ["newer"]}, 120)
    assert "not in memory, being read: large, other" in told
    assert "not readable, see the log: newer" in told
    assert lines_of({**runs, "runs": [], "cold": ["large"]}, 120) == ["not in memory, being read: large"]


def test_what_is_saved_is_told_as_an_estimate(served: Service) -> None:
    run = {**served.json("GET", "/v1/runs/saves/overview"), "curves": served.json("GET", "/v1/runs/saves/curves")}
    avoided = run["totals"]["rollouts_avoided"]
    for saved, said in ((1234, "~1.2k"), (0, "0"), (None, "-")):
        [line] = [line for line in lines_of({**run, "saved_estimate": saved}, 120) if line.startswith("rollouts ")]
        assert line.endswith(f"saved {said} if the model were unchanged, {avoided:,} at most")


def test_no_bound_is_told_of_what_a_ranking_saves(served: Service) -> None:
    runs = served.json("GET", "/v1/overview")
    run = {**served.json("GET", "/v1/runs/saves/overview"), "curves": served.json("GET", "/v1/runs/saves/curves")}
    ranked = {"policy": "irt", "saved_estimate": 1234, "totals": {**run["totals"], "rollouts_avoided": 0}}
    [line] = [line for line in lines_of({**run, **ranked}, 120) if line.startswith("rollouts ")]
    assert line.endswith(", saved ~1.2k if the model were unchanged")
    head, row = lines_of({**runs, "runs": [{**run, **ranked}]}, 120)[:2]
    end = head.index("at most") + len("at most")
    assert row[end - 2 : end] == " -"


@pytest.mark.parametrize(("policy", "shadow"), [("uniform", False), ("greso", True), ("irt", True)])
def test_nothing_saved_is_not_told_of_a_run_that_rolls_out_everything(
    policy: str, shadow: bool, served: Service
) -> None:
    run = {**served.json("GET", "/v1/runs/saves/overview"), "curves": served.json("GET", "/v1/runs/saves/curves")}
    spec, totals = {**run["spec"], "shadow": shadow}, {**run["totals"], "rollouts_avoided": 0}
    told = {**run, "policy": policy, "spec": spec, "totals": totals, "saved_estimate": 0}
    [line] = [line for line in lines_of(told, 120) if line.startswith("rollouts ")]
    assert line == f"rollouts {totals['rollouts']:,}"
    before = {**told, "totals": run["totals"]}
    assert run["totals"]["rollouts_avoided"]
    assert any("saved 0" in line for line in lines_of(before, 120)), "it skipped before it was changed"


def test_a_status_it_does_not_know_is_shown_as_it_is(served: Service) -> None:
    runs = served.json("GET", "/v1/overview")
    assert any(
        "dreaming" in line for line in lines_of({**runs, "runs": [{**runs["runs"][0], "status": "dreaming"}]}, 80)
    )
