"""The two ways to do what the core asks for: blocking, and on an asyncio loop.

The core is written once, as coroutines over the four verbs of `IO`. `BlockingIO` never suspends, so `run` can step such
a coroutine to its end without any event loop; `AsyncioIO` awaits.
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

import httpx

from greso_client._answers import Answer
from greso_client._errors import BudgetExceededError, UnavailableError
from greso_client._requests import Request

R = TypeVar("R")

CONNECT_SECONDS = 5.0


class IO(Protocol):
    """What the core needs from the world."""

    def now(self) -> float:
        """Seconds of a monotonic clock."""

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


def _answer(response: httpx.Response) -> Answer:
    return Answer(response.status_code, response.headers, response.content)


def _timeout(seconds: float) -> httpx.Timeout:
    """The time for one attempt; a service that can't be connected to soon is away, however long an answer may take."""
    return httpx.Timeout(seconds, connect=min(seconds, CONNECT_SECONDS))


def _unavailable(error: Exception, timeout: float) -> UnavailableError:
    reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if isinstance(error, httpx.TimeoutException | TimeoutError):
        return BudgetExceededError(f"no answer within {timeout:.2g} s ({reason})")
    return UnavailableError(reason)


class BlockingIO:
    """Blocking I/O over kept-alive connections. Safe between threads; a forked child opens connections of its own.

    Each attempt runs in a thread of its own which is left behind when its time is up: httpx bounds each phase of a
    request but not their sum, and nothing bounds the name resolver. (A thread costs some 0.1 ms.)
    """

    def __init__(self, make: Callable[[], httpx.Client]) -> None:
        self._make = make
        self._http = make()
        self._owner = os.getpid()
        # Connections inherited over a fork are the parent's: neither used nor closed, so that its TLS state stays
        # whole.
        self._inherited: list[httpx.Client] = []

    def now(self) -> float:
        """Seconds of a monotonic clock."""
        return time.monotonic()

    async def send(self, request: Request, timeout: float) -> Answer:  # noqa: ASYNC109 - a bound on one attempt
        """One attempt."""
        if self._owner != os.getpid():
            self._inherited.append(self._http)
            self._http, self._owner = self._make(), os.getpid()
        http, outcome = self._http, queue.SimpleQueue[Answer | Exception]()

        def attempt() -> None:
            try:
                response = http.request(
                    request.method,
                    request.path,
                    content=request.body,
                    headers=_headers(request),
                    timeout=_timeout(timeout),
                )
                outcome.put(_answer(response))
            except Exception as error:  # noqa: BLE001 - handed over to the calling thread, which judges it
                outcome.put(error)

        threading.Thread(target=attempt, name="greso-request", daemon=True).start()
        try:
            result = outcome.get(timeout=timeout)
        except queue.Empty:
            raise BudgetExceededError(f"no answer within {timeout:.2g} s") from None
        if isinstance(result, httpx.HTTPError | OSError):
            raise _unavailable(result, timeout) from result
        if isinstance(result, Exception):
            raise result
        return result

    async def pause(self, seconds: float) -> None:
        """Sleep."""
        time.sleep(seconds)  # noqa: ASYNC251 - no event loop here, see the module's docstring

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
        self._http = http

    def now(self) -> float:
        """Seconds of a monotonic clock."""
        return time.monotonic()

    async def send(self, request: Request, timeout: float) -> Answer:  # noqa: ASYNC109 - a bound on one attempt
        """One attempt."""
        try:
            async with asyncio.timeout(timeout):
                response = await self._http.request(
                    request.method,
                    request.path,
                    content=request.body,
                    headers=_headers(request),
                    timeout=_timeout(timeout),
                )
        except (httpx.HTTPError, OSError) as error:
            raise _unavailable(error, timeout) from error
        return _answer(response)

    async def pause(self, seconds: float) -> None:
        """Sleep."""
        await asyncio.sleep(seconds)

    async def work(self, function: Callable[[], R]) -> R:
        """Call it in a thread."""
        return await asyncio.to_thread(function)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()
