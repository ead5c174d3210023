"""A load balancer as small as can be: each request to the next replica that said lately that it is ready."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Coroutine, Sequence
from typing import Any, Self

LOOK_EVERY = 0.1  # seconds

_NONE_READY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_BAD = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_PROBE = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


class Balancer:
    """Listens on a port of loopback, in a thread. It repeats nothing: that is for clients."""

    def __init__(self, ports: Sequence[int]) -> None:
        self._ports = list(ports)
        self._turns = itertools.count()
        self.ready: set[int] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = self._do(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self._looking = [asyncio.run_coroutine_threadsafe(self._look(port), self._loop) for port in self._ports]
        return self

    def __exit__(self, *_: object) -> None:
        for looking in self._looking:
            looking.cancel()
        self._server.close()
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _end(self) -> None:
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    async def _look(self, port: int) -> None:
        while True:
            answer = await _asked(port, _PROBE)
            (self.ready.add if answer is not None and answer[9:12] == b"200" else self.ready.discard)(port)
            await asyncio.sleep(LOOK_EVERY)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
            request = head.replace(b"\r\n", b"\r\nConnection: close\r\n", 1) + await reader.readexactly(length)
            ports = [port for port in self._ports if port in self.ready]
            if ports:
                writer.write(await _asked(ports[next(self._turns) % len(ports)], request) or _BAD)
            else:
                writer.write(_NONE_READY)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


async def _asked(port: int, request: bytes) -> bytes | None:
    """The whole answer; None if there is none."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return None
    try:
        writer.write(request)
        answer = await reader.read()
    except OSError:
        return None
    finally:
        writer.close()
    return answer if b"\r\n\r\n" in answer else None
