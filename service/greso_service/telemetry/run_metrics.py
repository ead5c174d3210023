"""The metrics of runs: counters that writes add to, gauges read from the folded states when Prometheus asks.

`run` is a label for a bounded number of runs: one gets it with its first write and keeps it until it was not written to
for `ACTIVE` seconds (a finished run must not keep an alert firing); while none is free, runs count together as `other`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import product
from typing import Final

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

from greso_service.core.events import Event, Patched, Rewound
from greso_service.core.figures import Figures
from greso_service.core.outcome import Outcome
from greso_service.core.state import Totals
from greso_service.live import ACTIVE, Standing
from greso_service.telemetry.catalogue import COUNTED, OTHER, STATE, STREAKS, TOLD, Metric


class RunMetrics(Collector):
    """The metrics of one application's runs. `seen`: the runs that this replica holds, asked for at each scrape."""

    def __init__(
        self,
        registry: CollectorRegistry,
        most: int,
        seen: Callable[[], Iterable[Standing]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._most = most
        self._seen = seen
        self._clock = clock
        self._used: dict[str, float] = {}  # runs that have the label -> when they were last written to
        registry.register(self)  # before the counters: a scrape first settles who has the label
        self._counters = {
            metric.name: Counter(f"greso_{metric.name}", metric.help, list(metric.labels), registry=registry)
            for metric in (*COUNTED, *TOLD)
        }
        self._children: dict[str, dict[tuple[str, ...], Counter]] = {}
        self._preset(OTHER)

    def wrote(self, run: str, events: Iterable[Event], added: Totals, group_size: int) -> None:
        """Count a write to a run: what it added to the run's totals, a rewind, changes of the spec."""
        counters = self._claim(run, self._clock())
        for name, labels in _TOTALS.items():
            if amount := getattr(added, name):
                counters[labels].inc(amount)
        if skipped := added.skipped_easy + added.skipped_hard:
            counters["rollouts_avoided",].inc(skipped * group_size)
        for event in events:
            if isinstance(event, Rewound | Patched):
                counters["run_rewinds" if isinstance(event, Rewound) else "run_spec_changes",].inc()

    def told(self, run: str, members: Mapping[str, int], *, exists: bool) -> None:
        """Count what a client tells of itself; where the run is not known to exist, as of `other`."""
        counters = self._claim(run, self._clock()) if exists else self._children.get(run, self._children[OTHER])
        for name, amount in members.items():
            counters[_TOLD[name],].inc(amount)

    def _claim(self, run: str, written: float) -> dict[tuple[str, ...], Counter]:
        """The run's counters."""
        if run in self._used:
            self._used[run] = max(written, self._used[run])
        else:
            self._drop_idle()
            if len(self._used) >= self._most:
                return self._children[OTHER]
            self._used[run] = written
            self._preset(run)
        return self._children[run]

    def _preset(self, run: str) -> None:
        children = self._children[run] = {}
        for metric in (*COUNTED, *TOLD):
            for values in product(*(allowed for allowed in metric.labels.values() if allowed is not None)):
                children[metric.name, *values] = self._counters[metric.name].labels(run, *values)

    def _drop_idle(self) -> None:
        now = self._clock()
        for run in [run for run, written in self._used.items() if now - written > ACTIVE]:
            del self._used[run]
            for name, *values in self._children.pop(run):
                self._counters[name].remove(run, *values)

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Nothing: no scrape is made at registration."""
        return iter(())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The gauges of all runs that have the label."""
        self._drop_idle()
        families = {metric.name: _family(metric) for metric in STATE}
        now = self._clock()
        for seen in self._seen():
            if now - seen.written <= ACTIVE:
                self._claim(seen.run, seen.written)
                if seen.run in self._used:
                    for name, labels, value in _samples(seen):
                        families[name].add_metric((seen.run, *labels), value)
        yield from families.values()


def _family(metric: Metric) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"greso_{metric.name}", metric.help, labels=list(metric.labels))


def _samples(seen: Standing) -> Iterator[tuple[str, tuple[str, ...], float]]:
    figures, spec = seen.figures, seen.figures.spec
    yield "run_info", (spec.policy,), 1
    yield "run_step", (), figures.step
    yield "run_generation", (), figures.generation
    yield "run_epoch", (), figures.epoch
    yield "run_prompts", (), figures.prompts
    yield "run_pool_prompts", (), figures.pool
    for name, by_kind in (("exploration_probability", figures.exploration), ("target_ratio", figures.target)):
        yield f"run_{name}", ("easy",), by_kind.easy
        yield f"run_{name}", ("hard",), by_kind.hard
    for bound, value in zip(("low", "high"), spec.exploration_bounds, strict=True):
        yield "run_exploration_bound", (bound,), value
    if (last := figures.last) is not None:
        yield "run_zero_variance_ratio", ("easy",), last.easy
        yield "run_zero_variance_ratio", ("hard",), last.hard
        yield "run_effective_ratio", (), last.effective
        yield "run_step_rounds", (), last.rounds
    yield "run_next_rollout_batch_size", (), figures.next_rollout_batch_size
    yield "run_rollout_batch_size", (), spec.rollout_batch_size
    yield "run_train_batch_size", (), spec.train_batch_size
    yield from (("run_prompts_by_streak", labels, value) for labels, value in _streaks(figures))
    yield "run_events", (), seen.events
    yield "run_lag_events", (), seen.lag
    yield "run_unsaved_events", (), seen.unsaved
    yield "run_last_event_timestamp_seconds", (), seen.written


def _streaks(figures: Figures) -> Iterator[tuple[tuple[str, str], float]]:
    table = figures.streaks.table
    yield ("new", "0"), int(table[Outcome.UNDETERMINED, 0])
    yield ("effective", "0"), int(table[Outcome.EFFECTIVE, 0])
    for name, kind in (("easy", Outcome.EASY), ("hard", Outcome.HARD)):
        for label, (first, last) in STREAKS.items():
            if first:
                yield (name, label), int(table[kind, first : last + 1].sum())


_TOTALS: Final[Mapping[str, tuple[str, ...]]] = {
    "examined": ("prompts_examined",),
    "selected": ("prompts_selected",),
    "skipped_easy": ("prompts_skipped", "easy"),
    "skipped_hard": ("prompts_skipped", "hard"),
    **{name: ("groups", name) for name in ("effective", "easy", "hard", "undetermined")},
    "rollouts": ("rollouts",),
}
"""Field of `Totals` -> the counter it is added to."""

_TOLD: Final[Mapping[str, str]] = {
    "degraded": "client_degraded_answers",
    "spooled": "client_spooled_reports",
    "delivered": "client_delivered_reports",
    "lost": "client_lost_reports",
}
