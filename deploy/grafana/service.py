"""The dashboard of the service: rate, errors, duration, saturation, Redis, the histories, the clients."""

from __future__ import annotations

from deploy.grafana import frame, storage
from deploy.grafana import queries as q
from deploy.grafana.panels import Shown, lines, number
from grafana_foundation_sdk.builders import dashboard

W = q.INSTANCES
F = q.FINE
STEPPED = f"{W}, {q.STEP_ROUTES}"
UP_DOWN = {"0": "down", "1": "up"}


def board() -> dashboard.Dashboard:
    """The dashboard, ready to be written."""
    made = frame.new(
        "greso-service", "GRESO / Service", "The service and its Redis: is it well, and what runs out.", since="now-3h"
    )
    made.with_variable(frame.instance_variable())
    for add in (_glance, _requests, _saturation, storage.add_redis, storage.add_histories, _clients):
        add(made)
    return made


def _glance(made: dashboard.Dashboard) -> None:
    made.with_row(dashboard.Row("At a glance"))
    made.with_panel(
        number(
            "Replicas",
            "Replicas that answer Prometheus. Fewer than you started: see `/readyz` and the log of the missing one.",
            "short",
            Shown(f"sum(up{{{W}}})", "up"),
            steps=((1, "green"),),
            below="red",
        )
    )
    made.with_panel(
        number(
            "Redis",
            "Whether every replica reaches Redis. While it is down, reports are refused (clients spool them) and "
            "selects answer from the last state known: the training goes on.",
            "short",
            Shown(f"min(greso_store_up{{{W}}})", "Redis"),
            steps=((1, "green"),),
            below="red",
            words=UP_DOWN,
        )
    )
    made.with_panel(
        number(
            "Requests failed",
            "Share of requests answered with 5xx in the last 5 minutes. 503 is Redis away; 500 is a fault of "
            "the service: its log has the request id. Those refused as too many at once are in *Errors*.",
            "percentunit",
            Shown(q.failed_share(W, "5m"), "failed"),
            steps=((0.01, "orange"), (0.05, "red")),
            decimals=2,
        )
    )
    made.with_panel(
        number(
            "p99 of a step's calls",
            "99 of 100 select, draw and report calls are faster, over 5 minutes. Clients wait 2 s for an answer by "
            "default and go on without it then (`budget`).",
            "s",
            Shown(q.quantile(0.99, "request_duration_seconds", STEPPED, "5m"), "p99"),
            steps=((0.25, "orange"), (0.5, "red")),
        )
    )
    made.with_panel(
        number(
            "Redis memory",
            "Used memory of Redis of its limit (`maxmemory`, or the machine's memory). Histories grow with every "
            "report; when it is full, reports are refused. Delete runs that are done, or raise the limit.",
            "percentunit",
            Shown(f"max(greso_store_used_memory_bytes{{{W}}}) / max(greso_store_memory_limit_bytes{{{W}}})", "used"),
            steps=((0.7, "orange"), (0.9, "red")),
            decimals=1,
        )
    )
    made.with_panel(
        number(
            "Version",
            "Replicas by version. Two versions side by side are right only while you replace one by the other.",
            "short",
            Shown(f"count by (version) (greso_build_info{{{W}}})", "{{version}}"),
        )
    )


def _requests(made: dashboard.Dashboard) -> None:
    made.with_row(dashboard.Row("Requests"))
    made.with_panel(
        lines(
            "Rate",
            "Requests a second by route. A training makes a few in each step; hundreds a second of select may be a "
            "trainer that offers candidates one at a time: offer batches.",
            "reqps",
            Shown(q.rate_of("requests", W, F, "method", "route"), "{{method}} {{route}}"),
            stacked=True,
        )
    )
    made.with_panel(
        lines(
            "Errors",
            "Requests a second that were not answered with success, by status. 4xx: a client sends what is wrong (the "
            "answer says where), 409 a fenced trainer; 5xx: see *Requests failed*.",
            "reqps",
            Shown(q.rate_of("requests", f'{W}, status=~"[45].."', F, "status"), "{{status}}"),
            Shown(q.rate_of("requests_refused", W, F), "refused, too many at once"),
        )
    )
    made.with_panel(
        lines(
            "Duration of a step's calls",
            "Median and p99 of select, draw and report, over all replicas. A jump together with Redis' time is Redis; "
            "alone it is CPU: see saturation, and how many candidates a call carries.",
            "s",
            Shown(q.quantile(0.5, "request_duration_seconds", STEPPED, F, "route"), "p50 {{route}}"),
            Shown(q.quantile(0.99, "request_duration_seconds", STEPPED, F, "route"), "p99 {{route}}"),
            marks=((0.5, "red"),),
        )
    )
    made.with_panel(
        lines(
            "Duration of all calls",
            "p99 by route, everything included. Rewinds, forks, imports and uploads of large pools may take seconds: "
            "they are not on a step's path.",
            "s",
            Shown(q.quantile(0.99, "request_duration_seconds", W, F, "method", "route"), "p99 {{method}} {{route}}"),
        )
    )


def _saturation(made: dashboard.Dashboard) -> None:
    made.with_row(dashboard.Row("Saturation"))
    made.with_panel(
        lines(
            "In flight of the limit",
            "Requests being worked on, as a share of `--max-in-flight`, per replica. At 1 more are turned away with "
            "503: add a replica, or raise the limit if CPU and memory allow.",
            "percentunit",
            Shown(f"greso_requests_in_flight{{{W}}} / greso_requests_in_flight_limit{{{W}}}", "{{instance}}"),
            most=1,
            marks=((0.8, "orange"),),
            span=8,
        )
    )
    made.with_panel(
        lines(
            "CPU",
            "Cores that each replica uses. One replica uses about one core at most: near 1, add replicas.",
            "short",
            Shown(f"rate(process_cpu_seconds_total{{{W}}}[{F}])", "{{instance}}"),
            marks=((0.9, "orange"),),
            span=8,
        )
    )
    made.with_panel(
        lines(
            "Memory",
            "Resident memory of each replica, and what of it the runs held ready take: give `--max-live-bytes` if it "
            "is short.",
            "bytes",
            Shown(f"process_resident_memory_bytes{{{W}}}", "{{instance}}"),
            Shown(f"greso_runs_live_bytes{{{W}}}", "runs of {{instance}}"),
            span=8,
        )
    )
    made.with_panel(
        lines(
            "Runs held ready",
            "Runs in the memory of each replica, at most `--max-live-runs`. At that limit runs are read from Redis "
            "again when they are asked for: raise it.",
            "short",
            Shown(f"greso_runs_live{{{W}}}", "{{instance}}"),
            span=8,
        )
    )
    made.with_panel(
        lines(
            "Open files",
            "Open file descriptors of those allowed. A climb that does not end: clients leave connections open.",
            "percentunit",
            Shown(f"process_open_fds{{{W}}} / process_max_fds{{{W}}}", "{{instance}}"),
            most=1,
            marks=((0.8, "orange"),),
            span=8,
        )
    )
    made.with_panel(
        lines(
            "Uptime",
            "How long each replica has run. A fall to 0 is a restart: the log before it says why.",
            "s",
            Shown(f"time() - process_start_time_seconds{{{W}}}", "{{instance}}"),
            span=8,
        )
    )


def _clients(made: dashboard.Dashboard) -> None:
    made.with_row(dashboard.Row("Clients"))
    made.with_panel(
        lines(
            "Degraded answers",
            "Answers that clients gave themselves because the service was away or too slow, by run: those rollouts "
            "were not filtered. Told by the clients once they reach the service again.",
            "short",
            Shown(q.added("client_degraded_answers", W, "5m", "run"), "{{run}}"),
        )
    )
    made.with_panel(
        lines(
            "Reports spooled, delivered, lost",
            "Reports that clients kept on disk while the service was away, those delivered later, and those lost "
            "(refused or dropped because the spool was full). Spooled but never delivered: the trainer ended before; "
            "start it again with the same run and spool.",
            "short",
            Shown(q.added("client_spooled_reports", W, "5m"), "spooled"),
            Shown(q.added("client_delivered_reports", W, "5m"), "delivered"),
            Shown(q.added("client_lost_reports", W, "5m"), "lost"),
        )
    )
