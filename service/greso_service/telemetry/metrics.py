"""The metrics of one application, in a registry of their own. Their names and meanings are in `catalogue`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import cache
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from greso_service.observed import Standing
from greso_service.telemetry.catalogue import ALL
from greso_service.telemetry.run_metrics import RunMetrics, seen_by

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

SECONDS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Buckets of durations: an answer takes about a millisecond, a deadline is 2 s by default."""

RESULTS: Final = ("ok", "unavailable", "error")


class Metrics:
    """All metrics. `runs`: what writes to runs count on; `seen`: the runs that this replica holds."""

    def __init__(
        self,
        version: str,
        *,
        in_flight_limit: int,
        most_runs: int,
        snapshot_every: int,
        seen: Callable[[], Iterable[Standing]],
    ) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter, asked for by nobody
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        Info("greso_build", ALL["build"].help, registry=self._registry).info({"version": version})
        self._requests = self._counter("requests")
        self._duration = self._histogram("request_duration_seconds")
        self.in_flight = self._gauge("requests_in_flight")
        self.in_flight_limit = self._gauge("requests_in_flight_limit")
        self.in_flight_limit.set(in_flight_limit)
        self._gauge("snapshot_interval_events").set(snapshot_every)
        self.overloaded = self._counter("requests_refused")
        self.runs_live = self._gauge("runs_live")
        self.runs_live_bytes = self._gauge("runs_live_bytes")
        self._access_ends = self._labelled("access_expires_timestamp_seconds")
        self.access_ends(lambda: math.inf, lambda: math.inf)
        self.store_up = self._gauge("store_up")
        self._operations = self._counter("store_operations")
        self._operation_time = self._histogram("store_operation_duration_seconds")
        # The library takes longer to find a child than to add to it.
        self._of_requests = cache(lambda *of: (self._requests.labels(*of), self._duration.labels(*of[:2])))
        self._of_operations = cache(lambda *of: (self._operations.labels(*of), self._operation_time.labels(of[0])))
        self.runs = RunMetrics(self._registry, most_runs, seen)
        self._memory: tuple[Gauge, Gauge] | None = None

    def _counter(self, name: str) -> Counter:
        metric = ALL[name]
        return Counter(f"greso_{name}", metric.help, list(metric.labels), registry=self._registry)

    def _gauge(self, name: str) -> Gauge:
        return Gauge(f"greso_{name}", ALL[name].help, registry=self._registry)

    def _labelled(self, name: str) -> Gauge:
        metric = ALL[name]
        return Gauge(f"greso_{name}", metric.help, list(metric.labels), registry=self._registry)

    def _histogram(self, name: str) -> Histogram:
        metric = ALL[name]
        return Histogram(f"greso_{name}", metric.help, list(metric.labels), buckets=SECONDS, registry=self._registry)

    def expect_requests(self, method: str, route: str, successes: Iterable[int]) -> None:
        """Let a route's series begin at 0: its successes, and the failures that alerts look for."""
        for status in (*successes, 500, 503):
            self._requests.labels(method, route, status)
        self._duration.labels(method, route)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an HTTP request."""
        count, duration = self._of_requests(method, route, status)
        count.inc()
        duration.observe(seconds)

    def expect_operation(self, operation: str) -> None:
        """Let the series of an operation on the store begin at 0."""
        for result in RESULTS:
            self._operations.labels(operation, result)
        self._operation_time.labels(operation)

    def operated(self, operation: str, result: str, seconds: float) -> None:
        """Count an operation on the store; `result` is one of `RESULTS`."""
        count, duration = self._of_operations(operation, result)
        count.inc()
        duration.observe(seconds)

    def store_memory(self, used: int, limit: int) -> None:
        """Show the store's memory, in bytes; until first called there are no such series."""
        if self._memory is None:
            self._memory = self._gauge("store_used_memory_bytes"), self._gauge("store_memory_limit_bytes")
        for gauge, value in zip(self._memory, (used, limit), strict=True):
            gauge.set(value)

    def access_ends(self, key: Callable[[], float], certificate: Callable[[], float]) -> None:
        """Show when what the service lets in by ends, Unix time, asked at each scrape; never until first called."""
        self._access_ends.labels("key").set_function(key)
        self._access_ends.labels("certificate").set_function(certificate)

    def exposition(self, tenant: str | None = None) -> bytes:
        """All metrics in the Prometheus text format; of runs only those of `tenant`, if one is given."""
        gauges = self.runs.gauges().encode()  # first: it settles which runs have counters
        text = generate_latest(self._registry) + gauges
        return text if tenant is None else seen_by(tenant, text)
