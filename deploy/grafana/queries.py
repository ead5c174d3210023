"""The PromQL of the dashboards, written once, with the two rules that keep two replicas from doubling a figure.

Counters are counted by the replica that made the write: sum them over instances (`rate_of`, `added`).
What a run is like is told by every replica that holds it: take the greatest (`newest`).

`where` is what stands in a selector's braces; `over` a PromQL duration or a variable of Grafana.
"""

from __future__ import annotations

from typing import Final

ONE_RUN: Final = 'run="$run"'
RUNS: Final = 'run=~"$run"'
INSTANCES: Final = 'instance=~"$instance"'

WINDOW: Final = "$window"
RANGE: Final = "$__range"
FINE: Final = "$__rate_interval"
HOUR: Final = "1h"
LONG: Final = "6h"
"""For what is rare: an audit share of 1 % brings a few groups a step."""

STEP_ROUTES: Final = 'route=~".*/(select|draw|report)"'
"""The calls that a training waits for in each step."""


def _by(labels: tuple[str, ...]) -> str:
    return f" by ({', '.join(labels)})" if labels else ""


def rate_of(counter: str, where: str, over: str, *by: str) -> str:
    """How fast a counter grows, per second, over all replicas."""
    return f"sum{_by(by)} (rate(greso_{counter}_total{{{where}}}[{over}]))"


def added(counter: str, where: str, over: str, *by: str) -> str:
    """What a counter gained, over all replicas."""
    return f"sum{_by(by)} (increase(greso_{counter}_total{{{where}}}[{over}]))"


def happened(counter: str, where: str, over: str) -> str:
    """Above 0, per run, for `over` after a counter grew.

    Also after it was born above 0, which is no growth to Prometheus: when a replica's first write to a run is one.
    Not so if the replica was not scraped before: then it is only back.
    """
    series = f"greso_{counter}_total{{{where}}}"
    born = f"({series} > 0 unless {series} offset {over}) and on (instance) (up offset {over} == 1)"
    return f"sum by (run) (increase({series}[{over}]) > 0 or {born})"


def newest(gauge: str, where: str, *by: str) -> str:
    """A gauge of runs; replicas that hold the run agree but for the seconds that one may be behind."""
    return f"max{_by(('run', *by))} (greso_{gauge}{{{where}}})"


def share_of_all(gauge: str, where: str) -> str:
    """Each domain's part of a gauge of domains."""
    each = newest(gauge, where, "domain")
    return f"{each} / on (run) group_left () sum by (run) ({each})"


# Runs


def skip_rate(where: str, over: str, *by: str) -> str:
    """Skipped of examined candidates, per run; `by="kind"` splits it."""
    skipped, examined = (
        rate_of("prompts_skipped", where, over, "run", *by),
        rate_of("prompts_examined", where, over, "run"),
    )
    return f"{skipped} / on (run) group_left {examined}"


def effective_share(where: str, over: str) -> str:
    """Effective of all groups that could be judged, per run: what a rollout earns."""
    effective = rate_of("groups", f'{where}, outcome="effective"', over, "run")
    return f"{effective} / {rate_of('groups', judged(where), over, 'run')}"


def false_skip_rate(where: str, over: str, *by: str) -> str:
    """Effective of the audited groups, over all replicas: what skips lose."""
    return f"{added('false_skips', where, over, *by)} / {added('audited_groups', where, over, *by)}"


def judged(where: str) -> str:
    """Groups with two rewards or more."""
    return f'{where}, outcome!="undetermined"'


def avoided_share(where: str, over: str, *by: str) -> str:
    """Rollouts avoided of those avoided or made: an upper bound, as each walk over the pool counts again."""
    avoided, made = added("rollouts_avoided", where, over, *by), added("rollouts", where, over, *by)
    return f"{avoided} / ({avoided} + {made})"


def idle_seconds(where: str) -> str:
    """Since a run was last written to."""
    return f"time() - {newest('run_last_event_timestamp_seconds', where)}"


def steps_done(where: str, over: str) -> str:
    """How far a run's step moved; a rewind counts as movement, too."""
    gauge = f"greso_run_step{{{where}}}[{over}]"
    return f"max by (run) (max_over_time({gauge}) - min_over_time({gauge}))"


def stuck(where: str, over: str) -> str:
    """Runs that asked for prompts and have not one effective group to show for it."""
    asked = added("prompts_selected", where, over, "run")
    earned = added("groups", f'{where}, outcome="effective"', over, "run")
    return f"({asked} > 0) unless on (run) ({earned} > 0)"


# The service


def quantile(share: float, histogram: str, where: str, over: str, *by: str) -> str:
    """A quantile of a histogram over all replicas, in its unit."""
    buckets = f"rate(greso_{histogram}_bucket{{{where}}}[{over}])"
    return f"histogram_quantile({share:g}, sum{_by(('le', *by))} ({buckets}))"


def failed_share(where: str, over: str) -> str:
    """Requests answered with 5xx of all requests; 0 while there are some and none fails."""
    failed = rate_of("requests", f'{where}, status=~"5.."', over)
    return f"({failed} or vector(0)) / {rate_of('requests', where, over)}"
