"""Clients that send or take bytes slowly, and what takes long: none keeps a place, or a connection, for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from greso_service.access import watched
from greso_service.api import access, guard, pace, places, time_travel
from greso_service.api.app import create_app
from greso_service.cli import connections, serving
from greso_service.cli.connections import Connections
from greso_service.history.memory import MemoryHistory
from greso_service.settings import load
from greso_service.telemetry.metrics import Metrics

from ..asgi import client_of, problem, within  # noqa: TID252
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


def test_a_reader_is_not_late_while_what_was_sent_is_not_due() -> None:
    async def story() -> None:
        loop, one = asyncio.get_running_loop(), pace.Pace(pace.READER)
        assert isinstance(loop, FastLoop)
        reading = asyncio.create_task(one.of(asyncio.Event().wait, 5 * pace.RATE))
        await asyncio.sleep(0)
        loop.ahead += 4.0
        assert one.late(loop.time()) == 0.0
        loop.ahead += 3.0
        assert one.late(loop.time()) == pytest.approx(2.0, abs=0.5)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading

    with asyncio.Runner(loop_factory=FastLoop) as runner:
        runner.run(story())


def test_who_is_late_already_when_his_place_is_needed_costs_the_newcomer_nothing() -> None:
    async def story() -> None:
        loop, one = asyncio.get_running_loop(), pace.Pace(pace.SENDER)
        assert isinstance(loop, FastLoop)
        sending = asyncio.create_task(one.of(asyncio.Event().wait))
        await asyncio.sleep(0)
        told = list[bool]()

        def needed() -> None:  # behind the timer of the one who is late, and before its task goes on
            one.displace()
            told.append(one.displaced)

        loop.ahead += 2 * pace.SENDER
        loop.call_at(loop.time(), needed)
        with pytest.raises(TimeoutError):
            await sending
        assert told == [False]

    with asyncio.Runner(loop_factory=FastLoop) as runner:
        runner.run(story())


@pytest.mark.parametrize("taken", [False, True])
def test_a_newcomer_gets_a_place_or_a_problem_whatever_is_wrong_with_the_late_one(
    monkeypatch: pytest.MonkeyPatch, taken: bool
) -> None:
    monkeypatch.setattr(guard, "MOST_LATE", -1.0)

    def broken(_: pace.Pace) -> None:
        raise RuntimeError("Cannot change state of expiring Timeout")

    if not taken:
        monkeypatch.setattr(pace.Pace, "displace", broken)

    async def story(client: httpx.AsyncClient) -> None:
        sending = asyncio.Event()

        async def slowly() -> AsyncIterator[bytes]:
            sending.set()
            await asyncio.Event().wait()
            yield b""

        slow = asyncio.create_task(client.put("/v1/runs/r", content=slowly(), headers=JSON))
        await sending.wait()
        answer = await client.get("/v1/runs")
        if taken:
            assert answer.status_code == 200
            assert "its place was needed" in problem(await slow, 503)["detail"]
        else:
            problem(answer, 503)
            slow.cancel()
            with pytest.raises(asyncio.CancelledError):
                await slow

    within(story, max_in_flight=1)


async def asked_for(path: str, app: Any, gone: list[Any], takes: Callable[[Any], Awaitable[None]]) -> None:
    """One GET, of whose answer `takes` gets each message; `gone` gets those that were taken."""

    asked = iter([{"type": "http.request", "body": b""}])

    async def receive() -> Any:
        return next(asked, None) or await asyncio.Event().wait()  # nobody hangs up

    async def send(message: Any) -> None:
        await takes(message)
        gone.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http", "root_path": "",
        "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b"", "state": {}, "headers": [],
        "client": ("127.0.0.1", 50_000), "server": ("127.0.0.1", 8080),
    }  # fmt: skip
    await app(scope, receive, send)


def test_a_long_answer_keeps_its_place_until_it_is_taken() -> None:
    content = bytes(range(256)) * 1000

    async def long_answer(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": content})

    async def story() -> None:
        app = guarded(long_answer)
        full, drained, sent = asyncio.Event(), asyncio.Event(), list[Any]()

        async def takes(_message: Any) -> None:
            if len(sent) == 1 + len(content) // guard.PIECE + 1:  # all that is in it; only the end has not been sent
                full.set()
                await drained.wait()

        answering = asyncio.create_task(asked_for("/a", app, sent, takes))
        await full.wait()
        assert app._room.taken == 1
        assert len(app._waiting) == 1, "and it is looked at how late its reader is"
        drained.set()
        await answering
        assert app._room.taken == 0
        bodies = [message["body"] for message in sent[1:]]
        assert b"".join(bodies) == content
        assert max(map(len, bodies)) == guard.PIECE
        assert [message.get("more_body", False) for message in sent[1:]] == [True] * (len(bodies) - 1) + [False]

    asyncio.run(asyncio.wait_for(story(), 30))


def test_a_short_answer_is_sent_as_it_is() -> None:
    message = {"type": "http.response.body", "body": b"a" * guard.PIECE}

    async def short_answer(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send(message)

    async def takes(_message: Any) -> None:
        return

    sent = list[Any]()
    asyncio.run(asked_for("/a", guarded(short_answer), sent, takes))
    assert sent[1] is message
    assert len(sent) == 2


def guarded(app: Any) -> guard.Guard:
    metrics = Metrics("1", in_flight_limit=4, most_runs=1, snapshot_every=1, seen=list)
    return guard.Guard(
        app, metrics=metrics, max_in_flight=4, max_body_bytes=1, max_import_bytes=1, keyless=True, stopping=bool
    )


def test_an_export_is_sent_in_pieces_that_are_not_long() -> None:
    async def story() -> None:
        app = create_app(load(), MemoryHistory())
        async with app.router.lifespan_context(app), client_of(app) as client:
            await client.put("/v1/runs/r", json={})
            await client.put("/v1/runs/r/pool", json={"prompts": [f"prompt-{each:06}" for each in range(20_000)]})
            whole = (await client.get("/v1/runs/r/export")).content
            sent = list[Any]()

            async def takes(_message: Any) -> None:
                return

            await asked_for("/v1/runs/r/export", app, sent, takes)
            bodies = [message["body"] for message in sent[1:]]
            assert b"".join(bodies) == whole
            assert len(whole) > guard.PIECE
            assert max(map(len, bodies)) == guard.PIECE

    asyncio.run(story())


def test_more_long_imports_than_the_limit_are_503_and_places_come_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_travel, "SHORT", 10)
    monkeypatch.setattr(places, "PATIENCE", 0.01)

    async def story(client: httpx.AsyncClient) -> None:
        going_on, begun = asyncio.Event(), asyncio.Event()
        await client.put("/v1/runs/r", json={})
        exported = (await client.get("/v1/runs/r/export")).content

        async def slowly() -> AsyncIterator[bytes]:
            yield exported[:20]
            begun.set()
            await going_on.wait()
            yield exported[20:]

        first = asyncio.create_task(client.put("/v1/runs/r1/import", content=slowly(), headers=NDJSON))
        await begun.wait()
        refused = await client.put("/v1/runs/r2/import", content=exported, headers=NDJSON)
        assert "max_imports (1)" in problem(refused, 503)["detail"]
        assert int(refused.headers["retry-after"]) >= 1
        monkeypatch.setattr(places, "PATIENCE", 30.0)
        second = asyncio.create_task(client.put("/v1/runs/r2/import", content=exported, headers=NDJSON))
        going_on.set()
        assert (await first).status_code == (await second).status_code == 201

    within(story, max_imports=1)


def test_many_short_imports_at_once_need_no_place() -> None:
    async def story(client: httpx.AsyncClient) -> None:
        begun, going_on = list[int](), asyncio.Event()
        await client.put("/v1/runs/r", json={})
        exported = (await client.get("/v1/runs/r/export")).content

        async def together(number: int) -> AsyncIterator[bytes]:
            yield exported[:20]
            begun.append(number)
            if len(begun) == 24:
                going_on.set()
            await going_on.wait()
            yield exported[20:]

        asked = (client.put(f"/v1/runs/r{each}/import", content=together(each), headers=NDJSON) for each in range(24))
        assert [answer.status_code for answer in await asyncio.gather(*asked)] == [201] * 24

    within(story, max_imports=1)


def test_an_import_whose_place_another_tenant_gets_is_503_and_nothing_is_left_of_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(time_travel, "SHORT", 10)
    keys = KeyFile(tmp_path / "keys.json")
    of_a, of_b = (bearer(keys.add(tenant, "admin")) | NDJSON for tenant in "ab")

    async def story(client: httpx.AsyncClient) -> None:
        going_on, begun = asyncio.Event(), [asyncio.Event(), asyncio.Event()]
        await client.put("/v1/runs/r", json={}, headers=of_a | JSON)
        exported = (await client.get("/v1/runs/r/export", headers=of_a)).content

        async def slowly(which: int) -> AsyncIterator[bytes]:
            yield exported[:20]
            begun[which].set()
            await going_on.wait()
            yield exported[20:]

        asked = [
            asyncio.create_task(client.put(f"/v1/runs/r{each}/import", content=slowly(each), headers=of_a))
            for each in range(2)
        ]
        for each in begun:
            await each.wait()
        assert (await client.put("/v1/runs/r/import", content=exported, headers=of_b)).status_code == 201
        going_on.set()
        answers = sorted(await asyncio.gather(*asked), key=lambda answer: answer.status_code)
        assert answers[0].status_code == 201
        assert "tenant who has fewer" in problem(answers[1], 503)["detail"]
        assert len((await client.get("/v1/runs", headers=of_a)).json()["runs"]) == 2

    within(story, keys_file=keys.path, max_imports=2)


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
            server = serving.Server(create_app(load(), MemoryHistory()), "serving", load())
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
