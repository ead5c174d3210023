"""Traffic for two replicas on one Redis: by hand over HTTP, with steps that Prometheus sees one by one."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tests.servers import eventually

if TYPE_CHECKING:
    from tests.servers import Service
    from tests.watch.prometheus import Prometheus

SPEC: Final = {"group_size": 4, "train_batch_size": 6, "rollout_batch_size": 12, "p_easy": 0.3, "p_hard": 0.3}
POOL: Final = [f"{kind}-{number}" for kind in ("good", "easy", "hard") for number in range(8)]
REWARDS: Final = {"good": [0.0, 1.0, 1.0, 0.0], "easy": [1.0] * 4, "hard": [0.0] * 4}
STEPS: Final = 6
"""Enough for some epochs of the pool, so that prompts are skipped."""


@dataclass(frozen=True)
class Watched:
    """Two replicas on one Redis and the Prometheus that scrapes both."""

    replicas: list[Service]
    prometheus: Prometheus

    @property
    def instances(self) -> list[str]:
        """As Prometheus names the replicas."""
        return [f"127.0.0.1:{replica.port}" for replica in self.replicas]

    def scraped(self, expr: str, value: float) -> None:
        """Wait until a query has this value."""
        told: list[float | None] = [None]

        def there() -> bool:
            told[0] = self.prometheus.number(expr)
            return told[0] == value

        eventually(there, 20.0, lambda: f"{expr} is {told[0]}, not {value}")


def play(watched: Watched, run: str, steps: int = STEPS) -> None:
    """Some steps of a run through both replicas in turn, each step scraped before the next begins."""
    replicas, path = watched.replicas, f"/v1/runs/{run}"
    replicas[0].json("PUT", path, SPEC)
    prompts = [{"prompt": name, "domain": name.partition("-")[0]} for name in POOL]
    replicas[1].json("PUT", f"{path}/pool", {"prompts": prompts})
    watched.scraped(f'min(sum by (instance) (greso_groups_total{{run="{run}"}}))', 0)
    rounds = itertools.count()
    for step in range(1, steps + 1):
        complete = False
        while not complete:
            number = next(rounds)
            drawing, reporting = replicas[number % 2], replicas[number // 2 % 2]
            drawn = drawing.json("POST", f"{path}/draw", {"step": step})
            results = [{"prompt": name, "rewards": REWARDS[name.partition("-")[0]]} for name in drawn["prompts"]]
            body = {"step": step, "results": results, "final": not results}
            complete = reporting.json("POST", f"{path}/report", body)["step"]["complete"]
        watched.scraped(f'sum(greso_groups_total{{run="{run}"}})', totals(watched, run)["groups"])


def totals(watched: Watched, run: str) -> Any:
    """The run's own totals."""
    return watched.replicas[0].json("GET", f"/v1/runs/{run}")["totals"]
