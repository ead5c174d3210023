"""StepLog: one row a step, sorted by step."""

from __future__ import annotations

import random

from greso_service.core.steps import StepLog


def rows(log: StepLog, *columns: str) -> list[tuple[float, ...]]:
    return [tuple(row[column] for column in columns) for row in log.rows]


def test_rows_are_sorted_whatever_the_order_of_steps() -> None:
    log = StepLog()
    steps = list(range(0, 1000, 3))
    random.Random(1).shuffle(steps)
    for step in steps:
        log.add(step, examined=step, rounds=1)
    assert rows(log, "step", "examined", "rounds") == [(step, step, 1) for step in range(0, 1000, 3)]


def test_amounts_add_up_within_a_step() -> None:
    log = StepLog()
    log.add(5, examined=3, selected=2)
    log.add(5, examined=4, skipped_easy=1)
    log.set_exploration(5, 0.25, 0.75)
    assert rows(log, "examined", "selected", "skipped_easy", "groups", "p_easy", "p_hard") == [(7, 2, 1, 0, 0.25, 0.75)]


def test_steps_may_be_far_apart_and_large() -> None:
    log = StepLog()
    for step in (2**53 - 1, 0, 10**12):
        log.add(step, groups=2**40)
    assert rows(log, "step", "groups") == [(0, 2**40), (10**12, 2**40), (2**53 - 1, 2**40)]


def test_judged_groups_of_a_step() -> None:
    log = StepLog()
    log.add(3, groups=10, effective=4)
    assert log.judged(3) == (10, 4)
    assert log.judged(2) == (0, 0)
    assert log.size == 1, "looking makes no row"


def test_a_copy_does_not_follow() -> None:
    log = StepLog()
    log.add(1, groups=1)
    copy = StepLog(log.rows)
    copy.add(1, groups=1)
    copy.add(0)
    assert rows(log, "step", "groups") == [(1, 1)]
    assert rows(copy, "step", "groups") == [(0, 0), (1, 2)]


def test_an_empty_log() -> None:
    assert StepLog().rows.size == 0
