"""`make bench`: what a select and a report cost, beside the floor of the same server echoing the same bytes.

Each figure is the median of many round trips with one HTTP connection; echo and measured call take turns, so that the
ratio holds on a noisy machine. The spread is the 10th to the 90th percentile.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count

import httpx
import numpy as np
from rich.console import Console
from rich.table import Table
from tests.bench.serving import figures, prompt_id, served

GROUP_SIZE = 8


def measure(call: Callable[[], object], floor: Callable[[], object], rounds: int) -> tuple[np.ndarray, np.ndarray]:
    """Milliseconds of each call and of each floor, taken in turns after a warm-up."""
    times = np.zeros((2, rounds))
    for place in range(-rounds // 10, rounds):
        for row, work in enumerate((call, floor)):
            began = time.perf_counter()
            work()
            if place >= 0:
                times[row, place] = (time.perf_counter() - began) * 1e3
    return times[0], times[1]


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--prompts", type=int, default=200_000, help="prompts in the run (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=300, help="round trips per figure (default %(default)s)")
    asked = parser.parse_args()
    console = Console()
    with served() as url, httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
        with console.status(f"filling a run of {asked.prompts:,} prompts ..."):
            rows = fill(client, asked.prompts)
        table = Table(title=f"milliseconds per round trip, run of {asked.prompts:,} prompts", title_justify="left")
        for name in ("call", "median", "10 % - 90 %", "echo", "10 % - 90 %", "ratio of medians"):
            table.add_column(name, justify="left" if name == "call" else "right")
        for name, call, body in calls(client, asked.prompts):
            with console.status(f"measuring {name} ..."):
                took, echo = measure(call, partial(_post, client, "/echo", body, count()), asked.rounds)
            table.add_row(name, *figures(took), *figures(echo), f"{np.median(took) / np.median(echo):.2f}")
    console.print(table)
    console.print(f"{rows}; {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}")


def fill(client: httpx.Client, prompts: int) -> str:
    """Create run `bench` with a pool and a report for each of its prompts; says how long the upload took."""
    client.put("/v1/runs/bench", json={"train_batch_size": 10**6}).raise_for_status()
    ids = [prompt_id(number) for number in range(prompts)]
    lines = "\n".join(map(json.dumps, ids)).encode()
    began = time.perf_counter()
    client.put(
        "/v1/runs/bench/pool", content=lines, headers={"Content-Type": "application/x-ndjson"}
    ).raise_for_status()
    upload = time.perf_counter() - began
    draws = random.Random(0)
    for start in range(0, prompts, 8192):
        groups = [{"prompt": name, "rewards": _rewards(draws)} for name in ids[start : start + 8192]]
        client.post("/v1/runs/bench/report", json={"step": 0, "results": groups}).raise_for_status()
    return f"pool upload of {prompts:,} prompts {upload:.2f} s"


def _rewards(draws: random.Random) -> list[int]:
    """A group of a prompt that is all wrong in half of the cases, else mixed."""
    solved = draws.choice((0.0, 0.5))
    return [int(draws.random() < solved) for _ in range(GROUP_SIZE)]


def calls(client: httpx.Client, prompts: int) -> Iterator[tuple[str, Callable[[], object], bytes]]:
    """What is measured: a name, the call, and the body it sends."""
    draws, number = random.Random(1), count()
    for candidates in (64, 384, 1024, 8192):
        ids = [prompt_id(place) for place in draws.sample(range(prompts), candidates)]
        body = json.dumps({"step": 1, "prompts": ids}).encode()
        yield f"select {candidates:,}", partial(_post, client, "/v1/runs/bench/select", body, number), body
    for groups in (64, 384, 1024):
        ids = [prompt_id(place) for place in draws.sample(range(prompts), groups)]
        results = [{"prompt": name, "rewards": _rewards(draws)} for name in ids]
        body = json.dumps({"step": 1, "results": results}).encode()
        yield f"report {groups:,} x {GROUP_SIZE}", partial(_post, client, "/v1/runs/bench/report", body, number), body
    body = json.dumps({"step": 1, "count": 384}).encode()
    yield "draw 384", partial(_post, client, "/v1/runs/bench/draw", body, number), body


def _post(client: httpx.Client, path: str, body: bytes, number: Iterator[int]) -> None:
    headers = {"Content-Type": "application/json", "Idempotency-Key": f"bench-{next(number)}"}
    client.post(path, content=body, headers=headers).raise_for_status()


if __name__ == "__main__":
    main()
