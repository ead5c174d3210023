"""Spans of requests and of their Redis commands, and how they are sent. Imports the extra `otel`: see `tracing`."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any, Final

from fastapi import FastAPI
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.instrumentation.redis import RedisInstrumentor
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Span, SpanKind, format_trace_id, get_current_span
from opentelemetry.util.http import OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SANITIZE_FIELDS as SANITIZE_FIELDS
from opentelemetry.util.http import get_custom_headers

log = logging.getLogger(__name__)

STOP_SECONDS: Final = 2.0  # for the spans still here when the service stops: a fifth of its grace
_NOT_TRACED: Final = "/livez$,/readyz$,/metrics$"
_RUN: Final = re.compile(r"/v1/runs/([^/]+)")
_WITH_PATH: Final = ("http.target", "http.url", "url.path", "url.full", "url.query")
"""Attributes that hold the request's path or query, in the semantic conventions before and since 1.23."""


def trace(app: FastAPI) -> Callable[[], None]:
    """See `tracing.install`."""
    exporter = Watched(OTLPSpanExporter())
    given = OTELResourceDetector().detect().attributes
    resource = Resource.create({"service.name": "greso", "service.version": version("greso"), **given})
    # Without its own atexit handler, which would wait half a minute for a collector that is away.
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(OfRequests(exporter))
    FastAPIInstrumentor.instrument_app(
        app,
        tracer_provider=provider,
        meter_provider=NoOpMeterProvider(),
        excluded_urls=_NOT_TRACED,
        server_request_hook=_without_path,
        exclude_spans=["receive", "send"],
        # Whatever headers the OTEL_* variables want in the spans, no key gets there.
        http_capture_headers_sanitize_fields=["authorization", *get_custom_headers(SANITIZE_FIELDS)],
    )
    redis = RedisInstrumentor()
    redis.instrument(tracer_provider=provider)
    handlers = list(logging.getLogger().handlers)
    for handler in handlers:
        handler.addFilter(_add_trace_id)

    def stop() -> None:
        for handler in handlers:
            handler.removeFilter(_add_trace_id)
        redis.uninstrument()
        sending = threading.Thread(target=provider.shutdown, name="last-spans", daemon=True)
        sending.start()
        sending.join(STOP_SECONDS)
        exporter.shutdown()

    return stop


class OfRequests(BatchSpanProcessor):
    """Leaves out the commands of no request: a ping every second, catching up every five."""

    def on_end(self, span: ReadableSpan) -> None:
        """Keep a span to be sent."""
        if span.parent is not None or span.kind is not SpanKind.CLIENT:
            super().on_end(span)


class Watched(SpanExporter):
    """A span exporter that logs when the collector goes away and when it is back, and nothing between.

    In the place of what the exporter itself says, which is a line for each try.
    """

    def __init__(self, exporter: SpanExporter, clock: Callable[[], float] = time.monotonic) -> None:
        self._exporter = exporter
        self._clock = clock
        self._reason = ""
        self._since: float | None = None
        self._lost = 0
        self._ended = False
        # The exporter's own logger, and that of the queue before it.
        self._overheard = (type(exporter).__module__, "opentelemetry.sdk._shared_internal")
        for name in self._overheard:
            logging.getLogger(name).addFilter(self._overhear)

    def _overhear(self, record: logging.LogRecord) -> bool:
        self._reason = record.getMessage().splitlines()[0]
        return False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans; they are lost if that fails."""
        result = self._exporter.export(spans)
        if result is not SpanExportResult.SUCCESS:
            self._lost += len(spans)
            if self._since is None:
                self._since = self._clock()
                log.warning("traces don't reach their collector and are lost until they do: %s", self._reason)
        elif self._since is not None:
            away = self._clock() - self._since
            log.warning("traces reach their collector again after %.0f s; %d spans were lost", away, self._lost)
            self._since, self._lost = None, 0
        return result

    def shutdown(self) -> None:
        """Give up what is being sent."""
        if not self._ended:
            self._ended = True
            self._exporter.shutdown()
            for name in self._overheard:
                logging.getLogger(name).removeFilter(self._overhear)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing is kept here."""
        return self._exporter.force_flush(timeout_millis)


def _without_path(span: Span, scope: dict[str, Any]) -> None:
    """Put the route's template in the place of the path, and the run beside it."""
    if not span.is_recording():
        return
    given = (isinstance(span, ReadableSpan) and span.attributes) or {}
    route = str(given.get("http.route", ""))
    for name in given.keys() & set(_WITH_PATH):
        span.set_attribute(name, "" if name == "url.query" else route)
    if route and (found := _RUN.match(scope["path"])):
        span.set_attribute("greso.run", found[1])


def _add_trace_id(record: logging.LogRecord) -> bool:
    if (context := get_current_span().get_span_context()).is_valid:
        record.trace_id = format_trace_id(context.trace_id)
    return True
