"""Logs: what a line holds, in both forms."""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import datetime

import pytest

from greso_service.telemetry.logs import JsonFormatter, TextFormatter, request_id


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
