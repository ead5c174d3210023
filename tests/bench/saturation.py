"""What one and two replicas can do at most, by trainers that wait for their answers; and the waits at half of that."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import httpx
import numpy as np
import uvloop
from tests.bench.overload import PROMPTS, Answered, Load, Requests
from tests.bench.serving import Served, prompt_id, served
from tests.bench.timing import Row

_RUNS = 16
_TRAINERS = 16  # as the goal has it


def saturation(
    replicas: Sequence[int], trainers: Sequence[int], sizes: Sequence[int], deciding: Sequence[int], seconds: float
) -> Iterator[Row]:
    """Select and report of so many prompts in turn, each trainer on a connection of its own; and of `deciding` prompts
    select alone, by 16 trainers.
    """
    for count in replicas:
        with served(count) as servers:
            _fill(servers)
            for size in sizes:
                yield from uvloop.run(_measured(servers, trainers, size, seconds, ("select", "report")))
            for size in deciding:
                yield from uvloop.run(_measured(servers, [_TRAINERS], size, seconds, ("select",)))


async def _measured(
    servers: Served, trainers: Sequence[int], size: int, seconds: float, verbs: Sequence[str]
) -> list[Row]:
    loads = [Load(url, Requests(_RUNS, size, verbs)) for url in servers.urls]
    await _closed(loads, len(loads), 1)
    rows, most = list[Row](), 0.0
    who = f"{len(loads)} replica{'s' if len(loads) > 1 else ''}, {' and '.join(verbs)} of {size:,}"
    for count in trainers:
        if count < len(loads):
            continue
        answered = await _closed(loads, count, seconds)
        rate = len(_times(answered)) / seconds
        most = max(most, rate)
        rows.append(Row(f"{who}, {count} trainers: prompts", np.array([rate * size]), unit="1/s"))
        rows.append(_waits(f"{who}, {count} trainers: waits", answered))
    every = await asyncio.gather(*(load.open(most / 2 / len(loads), seconds) for load in loads))
    rows.append(_waits(f"{who}, half of the most: waits", [one for answered in every for one in answered]))
    for load in loads:
        load.close()
    return rows


async def _closed(loads: Sequence[Load], trainers: int, seconds: float) -> Answered:
    every = await asyncio.gather(*(load.closed(trainers // len(loads), seconds) for load in loads))
    return [one for answered in every for one in answered]


def _waits(what: str, answered: Answered) -> Row:
    times = _times(answered)
    refused = sum(status != 200 for status, _ in answered) / len(answered)
    beside = {"99 %": np.array([np.percentile(times, 99)])} | ({"refused": np.array([refused])} if refused else {})
    return Row(what, times, beside, slower=("99 %",))


def _times(answered: Answered) -> np.ndarray:
    return np.array([took * 1e3 for status, took in answered if status == 200] or [np.nan])


def _fill(servers: Served) -> None:
    with httpx.Client(base_url=servers.url, timeout=60, trust_env=False) as client:
        for run in range(_RUNS):
            client.put(f"/v1/runs/run-{run}", json={"train_batch_size": 10**6}).raise_for_status()
            names = [prompt_id(number) for number in range(PROMPTS)]
            client.put(f"/v1/runs/run-{run}/pool", json={"prompts": names}).raise_for_status()
