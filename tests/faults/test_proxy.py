"""The proxy does what its troubles say, or the schedules would show nothing."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from .proxy import KINDS, Proxy, Trouble

Echo = Callable[[bytes], Awaitable[bytes | None]]


class Server:
    """Echoes, and remembers what it was sent."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(1000):
            self.heard.append(chunk)
            writer.write(chunk)
        writer.close()


def through(trouble: Trouble | None, story: Callable[[Server, Echo], Awaitable[None]]) -> None:
    """Tell a story of a server and a client that sends something and waits half a second for an answer."""

    async def told() -> None:
        server = Server()
        listening = await asyncio.start_server(server.answer, "127.0.0.1", 0)
        proxy = Proxy(listening.sockets[0].getsockname()[1])
        await proxy.start()
        proxy.trouble = trouble

        async def send(request: bytes) -> bytes | None:
            """The answer; nothing if the connection ended, None if it stays silent."""
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            try:
                writer.write(request)
                async with asyncio.timeout(0.5):
                    return await reader.read(1000)
            except TimeoutError:
                return None
            except OSError:
                return b""
            finally:
                writer.transport.abort()

        try:
            await story(server, send)
        finally:
            await proxy.close()
            listening.close()

    asyncio.run(told())


REQUEST = b"append these sixteen bytes and more"


def trouble(kind: str, seed: int, times: int = 1, seconds: float = 0.0) -> Trouble:
    return Trouble(kind, 1.0, times, random.Random(seed), seconds)


def test_without_trouble_all_goes_through() -> None:
    async def story(server: Server, send: Echo) -> None:
        assert [await send(REQUEST) for _ in range(3)] == [REQUEST] * 3
        assert server.heard == [REQUEST] * 3

    through(None, story)


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"delayed"}))
@pytest.mark.parametrize("seed", range(4))
def test_it_strikes_so_often_and_no_more(kind: str, seed: int) -> None:
    async def story(server: Server, send: Echo) -> None:
        answers = [await send(REQUEST) for _ in range(3)]
        struck = [answer for answer in answers if answer != REQUEST]
        assert len(struck) == 2 or kind == "half-closed"  # which a server may answer all the same
        assert answers[2] == REQUEST
        heard = {chunk for chunk in server.heard if chunk}
        match kind:
            case "reply lost" | "reply cut" | "half-closed":
                assert server.heard == [REQUEST] * 3, "only replies are lost"
                assert all(answer is None or REQUEST.startswith(answer) for answer in struck)
            case "request cut":
                assert all(REQUEST.startswith(chunk) for chunk in heard)
                assert set(struck) <= {b""}
            case "refused":
                assert server.heard == [REQUEST]
            case "reset":
                assert set(struck) == {b""}

    through(trouble(kind, seed, times=2), story)


def test_a_reset_comes_before_the_request_or_behind_it() -> None:
    heard = set()

    async def story(server: Server, send: Echo) -> None:
        assert await send(REQUEST) == b""
        await send(b"")
        heard.add(tuple(server.heard))

    for seed in range(10):
        through(trouble("reset", seed), story)
    assert heard == {(), (REQUEST,)}


def test_a_delay_passes_all_on() -> None:
    async def story(server: Server, send: Echo) -> None:
        assert await send(REQUEST) == REQUEST

    through(trouble("delayed", 1, seconds=0.2), story)
