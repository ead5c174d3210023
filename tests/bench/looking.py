"""`python -m tests.bench.looking`: what it costs to look, at a large run and at many.

A run of a million prompts is uploaded and a third of it reported on; then every request of the dashboard page is timed
against it. Beside it, a scrape of the metrics with many active runs. Medians of round trips over one connection, with
the 10th to the 90th percentile; bytes as sent.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time

import httpx
import numpy as np
from rich.console import Console
from rich.table import Table
from tests.bench.serving import figures, prompt_id, served

GROUPS = 8_192  # of a report
STEPS_BEFORE_FULL = 50


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.looking", description=__doc__)
    parser.add_argument("--prompts", type=int, default=1_000_000, help="prompts in the run (default %(default)s)")
    parser.add_argument("--steps", type=int, default=10_000, help="steps of the run (default %(default)s)")
    parser.add_argument("--runs", type=int, default=100, help="active runs in a scrape (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=50, help="round trips per figure (default %(default)s)")
    asked = parser.parse_args()
    console = Console()
    table = Table(title=f"a run of {asked.prompts:,} prompts and {asked.steps:,} steps", title_justify="left")
    for name in ("request", "ms", "10 % - 90 %", "kB"):
        table.add_column(name, justify="left" if name == "request" else "right")
    with served() as servers, servers.http() as client:
        with console.status("making a large run ..."):
            _fill(client, asked.prompts, asked.steps)
        for path in _paths(asked.prompts):
            table.add_row(f"GET {path}", *_timed(client, path, asked.rounds))
        with console.status("making many runs ..."):
            _make_many(client, asked.runs - 1)
        table.add_row(f"GET /metrics, {asked.runs} active runs", *_timed(client, "/metrics", asked.rounds))
        table.add_row("GET /v1/overview?limit=100", *_timed(client, "/v1/overview?limit=100", asked.rounds))
    console.print(table)
    console.print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}")


def _fill(client: httpx.Client, prompts: int, steps: int) -> None:
    client.put("/v1/runs/large", json={"group_size": 2, "train_batch_size": 10**6}).raise_for_status()
    ids = [prompt_id(number) for number in range(prompts)]
    lines = "\n".join(map(json.dumps, ids)).encode()
    headers = {"Content-Type": "application/x-ndjson"}
    client.put("/v1/runs/large/pool", content=lines, headers=headers).raise_for_status()
    draws = np.random.default_rng(0)
    full = min(STEPS_BEFORE_FULL, steps)
    for step in range(steps):
        chosen = draws.choice(prompts, GROUPS if step < full else 4)
        rewards = (draws.random((chosen.size, 2)) < 0.3).astype(float).tolist()
        client.post(
            "/v1/runs/large/select", json={"step": step, "prompts": [ids[place] for place in chosen[:64]]}
        ).raise_for_status()
        results = [{"prompt": ids[place], "rewards": row} for place, row in zip(chosen, rewards, strict=True)]
        body = {"step": step, "results": results, "final": True}
        client.post("/v1/runs/large/report", json=body).raise_for_status()


def _paths(prompts: int) -> list[str]:
    some = prompt_id(prompts // 2).replace("/", "%2F")
    return [
        "/",
        "/v1/overview",
        "/v1/runs/large/overview",
        "/v1/runs/large/curves",
        "/v1/runs/large/map",
        "/v1/runs/large/prompts?limit=50",
        "/v1/runs/large/prompts?limit=50&kind=hard&sort=mean",
        f"/v1/runs/large/prompts?limit=50&search={prompts // 3}",
        f"/v1/runs/large/prompts/{some}",
        f"/v1/runs/large/why/{some}",
    ]


def _make_many(client: httpx.Client, runs: int) -> None:
    for number in range(runs):
        path = f"/v1/runs/run-{number}"
        client.put(path, json={"train_batch_size": 2}).raise_for_status()
        results = [{"prompt": f"p{place}", "rewards": [0, place % 2]} for place in range(8)]
        client.post(f"{path}/report", json={"step": 0, "results": results}).raise_for_status()


def _timed(client: httpx.Client, path: str, rounds: int) -> tuple[str, str, str]:
    times = np.zeros(rounds)
    size = 0
    for place in range(-rounds // 10, rounds):
        began = time.perf_counter()
        answer = client.get(path).raise_for_status()
        if place >= 0:
            times[place] = (time.perf_counter() - began) * 1e3
        size = len(answer.content)
    return *figures(times), f"{size / 1000:.1f}"


if __name__ == "__main__":
    main()
