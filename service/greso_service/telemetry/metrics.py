"""Every metric of the service, each defined once. Counters tell of this process; sum them over replicas."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest

from greso_service.core.state import Totals

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Metrics:
    """The metrics of one application, in a registry of their own."""

    def __init__(self, version: str) -> None:
        self._registry = CollectorRegistry()
        registry = self._registry
        Info("greso_build", "The running service.", registry=registry).info({"version": version})
        self.requests = Counter(
            "greso_requests", "HTTP requests answered.", ["method", "route", "status"], registry=registry
        )
        self.duration = Histogram(
            "greso_request_duration_seconds",
            "From the request's head to the end of its answer.",
            ["method", "route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.in_flight = Gauge("greso_requests_in_flight", "HTTP requests being worked on.", registry=registry)
        self.overloaded = Counter(
            "greso_requests_refused", "Requests turned away because too many were in flight.", registry=registry
        )
        self.store_up = Gauge("greso_store_up", "1 if Redis answered the last ping, else 0.", registry=registry)
        examined = Counter("greso_prompts_examined", "Candidates judged.", registry=registry)
        selected = Counter("greso_prompts_selected", "Candidates to roll out.", registry=registry)
        skipped = Counter("greso_prompts_skipped", "Candidates skipped, by kind.", ["kind"], registry=registry)
        groups = Counter("greso_groups", "Groups reported, by outcome.", ["outcome"], registry=registry)
        rollouts = Counter("greso_rollouts", "Responses generated, as reported.", registry=registry)
        # Looked up once: they are counted at every write, and exist from the start with 0.
        self._counters = {
            "examined": examined,
            "selected": selected,
            "skipped_easy": skipped.labels("easy"),
            "skipped_hard": skipped.labels("hard"),
            **{name: groups.labels(name) for name in ("effective", "easy", "hard", "undetermined")},
            "rollouts": rollouts,
        }

    def count(self, added: Totals) -> None:
        """Count what a write added to a run's totals."""
        for name, counter in self._counters.items():
            if amount := getattr(added, name):
                counter.inc(amount)

    def exposition(self) -> bytes:
        """All metrics in the Prometheus text format."""
        return generate_latest(self._registry)
