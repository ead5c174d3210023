"""Every query against a real Prometheus over two real replicas: it gives data, and the figures are the run's own."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from operator import methodcaller
from typing import TYPE_CHECKING, Final

import pytest
from tests.servers import RedisServer, Service, eventually
from tests.watch.committed import Query, alerts, filled_in, queries, selectors
from tests.watch.prometheus import Prometheus, finite
from tests.watch.traffic import Watched, play, totals

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

DURATIONS: Final = {"__rate_interval": "3s", "__range": "5m", "window": "1m"}
"""What Grafana fills in: $__rate_interval is four scrapes at least; the rest is what somebody chooses."""

OUTAGE: Final = "test_outage.py::test_outages_fire_their_alerts_and_the_end_of_them_is_seen"
CASES: Final = "test_rules.py::test_every_alert_has_a_firing_and_a_silent_case"
EMPTY_UNLESS: Final = {
    "GresoDown": ("a replica answers", OUTAGE),
    "GresoReplicaDown": ("all replicas answer", OUTAGE),
    "GresoErrors": ("nothing fails", OUTAGE),
    "GresoRedisDown": ("Redis answers", OUTAGE),
    "GresoRedisErrors": ("Redis answers", OUTAGE),
    "GresoClientsDegraded": ("no client was away", OUTAGE),
    "GresoReportsLost": ("no client was away", OUTAGE),
    "GresoSlow": ("calls are fast", CASES),
    "GresoOverloaded": ("it takes hundreds of calls at once", CASES),
    "GresoAccessEnds": ("neither keys nor a certificate", CASES),
    "GresoRedisSlow": ("Redis is fast", CASES),
    "GresoRedisFillsUp": ("it takes hours", CASES),
    "GresoRedisFull": ("it takes gigabytes", CASES),
    "GresoSnapshotsFail": (
        "snapshots are saved",
        "test_outage.py::test_snapshots_that_can_not_be_saved_fire_their_alert",
    ),
    "GresoNoReports": ("reports come", CASES),
    "GresoNothingEffective": ("some groups are effective", CASES),
    "GresoYieldFalling": ("it takes hours", CASES),
    "GresoTargetMissed": ("it takes hours", CASES),
    "GresoAtLowBound": ("it takes as many steps as p has to fall", CASES),
    "GresoAtHighBound": ("it takes as many steps as p has to rise", CASES),
}
"""Alert -> why its query gives nothing here, and the test in which it does. Nothing else may be empty."""

TRAINING_STEPS: Final = 40
TRAINING_SECONDS: Final = 120.0


@pytest.fixture(scope="module", params=["by hand", "trained"])
def watched(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Watched, str]]:
    """Two replicas and their Prometheus, and the run that was just played: by hand, or by a real trainer."""
    folder = tmp_path_factory.mktemp("watched")
    redis = RedisServer(folder / "redis")
    replicas = [Service(folder / name, "--redis-url", redis.url) for name in ("a", "b")]
    prometheus = Prometheus(folder / "prometheus", [replica.url[7:] for replica in replicas])
    try:
        # Prometheus needs 5 s until it scrapes its first targets: meanwhile the services start.
        prometheus.start()
        redis.start()
        with ThreadPoolExecutor() as at_once:
            list(at_once.map(Service.start, replicas))
        both = Watched(replicas, prometheus)
        with ThreadPoolExecutor() as at_once:
            other = at_once.submit(play_another, both)
            if request.param == "trained":
                run = train(both, folder / "training")
            else:
                play(both, run := "by-hand-2")
            other.result()
        yield both, run
    finally:
        with ThreadPoolExecutor() as at_once:
            list(at_once.map(methodcaller("close"), [*replicas, prometheus]))
        redis.close()


def play_another(both: Watched) -> None:
    """A second run, for the dashboard of all runs; on it the rewind and the change of the spec."""
    play(both, "by-hand", 2)
    both.replicas[1].json("PATCH", "/v1/runs/by-hand", {"safety_factor": 1.5})
    both.replicas[0].json("POST", "/v1/runs/by-hand/rewind", {"step": 1})


def train(both: Watched, folder: Path) -> str:
    """The run of a `greso train` through one replica, in which the other is asked about candidates meanwhile."""
    from tests.training import Training, steps_done, train_arguments, write_tiny  # noqa: PLC0415  # torch: seconds

    folder.mkdir()
    write_tiny(folder)
    first, second = both.replicas
    more = ["--steps", str(TRAINING_STEPS)]
    training = Training(folder, train_arguments(folder, folder / "out", first.url, "trained", *more)).start()

    def further(step: int) -> bool:
        return training.ended() or steps_done(folder / "out") > step

    try:
        step = 0
        while not training.ended():
            eventually(partial(further, step), TRAINING_SECONDS, training.said)
            step = steps_done(folder / "out")
            known = second.json("GET", "/v1/runs/trained/prompts?limit=20")["prompts"]
            body = {"step": step, "prompts": [row["prompt"] for row in known]}
            second.json("POST", "/v1/runs/trained/select", body)
        assert training.wait() == 0, training.said()
    finally:
        training.close()
    return "trained"


WITHOUT_AUDITS = "run / False-skip rate of audits / A"
"""No run here is audited: no group to divide by."""

WITHOUT_DOMAINS: Final = "by domain"
"""In the titles of panels that are empty for the trained run: `greso train` gives its prompts none."""


def asked(watched: Watched, query: Query, run: str) -> list[float]:
    """The values that a query gives, as Grafana would ask it."""
    prometheus = watched.prometheus
    if query.form == "label_values":
        metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", query.expr).groups()  # type: ignore[union-attr]
        return [1.0 for _ in prometheus.label_values(label, metric)]
    expr = filled_in(query.expr, run=run, runs=["by-hand", run], instances=watched.instances, durations=DURATIONS)
    if query.form == "instant":
        return [value for _, value in prometheus.now(expr)]
    end = time.time()
    return [value for _, values in prometheus.over_time(expr, end - 300, end) for _, value in values]


def test_every_query_gives_data_or_is_known_to_be_empty(watched: tuple[Watched, str]) -> None:
    both, run = watched
    both.scraped(f'sum(greso_groups_total{{run="{run}"}})', totals(both, run)["groups"])
    # The rewind and the change of the spec are the other run's.
    events = {"run / Rewind": "by-hand", "run / Spec changed": "by-hand"}
    empty = {
        query.where: query.expr for query in queries() if not finite(asked(both, query, events.get(query.where, run)))
    }
    unforeseen = empty.keys() - {f"alert {name}" for name in EMPTY_UNLESS} - {WITHOUT_AUDITS}
    if run == "trained":
        unforeseen = {where for where in unforeseen if WITHOUT_DOMAINS not in where}
    assert not unforeseen, {where: empty[where] for where in unforeseen}


def test_alerts_look_at_series_that_are_there(watched: tuple[Watched, str]) -> None:
    both, _ = watched
    lacking = {
        (name, selector)
        for name, rule in alerts().items()
        for selector in selectors(rule["expr"])
        if not both.prometheus.now(f"count({selector})")
    }
    # No run here has its filter turned off, and no `uniform` run is there to be left out.
    assert lacking == {("GresoAtHighBound", 'greso_run_info{policy="uniform"}')}
    rules = both.prometheus.rules()
    assert {rule["name"]: rule.get("lastError", "") for rule in rules} == dict.fromkeys(alerts(), "")
    assert {rule["health"] for rule in rules} == {"ok"}


def test_two_replicas_double_nothing(watched: tuple[Watched, str]) -> None:
    both, run = watched
    state = both.replicas[1].json("GET", f"/v1/runs/{run}")
    mine, done = f'{{run="{run}"}}', state["totals"]
    counted = {
        "prompts_examined": done["examined"],
        "prompts_selected": done["selected"],
        "groups": done["groups"],
        "rollouts": done["rollouts"],
        "rollouts_avoided": done["rollouts_avoided"],
    }
    for name, value in counted.items():
        both.scraped(f"sum by (run) (greso_{name}_total{mine})", value)
    for kind, value in done["skipped"].items():
        both.scraped(f'sum by (run) (greso_prompts_skipped_total{{run="{run}", kind="{kind}"}})', value)
    for kind, value in done["zero_variance"].items():
        both.scraped(f'sum by (run) (greso_groups_total{{run="{run}", outcome="{kind}"}})', value)
    # Both replicas counted: neither alone has the run's figure.
    assert both.prometheus.number(f"count(greso_prompts_examined_total{mine} > 0)") == 2

    # The replica that was not written to looks at the history every few seconds.
    newest = f"max by (run) (greso_run_last_event_timestamp_seconds{mine})"
    eventually(
        lambda: (
            both.prometheus.number(f"{newest} == min by (run) (greso_run_last_event_timestamp_seconds{mine})")
            is not None
        ),
        20.0,
    )
    told = {
        "step": state["step"],
        "generation": state["generation"],
        "epoch": state["epoch"],
        "prompts": state["prompts"],
    }
    for name, value in {**told, "pool_prompts": state["pool"]}.items():
        both.scraped(f"max by (run) (greso_run_{name}{mine})", value)
        # Summed, it would be doubled.
        assert both.prometheus.number(f"sum by (run) (greso_run_{name}{mine})") == 2 * value
    for kind, p in state["exploration"].items():
        both.scraped(f'max by (run, kind) (greso_run_exploration_probability{{run="{run}", kind="{kind}"}})', p)


def test_the_shares_that_panels_show_are_the_runs_own(watched: tuple[Watched, str]) -> None:
    both, run = watched
    last = [
        row
        for row in both.replicas[0].json("GET", f"/v1/runs/{run}/steps?limit=1000")["steps"]
        if row["complete"] and row["groups"]
    ][-1]
    for kind in ("easy", "hard"):
        both.scraped(
            f'max by (run) (greso_run_zero_variance_ratio{{run="{run}", kind="{kind}"}})',
            last["zero_variance"][kind] / last["groups"],
        )
    both.scraped(f'max by (run) (greso_run_effective_ratio{{run="{run}"}})', last["effective"] / last["groups"])
    [[avoided]] = [asked(both, query, run) for query in queries() if query.where.startswith("run / Rollouts avoided /")]
    done = totals(both, run)
    # Prometheus extrapolates what each counter gained: coarse for a run of seconds.
    assert avoided == pytest.approx(done["rollouts_avoided"] / (done["rollouts_avoided"] + done["rollouts"]), abs=0.1)
