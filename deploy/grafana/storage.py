"""The rows of the service's dashboard about Redis and the histories in it."""

from __future__ import annotations

from deploy.grafana import queries as q
from deploy.grafana.panels import Shown, lines
from grafana_foundation_sdk.builders import dashboard

W = q.INSTANCES
F = q.FINE
FAILED = f'{W}, result!="ok"'


def add_redis(made: dashboard.Dashboard) -> None:
    """The row about Redis."""
    made.with_row(dashboard.Row("Redis"))
    made.with_panel(
        lines(
            "Up",
            "Whether each replica reaches Redis: 1 or 0. Down at one replica only: look at the network between them.",
            "short",
            Shown(f"greso_store_up{{{W}}}", "{{instance}}"),
            most=1,
            span=8,
        )
    )
    made.with_panel(
        lines(
            "Operations",
            "Operations a second, by kind. `read` and `append` belong to every call; `load` is a run read anew.",
            "ops",
            Shown(q.rate_of("store_operations", W, F, "operation"), "{{operation}}"),
            stacked=True,
            span=8,
        )
    )
    made.with_panel(
        lines(
            "Operations that failed",
            "`unavailable`: Redis did not answer in time (see `--redis-timeout`, `--deadline`). `error`: it answered "
            "with an error, such as out of memory or read only.",
            "ops",
            Shown(q.rate_of("store_operations", FAILED, F, "operation", "result"), "{{operation}} {{result}}"),
            span=8,
        )
    )
    made.with_panel(
        lines(
            "Time of an operation",
            "p99 by kind. Over some 10 ms something is wrong: a slow disk with `appendfsync always`, swapping, another "
            "user's slow commands, the network.",
            "s",
            Shown(q.quantile(0.99, "store_operation_duration_seconds", W, F, "operation"), "p99 {{operation}}"),
            marks=((0.1, "red"),),
        )
    )
    made.with_panel(
        lines(
            "Memory of Redis",
            "Used memory of Redis, its limit, and where it will be in three days if it goes on as in the last six "
            "hours. Delete runs that are done (`DELETE /v1/runs/{run}`), or raise `maxmemory`.",
            "bytes",
            Shown(f"max(greso_store_used_memory_bytes{{{W}}})", "used"),
            Shown(f"max(predict_linear(greso_store_used_memory_bytes{{{W}}}[6h], 259200))", "in three days"),
            Shown(f"max(greso_store_memory_limit_bytes{{{W}}})", "limit"),
        )
    )


def add_histories(made: dashboard.Dashboard) -> None:
    """The row about what Redis keeps."""
    made.with_row(dashboard.Row("Histories"))
    made.with_panel(
        lines(
            "Events",
            "Length of the ten longest histories. Each select, draw and report adds one.",
            "locale",
            Shown(f"topk(10, {q.newest('run_events', W)})", "{{run}}"),
            span=8,
        )
    )
    made.with_panel(
        lines(
            "Behind the others",
            "Events of other replicas that one found when it last looked (every 5 s). Some are right with several "
            "replicas; a climb means that a replica is too slow: see its CPU.",
            "locale",
            Shown(f"topk(10, {q.newest('run_lag_events', W)})", "{{run}}"),
            span=8,
        )
    )
    made.with_panel(
        lines(
            "Not in a snapshot",
            "Events behind the newest snapshot: what a starting replica has to read. It falls back every "
            "`--snapshot-every` events; if it climbs beyond, snapshots fail: see the log.",
            "locale",
            Shown(f"topk(10, min by (run) (greso_run_unsaved_events{{{W}}}))", "{{run}}"),
            Shown(f"max(greso_snapshot_interval_events{{{W}}})", "wanted at most"),
            span=8,
        )
    )
