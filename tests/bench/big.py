"""`python -m tests.bench.big`: the life of one large run, over HTTP, on a real `greso serve` with its Redis.

A pool is uploaded as NDJSON, drawn from, reported on, restarted and rewound: what each phase takes, and the memory of
the service and of Redis behind it. Then the calls of a training step: beside the same calls to a run of 10,000 prompts
on the same service, and again while one snapshot after the other is made.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import redis
from rich.console import Console
from rich.table import Table
from tests.bench.filled import rewards
from tests.bench.serving import prompt_id
from tests.bench.sizing import resident, settled, used
from tests.bench.timing import Values, in_turns, number
from tests.servers import Service

_UPLOAD = 1_000_000  # prompts of a pool upload: the default of --max-pool-upload
_REPORT = 8_192  # groups of a report
_STEPS = 10
SMALL = 10_000
STEP = ("select", "draw", "report")


class Life:
    """A run on its service, and what was measured of it."""

    def __init__(self, service: Service, prompts: int) -> None:
        self.service, self.prompts = service, prompts
        self.dice = random.Random(0)
        self.table = Table(title=f"a run of {prompts:,} prompts", title_justify="left")
        for column in ("phase", "s", "service, MB", "at most, MB", "Redis, MB"):
            self.table.add_column(column, justify="left" if column == "phase" else "right")

    def phase(self, name: str, work: Callable[[], object]) -> None:
        """Do it, and note what it took."""
        _forget_most(self.service.pid)
        began = time.perf_counter()
        work()
        took = time.perf_counter() - began
        most, store = resident(self.service.pid, "VmHWM"), self.store()
        now = settled(self.service.pid)
        self.table.add_row(name, number(took), number(now / 1e6), number(most / 1e6), number(used(store) / 1e6))

    def store(self) -> Any:
        """A client of its Redis."""
        return redis.Redis(unix_socket_path=str(self.service.folder / "data" / "redis.sock"))

    def start(self, *options: str) -> None:
        """Start the service, again if it runs."""
        if self.service.process is not None:
            self.service.signal(signal.SIGTERM)
            self.service.process.wait(600)
        self.service.options[2:] = options
        self.service.start()

    def upload(self, run: str, prompts: int) -> None:
        """Make a run with a pool, line by line."""
        self.service.json("PUT", f"/v1/runs/{run}", {"train_batch_size": 10**6})
        for start in range(0, prompts, _UPLOAD):
            ids = range(start, min(start + _UPLOAD, prompts))
            content = self.service.http.put(
                f"/v1/runs/{run}/pool", content=_lines(ids), headers={"Content-Type": "application/x-ndjson"}
            )
            content.raise_for_status()

    def report(self, run: str, step: int, names: list[str], *, final: bool = False) -> None:
        """Of a group of each."""
        results = [{"prompt": name, "rewards": rewards(self.dice)} for name in names]
        self.service.json("POST", f"/v1/runs/{run}/report", {"step": step, "results": results, "final": final})

    def report_all(self, run: str, groups: int, prompts: int) -> None:
        """Groups of so many different prompts, in steps."""
        starts = range(0, groups, _REPORT)
        for place, start in enumerate(starts):
            names = [prompt_id(one % prompts) for one in range(start, min(start + _REPORT, groups))]
            step = place * _STEPS // len(starts)
            last = place + 1 == len(starts) or (place + 1) * _STEPS // len(starts) > step
            self.report(run, step, names, final=last)

    def train(self, run: str, rounds: int) -> None:
        """Draws, each reported on."""
        for _ in range(rounds):
            names = self.service.json("POST", f"/v1/runs/{run}/draw", {"step": _STEPS, "count": 384})["prompts"]
            self.report(run, _STEPS, names)

    def ask(self, run: str) -> None:
        """A first question."""
        self.service.json("POST", f"/v1/runs/{run}/select", {"step": _STEPS, "prompts": ["one"]})

    def calls(self, run: str) -> dict[str, Callable[[], object]]:
        """The calls of a step."""
        names = [prompt_id(one) for one in self.dice.sample(range(SMALL), 1_024)]
        told = [{"prompt": name, "rewards": rewards(self.dice)} for name in names[:384]]
        bodies: tuple[dict[str, Any], ...] = ({"prompts": names}, {"count": 384}, {"results": told})
        return {
            name: partial(self._post, f"/v1/runs/{run}/{name}", json.dumps({"step": _STEPS, **body}).encode())
            for name, body in zip(STEP, bodies, strict=True)
        }

    def looks(self, run: str) -> dict[str, Callable[[], object]]:
        """What people ask for."""
        paths = ("", "/overview", "/steps", "/prompts?limit=50", "/prompts?limit=50&kind=hard&sort=mean")
        return {f"GET {path or 'the run'}": partial(self._get, f"/v1/runs/{run}{path}") for path in paths}

    def _get(self, path: str) -> None:
        self.service.http.get(path).raise_for_status()

    def _post(self, path: str, content: bytes) -> None:
        self.service.http.post(path, content=content).raise_for_status()


def _lines(ids: range) -> Iterator[bytes]:
    for start in range(ids.start, ids.stop, 10_000):
        yield "".join(f'"{prompt_id(one)}"\n' for one in range(start, min(start + 10_000, ids.stop))).encode()


def _forget_most(pid: int) -> None:
    """Let the kernel count the most memory from here on."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def told(values: Values) -> tuple[str, str, str]:
    """The median, the 99th percentile and the most."""
    return number(float(np.median(values))), number(float(np.percentile(values, 99))), number(float(values.max()))


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.big", description=__doc__)
    parser.add_argument("--prompts", type=int, default=10_000_000, help="of the pool (default %(default)s)")
    parser.add_argument("--groups", type=int, default=1_000_000, help="reported (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=300, help="calls per figure (default %(default)s)")
    asked = parser.parse_args()
    console = Console()
    if not console.is_terminal:
        console.width = 160
    latency = Table(title="calls, ms", title_justify="left")
    for column in ("call", "median", "99 %", "most", "median in a run of 10,000", "ratio"):
        latency.add_column(column, justify="left" if column == "call" else "right")
    with tempfile.TemporaryDirectory(prefix="greso-bench-") as folder, console.status("a large run ..."):
        service = Service(Path(folder))
        service.http.timeout = 3_600
        life = Life(service, asked.prompts)
        try:
            service.start()
            life.phase("start", lambda: None)
            life.phase("upload of the pool", lambda: life.upload("big", asked.prompts))
            life.phase(f"{asked.groups:,} groups", lambda: life.report_all("big", asked.groups, asked.prompts))
            life.phase("100 rounds of 384", lambda: life.train("big", 100))
            life.upload("small", SMALL)
            life.report_all("small", SMALL, SMALL)
            both = [{**life.calls(run), **life.looks(run)} for run in ("big", "small")]
            for (name, call), other in zip(both[0].items(), both[1].values(), strict=True):
                took, beside = in_turns([call, other], asked.rounds if name in STEP else max(asked.rounds // 10, 3))
                median = float(np.median(beside))
                latency.add_row(name, *told(took), number(median), f"x{float(np.median(took)) / median:.2f}")
            life.phase("restart: process", life.start)
            life.phase("restart: first answer", lambda: life.ask("big"))
            life.start("--snapshot-every", "1")
            life.ask("big")
            kept = _snapshots(life)
            for name, call in life.calls("big").items():
                [took] = in_turns([call], asked.rounds)
                latency.add_row(f"{name}, beside snapshots", *told(took), "", "")
            latency.caption = f"{_snapshots(life) - kept} snapshots were made beside the last {3 * asked.rounds} calls"
            life.phase("rewind", lambda: service.json("POST", "/v1/runs/big/rewind", {"step": _STEPS // 2}))
            life.phase("answer behind it", lambda: life.ask("big"))
        finally:
            service.close()
    console.print(life.table)
    console.print(latency)
    console.print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}")


def _snapshots(life: Life) -> int:
    return int(life.store().info("commandstats").get("cmdstat_rename", {"calls": 0})["calls"])


if __name__ == "__main__":
    main()
