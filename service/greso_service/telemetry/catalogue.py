"""Every metric of the service, once: its name, labels and meaning, and how figures of several replicas go together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

Kind = Literal["counter", "gauge", "histogram", "info"]
Over = Literal["sum", "max", "min", "each"]
"""How the replicas' figures go together: `each` means that every replica's is a figure of its own."""

OTHER: Final = "other"
"""The run label of all runs beyond `metrics_runs`."""

KINDS: Final = ("easy", "hard")
OUTCOMES: Final = ("effective", "easy", "hard", "undetermined")
BOUNDS: Final = ("low", "high")
STREAKS: Final = {"0": (0, 0), "1": (1, 1), "2": (2, 2), "3": (3, 3), "4-7": (4, 7), "8-15": (8, 15), "16+": (16, 16)}
"""Label of `greso_run_prompts_by_streak` -> the streaks it counts, ends included (16 stands for all from there on)."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric without the prefix `greso_`; `labels`: name -> allowed values, None where the values are not fixed."""

    name: str
    kind: Kind
    over: Over
    help: str
    labels: Mapping[str, tuple[str, ...] | None] = field(default_factory=dict)


RUN: Final[Mapping[str, None]] = {"run": None}
DOMAIN: Final[Mapping[str, None]] = {**RUN, "domain": None}

WITHOUT_DOMAIN: Final = "(none)"
"""The domain label of the prompts without one; no domain can be called so."""

COUNTED: Final = (
    Metric("prompts_examined", "counter", "sum", "Candidates judged.", RUN),
    Metric("prompts_selected", "counter", "sum", "Candidates to roll out.", RUN),
    Metric("prompts_skipped", "counter", "sum", "Candidates skipped.", {**RUN, "kind": KINDS}),
    Metric(
        "groups",
        "counter",
        "sum",
        "Groups reported.",
        {**RUN, "outcome": ("effective", "easy", "hard", "undetermined")},
    ),
    Metric("rollouts", "counter", "sum", "Responses generated, as reported.", RUN),
    Metric(
        "rollouts_avoided",
        "counter",
        "sum",
        "Skips times group size: an upper bound, no saving, as each walk over the pool counts a prompt again.",
        RUN,
    ),
    Metric(
        "audited_groups",
        "counter",
        "sum",
        "Judged groups of prompts that were rolled out although the policy would skip them.",
        {**RUN, "kind": KINDS},
    ),
    Metric("false_skips", "counter", "sum", "The effective ones of the audited groups.", {**RUN, "kind": KINDS}),
    Metric("run_rewinds", "counter", "sum", "Rewinds of the run to an earlier step.", RUN),
    Metric("run_spec_changes", "counter", "sum", "Changes of the run's spec while it was live.", RUN),
)
"""What writes added, counted by the replica that made them."""

TOLD: Final = (
    Metric(
        "client_degraded_answers", "counter", "sum", "Calls that clients answered themselves, the service away.", RUN
    ),
    Metric("client_spooled_reports", "counter", "sum", "Reports that clients put aside on disk.", RUN),
    Metric("client_delivered_reports", "counter", "sum", "Reports that clients delivered later.", RUN),
    Metric(
        "client_lost_reports", "counter", "sum", "Reports that clients gave up: refused, spool full or disk error.", RUN
    ),
)
"""What clients tell of themselves with their requests (header `Greso-Client`)."""

STATE: Final = (
    Metric("run_info", "gauge", "max", "1; the policy that decides.", {**RUN, "policy": None}),
    Metric("run_step", "gauge", "max", "Newest reported step.", RUN),
    Metric("run_generation", "gauge", "max", "How often the run was rewound.", RUN),
    Metric("run_epoch", "gauge", "max", "Epoch of the walk through the pool.", RUN),
    Metric("run_prompts", "gauge", "max", "Prompts seen or registered.", RUN),
    Metric("run_pool_prompts", "gauge", "max", "Prompts in the pool.", RUN),
    Metric("run_exploration_probability", "gauge", "max", "p_easy and p_hard in force.", {**RUN, "kind": KINDS}),
    Metric(
        "run_exploration_bound",
        "gauge",
        "max",
        "What p_easy and p_hard stay within.",
        {**RUN, "bound": ("low", "high")},
    ),
    Metric(
        "run_target_ratio",
        "gauge",
        "max",
        "Share of a step's groups that may be zero-variance.",
        {**RUN, "kind": KINDS},
    ),
    Metric(
        "run_zero_variance_ratio",
        "gauge",
        "max",
        "Share of zero-variance groups in the newest complete step.",
        {**RUN, "kind": KINDS},
    ),
    Metric("run_effective_ratio", "gauge", "max", "Share of effective groups in the newest complete step.", RUN),
    Metric("run_step_rounds", "gauge", "max", "Rollout rounds of the newest complete step.", RUN),
    Metric("run_next_rollout_batch_size", "gauge", "max", "Prompts to roll out in the next round.", RUN),
    Metric("run_rollout_batch_size", "gauge", "max", "Most prompts in a round (spec).", RUN),
    Metric("run_train_batch_size", "gauge", "max", "Effective groups that a step needs (spec).", RUN),
    Metric(
        "run_prompts_by_streak",
        "gauge",
        "max",
        "Prompts by the kind of their latest group and their streak.",
        {**RUN, "kind": ("new", "effective", "easy", "hard"), "streak": tuple(STREAKS)},
    ),
    Metric("run_domain_pool_prompts", "gauge", "max", "Prompts of the domain in the pool.", DOMAIN),
    Metric("run_domain_selected_prompts", "gauge", "max", "Prompts of it selected so far.", DOMAIN),
    Metric(
        "run_domain_exploration_probability",
        "gauge",
        "max",
        "p_easy and p_hard in force in the domain.",
        {**DOMAIN, "kind": KINDS},
    ),
    Metric(
        "run_domain_zero_variance_ratio",
        "gauge",
        "max",
        "Share of zero-variance groups among the domain's in its newest complete step.",
        {**DOMAIN, "kind": KINDS},
    ),
    Metric("run_domain_effective_ratio", "gauge", "max", "Share of effective groups there.", DOMAIN),
    Metric("run_events", "gauge", "max", "Events in the run's history.", RUN),
    Metric("run_lag_events", "gauge", "each", "Others' events found at the last look that were not folded yet.", RUN),
    Metric("run_unsaved_events", "gauge", "min", "Age of the snapshot: events that a start would fold behind it.", RUN),
    Metric("run_last_event_timestamp_seconds", "gauge", "max", "When the run was last written to, Unix time.", RUN),
)
"""A run as it stands; every replica that holds it says the same, a few seconds late at most."""

SERVICE: Final = (
    Metric("build", "info", "each", "The running service.", {"version": None}),
    Metric("requests", "counter", "sum", "HTTP requests answered.", {"method": None, "route": None, "status": None}),
    Metric(
        "request_duration_seconds",
        "histogram",
        "sum",
        "From the request's head to the end of its answer; of a stream of events to its beginning.",
        {"method": None, "route": None},
    ),
    Metric("requests_in_flight", "gauge", "sum", "HTTP requests being worked on."),
    Metric("requests_in_flight_limit", "gauge", "sum", "Requests in flight above which more are turned away."),
    Metric("requests_refused", "counter", "sum", "Requests turned away because too many were in flight."),
    Metric("snapshot_interval_events", "gauge", "max", "Events of a run after which a snapshot is due (setting)."),
    Metric("runs_live", "gauge", "each", "Runs kept folded in memory."),
    Metric("runs_live_bytes", "gauge", "each", "Memory that they take, about."),
    Metric(
        "access_expires_timestamp_seconds",
        "gauge",
        "min",
        "When the first of the good keys ends, or the certificate, Unix time; +Inf for never, or none.",
        {"what": ("key", "certificate")},
    ),
)

STORE: Final = (
    Metric("store_up", "gauge", "each", "1 if Redis answered the last ping, else 0."),
    Metric(
        "store_operations",
        "counter",
        "sum",
        "Operations on Redis, retries included in one.",
        {"operation": None, "result": ("ok", "unavailable", "error")},
    ),
    Metric("store_operation_duration_seconds", "histogram", "sum", "Time of an operation.", {"operation": None}),
    Metric("store_used_memory_bytes", "gauge", "max", "Memory that Redis uses; of a cluster, its fullest node."),
    Metric("store_memory_limit_bytes", "gauge", "max", "Most memory it may use: maxmemory, else the machine's."),
)

SECTIONS: Final[Mapping[str, tuple[Metric, ...]]] = {
    "Runs: what was done": COUNTED,
    "Runs: how they stand": STATE,
    "What clients tell": TOLD,
    "The service": SERVICE,
    "Redis": STORE,
}
"""Heading in docs/metrics.md -> metrics."""

ALL: Final[Mapping[str, Metric]] = {metric.name: metric for metrics in SECTIONS.values() for metric in metrics}


def exposed(metric: Metric) -> str:
    """The name in the text format: `greso_rollouts_total`."""
    return f"greso_{metric.name}" + {"counter": "_total", "info": "_info"}.get(metric.kind, "")
