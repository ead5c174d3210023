"""`python -m tests.bench.sizing`: the memory and disk that prompts and reports take, for docs/deploy.md.

For each size a fresh `greso serve` with an embedded server takes a pool, then a report on every prompt, then reports of
known prompts, each with an Idempotency-Key as the client sends it. Read off are the resident memory of the service,
what Redis says of itself and of each key, and the append-only file. A restart is timed last.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import redis
from rich.console import Console
from rich.table import Table
from tests.servers import Service, eventually

from greso_service.api.app import REFRESH_EVERY

if TYPE_CHECKING:
    from collections.abc import Iterable

RUN = "/v1/runs/sizing"
UPLOAD = 1_000_000  # prompts a pool upload: the default of --max-pool-upload
GROUP_SIZE = 8
GROUPS = 384  # of a training step's round: the default of rollout_batch_size


def ids(kind: str, numbers: Iterable[int]) -> list[str]:
    """Ids as data sets have them: `numbered` ones compress well, `hashed` ones (32 hexadecimal digits) to a half."""
    if kind == "numbered":
        return [f"dapo-math/{number:010d}" for number in numbers]
    return [hashlib.md5(number.to_bytes(8, "big"), usedforsecurity=False).hexdigest() for number in numbers]


def measure(prompts: int, first: int, reports: int, kind: str) -> dict[str, float]:
    """One service, from empty to restarted: what each row of the table says."""
    draws, found = random.Random(prompts), dict[str, float]()
    with tempfile.TemporaryDirectory(prefix="greso-sizing-") as folder:
        service = Service(Path(folder), "--max-body-bytes", str(2**30))
        service.http.timeout = 600
        data = Path(folder, "data")
        try:
            service.start()
            store: Any = redis.Redis(unix_socket_path=str(data / "redis.sock"))
            service.json("PUT", RUN, {"train_batch_size": 10**6})
            idle, idle_redis = resident(service.pid), used(store)
            found["service, without runs, MB"] = idle / 1e6
            for start in range(0, prompts, UPLOAD):
                lines = "\n".join(map(json.dumps, ids(kind, range(start, min(start + UPLOAD, prompts)))))
                header = {"Content-Type": "application/x-ndjson"}
                service.http.put(f"{RUN}/pool", content=lines.encode(), headers=header).raise_for_status()
            found["service, bytes a prompt of the pool"] = (settled(service.pid) - idle) / prompts
            found["Redis, bytes a prompt of the pool"] = (used(store) - idle_redis) / prompts
            for start in range(0, prompts, first):
                report(service, 0, ids(kind, range(start, min(start + first, prompts))), draws)
            found["service, bytes a prompt, all reported"] = (settled(service.pid) - idle) / prompts
            log = usage(store, "log")
            for step in range(reports):
                report(service, 1, ids(kind, draws.choices(range(prompts), k=GROUPS)), draws, key=f"step-{step}")
            found["Redis, bytes a report in the log"] = (usage(store, "log") - log) / reports
            keys = sum(store.memory_usage(key, samples=0) for key in store.scan_iter("*:once:*"))
            found["Redis, bytes a report's key"] = keys / reports
            found["service, at most, MB"] = resident(service.pid, "VmHWM") / 1e6
            service.signal(signal.SIGTERM)
            assert service.process is not None
            service.process.wait(600)
            began = time.perf_counter()
            service.start()
            service.json("GET", RUN)
            found["restart until it answers for the run, s"] = time.perf_counter() - began
            found["service, bytes a prompt after a restart"] = (settled(service.pid) - idle) / prompts
            found["Redis, bytes a prompt of the snapshot"] = usage(store, "snap") / prompts
            found["Redis, all of it, MB"] = used(store) / 1e6
            found["disk, MB"] = sum(path.stat().st_size for path in (data / "appendonlydir").iterdir()) / 1e6
        finally:
            service.close()
    return found


def report(service: Service, step: int, prompts: Iterable[str], draws: random.Random, key: str | None = None) -> None:
    """A report with a group of right-or-wrong rewards for each of the prompts."""
    results = [{"prompt": name, "rewards": [draws.getrandbits(1) for _ in range(GROUP_SIZE)]} for name in prompts]
    service.json("POST", f"{RUN}/report", {"step": step, "results": results}, key)


def resident(pid: int, field: str = "VmRSS") -> float:
    """Resident memory of a process now, or (`VmHWM`) the most it had."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return float(line.split()[1]) * 1024
    raise ValueError(f"process {pid} has no {field}")


def settled(pid: int) -> float:
    """Resident memory of a service when it has given back what it no longer needs: it looks every few seconds."""
    before, now = float("inf"), resident(pid)
    while now < 0.99 * before:
        time.sleep(2 * REFRESH_EVERY)
        before, now = now, resident(pid)
    return now


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
    parser.add_argument("--ids", choices=("numbered", "hashed"), default="hashed", help="(default %(default)s)")
    parser.add_argument("--first", type=int, default=8_192, help="groups a report on all (default %(default)s)")
    parser.add_argument("--reports", type=int, default=300, help="reports of known prompts (default %(default)s)")
    parser.add_argument("--times", type=int, default=3, help="of each size; the spread is shown (default %(default)s)")
    asked = parser.parse_args()
    console = Console()
    table = Table(title=f"median (least - most) of {asked.times}, {asked.ids} ids", title_justify="left")
    table.add_column("prompts")
    columns = []
    for prompts in asked.prompts:
        with console.status(f"{prompts:,} prompts ..."):
            found = [measure(prompts, asked.first, asked.reports, asked.ids) for _ in range(asked.times)]
        table.add_column(f"{prompts:,}", justify="right")
        columns.append(found)
    for name in columns[0][0]:
        table.add_row(name, *(spread([each[name] for each in found]) for found in columns))
    console.print(table)
    console.print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}")


def spread(values: list[float]) -> str:
    """The median and, in brackets, the least and the most."""
    ordered = sorted(values)
    digits = 0 if ordered[-1] >= 100 else 1
    return f"{ordered[len(ordered) // 2]:,.{digits}f} ({ordered[0]:,.{digits}f} - {ordered[-1]:,.{digits}f})"


if __name__ == "__main__":
    main()
