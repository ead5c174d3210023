"""Logs: what a line holds, in both forms."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import pytest

from greso_service.telemetry.logs import PAUSE, SELDOM, JsonFormatter, Seldom, TextFormatter, request_id

OURS, FOREIGN = logging.getLogger("greso_service.of_a_test"), logging.getLogger("library.of_a_test")
FOREIGN.setLevel(logging.INFO)


@pytest.fixture
def record() -> logging.LogRecord:
    record = logging.makeLogRecord({"name": "greso.x", "levelno": 30, "levelname": "WARNING", "msg": "%d lost\n"})
    record.args = (3,)
    record.run = "r1"
    return record


def test_a_line_for_people_has_clock_level_message_and_fields(record: logging.LogRecord) -> None:
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} warning 3 lost run=r1", TextFormatter().format(record))


def test_a_line_for_machines_is_one_json_object(record: logging.LogRecord) -> None:
    line = JsonFormatter().format(record)
    content = json.loads(line)
    assert "\n" not in line
    assert datetime.fromisoformat(content.pop("time")).timestamp() == pytest.approx(record.created, abs=0.001)
    assert content == {"level": "warning", "logger": "greso.x", "message": "3 lost", "run": "r1"}


def test_the_request_at_work_is_named(record: logging.LogRecord) -> None:
    token = request_id.set("4f2a")
    try:
        assert TextFormatter().format(record).endswith(" run=r1 request_id=4f2a")
        assert json.loads(JsonFormatter().format(record))["request_id"] == "4f2a"
    finally:
        request_id.reset(token)


def test_a_traceback_follows_the_line_or_is_a_field(record: logging.LogRecord) -> None:
    try:
        int("broken")
    except ValueError:
        record.exc_info = sys.exc_info()
    first, *rest = TextFormatter().format(record).splitlines()
    assert first.endswith("3 lost run=r1")
    assert rest[-1].startswith("ValueError: ")
    assert json.loads(JsonFormatter().format(record))["exception"].splitlines()[-1] == rest[-1]


@pytest.fixture
def clock() -> list[float]:
    """Seconds; a test moves them."""
    return [1000.0]


@pytest.fixture
def written(clock: list[float]) -> Iterator[list[logging.LogRecord]]:
    """What gets through `Seldom`."""
    written: list[logging.LogRecord] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            written.append(record)

    handler = Kept()
    handler.addFilter(Seldom(lambda: clock[0]))
    loggers = [OURS, FOREIGN, logging.getLogger("py.warnings")]
    for logger in loggers:
        logger.addHandler(handler)
    yield written
    for logger in loggers:
        logger.removeHandler(handler)


def fail(call: Callable[[str], object]) -> None:
    try:
        call("broken")
    except (ValueError, KeyError):
        OURS.exception("a request failed")


def test_a_storm_of_tracebacks_is_written_once_per_pause_with_the_number_left_out(
    written: list[logging.LogRecord], clock: list[float]
) -> None:
    for _ in range(2):
        for _ in range(1000):
            fail(int)
        clock[0] += PAUSE
    assert [getattr(line, "more", 0) for line in written] == [0, 999]
    assert TextFormatter().format(written[1]).splitlines()[0].endswith("a request failed more=999")


def test_tracebacks_from_different_places_do_not_hide_each_other(written: list[logging.LogRecord]) -> None:
    for _ in range(10):
        fail(int)
        fail(dict[str, int]().__getitem__)
        try:
            int("broken")
        except ValueError:
            OURS.exception("a request failed")
    assert len(written) == 3


def test_our_own_lines_are_all_written_unless_they_say_otherwise(written: list[logging.LogRecord]) -> None:
    for number in range(10):
        OURS.error("Redis does not answer")
        OURS.warning("snapshot %d not kept", number, extra={"run": f"r{number}", **SELDOM})
    assert [line.getMessage() for line in written].count("Redis does not answer") == 10
    [seldom] = [line for line in written if line.getMessage() != "Redis does not answer"]
    assert TextFormatter().format(seldom).endswith("warning snapshot 0 not kept run=r0")


def test_libraries_warn_seldom_and_python_as_often_as_it_likes(written: list[logging.LogRecord]) -> None:
    for _ in range(10):
        FOREIGN.warning("Invalid HTTP request received.")
        FOREIGN.info("started")
        logging.getLogger("py.warnings").warning("a.py:1: UserWarning: careful")
    texts = [line.getMessage() for line in written]
    assert [texts.count(text) for text in dict.fromkeys(texts)] == [1, 10, 10]


def test_lines_from_many_threads_at_once_are_counted(written: list[logging.LogRecord], clock: list[float]) -> None:
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: fail(int), range(800)))
    clock[0] += PAUSE
    fail(int)
    assert [getattr(line, "more", 0) for line in written] == [0, 799]
