"""A schedule: from a seed, what trainers ask for and what is broken meanwhile, and when.

The same seed gives the same requests and faults, and the same moments as counted in requests; how the processes
interleave is theirs. A fault begins a random short while after a certain number of requests was sent, so that it falls
among them on a fast machine and on a slow one.
"""

from __future__ import annotations

import random
import resource
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from . import proxy

PROCESSES = (
    "service killed",
    "service frozen",
    "Redis killed",
    "Redis frozen",
    "out of memory",
    *(("disk full",) if hasattr(resource, "prlimit") else ()),  # limits of other processes' files: Linux
    "power cut",
    "clock jump",
)
NETWORK = proxy.KINDS
CLIENT = ("client killed",)
NONE = ("nothing",)
KINDS = (*PROCESSES, *NETWORK, *CLIENT, *NONE)
POOL = 60
GROUP = 4
REPORTS_A_STEP = 4


@dataclass(frozen=True, slots=True)
class Fault:
    """What is broken when so many requests were sent (`after`) and `wait` seconds more, for `seconds`.

    `replica`: which one, or whose proxy; `amount`: between 0 and 1, for what needs one.
    """

    kind: str
    after: int
    wait: float
    seconds: float
    replica: int
    amount: float


@dataclass(frozen=True, slots=True)
class Op:
    """A request to make. `dies`: the client is killed: 0.0-1.0, when so much of the request is sent; above: `dies - 1`
    tenths of a second after all was; None: it lives. `again`: somebody asks again under the same key later."""

    id: str
    kind: str
    body: dict[str, Any]
    dies: float | None = None
    again: bool = True


@dataclass(frozen=True, slots=True)
class Schedule:
    """What is to happen. `trainers`: the requests of each, in order."""

    seed: int
    spec: dict[str, Any]
    faults: tuple[Fault, ...]
    trainers: tuple[tuple[Op, ...], ...]

    @property
    def kinds(self) -> set[str]:
        """The kinds of its faults."""
        return {fault.kind for fault in self.faults} or set(NONE)

    @property
    def run(self) -> str:
        """Its run's name."""
        return f"schedule-{self.seed}"


def schedule(seed: int, kinds: Sequence[str] = KINDS) -> Schedule:
    """The schedule of a seed, with faults of these kinds only."""
    choose = random.Random(f"greso faults {seed}")
    requests = choose.randrange(18, 40)
    # Each kind comes up equally often as the first; it is alone in about half of the schedules.
    chosen = [choose.choice(kinds), *(choose.choice(kinds) for _ in range(choose.choice((0, 0, 1, 2))))]
    # What a power cut leaves is a model of its own, in which nothing else may touch the file.
    if "power cut" in chosen:
        chosen = [kind for kind in chosen if kind not in {"Redis killed", "disk full"}]
        chosen = ["power cut", *(kind for kind in chosen if kind != "power cut")]
    faults = tuple(
        Fault(
            kind,
            choose.randrange(2, max(requests - 6, 3)),
            choose.choice((0.0, choose.random() * 0.01, choose.random() * 0.05)),
            choose.choice((choose.random() * 0.1, choose.random() * 0.6)),
            choose.randrange(2),
            choose.random(),
        )
        for kind in chosen
        if kind not in NONE
    )
    ops = _ops(choose, requests, dying="client killed" in chosen)
    count = choose.randrange(1, 5)
    spec = {
        "seed": seed % 1000,
        "policy": choose.choice(("greso", "greso", "uniform", "irt", "mopps")),
        "train_batch_size": choose.choice((4, 8)),
        "group_size": GROUP,
        "shadow": choose.random() < 0.1,
        "audit_share": choose.choice((0.0, 0.0, 0.2)),
    }
    return Schedule(seed, spec, faults, tuple(tuple(ops[first::count]) for first in range(count)))


def first_pool() -> Op:
    """The pool that each run begins with."""
    return Op("pool-0", "pool", {"prompts": [f"p{number}" for number in range(POOL)]})


def _ops(choose: random.Random, requests: int, *, dying: bool) -> list[Op]:
    """Requests that can be told apart in the history: no two of a kind say the same."""
    ops: list[Op] = []
    rewinding = choose.random() < 0.35
    weights = {"report": 12, "select": 4, "draw": 4, "pool": 1, "rewind": 1.5 if rewinding else 0}
    counts = dict.fromkeys(weights, 1)
    counts["rewind"] = 0
    for _ in range(requests):
        [kind] = choose.choices(list(weights), list(weights.values()))
        number, step = counts[kind], counts["report"] // REPORTS_A_STEP
        counts[kind] += 1
        match kind:
            case "report":
                body = _report(choose, number, number // REPORTS_A_STEP)
            case "select":
                candidates = choose.sample(range(2 * POOL), number)  # so many as no other has
                body = {"step": step, "prompts": [f"p{each}" for each in candidates]}
            case "draw":
                body = {"step": step, "count": number}
            case "pool":
                body = {"prompts": [f"new{number}/{each}" for each in range(choose.randrange(1, 6))]}
            case _:
                body = {"step": number}
        dies = None
        if dying and kind == "report" and choose.random() < 0.4:
            dies = choose.choice((choose.random(), 1.0, 1.0 + choose.random() * 0.2))
        ops.append(Op(f"{kind}-{number}", kind, body, dies, again=choose.random() < 0.6))
    return ops


def _report(choose: random.Random, number: int, step: int) -> dict[str, Any]:
    prompts = [f"own/{number}", *(f"p{each}" for each in choose.sample(range(POOL), choose.randrange(0, 6)))]
    choose.shuffle(prompts)
    rate = {prompt: choose.choice((0.0, 0.0, 0.5, 1.0)) for prompt in prompts}
    groups = [
        {"prompt": prompt, "rewards": [float(choose.random() < rate[prompt]) for _ in range(GROUP)]}
        for prompt in prompts
    ]
    body: dict[str, Any] = {"step": step, "results": groups, "final": number % REPORTS_A_STEP == REPORTS_A_STEP - 1}
    return body
