"""Logs on standard error: lines for people, or one JSON object a line; both carry the id of the request at work.

Fields given with `extra={"run": ...}` are kept: appended as `run=...` in text, members of the object in JSON.

What goes wrong goes wrong for many requests at once, so nothing is logged per request. What begins and ends is said
twice, by who watches it (`api/health.py`). For all the rest there is `Seldom`.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final, Literal

request_id: Final[ContextVar[str]] = ContextVar("request_id", default="")
"""The request being answered; empty outside of one. Set by the API's middleware."""

SELDOM: Final[Mapping[str, object]] = MappingProxyType({"seldom": True})
"""For `extra` of a line that many requests may write one after another."""

PAUSE: Final = 30.0  # seconds: a storm is seen at once and fills no disk, the same as the client's lines of an outage

_NOT_LIBRARIES: Final = frozenset({"greso_service", "py"})  # py.warnings is Python's own
_OWN_FIELDS: Final = frozenset(vars(logging.makeLogRecord({}))) | {
    "message", "asctime", "taskName", "color_message", *SELDOM,
}  # fmt: skip


def configure(level: Literal["debug", "info", "warning", "error"], form: Literal["text", "json"]) -> None:
    """Send everything that is logged, Python's warnings included, to standard error; replaces earlier configuration."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    handler.addFilter(Seldom())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
    for chatty in ("httpx", "httpcore", "asyncio"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLevelName(level.upper())))


def _fields(record: logging.LogRecord) -> dict[str, object]:
    extra = {name: value for name, value in vars(record).items() if name not in _OWN_FIELDS}
    if current := request_id.get():
        extra["request_id"] = current
    return extra


class Seldom(logging.Filter):
    """Of lines from one place, passes one in `PAUSE` seconds; it says `more=` for those left out since the one before.

    For tracebacks (the place is where the error was raised), for lines with `SELDOM`, and for warnings of libraries,
    which know nothing of requests by the thousand. All other lines pass; of Python's warnings Python passes each once.
    There are as many places as the code has.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._lock = threading.Lock()
        # Of each place: when it may speak again, and how many lines it was denied.
        self._places: dict[tuple[object, ...], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is written."""
        foreign = record.levelno >= logging.WARNING and record.name.partition(".")[0] not in _NOT_LIBRARIES
        if not (foreign or record.exc_info or hasattr(record, "seldom")):
            return True
        place, now = _place(record), self._clock()
        with self._lock:
            again, denied = self._places.get(place, (now, 0))
            passes = now >= again
            self._places[place] = (now + PAUSE, 0) if passes else (again, denied + 1)
        if passes and denied:
            record.more = denied
        return passes


def _place(record: logging.LogRecord) -> tuple[object, ...]:
    """Where the line comes from, and the error it tells of, if it does."""
    error = record.exc_info[1] if record.exc_info else None
    frame = error.__traceback__ if error else None
    while frame and frame.tb_next:
        frame = frame.tb_next
    raised = (type(error), frame.tb_frame.f_code.co_filename, frame.tb_lineno) if frame else ()
    return (record.name, record.pathname, record.lineno, *raised)


class TextFormatter(logging.Formatter):
    """`16:33:03.584 warning the message request_id=4f...`, local time."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line, followed by the traceback if it has one."""
        clock = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S.%f")[:-3]
        extra = "".join(f" {name}={value}" for name, value in _fields(record).items())
        line = f"{clock} {record.levelname.lower():7} {record.getMessage().rstrip()}{extra}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """`{"time": ISO 8601 in UTC, "level", "logger", "message", ...fields, "exception"}`."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one JSON object without line breaks."""
        content: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage().rstrip(),
            **_fields(record),
        }
        if record.exc_info:
            content["exception"] = self.formatException(record.exc_info)
        return json.dumps(content, default=str, ensure_ascii=False)
