"""The metrics of one replica: all that the catalogue names, from 0 on, with labels that stay within bounds."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.folding import fold, mixed, report, run, select

from greso_service.core.events import Patched
from greso_service.core.figures import Figures
from greso_service.core.state import RunState
from greso_service.core.totals import Totals
from greso_service.history.base import RunKey
from greso_service.observed import ACTIVE, Standing
from greso_service.telemetry.catalogue import ALL, COUNTED, OTHER, STATE, TOLD, exposed
from greso_service.telemetry.metrics import Metrics

SERIES = re.compile(r"(\w+)(?:\{(.*)\})? (\S+)")


class Replica:
    """Metrics over states that a test moves, and a clock that it turns."""

    def __init__(self, most: int = 100) -> None:
        self.states: dict[str, RunState] = {}
        self.written: dict[str, float] = {}
        self.now = 1e9
        self.metrics = Metrics("1.2.3", in_flight_limit=8, most_runs=most, snapshot_every=9, seen=self._standing)
        self.metrics.runs._clock = lambda: self.now

    def _standing(self) -> Iterator[Standing]:
        for name, state in self.states.items():
            yield Standing(RunKey("default", name), Figures.of(state), 7, 2, 5, self.written[name])

    def wrote(self, name: str, state: RunState, before: Totals) -> None:
        self.states[name], self.written[name] = state, self.now
        self.metrics.runs.wrote(RunKey("default", name), [], state.totals.since(before), state.spec.group_size)

    def series(self) -> dict[str, float]:
        text = self.metrics.exposition().decode()
        lines = (SERIES.fullmatch(line) for line in text.splitlines() if not line.startswith("#"))
        return {
            f"{found[1]}{{{','.join(sorted((found[2] or '').split(',')))}}}": float(found[3])
            for found in lines
            if found
        }

    def of(self, name: str) -> dict[str, float]:
        return {series: value for series, value in self.series().items() if f'run="{name}"' in series}


def grown() -> RunState:
    state = run(train_batch_size=6, p_hard=0.05, p_easy=0.05, group_size=4)
    report(state, 0, mixed(3, 2, 1), final=True)
    report(state, 1, mixed(2, 3, 4, "q"), final=True)
    for step in range(2, 12):
        select(state, step, [prompt for prompt, _ in mixed(3, 2, 1)])
    report(state, 12, [("p3", [1, 1, 1, 1]), ("x", [])])
    return state


def replica_with(state: RunState, name: str = "a") -> Replica:
    replica = Replica()
    replica.wrote(name, state, Totals())
    return replica


def test_exactly_the_metrics_of_the_catalogue_are_exposed() -> None:
    replica = replica_with(grown())
    replica.metrics.store_memory(1, 2)
    found = {family.name for family in text_string_to_metric_families(replica.metrics.exposition().decode())}
    wanted = {exposed(metric).removesuffix("_total") for metric in ALL.values()}
    assert {name for name in found if not name.startswith("process_")} == wanted


def test_every_series_has_the_labels_of_the_catalogue_and_no_others() -> None:
    text = replica_with(grown()).metrics.exposition().decode()
    by_name = {exposed(metric).removesuffix("_total"): metric for metric in ALL.values()}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if family.name in by_name:
                labels = by_name[family.name].labels
                assert set(sample.labels) - {"le"} == set(labels), sample
                assert all(values is None or sample.labels[name] in values for name, values in labels.items()), sample


def test_names_follow_the_conventions_of_prometheus() -> None:
    promtool = shutil.which("promtool")
    assert promtool is not None, "no promtool on PATH: apt-get install prometheus"
    text = replica_with(grown()).metrics.exposition()
    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_counters_are_the_totals_of_what_was_written() -> None:
    state = grown()
    series, totals = replica_with(state).of("a"), state.totals
    assert totals.skipped_easy > 0
    assert totals.skipped_hard > 0
    assert series['greso_prompts_examined_total{run="a"}'] == totals.examined
    assert series['greso_prompts_selected_total{run="a"}'] == totals.selected
    for kind in ("easy", "hard"):
        skipped = series[f'greso_prompts_skipped_total{{kind="{kind}",run="a"}}']
        assert skipped == getattr(totals, f"skipped_{kind}")
    for outcome in ("effective", "easy", "hard", "undetermined"):
        assert series[f'greso_groups_total{{outcome="{outcome}",run="a"}}'] == getattr(totals, outcome)
    assert series['greso_rollouts_total{run="a"}'] == totals.rollouts
    assert series['greso_rollouts_avoided_total{run="a"}'] == 4 * (totals.skipped_easy + totals.skipped_hard)


def test_audits_are_counted_though_they_begin_anew_with_another_policy() -> None:
    state = run(train_batch_size=9, shadow=True, p_hard=0.05, p_easy=0.05)
    replica = replica_with(state)
    report(state, 0, mixed(0, 3, 3), final=True)
    for step in range(1, 12):
        before = replace(state.totals)
        select(state, step, [prompt for prompt, _ in mixed(0, 3, 3)])
        report(state, step, mixed(2, 1, 3), final=True)
        fold(state, [Patched({"policy": "band" if step == 7 else "greso"})])
        replica.wrote("a", state, before)
    series, totals = replica.of("a"), state.totals
    assert totals.false_easy > state.audits.easy.effective, "of before the policy changed, too"
    for kind in ("easy", "hard"):
        labels = f'{{kind="{kind}",run="a"}}'
        assert series[f"greso_audited_groups_total{labels}"] == getattr(totals, f"audited_{kind}") > 5
        assert series[f"greso_false_skips_total{labels}"] == getattr(totals, f"false_{kind}")


def test_gauges_are_read_from_the_state() -> None:
    state = grown()
    series = replica_with(state).of("a")
    wanted = {
        'greso_run_info{policy="greso",run="a"}': 1,
        'greso_run_step{run="a"}': 12,
        'greso_run_prompts{run="a"}': 16,
        'greso_run_exploration_probability{kind="hard",run="a"}': state.progress.exploration.hard,
        'greso_run_exploration_bound{bound="high",run="a"}': 0.95,
        'greso_run_target_ratio{kind="easy",run="a"}': 0.25 / 3,
        'greso_run_zero_variance_ratio{kind="easy",run="a"}': 3 / 9,
        'greso_run_zero_variance_ratio{kind="hard",run="a"}': 4 / 9,
        'greso_run_effective_ratio{run="a"}': 2 / 9,
        'greso_run_step_rounds{run="a"}': 1,
        'greso_run_train_batch_size{run="a"}': 6,
        'greso_run_rollout_batch_size{run="a"}': 384,
        'greso_run_events{run="a"}': 7,
        'greso_run_lag_events{run="a"}': 2,
        'greso_run_unsaved_events{run="a"}': 5,
        'greso_run_last_event_timestamp_seconds{run="a"}': 1e9,
        'greso_run_prompts_by_streak{kind="new",run="a",streak="0"}': 1,
        'greso_run_prompts_by_streak{kind="effective",run="a",streak="0"}': 5,
        'greso_run_prompts_by_streak{kind="easy",run="a",streak="1"}': 4,
        'greso_run_prompts_by_streak{kind="easy",run="a",streak="2"}': 1,
        'greso_run_prompts_by_streak{kind="hard",run="a",streak="1"}': 5,
    }
    assert {name: series[name] for name in wanted} == pytest.approx(wanted)


def test_a_run_before_its_first_complete_step_has_no_ratios() -> None:
    ratios = {name.partition("{")[0] for name in replica_with(run()).of("a") if "_ratio{" in name}
    assert ratios == {"greso_run_target_ratio"}


def test_all_counters_of_a_run_begin_at_zero() -> None:
    series = replica_with(run()).of("a")
    for metric in (*COUNTED, *TOLD):
        values = 1
        for allowed in metric.labels.values():
            values *= len(allowed or ("",))
        found = [value for name, value in series.items() if name.startswith(f"{exposed(metric)}{{")]
        assert found == [0.0] * values, metric.name


def test_a_rewind_and_a_change_of_the_spec_are_counted() -> None:
    replica = replica_with(run())
    replica.metrics.runs.wrote(
        RunKey("default", "a"), [Patched({"p_easy": 0.1}), Patched({"p_easy": 0.2})], Totals(), 8
    )
    assert replica.of("a")['greso_run_spec_changes_total{run="a"}'] == 2
    assert replica.of("a")['greso_run_rewinds_total{run="a"}'] == 0


def test_runs_beyond_the_most_count_together() -> None:
    replica = Replica(most=2)
    for number in range(5):
        replica.wrote(f"run{number}", grown(), Totals())
    assert {name for name in map(run_of, replica.series()) if name} == {"run0", "run1", OTHER}
    assert replica.of(OTHER)['greso_rollouts_total{run="other"}'] == 3 * grown().totals.rollouts
    assert not [name for name in replica.of(OTHER) if any(name.startswith(f"{exposed(gauge)}{{") for gauge in STATE)]


def test_a_run_called_other_counts_as_other_and_has_no_gauges() -> None:
    replica = Replica(most=1)
    replica.wrote(OTHER, grown(), Totals())
    replica.wrote("a", grown(), Totals())
    replica.now += ACTIVE + 1
    assert {name for name in map(run_of, replica.series()) if name} == {OTHER}
    replica.wrote("b", grown(), Totals())
    replica.wrote("c", grown(), Totals())
    assert replica.of(OTHER)['greso_rollouts_total{run="other"}'] == 2 * grown().totals.rollouts
    assert not [name for name in replica.of(OTHER) if name.startswith("greso_run_step{")]


def test_without_labels_for_runs_all_count_as_other() -> None:
    replica = Replica(most=0)
    replica.wrote("a", grown(), Totals())
    assert {name for name in map(run_of, replica.series()) if name} == {OTHER}


def run_of(series: str) -> str | None:
    found = re.search(r'run="([^"]*)"', series)
    return found[1] if found else None


def test_a_finished_run_makes_room_after_an_hour() -> None:
    replica = Replica(most=1)
    replica.wrote("first", grown(), Totals())
    replica.now += ACTIVE
    assert replica.of("first")
    replica.now += 1
    assert not replica.of("first")
    replica.wrote("second", grown(), Totals())
    assert replica.of("second")['greso_rollouts_total{run="second"}'] == grown().totals.rollouts
    replica.now += ACTIVE + 1
    replica.wrote("first", grown(), grown().totals)
    assert replica.of("first")['greso_rollouts_total{run="first"}'] == 0
    assert not replica.of("second")


def test_a_run_that_others_write_to_is_shown_from_its_state() -> None:
    replica = Replica()
    replica.states["theirs"], replica.written["theirs"] = grown(), replica.now
    series = replica.of("theirs")
    assert series['greso_run_step{run="theirs"}'] == 12
    assert series['greso_rollouts_total{run="theirs"}'] == 0


def test_clients_words_are_counted_for_runs_that_exist() -> None:
    replica = replica_with(run())
    for name, exists in (("a", False), ("b", True), ("nobody", False)):
        replica.metrics.runs.told(RunKey("default", name), {"degraded": 3, "lost": 1}, exists=exists)
    told = {name: value for name, value in replica.series().items() if value and "client" in name}
    assert told == {
        f'greso_client_{what}_total{{run="{name}"}}': value
        for name in ("a", "b", OTHER)
        for what, value in (("degraded_answers", 3), ("lost_reports", 1))
    }


def test_memory_of_the_store_is_absent_until_known() -> None:
    replica = Replica()
    assert not [name for name in replica.series() if "memory_bytes" in name and "store" in name]
    replica.metrics.store_memory(10, 20)
    replica.metrics.store_memory(11, 20)
    series = replica.series()
    assert (series["greso_store_used_memory_bytes{}"], series["greso_store_memory_limit_bytes{}"]) == (11, 20)


@pytest.mark.parametrize("metric", ALL.values(), ids=lambda metric: metric.name)
def test_each_metric_says_what_it_means(metric: Any) -> None:
    assert metric.help.endswith(".")
    assert len(metric.help) < 120


def test_a_history_from_tomorrow_keeps_no_label_for_ever() -> None:
    replica = Replica(most=1)
    replica.states["imported"], replica.written["imported"] = grown(), replica.now + 1e6
    assert not replica.of("imported")
    replica.written["imported"] = replica.now + 60
    assert replica.of("imported")
    replica.now += ACTIVE + 120
    replica.wrote("mine", grown(), Totals())
    assert replica.of("mine")
