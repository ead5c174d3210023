"""The route that tells a run's history as server-sent events, and goes on with what is written."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Final

import orjson
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from greso_service.api.access import CALLER, Caller, Reader
from greso_service.api.places import Places
from greso_service.api.shared import KNOWN_QUERY, PROBLEMS, RunName
from greso_service.core.mark import Mark
from greso_service.errors import Fault, InvalidInput
from greso_service.following import OLDEST, Last, Page, Place
from greso_service.history import codec
from greso_service.history.base import RunKey
from greso_service.history.codec import CodecError
from greso_service.runs import Runs
from greso_service.settings import Settings
from greso_service.told import told

MEDIA_TYPE: Final = "text/event-stream"
HEARTBEAT: Final = 15.0
"""Seconds without an event after which a comment says that the stream lives; proxies cut at 30 s and more."""

_RETRY: Final = 2000  # milliseconds until a browser comes again
_PIECE: Final = 65_536  # bytes sent at a time: what waits for a slow reader is hardly more
_PLACE: Final = re.compile(r"(?P<number>[0-9]{1,15})(?:-(?P<chain>[0-9]{1,10}))?")
_HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # nginx would hold events back
# JSON has no others left in it. For the format they are no ends of lines, for some readers they are.
_BREAKS: Final = {character.encode(): b"\\u%04x" % ord(character) for character in "\x85\u2028\u2029"}
_FIELDS = {
    "id": "the event's mark: where to go on with Last-Event-ID; in the beginning that of the place begun at",
    "event": "its type: created, patched, pooled, joined, priors, selected, reported, rewound, forked",
    "data": "what it says, a JSON object in one line",
    "retry": "alone, at the beginning: milliseconds until a reader that lost the stream comes again",
}
_TEXT = {
    MEDIA_TYPE: {
        "schema": {
            "type": "object",
            "description": "one event of the stream",
            "properties": {name: {"type": "string", "description": text} for name, text in _FIELDS.items()},
        }
    }
}
_LAST_ID = {
    "name": "Last-Event-ID",
    "in": "header",
    "description": "the `id` of the event to go on behind, before `after` and `last`: browsers send it by themselves",
    "schema": {"type": "string", "pattern": f"^{_PLACE.pattern.replace('?P<number>', '').replace('?P<chain>', '')}$"},
}


def router(runs: Runs, settings: Settings, stopping: Callable[[], bool]) -> APIRouter:
    """The route, bound to the use case it calls. `stopping`: whether the service is to stop, and streams are to end."""
    routes = APIRouter(prefix="/v1/runs", responses=PROBLEMS, dependencies=KNOWN_QUERY, tags=["looking"])
    streams = Places(settings.max_streams, "max_streams", "streams of events", yielding=True)

    @routes.get(
        "/{run}/events",
        summary="The history as server-sent events",
        response_class=Response,
        openapi_extra={"parameters": [_LAST_ID]},
        responses={200: {"description": "events, oldest first; then those that are written", "content": _TEXT}},
    )
    async def events(
        run: RunName,
        tenant: Reader,
        request: Request,
        *,
        after: Annotated[str | None, Query(description="the `id` or number of the event to begin behind")] = None,
        last: Annotated[int | None, Query(ge=0, le=1_000_000, description="begin with the last so many")] = None,
        follow: Annotated[bool, Query(description="go on with what is written; else end with what there is")] = True,
        full: Annotated[bool, Query(description="all that is in the events: ids, indices, rewards")] = False,
    ) -> Response:
        """From the oldest event that is there, if nothing else is said. A stream ends when the run is deleted or the
        service stops, and where events were trimmed before a slow reader had them.
        """
        key, place = RunKey(tenant, run), _place(request, after, last)
        caller: Caller = request.scope[CALLER]
        held = streams.enter(tenant)
        try:
            begin, pages = await runs.events(key, place, on=follow)
        except BaseException:
            streams.leave(held)
            raise
        ending = lambda: stopping() or held.wanted or not caller.welcome()  # noqa: E731
        text = _text(begin, pages, follow=follow, full=full, stopping=ending)
        return _Stream(text, lambda: streams.leave(held))

    return routes


class _Stream(StreamingResponse):
    """A stream that says when it has ended."""

    def __init__(self, content: AsyncIterator[bytes], ended: Callable[[], None]) -> None:
        super().__init__(content, headers=_HEADERS, media_type=MEDIA_TYPE)
        self._ended = ended

    def init_headers(self, headers: dict[str, str] | None = None) -> None:  # type: ignore[override]
        """As it is, but the type without a charset: it is always UTF-8, and some readers compare it whole."""
        super().init_headers({**(headers or {}), "content-type": MEDIA_TYPE})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._ended()


async def _text(
    begin: Mark, pages: AsyncIterator[Page], *, follow: bool, full: bool, stopping: Callable[[], bool]
) -> AsyncIterator[bytes]:
    """What is sent. A stream that does not follow is finished even if the service is to stop: else it looked whole."""
    # No event, but the id where a reader goes on that loses the stream before the first one.
    yield b"retry: %d\nid: %b\n\n" % (_RETRY, str(begin).encode())
    sent = time.monotonic()
    async for page in pages:
        if page:
            for part in _parted(page):
                text = await asyncio.to_thread(_encoded, part, full=full)
                for start in range(0, len(text), _PIECE):
                    yield text[start : start + _PIECE]
            sent = time.monotonic()
        elif follow and time.monotonic() >= sent + HEARTBEAT:
            yield b":\n\n"
            sent = time.monotonic()
        if follow and stopping():
            return


def _parted(page: Page) -> Iterator[Page]:
    """The page in parts of a piece's size or one event each: what is in it may be much longer as text."""
    part: Page = []
    size = 0
    for mark, payload in page:
        part.append((mark, payload))
        size += len(payload)
        if size >= _PIECE:
            yield part
            part, size = [], 0
    if part:
        yield part


def _encoded(page: Page, *, full: bool) -> bytes:
    return b"".join(_event(mark, payload, full=full) for mark, payload in page)


def _event(mark: Mark, payload: bytes, *, full: bool) -> bytes:
    try:
        content = told(mark.number, codec.decode(payload), full=full)
    except CodecError as error:  # of a newer service: the rest can be told
        content = {"number": mark.number, "unreadable": str(error)}
    data = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    for breaks, escaped in _BREAKS.items():
        data = data.replace(breaks, escaped)
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (str(mark).encode(), codec.type_name(payload).encode(), data)


def _place(request: Request, after: str | None, last: int | None) -> Place:
    """Where to begin. Raises `InvalidInput`."""
    if (given := request.headers.get("last-event-id")) is not None:
        return _parsed(given, "/header/last-event-id")
    if after is not None and last is not None:
        raise InvalidInput(Fault("/query/last", "goes without after"))
    if last is not None:
        return Last(last)
    return OLDEST if after is None else _parsed(after, "/query/after")


def _parsed(text: str, pointer: str) -> Place:
    found = _PLACE.fullmatch(text)
    if found is None:
        raise InvalidInput(Fault(pointer, "must be the id of an event, as in 12-3405691582, or its number"))
    number = int(found["number"])
    return number if found["chain"] is None else Mark(number, int(found["chain"]))
