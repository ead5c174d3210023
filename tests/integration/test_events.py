"""The history as server-sent events: what is told, where a reader goes on, who is dropped, and what ends a stream."""

from __future__ import annotations

import asyncio
import base64
import json
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from greso_service.api import events as route
from greso_service.api import pace
from greso_service.api.app import create_app
from greso_service.cli import serving
from greso_service.core.mark import START, Mark
from greso_service.errors import Conflict, NotFound, Unavailable
from greso_service.following import Following, Last, Page
from greso_service.history import exported
from greso_service.history.base import Extent, RunKey
from greso_service.history.memory import MemoryHistory
from greso_service.settings import load

from ..asgi import client_of, over_shared, pointers, problem, within  # noqa: TID252
from ..servers import RedisServer, Service, eventually  # noqa: TID252
from ..stores import PassingHistory, Store  # noqa: TID252
from .test_runs_replicas import KEY, replica, report

Told = tuple[str, str, Any]


def events_of(text: str) -> list[Told]:
    """id, event and data of a stream's events; comments and fields without events are left out."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "data" in fields:
            assert list(fields) == ["id", "event", "data"]
            found.append((fields["id"], fields["event"], json.loads(fields["data"])))
    return found


async def told(client: httpx.AsyncClient, run: str = "run", last_id: str | None = None, **query: Any) -> list[Told]:
    headers = {} if last_id is None else {"Last-Event-ID": last_id}
    answer = await client.get(f"/v1/runs/{run}/events", params={"follow": False, **query}, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.headers["cache-control"] == "no-store"
    return events_of(answer.text)


REPORT = {
    "step": 1,
    "results": [
        {"prompt": "a", "rewards": [0, 1, 1, 0]},
        {"prompt": "b\n\u2028\x85", "rewards": [1, 1]},
        {"prompt": "c", "rewards": []},
    ],
    "final": True,
    "seconds": {"rollout": 2.5},
}


async def lived(client: httpx.AsyncClient, run: str = "run") -> None:
    """A run to which everything happened once."""
    path = f"/v1/runs/{run}"
    await client.put(path, json={"train_batch_size": 1, "seed": 3, "audit_share": 1, "p_hard": 0.1})
    await client.put(f"{path}/pool", json={"prompts": ["a", {"prompt": "d", "pass_rate": 0.5}]})
    await client.post(f"{path}/draw", json={"step": 1, "count": 1})
    await client.post(f"{path}/report", json=REPORT)
    await client.post(f"{path}/select", json={"step": 2, "prompts": ["a", "b\n\u2028\x85", "x"]})
    await client.patch(path, json={"train_batch_size": 5})
    await client.post(f"{path}/rewind", json={"step": 1})
    await client.post(f"{path}/fork", json={"run": f"{run}-fork", "step": 1})


def test_everything_that_happened_is_told_in_order() -> None:
    async def story(client: httpx.AsyncClient) -> None:
        await lived(client)
        found = await told(client)
        assert [name for _, name, _ in found] == [
            "created", "pooled", "priors", "selected", "reported", "selected", "patched", "rewound",
        ]  # fmt: skip
        assert [data["number"] for _, _, data in found] == list(range(1, 9))
        created, pooled, priors, drawn, reported, selected, patched, rewound = (
            {name: value for name, value in data.items() if name not in {"number", "at"}} for _, _, data in found
        )
        assert created["spec"]["seed"] == 3
        assert (pooled, priors) == ({"joined": 2, "new_prompts": 2}, {"prompts": 1})
        assert drawn == {
            "step": 1, "examined": 1, "selected": 1, "skipped": {"easy": 0, "hard": 0}, "audited": None, "epoch": 0,
            "ranked": False,
        }  # fmt: skip
        assert reported == {
            "step": 1, "final": True, "groups": 3, "mixed": 1, "rollouts": 6, "mean": 4 / 6,
            "new_prompts": 2, "seconds": {"rollout": 2.5, "update": 0.0},
        }  # fmt: skip
        assert (selected["examined"], selected["epoch"]) == (3, None)
        assert patched == {"changes": {"train_batch_size": 5}}
        assert rewound == {"step": 1, "generation": 1}
        assert all(data["at"].startswith("20") and data["at"].endswith("+00:00") for _, _, data in found)
        [*_, (_, name, data)] = await told(client, "run-fork")
        assert (name, data["run"], data["step"]) == ("forked", "run", 1)

    over_shared(story)


def test_ids_are_the_marks_of_the_export() -> None:
    async def story(client: httpx.AsyncClient) -> None:
        await lived(client)
        lines = [json.loads(line) for line in (await client.get("/v1/runs/run/export")).text.splitlines()[1:-1]]
        assert [(line["mark"], line["type"]) for line in lines] == [each[:2] for each in await told(client)]

    over_shared(story)


def test_in_full_nothing_is_left_out() -> None:
    async def story(client: httpx.AsyncClient) -> None:
        await lived(client)
        full = {name: data for _, name, data in await told(client, full=True)}
        assert full["pooled"]["ids"] == ["a", "d"]
        assert full["pooled"]["index"] == [0, 1]
        assert (full["priors"]["index"], full["priors"]["passed"], full["priors"]["tried"]) == ([1], [4.0], [8.0])
        assert full["reported"]["ids"] == ["b\n\u2028\x85", "c"]
        assert full["reported"]["index"] == [0, 2, 3]
        assert full["reported"]["rewards"] == [[0, 1, 1, 0], [1, 1], []]
        assert set(full["selected"]) >= {"sampled_skipped", "ranked_index", "audited_index"}
        [kept] = full["rewound"]["kept"]
        assert (kept["after"], kept["step"]) == ("0-0", 1)

    over_shared(story)


def test_domains_are_told_by_name_when_they_come_and_by_number_then() -> None:
    async def story(client: httpx.AsyncClient) -> None:
        quotas = {"math": {"quota": 0.5}, "code": {"quota": 0.5}}
        await client.put("/v1/runs/run", json={"domains": quotas, "train_batch_size": 1})
        prompts = [{"prompt": f"{name}{number}", "domain": name} for name in quotas for number in range(3)]
        await client.put("/v1/runs/run/pool", json={"prompts": ["x", *prompts]})
        await client.post("/v1/runs/run/draw", json={"step": 0, "count": 4})
        joined, drawn = (await told(client, full=True, last=2))[0][2], (await told(client, full=True, last=1))[0][2]
        assert (joined["joined"], joined["new_domains"]) == (6, ["math", "code"])
        assert (joined["index"], joined["domain"]) == ([1, 2, 3, 4, 5, 6], [1, 1, 1, 2, 2, 2])
        assert [part["domain"] for part in drawn["parts"]] == [1, 2]
        assert sum(part["selected"] for part in drawn["parts"]) == drawn["selected"] == 4
        assert drawn["epoch"] == 0
        text = (await client.get("/v1/runs/run/export")).content
        assert (await client.put("/v1/runs/again/import", content=text)).status_code == 201
        assert await told(client, "again", full=True) == await told(client, full=True)

    over_shared(story)


def test_a_reader_goes_on_exactly_behind_what_it_has() -> None:
    async def story(client: httpx.AsyncClient) -> None:
        await lived(client)
        everything = await told(client)
        for place, (mark, _, data) in enumerate(everything, start=1):
            rest = everything[place:]
            assert await told(client, last_id=mark) == rest
            assert await told(client, after=mark) == rest
            assert await told(client, after=str(data["number"])) == rest
            assert await told(client, last=len(rest)) == rest
            assert await told(client, last_id=mark, after="0", last=3) == rest, "the header goes before the query"
        assert await told(client, after="0") == await told(client, after="0-0") == everything
        assert await told(client, last=100) == everything

    over_shared(story)


@pytest.mark.parametrize("bad", ["", "x", "-1", "1.5", "1-", "-", "1-2-3", " 1", "1" * 16, "1-" + "9" * 11, "٣"])
def test_an_id_that_is_none_is_422(bad: str) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        await client.put("/v1/runs/run", json={})
        answer = await client.get("/v1/runs/run/events", params={"after": bad, "follow": False})
        assert pointers(problem(answer, 422)) == ["/query/after"]
        if bad.isascii() and bad == bad.strip():
            answer = await client.get("/v1/runs/run/events", headers={"Last-Event-ID": bad}, params={"follow": False})
            assert pointers(problem(answer, 422)) == ["/header/last-event-id"]

    over_shared(story)


def test_a_place_that_the_history_lacks_is_409_and_a_run_that_is_not_there_404() -> None:
    async def story(client: httpx.AsyncClient) -> None:
        await client.put("/v1/runs/run", json={})
        for bad in ("1-1", "5", "5-5", "0-1"):
            for query, headers in (({"after": bad}, {}), ({}, {"Last-Event-ID": bad})):
                content = problem(await client.get("/v1/runs/run/events", params=query, headers=headers), 409)
                assert "the history of run run has " in content["detail"]
        for query in ({}, {"after": "0"}, {"after": "5"}, {"after": "5-5"}, {"last": "3"}):
            problem(await client.get("/v1/runs/none/events", params=query), 404)
        answer = await client.get("/v1/runs/run/events", params={"after": "0", "last": 1})
        assert pointers(problem(answer, 422)) == ["/query/last"]
        answer = await client.get("/v1/runs/run/events", params={"last": -1})
        assert pointers(problem(answer, 422)) == ["/query/last"]

    over_shared(story)


def test_an_event_of_a_newer_version_is_named_and_the_rest_told(store: Store) -> None:
    async def story() -> None:
        async with store.opened() as history:
            runs = replica(history)
            await runs.create(KEY, {})
            await report(runs, 1, ("a", [0, 1]))
            mark = START
            for payload in await history.read(KEY, START, 10) or []:
                mark = mark.then(payload)
            await history.append(KEY, mark, [b"\x09\xff" + bytes(18)], at_ms=1)
            found = [each async for page in Following(history).pages(KEY, START, on=False) for each in page]
            text = b"".join(route._event(mark, payload, full=True) for mark, payload in found).decode()
            assert [name for _, name, _ in events_of(text)] == ["created", "reported", "unknown"]
            assert "version 9" in events_of(text)[-1][2]["unreadable"]
            await runs.close()

    asyncio.run(story())


def test_a_long_history_is_told_whole_in_every_store(store: Store) -> None:
    async def story() -> None:
        async with store.opened() as history:
            runs = replica(history)
            await runs.create(KEY, {"train_batch_size": 2})
            for step in range(300):
                await report(runs, step, ("a", [0, 1]))
            following = Following(history)
            found = [each async for page in following.pages(KEY, START, on=False) for each in page]
            assert len(found) == 301
            text = b"".join([piece async for piece in await runs.export(KEY)])
            assert [payload for _, payload in found] == list(exported.read(text.splitlines(keepends=True)))
            for number in (1, 256, 257, 300, 301):
                assert await following.mark(KEY, number) == found[number - 1][0]
                assert await following.mark(KEY, Last(301 - number)) == found[number - 1][0]
                assert await following.mark(KEY, found[number - 1][0]) == found[number - 1][0]
            with pytest.raises(Conflict, match="has 301 events"):
                await following.mark(KEY, 302)
            with pytest.raises(NotFound):
                await following.mark(RunKey("default", "none"), Last(0))
            await runs.close()

    asyncio.run(story())


# Live


async def next_page(pages: AsyncIterator[Page]) -> Page:
    while not (page := await asyncio.wait_for(anext(pages), 10)):
        pass
    return page


def test_what_any_replica_writes_is_told(store: Store) -> None:
    async def story() -> None:
        async with store.opened() as one, store.opened() as two:
            writers = replica(one), replica(two)
            await writers[0].create(KEY, {"train_batch_size": 1})
            _, pages = await writers[0].events(KEY, START, on=True)
            assert len(await next_page(pages)) == 1
            for step in range(4):
                await report(writers[step % 2], step, ("a", [0, 1]))
                [(mark, _)] = await next_page(pages)
                assert mark.number == step + 2
            await writers[1].rewind(KEY, 1)
            [(mark, _)] = await next_page(pages)
            assert mark.number == 6
            await writers[1].delete(KEY)
            assert [page async for page in pages if page] == [], "a run that is gone ends its streams"
            for runs in writers:
                await runs.close()

    asyncio.run(story())


def test_a_run_made_anew_ends_the_streams_of_the_old_one(store: Store) -> None:
    async def story() -> None:
        async with store.opened() as history:
            runs = replica(history)
            await runs.create(KEY, {})
            _, pages = await runs.events(KEY, START, on=True)
            [(mark, _)] = await next_page(pages)
            await runs.delete(KEY)
            await runs.create(KEY, {})
            assert [page async for page in pages if page] == []
            with pytest.raises(Conflict, match="made anew"):
                await runs.events(KEY, mark, on=True)

    asyncio.run(story())


def test_a_stream_that_does_not_follow_does_not_end_in_the_middle_as_if_it_were_whole(store: Store) -> None:
    async def story() -> None:
        async with store.opened() as history:
            runs = replica(history)
            await runs.create(KEY, {})
            _, pages = await runs.events(KEY, START, on=False)
            await anext(pages)
            await runs.delete(KEY)
            with pytest.raises(Conflict, match="trimmed or made anew while it was read"):
                await anext(pages)

    asyncio.run(story())


class Away(PassingHistory):
    away = False

    async def read(self, key: RunKey, after: Mark, limit: int) -> list[bytes] | None:
        if self.away:
            raise Unavailable("away")
        return await self.inner.read(key, after, limit)

    async def extent(self, key: RunKey) -> Extent | None:
        if self.away:
            raise Unavailable("away")
        return await self.inner.extent(key)


def test_a_stream_outlives_an_outage_of_the_store_and_one_that_does_not_follow_fails() -> None:
    async def story() -> None:
        history = Away(MemoryHistory())
        runs = replica(history)
        await runs.create(KEY, {})
        _, pages = await runs.events(KEY, START, on=True)
        await next_page(pages)
        history.away = True
        assert [await anext(pages) for _ in range(2)] == [[], []]
        with pytest.raises(Unavailable):
            await runs.events(KEY, START, on=False)
        history.away = False
        await report(runs, 1, ("a", [0, 1]))
        assert len(await next_page(pages)) == 1

    asyncio.run(story())


@contextmanager
def stream(service: Service, run: str, query: str = "", last_id: str = "") -> Iterator[Iterator[str]]:
    headers = {"Last-Event-ID": last_id} if last_id else {}
    timeout = httpx.Timeout(20.0)
    with (
        httpx.Client(base_url=service.url, trust_env=False, timeout=timeout) as http,
        http.stream("GET", f"/v1/runs/{run}/events{query}", headers=headers) as answer,
    ):
        assert answer.status_code == 200, answer.read()
        yield answer.iter_lines()


def next_event(lines: Iterator[str]) -> Told:
    block: list[str] = []
    for line in lines:
        if line:
            block.append(line)
        elif found := events_of("\n".join(block)):
            return found[0]
        else:
            block = []
    raise AssertionError("the stream has ended")


def test_events_come_live_over_http_and_a_deleted_run_ends_the_stream(service: Service, run_name: str) -> None:
    service.json("PUT", f"/v1/runs/{run_name}", {})
    with stream(service, run_name) as lines:
        mark, name, _ = next_event(lines)
        assert name == "created"
        service.json("POST", f"/v1/runs/{run_name}/report", REPORT)
        assert next_event(lines)[1] == "reported"
        with stream(service, run_name, last_id=mark) as others:
            assert next_event(others)[2]["groups"] == 3
        with stream(service, run_name, "?last=0") as others:
            service.json("POST", f"/v1/runs/{run_name}/rewind", {"step": 1})
            assert next_event(others)[1] == next_event(lines)[1] == "rewound"
        service.call("DELETE", f"/v1/runs/{run_name}")
        assert [line for line in lines if line] == []


def test_a_service_that_stops_ends_its_streams(start_service: Callable[..., Service]) -> None:
    service = start_service()
    service.json("PUT", "/v1/runs/run", {})
    with stream(service, "run") as lines, stream(service, "run", "?last=0") as idle:
        next_event(lines)
        began = time.monotonic()
        service.signal(signal.SIGTERM)
        assert [line for line in lines if line] == []
        assert [line.partition(":")[0] for line in idle if line] == ["retry", "id"]
        assert service.process is not None
        assert service.process.wait(30) == 0
    assert time.monotonic() - began < 9, "it did not wait until it gave up on them"
    assert service.said().count("\n") == 1, service.said()


def test_a_stream_goes_on_at_another_replica(start_service: Callable[..., Service], tmp_path: Any) -> None:
    redis = RedisServer(tmp_path / "redis").start()
    try:
        one, two = start_service("--redis-url", redis.url), start_service("--redis-url", redis.url)
        one.json("PUT", "/v1/runs/run", {})
        with stream(one, "run") as lines:
            next_event(lines)
            two.json("POST", "/v1/runs/run/report", REPORT)
            mark, name, _ = next_event(lines)
            assert name == "reported"
            one.kill()
            with pytest.raises(httpx.TransportError):
                next_event(lines)
        two.json("POST", "/v1/runs/run/report", {**REPORT, "step": 2})
        with stream(two, "run", last_id=mark) as lines:
            assert next_event(lines)[2]["step"] == 2
    finally:
        redis.close()


# Bounds


def test_more_streams_than_the_limit_are_503_and_places_come_free(start_service: Callable[..., Service]) -> None:
    service = start_service("--max-streams", "2", "--max-in-flight", "1")
    service.json("PUT", "/v1/runs/run", {})
    with stream(service, "run") as one, stream(service, "run"):
        next_event(one)
        answer = service.call("GET", "/v1/runs/run/events")
        assert "max_streams (2)" in problem(answer, 503)["detail"]
        assert int(answer.headers["retry-after"]) >= 1
        assert service.json("GET", "/v1/runs/run")["step"] == 0, "streams take no place of other requests"
    eventually(lambda: service.call("GET", "/v1/runs/run/events?follow=false").status_code == 200)
    assert service.call("GET", "/v1/runs/none/events").status_code == 404
    for _ in range(3):
        assert service.call("GET", "/v1/runs/run/events?follow=false").status_code == 200


def test_a_refused_stream_leaves_its_place() -> None:
    async def story(client: httpx.AsyncClient) -> None:
        await client.put("/v1/runs/run", json={})
        for _ in range(3):
            problem(await client.get("/v1/runs/none/events"), 404)
            problem(await client.get("/v1/runs/run/events", params={"after": "7"}), 409)
        assert len(await told(client)) == 1

    within(story, max_streams=1)


def test_a_reader_that_takes_nothing_is_dropped_and_what_waits_for_it_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pace, "READER", 0.2)
    monkeypatch.setattr(pace, "RATE", 2**40)

    async def story() -> None:
        history = MemoryHistory()
        runs = replica(history)
        await runs.create(KEY, {})
        await runs.add_prompts(KEY, [base64.b64encode(b"%040d" % number).decode() for number in range(20_000)])
        app = create_app(load({"max_streams": 1}), history)
        sent: list[int] = []
        stuck = asyncio.Event()

        async def receive() -> dict[str, Any]:
            await stuck.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(len(message.get("body", b"")))
            if sum(sent) > 100_000:
                await stuck.wait()

        scope = {
            "type": "http", "method": "GET", "path": "/v1/runs/run/events", "query_string": b"full=true",
            "headers": [], "asgi": {"spec_version": "2.3"}, "http_version": "1.1", "scheme": "http", "root_path": "",
        }  # fmt: skip
        async with app.router.lifespan_context(app), client_of(app) as client:
            await asyncio.wait_for(app(scope, receive, send), 20)
            assert max(sent) <= 65_536
            assert sum(sent) < 200_000
            assert len(await told(client)) == 2, "its place is free again"

    asyncio.run(story())


def test_a_reader_that_was_dropped_does_not_delay_a_stop(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pace, "READER", 0.2)
    monkeypatch.setattr(pace, "RATE", 2**40)

    async def story() -> None:
        history = MemoryHistory()
        runs = replica(history)
        await runs.create(KEY, {})
        for number in range(10):
            await runs.add_prompts(KEY, [f"{number} {prompt:040}" for prompt in range(20_000)])
        with serving.listen("127.0.0.1", 0) as listener:
            server = serving.Server(create_app(load(), history), "serving", load())
            running = asyncio.create_task(server.serve(sockets=[listener]))
            with socket.socket() as stuck:
                stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                stuck.connect(listener.getsockname())
                stuck.sendall(b"GET /v1/runs/run/events?full=true HTTP/1.1\r\nHost: greso\r\n\r\n")
                while "its reader is too slow" not in caplog.text:  # noqa: ASYNC110  # a line of a log
                    await asyncio.sleep(0.05)
                assert server.server_state.connections, "what was sent before still waits"
                server.should_exit = True
                await asyncio.wait_for(running, serving.GRACE_SECONDS - 1)

    asyncio.run(asyncio.wait_for(story(), 60))


def test_a_connection_whose_other_end_takes_nothing_does_not_live_for_ever() -> None:
    with serving.listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == serving.UNREAD_SECONDS * 1000


def test_a_quiet_stream_has_heartbeats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(route, "HEARTBEAT", 0.0)

    async def quiet() -> AsyncIterator[Page]:
        for _ in range(3):
            yield []

    async def text(stops: bool) -> bytes:
        return b"".join(
            [piece async for piece in route._text(Mark(3, 7), quiet(), follow=True, full=False, stopping=lambda: stops)]
        )

    begin = b"retry: 2000\nid: 3-7\n\n"
    assert asyncio.run(text(False)) == begin + b":\n\n" * 3
    assert asyncio.run(text(True)) == begin + b":\n\n"


def test_a_socket_that_is_closed_frees_its_place(start_service: Callable[..., Service]) -> None:
    service = start_service("--max-streams", "1")
    service.json("PUT", "/v1/runs/run", {})
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", service.port)) as connection:
            connection.sendall(b"GET /v1/runs/run/events HTTP/1.1\r\nHost: greso\r\n\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
        eventually(lambda: service.call("GET", "/v1/runs/run/events?follow=false").status_code == 200)


@given(st.text(max_size=20))
def test_any_last_event_id_is_a_place_or_refused(text: str) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        await client.put("/v1/runs/run", json={})
        answer = await client.get("/v1/runs/run/events", params={"after": text, "follow": False})
        assert answer.status_code in {200, 409, 422}

    over_shared(story)
