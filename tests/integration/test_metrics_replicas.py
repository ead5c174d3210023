"""What Prometheus gets from two replicas on one Redis: added up or taken once as documented, it is the run's own."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from greso_service.telemetry.catalogue import ALL, exposed

from ..servers import RedisServer, Service, eventually  # noqa: TID252

OVER = {exposed(metric): metric.over for metric in ALL.values()}


@pytest.fixture(scope="module")
def replicas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Service]]:
    tmp_path = tmp_path_factory.mktemp("replicas")
    redis = RedisServer(tmp_path / "redis").start()
    services = [Service(tmp_path / f"service{number}", "--redis-url", redis.url) for number in range(2)]
    try:
        yield [service.start() for service in services]
    finally:
        for service in services:
            service.close()
        redis.close()


def scraped(services: list[Service], run: str) -> dict[tuple[str, ...], list[float]]:
    """(Metric, label values but the run's) -> what each replica that has the series tells."""
    found = defaultdict(list)
    for service in services:
        for family in text_string_to_metric_families(service.call("GET", "/metrics").text):
            for sample in family.samples:
                if sample.labels.get("run") == run:
                    rest = [value for name, value in sorted(sample.labels.items()) if name != "run"]
                    found[sample.name, *rest].append(sample.value)
    return found


def train(services: list[Service], run: str, steps: range) -> None:
    """A trainer whose calls reach now this replica, now that."""
    choose = random.Random(7)
    for step in steps:
        drawn = choose.choice(services).json("POST", f"/v1/runs/{run}/draw", {"step": step, "count": 8}, f"d{step}")
        results = [
            {"prompt": prompt, "rewards": [float(choose.random() < int(prompt[1:]) / 40) for _ in range(4)]}
            for prompt in drawn["prompts"]
        ]
        body = {"step": step, "results": results, "final": True}
        first = choose.choice(services).json("POST", f"/v1/runs/{run}/report", body, f"r{step}")
        again = choose.choice(services).call("POST", f"/v1/runs/{run}/report", body, f"r{step}")
        assert again.headers["Idempotent-Replayed"] == "true"
        assert again.json() == first


def totals(service: Service, run: str) -> dict[tuple[str, ...], float]:
    state: Any = service.json("GET", f"/v1/runs/{run}")
    told = state["totals"]
    counted = {
        ("greso_prompts_examined_total",): told["examined"],
        ("greso_prompts_selected_total",): told["selected"],
        ("greso_rollouts_total",): told["rollouts"],
        ("greso_rollouts_avoided_total",): told["rollouts_avoided"],
        ("greso_groups_total", "effective"): told["effective"],
        ("greso_groups_total", "undetermined"): told["undetermined"],
    }
    for kind in ("easy", "hard"):
        counted["greso_prompts_skipped_total", kind] = told["skipped"][kind]
        counted["greso_groups_total", kind] = told["zero_variance"][kind]
    return counted


def test_added_up_over_replicas_the_counters_are_the_runs_totals(replicas: list[Service]) -> None:
    replicas[0].json("PUT", "/v1/runs/sums", {"train_batch_size": 4, "p_easy": 0.3, "p_hard": 0.3, "group_size": 4})
    replicas[0].json("PUT", "/v1/runs/sums/pool", {"prompts": [f"p{number}" for number in range(40)]})
    train(replicas, "sums", range(60))
    wanted = totals(replicas[1], "sums")
    assert wanted["greso_prompts_skipped_total", "hard"] > 0
    series = scraped(replicas, "sums")
    assert {name: sum(series[name]) for name in wanted} == wanted
    assert all(len(series[name]) == 2 and max(series[name]) < wanted[name] for name in wanted if wanted[name] > 20)
    assert {OVER[name] for name, *_ in wanted} == {"sum"}


def test_every_replica_tells_the_same_state(replicas: list[Service]) -> None:
    replicas[0].json("PUT", "/v1/runs/same", {"train_batch_size": 4})
    replicas[0].json("PUT", "/v1/runs/same/pool", {"prompts": [f"p{number}" for number in range(40)]})
    train(replicas, "same", range(3))
    train(replicas[:1], "same", range(3, 20))  # from here on the other one hears of the run only from the history

    def same() -> bool:
        series = scraped(replicas, "same")
        gauges = {name: values for name, values in series.items() if OVER[name[0]] == "max"}
        return len(gauges) > 20 and all(len(values) == 2 and len(set(values)) == 1 for values in gauges.values())

    eventually(same, 20, lambda: str(scraped(replicas, "same")))
    assert scraped(replicas, "same")["greso_run_step",] == [19, 19]


def test_after_a_rewind_through_one_replica_the_other_follows(replicas: list[Service]) -> None:
    replicas[0].json("PUT", "/v1/runs/rewound", {"train_batch_size": 4})
    replicas[0].json("PUT", "/v1/runs/rewound/pool", {"prompts": [f"p{number}" for number in range(40)]})
    train(replicas, "rewound", range(6))
    replicas[0].json("POST", "/v1/runs/rewound/rewind", {"step": 2}, "back")
    replicas[0].json("PATCH", "/v1/runs/rewound", {"target_zero_variance": 0.4})
    eventually(lambda: scraped(replicas, "rewound")["greso_run_generation",] == [1, 1], 20)
    series = scraped(replicas, "rewound")
    assert series["greso_run_step",] == [2, 2]
    assert series["greso_run_target_ratio", "hard"] == pytest.approx([0.4 * 2 / 3] * 2)
    assert series["greso_run_rewinds_total",] == [1, 0]
    assert series["greso_run_spec_changes_total",] == [1, 0]
    assert sum(series["greso_rollouts_total",]) > totals(replicas[0], "rewound")["greso_rollouts_total",]


def test_a_run_deleted_elsewhere_disappears(replicas: list[Service]) -> None:
    replicas[0].json("PUT", "/v1/runs/deleted", {"train_batch_size": 4})
    replicas[0].json("PUT", "/v1/runs/deleted/pool", {"prompts": ["p1", "p2"]})
    train(replicas, "deleted", range(4))
    assert replicas[0].call("DELETE", "/v1/runs/deleted").status_code == 204
    eventually(lambda: not scraped(replicas, "deleted")["greso_run_step",], 20)
