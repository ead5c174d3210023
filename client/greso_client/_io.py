"""The two ways to do what the core asks for: blocking, and on an asyncio loop.

The core is written once, as coroutines over the four verbs of `IO`. `BlockingIO` never suspends, so `run` can step such
a coroutine to its end without any event loop; `AsyncioIO` awaits.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import httpx

from greso_client import _tls as tls
from greso_client._errors import BudgetExceededError, ProtocolError, UnavailableError
from greso_client._reply import Answer
from greso_client._requests import Request
from greso_client._threads import Threads

R = TypeVar("R")

CONNECT_SECONDS = 5.0
# No answer of the contract is as large, not a draw of 65,536 prompts of 256 bytes.
MOST_BYTES = 64 * 1024 * 1024
# Longer is refused as a budget, and cut off elsewhere: threads and sockets take no wait without end.
LONGEST_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class Clock:
    """Where the time comes from: seconds of a monotonic clock, and of the wall's."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time


class IO(Protocol):
    """What the core needs from the world."""

    def now(self) -> float:
        """Seconds of a monotonic clock."""

    def wall(self) -> float:
        """Seconds since 1970."""

    async def send(self, request: Request, timeout: float) -> Answer:  # noqa: ASYNC109 - a bound on one attempt
        """One attempt, over within `timeout` seconds whatever happens; raises `UnavailableError` without an answer."""

    async def pause(self, seconds: float) -> None:
        """Wait."""

    async def work(self, function: Callable[[], R]) -> R:
        """Call a function that blocks on the local disk."""


def run(coroutine: Coroutine[Any, Any, R]) -> R:
    """The result of a coroutine that never suspends."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: R = stop.value
        return result
    coroutine.close()
    raise AssertionError("the core suspended over blocking I/O")


def _headers(request: Request) -> dict[str, str]:
    headers = {} if request.body is None else {"Content-Type": request.content_type}
    if request.key is not None:
        headers["Idempotency-Key"] = request.key
    if request.generation is not None:
        headers["Greso-Generation"] = str(request.generation)
    if request.news:
        headers["Greso-Client"] = request.news
    return headers


class _Body:
    """The body of a response as it comes in: of bounded size, uncompressed, and whole before its time is over."""

    def __init__(self, response: httpx.Response, timeout: float) -> None:
        coding = response.headers.get("content-encoding", "identity")
        if coding != "identity":  # a small answer could be a huge one, packed
            raise ProtocolError(f"the answer is packed ({coding:.40}), which was not asked for: does a proxy do that?")
        self._response = response
        self._until = time.monotonic() + timeout
        self._pieces: list[bytes] = []
        self._size = 0

    def add(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size > MOST_BYTES:
            raise ProtocolError(f"the answer is longer than {MOST_BYTES} bytes: does the URL lead to a greso service?")
        if time.monotonic() > self._until:  # nobody waits for it any more
            raise BudgetExceededError("the answer came too slowly")

    def whole(self) -> Answer:
        return Answer(self._response.status_code, self._response.headers, b"".join(self._pieces))


def _arguments(request: Request, timeout: float) -> dict[str, Any]:
    """How httpx is told of a request."""
    return {
        "method": request.method,
        "url": request.path,
        "content": request.body,
        "headers": _headers(request),
        "timeout": _timeout(timeout),
    }


def _timeout(seconds: float) -> httpx.Timeout:
    """The time for one attempt; a service that can't be connected to soon is away, however long an answer may take."""
    return httpx.Timeout(seconds, connect=min(seconds, CONNECT_SECONDS))


def _unavailable(error: Exception, timeout: float) -> UnavailableError:
    """What went wrong on the way to the service or back, whatever it is: none of it may stop a training."""
    reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if isinstance(error, httpx.TimeoutException | TimeoutError):
        sent = not isinstance(error, httpx.ConnectTimeout | httpx.PoolTimeout)
        return BudgetExceededError(f"no answer within {timeout:.2g} s ({reason})", sent=sent)
    if isinstance(error, httpx.HTTPError):
        if wrong := tls.mistake(error):
            return tls.NoTlsError(wrong, sent=False, transient=False)
        reason = tls.with_suspicion(reason, error)
    return UnavailableError(reason, sent=not isinstance(error, httpx.ConnectError))


class BlockingIO:
    """Blocking I/O over kept-alive connections. Safe between threads; a forked child opens connections of its own.

    Each attempt runs in a thread which is left behind when its time is up: httpx bounds each phase of a request but not
    their sum, and nothing bounds the name resolver.
    """

    def __init__(self, make: Callable[[], httpx.Client]) -> None:
        self.clock = Clock()
        self._make = make
        self._http = make()
        self._threads = Threads()
        self._owner = os.getpid()
        # Connections inherited over a fork are the parent's: neither used nor closed, so that its TLS state stays
        # whole.
        self._inherited: list[httpx.Client] = []

    def now(self) -> float:
        """Seconds of a monotonic clock."""
        return self.clock.monotonic()

    def wall(self) -> float:
        """Seconds since 1970."""
        return self.clock.wall()

    async def send(self, request: Request, timeout: float) -> Answer:  # noqa: ASYNC109 - a bound on one attempt
        """One attempt."""
        timeout = min(timeout, LONGEST_SECONDS)
        if self._owner != os.getpid():
            self._inherited.append(self._http)
            self._http, self._threads, self._owner = self._make(), Threads(), os.getpid()
        http = self._http

        def attempt() -> Answer | Exception:
            try:
                with http.stream(**_arguments(request, timeout)) as response:
                    body = _Body(response, timeout)
                    for piece in response.iter_bytes():
                        body.add(piece)
                return body.whole()
            except Exception as error:  # noqa: BLE001 - handed over to the calling thread, which judges it
                return error

        try:
            result = self._threads.call(attempt, timeout)
        except TimeoutError:
            raise BudgetExceededError(f"no answer within {timeout:.2g} s") from None
        except RuntimeError as error:  # no more threads
            raise UnavailableError(f"{type(error).__name__}: {error}", sent=False) from error
        if isinstance(result, UnavailableError):
            raise result
        if isinstance(result, Exception):
            raise _unavailable(result, timeout) from result
        return result

    async def pause(self, seconds: float) -> None:
        """Sleep."""
        time.sleep(min(seconds, LONGEST_SECONDS))  # noqa: ASYNC251 - no event loop here, see the module's docstring

    async def work(self, function: Callable[[], R]) -> R:
        """Call it."""
        return function()

    def close(self) -> None:
        """Close the connections."""
        if self._owner == os.getpid():
            self._http.close()


class AsyncioIO:
    """I/O on a running asyncio loop; disk work goes to a thread."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.clock = Clock()
        self._http = http

    def now(self) -> float:
        """Seconds of a monotonic clock."""
        return self.clock.monotonic()

    def wall(self) -> float:
        """Seconds since 1970."""
        return self.clock.wall()

    async def send(self, request: Request, timeout: float) -> Answer:  # noqa: ASYNC109 - a bound on one attempt
        """One attempt."""
        timeout = min(timeout, LONGEST_SECONDS)
        try:
            async with asyncio.timeout(timeout), self._http.stream(**_arguments(request, timeout)) as response:
                body = _Body(response, timeout)
                async for piece in response.aiter_bytes():
                    body.add(piece)
        except UnavailableError:
            raise
        except Exception as error:
            raise _unavailable(error, timeout) from error
        return body.whole()

    async def pause(self, seconds: float) -> None:
        """Sleep."""
        await asyncio.sleep(min(seconds, LONGEST_SECONDS))

    async def work(self, function: Callable[[], R]) -> R:
        """Call it in a thread; cancelled, wait for its end first: what it holds by then is to be given back."""
        working = asyncio.ensure_future(asyncio.to_thread(function))
        try:
            return await asyncio.shield(working)
        except asyncio.CancelledError:
            await asyncio.wait([working])
            if working.done() and not working.cancelled():
                working.exception()  # nobody is left to be told
            raise

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()
