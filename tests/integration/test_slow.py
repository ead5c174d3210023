"""Clients that send or take bytes slowly, and what takes long: none keeps a place, or a connection, for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from greso_service.access import watched
from greso_service.api import access, pace
from greso_service.api.app import create_app
from greso_service.cli import connections, serving
from greso_service.cli.connections import Connections
from greso_service.history.memory import MemoryHistory
from greso_service.settings import load

from ..asgi import problem, within  # noqa: TID252
from ..keys import KeyFile, bearer  # noqa: TID252

JSON = {"Content-Type": "application/json"}
NDJSON = {"Content-Type": "application/x-ndjson"}


async def never(*before: bytes) -> AsyncIterator[bytes]:
    """A body that stops in the middle."""
    for piece in before:
        yield piece
    await asyncio.Event().wait()


def test_a_body_that_stops_is_408_and_nothing_was_applied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "SENDER", 0.05)

    async def story(client: httpx.AsyncClient) -> None:
        for path in ("/v1/runs/r", "/v1/runs/r/import"):
            answer = await client.put(path, content=never(b"{"), headers=JSON if path == "/v1/runs/r" else NDJSON)
            assert "the body came too slowly" in problem(answer, 408)["detail"]
            assert answer.headers["connection"] == "close"
        assert (await client.get("/v1/runs")).json()["runs"] == []

    within(story)


class FastLoop(asyncio.SelectorEventLoop):
    """A loop whose time a test may turn on."""

    ahead = 0.0

    def time(self) -> float:
        """Seconds."""
        return super().time() + self.ahead


@pytest.mark.parametrize(("size", "waits"), [(5 * pace.RATE, 100), (pace.RATE, 3), (1, 2), (0, 2)])
def test_a_sender_may_be_late_for_so_long_and_one_who_is_fast_enough_for_ever(size: int, waits: int) -> None:
    async def story() -> None:
        loop, one, done = asyncio.get_running_loop(), pace.Pace(pace.SENDER), 0
        assert isinstance(loop, FastLoop)

        async def piece() -> None:
            loop.ahead += 5.0
            for _ in range(3):
                await asyncio.sleep(0)

        try:
            while done < 100:
                await one.of(piece)
                one.came(size)
                done += 1
        except TimeoutError:
            pass
        assert done == (waits if waits == 100 else waits - 1)

    with asyncio.Runner(loop_factory=FastLoop) as runner:
        runner.run(story())


def test_being_fast_first_is_no_credit_for_later() -> None:
    async def story() -> None:
        one = pace.Pace(0.05)
        one.came(10**9)
        with pytest.raises(TimeoutError):
            await one.of(asyncio.Event().wait)

    asyncio.run(asyncio.wait_for(story(), 30))


def test_more_imports_than_the_limit_are_503_and_places_come_free() -> None:
    async def story(client: httpx.AsyncClient) -> None:
        going_on, begun = asyncio.Event(), asyncio.Event()
        await client.put("/v1/runs/r", json={})
        exported = (await client.get("/v1/runs/r/export")).content

        async def slowly() -> AsyncIterator[bytes]:
            begun.set()
            await going_on.wait()
            yield exported

        first = asyncio.create_task(client.put("/v1/runs/r1/import", content=slowly(), headers=NDJSON))
        await begun.wait()
        refused = await client.put("/v1/runs/r2/import", content=exported, headers=NDJSON)
        assert "max_imports (1)" in problem(refused, 503)["detail"]
        assert int(refused.headers["retry-after"]) >= 1
        going_on.set()
        assert (await first).status_code == 201
        assert (await client.put("/v1/runs/r2/import", content=exported, headers=NDJSON)).status_code == 201

    within(story, max_imports=1)


@pytest.mark.parametrize("path", ["/v1/runs/made", "/v1/runs/made/import"])
def test_a_key_that_is_revoked_while_a_body_comes_does_not_count_at_its_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, path: str
) -> None:
    monkeypatch.setattr(watched, "LOOK_EVERY", 0.01)
    monkeypatch.setattr(access, "LOOK_EVERY", 0.0)
    keys = KeyFile(tmp_path / "keys.json")
    headers, other = bearer(keys.add("team", "admin", name="leaver")), bearer(keys.add("team", "admin"))

    async def story(client: httpx.AsyncClient) -> None:
        await client.put("/v1/runs/r", json={}, headers=other)
        whole = b"{}" if path == "/v1/runs/made" else (await client.get("/v1/runs/r/export", headers=other)).content

        async def revoked_on_the_way() -> AsyncIterator[bytes]:
            yield whole[:1]
            keys.revoke("leaver")
            while (await client.get("/v1/runs", headers=headers)).status_code != 401:  # noqa: ASYNC110  # the watch
                await asyncio.sleep(0.01)
            yield whole[1:]

        kind = JSON if path == "/v1/runs/made" else NDJSON
        answer = await client.put(path, content=revoked_on_the_way(), headers=headers | kind)
        assert "revoked" in problem(answer, 401)["detail"]
        assert [run["run"] for run in (await client.get("/v1/runs", headers=other)).json()["runs"]] == ["r"]

    within(story, keys_file=keys.path)


# Connections of which only the server knows


def test_a_head_that_does_not_come_ends_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.0)

    async def story() -> None:
        with serving.listen("127.0.0.1", 0) as listener:
            server = serving._Server(create_app(load(), MemoryHistory()), "serving", load())
            running = asyncio.create_task(server.serve(sockets=[listener]))
            where = listener.getsockname()[:2]
            for begun in (b"", b"GET /livez HTTP/1.1\r\nHo", b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\nGET /"):
                reader, writer = await asyncio.open_connection(*where)
                writer.write(begun)
                try:
                    answered = await reader.read()
                except ConnectionResetError:
                    answered = b""
                assert answered.startswith(b"HTTP/1.1 200") or b"\r\n\r\n" not in begun
                writer.close()
            server.should_exit = True
            await running

    asyncio.run(asyncio.wait_for(story(), 60))


@dataclass(eq=False)
class Transport:
    unread: int = 0
    closing: bool = False
    aborted: bool = False

    def get_write_buffer_size(self) -> int:
        return self.unread

    def is_closing(self) -> bool:
        return self.closing

    def abort(self) -> None:
        self.aborted = True


@dataclass(eq=False)
class Cycle:
    response_complete: bool = True


@dataclass(eq=False)
class Connection:
    transport: Transport = field(default_factory=Transport)
    cycle: Cycle | None = None
    timeout_keep_alive_task: Any = None


def looked_at(connection: Connection, seconds: float) -> bool:
    """Whether it has ended when it was like that for so long."""
    now = [0.0]
    looking = Connections(lambda: now[0])
    while now[0] < seconds:
        looking.look([connection])
        now[0] += 1.0
    return connection.transport.aborted


@pytest.mark.parametrize(
    ("connection", "ends_within"),
    [
        (Connection(), connections.HEAD_SECONDS),
        (Connection(cycle=Cycle()), connections.HEAD_SECONDS),
        (Connection(Transport(unread=pace.RATE), Cycle(), object()), pace.READER + 1),
        (Connection(Transport(unread=10 * pace.RATE, closing=True), Cycle(response_complete=False)), pace.READER + 10),
    ],
)
def test_connections_that_wait_too_long_end(connection: Connection, ends_within: float) -> None:
    assert not looked_at(connection, ends_within)
    assert looked_at(connection, ends_within + 2)


@pytest.mark.parametrize(
    "connection",
    [
        Connection(cycle=Cycle(response_complete=False)),
        Connection(Transport(unread=10**6), Cycle(response_complete=False)),
        Connection(cycle=Cycle(), timeout_keep_alive_task=object()),
        object(),
    ],
)
def test_connections_with_a_request_or_between_two_stay(connection: Any) -> None:
    now = [0.0]
    looking = Connections(lambda: now[0])
    for now[0] in range(1000):
        looking.look([connection])
    assert not (hasattr(connection, "transport") and connection.transport.aborted)


def test_a_connection_that_gets_on_stays() -> None:
    now, connection = [0.0], Connection()
    looking = Connections(lambda: now[0])
    for now[0] in range(1000):
        connection.cycle = Cycle()
        looking.look([connection])
    assert not connection.transport.aborted
