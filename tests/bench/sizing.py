"""`python -m tests.bench.sizing`: the memory and disk that prompts and reports take, for docs/deploy.md.

For each size a fresh `greso serve` with an embedded server takes a pool, then a report on every prompt, then a day's worth
of nothing but reports on known prompts, each with an Idempotency-Key as the client sends it. Read off are the resident
memory of the service, what Redis says of itself and of each key, and the append-only file. A restart is timed last.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import redis
from rich.console import Console
from rich.table import Table
from tests.bench.__main__ import GROUP_SIZE, prompt_id
from tests.servers import Service, eventually

if TYPE_CHECKING:
    from collections.abc import Iterable

RUN = "/v1/runs/sizing"
UPLOAD = 1_000_000  # prompts a pool upload: the default of --max-pool-upload
FIRST = 8_192  # groups in each report of the pass over all prompts
GROUPS = 384  # of a training step's round: the default of rollout_batch_size


@dataclass(frozen=True)
class Size:
    """What was read off for one number of prompts; all in bytes but `restart`, which is in seconds."""

    pooled: float
    reported: float
    peak: float
    restarted: float
    redis_pooled: float
    redis_reported: float
    snapshot: float
    disk: float
    report_log: float
    report_key: float
    restart: float


def measure(prompts: int, reports: int) -> Size:
    """One service, from empty to restarted."""
    draws = random.Random(prompts)
    with tempfile.TemporaryDirectory(prefix="greso-sizing-") as folder:
        service = Service(Path(folder), "--max-body-bytes", str(2**30))
        service.http.timeout = 600
        try:
            service.start()
            data = Path(folder, "data")
            store: Any = redis.Redis(unix_socket_path=str(data / "redis.sock"))
            service.json("PUT", RUN, {"train_batch_size": 10**6})
            idle, idle_redis = resident(service.pid), used(store)
            for start in range(0, prompts, UPLOAD):
                lines = "\n".join(json.dumps(prompt_id(n)) for n in range(start, min(start + UPLOAD, prompts)))
                kind = {"Content-Type": "application/x-ndjson"}
                service.http.put(f"{RUN}/pool", content=lines.encode(), headers=kind).raise_for_status()
            pooled, redis_pooled = resident(service.pid) - idle, used(store) - idle_redis
            for start in range(0, prompts, FIRST):
                report(service, 0, range(start, min(start + FIRST, prompts)), draws)
            reported = resident(service.pid) - idle
            log, snapshot = usage(store, "log"), usage(store, "snap")
            redis_reported = used(store) - idle_redis
            for step in range(reports):
                report(service, 1, draws.choices(range(prompts), k=GROUPS), draws, key=f"step-{step}")
            keys = sum(store.memory_usage(key, samples=0) for key in store.scan_iter("*:once:*"))
            grown = usage(store, "log") - log
            peak = resident(service.pid, "VmHWM")
            service.signal(15)
            assert service.process is not None
            service.process.wait(60)
            disk = sum(path.stat().st_size for path in (data / "appendonlydir").iterdir())
            began = time.perf_counter()
            service.start()
            service.json("GET", RUN)
            restart = time.perf_counter() - began
            restarted = resident(service.pid) - idle
        finally:
            service.close()
    return Size(
        pooled, reported, peak, restarted, redis_pooled, redis_reported, snapshot, disk,
        grown / reports, keys / reports, restart,
    )  # fmt: skip


def report(service: Service, step: int, prompts: Iterable[int], draws: random.Random, key: str | None = None) -> None:
    """A report with a group of right-or-wrong rewards for each of the prompts."""
    results = [
        {"prompt": prompt_id(number), "rewards": [draws.getrandbits(1) for _ in range(GROUP_SIZE)]}
        for number in prompts
    ]
    service.json("POST", f"{RUN}/report", {"step": step, "results": results}, key)


def resident(pid: int, field: str = "VmRSS") -> float:
    """Resident memory of a process now, or (`VmHWM`) the most it had."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return float(line.split()[1]) * 1024
    raise ValueError(f"process {pid} has no {field}")


def used(store: Any) -> float:
    """Redis's own count of the memory it uses, when what it writes to disk has been handed over."""
    eventually(lambda: not store.info("persistence")["aof_rewrite_in_progress"], 600)
    info = store.info("memory")
    return float(info["used_memory"]) - float(info["mem_not_counted_for_evict"])


def usage(store: Any, name: str) -> float:
    """Memory of the run's key."""
    return float(store.memory_usage(f"greso:{{default/sizing}}:{name}", samples=0) or 0)


def main() -> None:
    """Measure and print the tables."""
    if sys.platform != "linux":
        sys.exit("resident memory is read from /proc: measure on Linux")
    parser = argparse.ArgumentParser(prog="python -m tests.bench.sizing", description=__doc__)
    parser.add_argument("--prompts", type=int, nargs="+", default=[10_000, 100_000, 1_000_000], metavar="N")
    parser.add_argument("--reports", type=int, default=200, help="reports of known prompts (default %(default)s)")
    parser.add_argument("--times", type=int, default=3, help="of each size; the spread is shown (default %(default)s)")
    asked = parser.parse_args()
    console = Console(width=160)
    table = Table(title=f"median (least - most of {asked.times}), MB of 10^6 bytes", title_justify="left")
    each = Table(title="bytes a prompt, and a report of 384 groups of 8", title_justify="left")
    for name in ("prompts", *(name.replace("_", " ") for name in list(Size.__annotations__)[:8]), "restart, s"):
        table.add_column(name, justify="right")
    for name in ("prompts", "service, pooled", "reported", "redis, pooled", "reported", "report, log", "report, key"):
        each.add_column(name, justify="right")
    for prompts in asked.prompts:
        with console.status(f"{prompts:,} prompts ..."):
            found = [measure(prompts, asked.reports) for _ in range(asked.times)]
        columns = [
            [getattr(size, name) / (1 if name == "restart" else 1e6) for size in found] for name in Size.__annotations__
        ]
        table.add_row(f"{prompts:,}", *map(spread, columns[:8]), spread(columns[-1]))
        per = [[getattr(size, name) / prompts for size in found] for name in ("pooled", "reported")]
        per += [[getattr(size, name) / prompts for size in found] for name in ("redis_pooled", "redis_reported")]
        per += [[getattr(size, name) for size in found] for name in ("report_log", "report_key")]
        each.add_row(f"{prompts:,}", *map(spread, per))
    console.print(table, each)
    console.print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}")


def spread(values: list[float]) -> str:
    """The median and, in brackets, the least and the most."""
    ordered = sorted(values)
    digits = 0 if ordered[-1] >= 100 else 1
    return f"{ordered[len(ordered) // 2]:,.{digits}f} ({ordered[0]:,.{digits}f} - {ordered[-1]:,.{digits}f})"


if __name__ == "__main__":
    main()
