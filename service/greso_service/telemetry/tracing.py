"""OpenTelemetry traces: a span for each request, in it one for each Redis command. Off unless asked for.

Where to, how many, and under which name is said by the standard OTEL_* variables. What a trace must not hold is left
out: prompts' ids, which stand in paths and queries; commands' arguments are left out by the instrumentation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from greso_service.errors import StartupError

if TYPE_CHECKING:
    from fastapi import FastAPI


def install(app: FastAPI) -> Callable[[], None]:
    """Trace the requests of an application that has not served any yet, and the commands of this process to Redis.

    Returns what ends it: it sends the spans that are left, for 2 s at most, and blocks so long.

    Raises:
        StartupError: the packages of the extra `otel` are missing.
    """
    try:
        from greso_service.telemetry import spans  # noqa: PLC0415  # an extra, and slow
    except ModuleNotFoundError as error:
        raise StartupError(
            f"--otel needs {error.name}, which is not installed; run in the checkout: pip install '.[otel]', or leave"
            " --otel out"
        ) from None
    return spans.trace(app)
