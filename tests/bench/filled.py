"""Runs with a pool and reported groups: at a service, in memory, and as a loop's dictionary, of the same content."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator

import httpx
from tests import folding
from tests.bench.loop import Loop, Place
from tests.bench.serving import prompt_id

from greso_service.core.state import RunState

GROUP_SIZE = 8
SPEC = {"train_batch_size": 10**6}  # no step ends
_UPLOAD = 1_000_000  # prompts of a pool upload, as --max-pool-upload has it
_REPORT = 8_192  # groups of a report

Groups = list[tuple[str, list[float]]]


def groups(prompts: int) -> Iterator[Groups]:
    """Reports that give each prompt a group, all wrong in half of the cases, else mixed."""
    dice = random.Random(0)
    for start in range(0, prompts, _REPORT):
        names = map(prompt_id, range(start, min(start + _REPORT, prompts)))
        yield [(name, rewards(dice)) for name in names]


def rewards(dice: random.Random) -> list[float]:
    """Of a group."""
    solved = dice.choice((0.0, 0.5))
    return [float(dice.random() < solved) for _ in range(GROUP_SIZE)]


def place(name: str) -> Place:
    """Source and number of a prompt, as the rows of a data set have them."""
    source, _, number = name.rpartition("/")
    return source, int(number)


def at_service(http: httpx.Client, run: str, prompts: int, reported: int) -> None:
    """Make the run; `reported`: how many of its prompts have a group."""
    http.put(f"/v1/runs/{run}", json=SPEC).raise_for_status()
    for start in range(0, prompts, _UPLOAD):
        lines = "\n".join(json.dumps(prompt_id(one)) for one in range(start, min(start + _UPLOAD, prompts)))
        headers = {"Content-Type": "application/x-ndjson"}
        http.put(f"/v1/runs/{run}/pool", content=lines.encode(), headers=headers).raise_for_status()
    for some in groups(reported):
        results = [{"prompt": name, "rewards": earned} for name, earned in some]
        http.post(f"/v1/runs/{run}/report", json={"step": 0, "results": results}).raise_for_status()


def in_memory(prompts: int) -> tuple[RunState, Loop]:
    """The same, all reported, without a service."""
    state, loop = folding.run(**SPEC), Loop()
    folding.pool(state, [prompt_id(number) for number in range(prompts)])
    for some in groups(prompts):
        folding.report(state, 0, some)
        for name, earned in some:
            loop.report(place(name), earned)
    return state, loop
