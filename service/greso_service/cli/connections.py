"""Connections on which nothing gets on: those that no request comes on, and those whose answer nobody takes.

While a request is worked on, `api/guard.py` watches its pace. Before its head has come, and when its answer is left to
the transport, only the server knows of it: uvicorn waits for ever. A connection takes no place then, but a descriptor
and what waits to be sent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from greso_service.api.pace import RATE, READER

HEAD_SECONDS: Final = 15.0
"""For the head of a request, from the connection or the request's first byte on; and for a body that nobody wants."""


class Connections:
    """Ends those that make no progress. To be shown the open ones again and again, uvicorn's of either kind."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._waiting: dict[Any, tuple[object, float]] = {}  # what a connection waits for, and until when

    def look(self, connections: Iterable[Any]) -> None:
        """End those whose time is over."""
        now, waiting = self._clock(), dict[Any, tuple[object, float]]()
        for connection in connections:
            found = _waits_for(connection)
            if found is None:
                continue
            what, seconds = found
            before = self._waiting.get(connection)
            until = before[1] if before is not None and before[0] == what else now + seconds
            if now >= until:
                connection.transport.abort()
            else:
                waiting[connection] = (what, until)
        self._waiting = waiting


def _waits_for(connection: Any) -> tuple[object, float] | None:
    """What the connection waits for, and how many seconds that may take; None for nothing, or a request's progress."""
    if not hasattr(connection, "cycle"):  # it speaks no HTTP any more
        return None
    transport, cycle = connection.transport, connection.cycle
    answered = cycle is None or cycle.response_complete
    unread = transport.get_write_buffer_size()
    if unread and (answered or transport.is_closing()):
        return ("reader", cycle), READER + unread / RATE
    if answered and connection.timeout_keep_alive_task is None and not transport.is_closing():
        return ("request", cycle), HEAD_SECONDS
    return None
