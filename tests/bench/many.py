"""`python -m tests.bench.many`: many runs on one `greso serve` that has room for few of them in memory.

All are made, with a pool and reports; the memory is told as they come. Then, one call after the other: to runs that are
in memory, and to runs that are not, which are read from Redis first. `--live` bounds those in memory by number,
`--bytes` by what they take.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import redis
from rich.console import Console
from rich.table import Table
from tests.bench.big import told
from tests.bench.filled import rewards
from tests.bench.serving import prompt_id
from tests.bench.sizing import settled, used
from tests.bench.timing import Values, number
from tests.servers import Service


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.many", description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000, help="(default %(default)s)")
    parser.add_argument("--active", type=int, default=200, help="of them (default %(default)s)")
    parser.add_argument("--live", type=int, help="--max-live-runs (default: the active ones)")
    parser.add_argument("--bytes", type=int, help="--max-live-bytes (default: none)")
    parser.add_argument("--prompts", type=int, default=10_000, help="of each run's pool (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="reported of each run at first (default %(default)s)")
    parser.add_argument("--calls", type=int, default=1_000, help="per figure (default %(default)s)")
    asked = parser.parse_args()
    options = ["--max-live-runs", str(asked.live or asked.active)]
    options += ["--max-live-bytes", str(asked.bytes)] if asked.bytes else []
    console, dice = Console(), random.Random(0)
    memory = Table(title=f"{asked.runs:,} runs of {asked.prompts:,} prompts, {' '.join(options)}", title_justify="left")
    for column in ("runs made", "in memory", "service, MB", "Redis, MB"):
        memory.add_column(column, justify="right")
    latency = Table(title="calls, ms", title_justify="left")
    for column in ("to", "call", "median", "99 %", "most"):
        latency.add_column(column, justify="left" if column in {"to", "call"} else "right")
    with tempfile.TemporaryDirectory(prefix="greso-bench-") as folder, console.status("many runs ..."):
        service = Service(Path(folder), *options).start()
        service.http.timeout = 600
        try:
            for made in range(asked.runs + 1):
                if made % max(asked.runs // 5, 1) == 0:
                    memory.add_row(f"{made:,}", *_memory(service))
                if made < asked.runs:
                    _make(service, made, asked.prompts, asked.rounds, dice)
            active, idle = range(asked.runs - asked.active, asked.runs), range(asked.runs - asked.active)
            for call in ("select", "report"):
                taken = _called(service, [active[one % len(active)] for one in range(asked.calls)], call, dice)
                latency.add_row("a run in memory, of all active ones in turns", call, *told(taken))
            for call in ("select", "report"):
                taken = _called(
                    service, [idle[one % len(idle)] for one in range(min(asked.calls, len(idle)))], call, dice
                )
                latency.add_row("a run that is read from Redis", call, *told(taken))
            memory.add_row("behind all calls", *_memory(service))
        finally:
            service.close()
    console.print(memory)
    console.print(latency)
    console.print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}")


def _make(service: Service, run: int, prompts: int, rounds: int, dice: random.Random) -> None:
    path = f"/v1/runs/run-{run}"
    service.json("PUT", path, {"train_batch_size": 10**6, "seed": run})
    lines = "".join(f'"{prompt_id(one)}"\n' for one in range(prompts)).encode()
    header = {"Content-Type": "application/x-ndjson"}
    service.http.put(f"{path}/pool", content=lines, headers=header).raise_for_status()
    for step in range(rounds):
        names = service.json("POST", f"{path}/draw", {"step": step, "count": 384})["prompts"]
        results = [{"prompt": name, "rewards": rewards(dice)} for name in names]
        service.json("POST", f"{path}/report", {"step": step, "results": results, "final": True})


def _called(service: Service, runs: list[int], call: str, dice: random.Random) -> Values:
    taken = np.zeros(len(runs))
    for place, run in enumerate(runs):
        names = [prompt_id(one) for one in dice.sample(range(1_000), 384)]
        body: dict[str, Any] = {"step": 1_000, "prompts": names}
        if call == "report":
            body = {"step": 1_000, "results": [{"prompt": name, "rewards": rewards(dice)} for name in names]}
        began = time.perf_counter()
        service.json("POST", f"/v1/runs/run-{run}/{call}", body)
        taken[place] = (time.perf_counter() - began) * 1e3
    return taken


def _memory(service: Service) -> tuple[str, str, str]:
    now = settled(service.pid)
    store: Any = redis.Redis(unix_socket_path=str(service.folder / "data" / "redis.sock"))
    live = next(
        line.split()[1]
        for line in service.http.get("/metrics").text.splitlines()
        if line.startswith("greso_runs_live ")
    )
    return f"{float(live):,.0f}", number(now / 1e6), number(used(store) / 1e6)


if __name__ == "__main__":
    main()
