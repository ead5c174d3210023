"""A TCP proxy between a service and its Redis that does to their conversation what networks do."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from dataclasses import dataclass

CHUNK = 65_536
KINDS = ("reply lost", "delayed", "reset", "half-closed", "reply cut", "request cut", "refused")
"""What may be done: a reply is swallowed; replies take long; a connection is reset, before or after the request went
on; it is closed in one direction; a reply, or a request, ends in the middle; none is let in."""


@dataclass(slots=True)
class Trouble:
    """What goes wrong from now on: with each request or reply by `chance`, at most `times` in all.

    `seconds`: of a delay.
    """

    kind: str
    chance: float
    times: int
    choose: random.Random
    seconds: float = 0.0
    struck: int = 0

    def strikes(self, *kinds: str) -> bool:
        """Whether it happens to what passes now."""
        if self.kind not in kinds or self.struck >= self.times or self.choose.random() >= self.chance:
            return False
        self.struck += 1
        return True

    def heads(self) -> bool:
        """One of two ways, by chance."""
        return self.choose.random() < 0.5


class Proxy:
    """Listens on `port` of the loopback interface and passes all on to `target`, but for its `trouble`."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.trouble: Trouble | None = None
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop, and end what is connected."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def strikes(self, *kinds: str) -> Trouble | None:
        """The trouble, if it happens to what passes now."""
        return self.trouble if self.trouble is not None and self.trouble.strikes(*kinds) else None

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._link(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if self.strikes("refused"):
                return
            link = _Link(self, reader, writer, *await asyncio.open_connection("127.0.0.1", self.target))
            await link.run()
        except OSError:
            return  # the server behind is away, and so is this connection
        finally:
            _reset(writer)


class _Link:
    """One connection of a service (`client`) and the one that goes on to Redis (`server`)."""

    def __init__(
        self,
        proxy: Proxy,
        client: asyncio.StreamReader,
        to_client: asyncio.StreamWriter,
        server: asyncio.StreamReader,
        to_server: asyncio.StreamWriter,
    ) -> None:
        self.proxy = proxy
        self.client, self.to_client = client, to_client
        self.server, self.to_server = server, to_server
        self.deaf = False  # no reply comes through any more

    async def run(self) -> None:
        """Until one side ends, or the trouble ends both."""
        pumps = [asyncio.create_task(self._requests()), asyncio.create_task(self._replies())]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            _reset(self.to_server)

    async def _requests(self) -> None:
        while request := await self.client.read(CHUNK):
            if trouble := self.proxy.strikes("reset", "request cut", "half-closed"):
                match trouble.kind:
                    case "reset":
                        if trouble.heads():
                            await _pass(self.to_server, request)
                        return
                    case "request cut":
                        await _pass(self.to_server, request[: trouble.choose.randrange(len(request))])
                        with contextlib.suppress(OSError):
                            self.to_server.write_eof()
                            await self.server.read()  # Redis has taken it, and hangs up
                        return
                await _pass(self.to_server, request)
                with contextlib.suppress(OSError):
                    (self.to_server if trouble.heads() else self.to_client).write_eof()
                continue
            await _pass(self.to_server, request)

    async def _replies(self) -> None:
        while reply := await self.server.read(CHUNK):
            if trouble := self.proxy.strikes("reply lost", "delayed", "reply cut"):
                match trouble.kind:
                    case "reply lost":
                        if trouble.heads():
                            return
                        self.deaf = True
                    case "delayed":
                        await asyncio.sleep(trouble.choose.random() * trouble.seconds)
                    case "reply cut":
                        await _pass(self.to_client, reply[: trouble.choose.randrange(len(reply))])
                        return
            if not self.deaf:
                await _pass(self.to_client, reply)


async def _pass(writer: asyncio.StreamWriter, chunk: bytes) -> None:
    if writer.is_closing():
        return
    with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: this direction was closed
        writer.write(chunk)
        await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection at once, as a reset where the other side has not ended it."""
    linger = struct.pack("ii", 1, 0)
    with contextlib.suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()
