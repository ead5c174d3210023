"""The metrics of runs: counters that writes add to, gauges read from the folded states when Prometheus asks.

`run` is a label for a bounded number of runs: one gets it with its first write and keeps it until it was not written to
for `ACTIVE` seconds (a finished run must not keep an alert firing); while none is free, runs count together as `other`.
The value is the run's name, or `<tenant>/<run>` for a tenant other than `default`: names of runs have no slash.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import product
from operator import attrgetter
from typing import Final

from prometheus_client import CollectorRegistry, Counter

from greso_service.core.events import Event, Patched, Rewound
from greso_service.core.figures import DomainFigures
from greso_service.core.outcome import Outcome
from greso_service.core.totals import Totals
from greso_service.history.base import DEFAULT_TENANT, RunKey
from greso_service.observed import ACTIVE, Standing
from greso_service.telemetry.catalogue import BOUNDS, COUNTED, KINDS, OTHER, STATE, STREAKS, TOLD, WITHOUT_DOMAIN


class RunMetrics:
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
        self._counters = {
            metric.name: Counter(f"greso_{metric.name}", metric.help, list(metric.labels), registry=registry)
            for metric in (*COUNTED, *TOLD)
        }
        self._children: dict[str, dict[tuple[str, ...], Counter]] = {}
        self._preset(OTHER)

    def wrote(self, key: RunKey, events: Iterable[Event], added: Totals, group_size: int) -> None:
        """Count a write to a run: what it added to the run's totals, a rewind, changes of the spec."""
        counters = self._claim(label(key), self._clock())
        for labels, amount in zip(_TOTALS.values(), _amounts(added), strict=True):
            if amount:
                counters[labels].inc(amount)
        if skipped := added.skipped_easy + added.skipped_hard:
            counters["rollouts_avoided",].inc(skipped * group_size)
        for event in events:
            if isinstance(event, Rewound | Patched):
                counters["run_rewinds" if isinstance(event, Rewound) else "run_spec_changes",].inc()

    def told(self, key: RunKey, members: Mapping[str, int], *, exists: bool) -> None:
        """Count what a client tells of itself; where the run is not known to exist, as of `other`."""
        run = label(key)
        counters = self._claim(run, self._clock()) if exists else self._children.get(run, self._children[OTHER])
        for name, amount in members.items():
            counters[_TOLD[name],].inc(amount)

    def _claim(self, run: str, written: float) -> dict[tuple[str, ...], Counter]:
        """The run's counters, or those of `OTHER`: that of a run of this very name, too."""
        if run == OTHER:
            return self._children[OTHER]
        written = min(written, self._clock())  # an imported history may say that it was written tomorrow
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
        for run in [run for run, written in list(self._used.items()) if now - written > ACTIVE]:
            del self._used[run]
            for name, *values in self._children.pop(run):
                self._counters[name].remove(run, *values)

    def gauges(self) -> str:
        """The gauges of all runs that have the label, in the text format.

        Written here, since the library takes 8 microseconds a line, and these are most of what is exposed. Nothing
        needs to be escaped: a run's name and the labels' values have neither quotes nor backslashes.
        """
        self._drop_idle()
        lines: dict[str, list[str]] = {
            metric.name: [f"# HELP greso_{metric.name} {metric.help}", f"# TYPE greso_{metric.name} gauge"]
            for metric in STATE
        }
        now = self._clock()
        for seen in self._seen():
            if abs(now - seen.written) <= ACTIVE:
                run = label(seen.key)
                self._claim(run, seen.written)
                if run in self._used:
                    for name, labels, value in _samples(seen):
                        lines[name].append(f'greso_{name}{{run="{run}"{labels}}} {value}')
        return "".join(f"{line}\n" for family in lines.values() for line in family)


def label(key: RunKey) -> str:
    """The value of the label `run`."""
    return key.run if key.tenant == DEFAULT_TENANT else f"{key.tenant}/{key.run}"


def seen_by(tenant: str, text: bytes) -> bytes:
    """An exposition without the lines about runs of other tenants; `OTHER` may be runs of anybody."""

    def keeps(line: bytes) -> bool:
        found = _RUN_LABEL.search(line)
        if found is None or line.startswith(b"#"):
            return True
        run = found[1].decode()
        owner, slash, _ = run.rpartition("/")
        return owner == tenant if slash else tenant == DEFAULT_TENANT and run != OTHER

    return b"".join(line for line in text.splitlines(keepends=True) if keeps(line))


_RUN_LABEL: Final = re.compile(rb'[{,]run="([^"]*)"')


def _samples(seen: Standing) -> Iterator[tuple[str, str, float]]:
    """Metric, labels behind the run's, value."""
    figures, spec = seen.figures, seen.figures.spec
    yield "run_info", f',policy="{spec.policy}"', 1
    yield "run_step", "", figures.step
    yield "run_generation", "", figures.generation
    yield "run_epoch", "", figures.epoch
    yield "run_prompts", "", figures.prompts
    yield "run_pool_prompts", "", figures.pool
    for name, by_kind in (("run_exploration_probability", figures.exploration), ("run_target_ratio", figures.target)):
        yield name, _EASY, by_kind.easy
        yield name, _HARD, by_kind.hard
    for bound, value in zip(BOUNDS, spec.exploration_bounds, strict=True):
        yield "run_exploration_bound", f',bound="{bound}"', value
    if (last := figures.last) is not None:
        yield "run_zero_variance_ratio", _EASY, last.easy
        yield "run_zero_variance_ratio", _HARD, last.hard
        yield "run_effective_ratio", "", last.effective
        yield "run_step_rounds", "", last.rounds
    yield "run_next_rollout_batch_size", "", figures.next_rollout_batch_size
    yield "run_rollout_batch_size", "", spec.rollout_batch_size
    yield "run_train_batch_size", "", spec.train_batch_size
    table = figures.streaks.table
    for labels, kind, streaks in _STREAKS:
        yield "run_prompts_by_streak", labels, int(table[kind, streaks].sum())
    for domain in figures.domains:
        yield from _of_domain(domain)
    yield "run_events", "", seen.events
    yield "run_lag_events", "", seen.lag
    yield "run_unsaved_events", "", seen.unsaved
    yield "run_last_event_timestamp_seconds", "", seen.written


def _of_domain(domain: DomainFigures) -> Iterator[tuple[str, str, float]]:
    named = f',domain="{domain.name or WITHOUT_DOMAIN}"'
    yield "run_domain_pool_prompts", named, domain.pool
    yield "run_domain_selected_prompts", named, domain.selected
    yield "run_domain_exploration_probability", f"{named}{_EASY}", domain.exploration.easy
    yield "run_domain_exploration_probability", f"{named}{_HARD}", domain.exploration.hard
    if (last := domain.last) is not None:
        yield "run_domain_zero_variance_ratio", f"{named}{_EASY}", last.easy
        yield "run_domain_zero_variance_ratio", f"{named}{_HARD}", last.hard
        yield "run_domain_effective_ratio", named, last.effective


_EASY, _HARD = ',kind="easy"', ',kind="hard"'

_STREAKS: Final = [
    (f',kind="{name}",streak="{label}"', kind, slice(first, last + 1))
    for name, kind in (
        ("new", Outcome.UNDETERMINED),
        ("effective", Outcome.EFFECTIVE),
        ("easy", Outcome.EASY),
        ("hard", Outcome.HARD),
    )
    for label, (first, last) in STREAKS.items()
    if (first == 0) == (name in {"new", "effective"})  # whose streak is always 0, and never that of the others
]
"""Labels of `run_prompts_by_streak`, and the cells of `StreakCounts` that go with them."""

_TOTALS: Final[Mapping[str, tuple[str, ...]]] = {
    "examined": ("prompts_examined",),
    "selected": ("prompts_selected",),
    "skipped_easy": ("prompts_skipped", "easy"),
    "skipped_hard": ("prompts_skipped", "hard"),
    **{name: ("groups", name) for name in ("effective", "easy", "hard", "undetermined")},
    "rollouts": ("rollouts",),
    **{f"audited_{kind}": ("audited_groups", kind) for kind in KINDS},
    **{f"false_{kind}": ("false_skips", kind) for kind in KINDS},
}
"""Field of `Totals` -> the counter it is added to."""

_amounts: Final = attrgetter(*_TOTALS)

_TOLD: Final[Mapping[str, str]] = {
    "degraded": "client_degraded_answers",
    "spooled": "client_spooled_reports",
    "delivered": "client_delivered_reports",
    "lost": "client_lost_reports",
}
