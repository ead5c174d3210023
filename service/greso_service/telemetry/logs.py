"""Logs on standard error: lines for people, or one JSON object a line; both carry the id of the request at work.

Fields given with `extra={"run": ...}` are kept: appended as `run=...` in text, members of the object in JSON.
"""

from __future__ import annotations

import json
import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Final, Literal

request_id: Final[ContextVar[str]] = ContextVar("request_id", default="")
"""The request being answered; empty outside of one. Set by the API's middleware."""

_OWN_FIELDS: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


def configure(level: Literal["debug", "info", "warning", "error"], form: Literal["text", "json"]) -> None:
    """Send everything that is logged, Python's warnings included, to standard error; replaces earlier configuration."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
    for chatty in ("httpx", "httpcore", "asyncio"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLevelName(level.upper())))


def _fields(record: logging.LogRecord) -> dict[str, object]:
    extra = {name: value for name, value in vars(record).items() if name not in _OWN_FIELDS}
    if current := request_id.get():
        extra["request_id"] = current
    return extra


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
