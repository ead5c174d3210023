"""Imports over HTTP and into a real Redis: all of an export or nothing of it, whatever breaks on the way."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import httpx
import pytest

from greso_service import importing
from greso_service.api.app import create_app
from greso_service.core.events import Selected
from greso_service.core.limits import LARGEST_STEP
from greso_service.core.mark import Mark
from greso_service.errors import InvalidInput, Unavailable
from greso_service.history import codec, exported
from greso_service.history.base import Base, Draft, RunKey
from greso_service.history.memory import MemoryHistory
from greso_service.history.redis_parts import DRAFT_GRACE
from greso_service.runs import Runs
from greso_service.settings import load

from ..asgi import client_of, over_shared, pointers, problem, within  # noqa: TID252
from ..servers import RedisServer, Service, eventually  # noqa: TID252
from ..stores import PassingHistory, RedisStore, Store, state_of  # noqa: TID252
from .test_runs_replicas import KEY, replica, report

NDJSON = {"Content-Type": "application/x-ndjson"}
DRAFT = b":log:"
LONG = 150  # steps, two events each: nine tenths of them are more than a page


async def in_pieces(text: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    for start in range(0, len(text), size):
        yield text[start : start + size]


async def exported_of(runs: Runs, key: RunKey = KEY) -> bytes:
    return b"".join([piece async for piece in await runs.export(key)])


async def trained(runs: Runs, steps: int) -> None:
    await runs.create(KEY, {"train_batch_size": 2, "seed": 5})
    await runs.add_prompts(KEY, [f"p{number}" for number in range(40)])
    for step in range(1, steps + 1):
        await runs.draw(KEY, step, 4)
        await report(runs, step, ("easy", [1, 1]), ("hard", [0, 0]), (f"p{step % 40}", [0, step % 2]), final=True)


@functools.cache
def export_of(steps: int = 3, back_to: int | None = None) -> bytes:
    async def told() -> bytes:
        runs = replica(MemoryHistory())
        await trained(runs, steps)
        if back_to is not None:
            await runs.rewind(KEY, back_to)
            await report(runs, back_to + 1, ("again", [0, 1]), final=True)
        return await exported_of(runs)

    return asyncio.run(told())


def changed(text: bytes, change: Callable[[list[bytes]], Sequence[bytes]]) -> bytes:
    return b"".join(change(text.splitlines(keepends=True)))


# In a store


def test_a_long_run_comes_back_byte_for_byte_in_every_store(store: Store) -> None:
    text = export_of(LONG, back_to=100)

    async def told() -> None:
        async with store.opened() as history:
            runs = replica(history)
            answer, made = await runs.import_history(KEY, in_pieces(text, 7000))
            assert made
            assert json.loads(answer.body)["generation"] == 1
            assert await exported_of(runs) == text
            original = replica(MemoryHistory())
            await original.import_history(KEY, in_pieces(text))
            assert await state_of(runs, KEY) == await state_of(original, KEY)
            assert (await runs.draw(KEY, LONG + 1, 9)).body == (await original.draw(KEY, LONG + 1, 9)).body
            await runs.close()

    asyncio.run(told())


def test_what_is_refused_leaves_no_key_in_redis(redis_store: RedisStore) -> None:
    text = export_of(LONG)
    spoilt = [
        changed(text, lambda lines: lines[:-1]),
        changed(text, lambda lines: [*lines[:280], lines[2], *lines[281:]]),
    ]

    async def told() -> None:
        async with redis_store.opened() as history:
            runs = replica(history)
            for each in spoilt:
                with pytest.raises(InvalidInput):
                    await runs.import_history(KEY, in_pieces(each, 20_000))
                assert redis_store.keys() == set()

    asyncio.run(told())


def test_one_of_many_imports_of_different_histories_wins_whole(redis_store: RedisStore) -> None:
    texts = [export_of(steps) for steps in range(1, 6)]

    async def told() -> None:
        async with redis_store.opened() as history:
            runs = [replica(history) for _ in texts]
            done = await asyncio.gather(
                *(one.import_history(KEY, in_pieces(text, 200)) for one, text in zip(runs, texts, strict=True)),
                return_exceptions=True,
            )
            [winner] = [number for number, result in enumerate(done) if isinstance(result, tuple)]
            assert await exported_of(runs[0]) == texts[winner]
            assert not [key for key in sorted(redis_store.keys()) if DRAFT in key]

    asyncio.run(told())


class Breaking(PassingHistory):
    """Loses its store after some writes to a draft, for a moment or for good."""

    def __init__(self, inner: Any, writes: int, *, finishes: bool = False) -> None:
        super().__init__(inner)
        self.writes, self.finishes = writes, finishes

    def draft(self, key: RunKey, base: Base | None = None) -> Draft:
        return _BreakingDraft(self.inner.draft(key, base), self)


class _BreakingDraft:
    def __init__(self, inner: Draft, history: Breaking) -> None:
        self.inner, self.history = inner, history

    async def extend(self, payloads: Sequence[bytes]) -> None:
        if not self.history.finishes:
            self.history.writes -= 1
            if self.history.writes < 0:
                raise Unavailable("away")
        await self.inner.extend(payloads)

    async def read(self, after: Mark, limit: int) -> list[bytes] | None:
        return await self.inner.read(after, limit)

    async def finish(self, **given: Any) -> Any:
        done = await self.inner.finish(**given)
        if self.history.finishes:
            raise Unavailable("the reply is lost")
        return done

    async def abandon(self) -> None:
        raise Unavailable("away")


def test_a_store_that_goes_away_leaves_a_draft_that_disappears(redis_store: RedisStore) -> None:
    text = export_of(LONG)

    async def told() -> None:
        async with redis_store.opened() as history:
            with pytest.raises(Unavailable):
                await replica(Breaking(history, 1)).import_history(KEY, in_pieces(text, 20_000))
            [draft] = redis_store.keys()
            assert DRAFT in draft
            assert 0 < redis_store.redis.ttl(draft) <= DRAFT_GRACE
            runs = replica(history)
            assert await runs.listed("default") == []
            await runs.import_history(KEY, in_pieces(text))
            assert await exported_of(runs) == text

    asyncio.run(told())


def test_an_import_whose_reply_was_lost_is_found_there(redis_store: RedisStore) -> None:
    text = export_of(4)

    async def told() -> None:
        async with redis_store.opened() as history:
            with pytest.raises(Unavailable):
                await replica(Breaking(history, 0, finishes=True)).import_history(KEY, in_pieces(text))
            answer, made = await replica(history).import_history(KEY, in_pieces(text))
            assert not made
            assert json.loads(answer.body)["step"] == 4

    asyncio.run(told())


def test_a_draft_is_kept_alive_while_a_rewind_in_it_is_folded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "_LATE", -1.0)
    monkeypatch.setattr("greso_service.replay.PAGE", 64)
    told_of: list[str] = []

    class Watching(PassingHistory):
        def draft(self, key: RunKey, base: Base | None = None) -> Draft:
            return _Watched(self.inner.draft(key, base))

    class _Watched:
        def __init__(self, inner: Draft) -> None:
            self.extend_inner, self.read_inner = inner.extend, inner.read
            self.finish, self.abandon = inner.finish, inner.abandon

        async def extend(self, payloads: Sequence[bytes]) -> None:
            told_of.append("written" if payloads else "kept")
            await self.extend_inner(payloads)

        async def read(self, after: Mark, limit: int) -> list[bytes] | None:
            told_of.append("read")
            return await self.read_inner(after, limit)

    text = export_of(LONG, back_to=LONG - 1)

    async def told() -> None:
        runs = replica(Watching(MemoryHistory()))
        await runs.import_history(KEY, in_pieces(text, 100_000))
        assert await exported_of(runs) == text
        reads = [place for place, what in enumerate(told_of) if what == "read"]
        assert len(reads) >= 3, "more than a page"
        assert all(told_of[place - 1] == "kept" for place in reads)

    asyncio.run(told())


def test_rewinds_that_ask_for_too_much_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    text = export_of(3, back_to=2)

    async def story(client: httpx.AsyncClient) -> None:
        monkeypatch.setattr(importing, "_MOST_REFOLDED", 5)
        content = problem(await client.put("/v1/runs/run/import", content=text, headers=NDJSON), 422)
        assert (
            "the rewinds up to it keep more than 5 events, all added up; export a fork of the run" in content["detail"]
        )
        monkeypatch.setattr(importing, "_MOST_REFOLDED", 6)
        assert (await client.put("/v1/runs/run/import", content=text, headers=NDJSON)).status_code == 201

    over_shared(story)


def test_selections_beyond_what_can_be_counted_are_refused() -> None:
    payloads = list(exported.read(export_of(3).splitlines(keepends=True)))
    many = Selected(9, LARGEST_STEP - 100, 0, 0, 0)
    text = rewritten([*payloads, *(codec.encode(codec.Recorded(many, 1, nonce)) for nonce in (1, 2))])

    async def story(client: httpx.AsyncClient) -> None:
        content = problem(await client.put("/v1/runs/run/import", content=text, headers=NDJSON), 422)
        assert "line 11 has an event that can't be: more are examined than can be counted" in content["detail"]

    over_shared(story)


def test_a_draft_of_a_slow_sender_is_kept_alive(redis_store: RedisStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "_LATE", 0.0)
    text = export_of(2)
    seen: list[int] = []

    async def slowly() -> AsyncIterator[bytes]:
        for place in range(len(text)):
            yield text[place : place + 1]
            if place == len(text) - 10:
                [draft] = redis_store.keys()
                redis_store.redis.expire(draft, 3)
                seen.append(3)
            elif place > len(text) - 8:
                [draft] = redis_store.keys()
                seen.append(redis_store.redis.ttl(draft))

    async def told() -> None:
        async with redis_store.opened() as history:
            runs = replica(history)
            await runs.import_history(KEY, slowly())
            assert min(seen[1:]) > 100
            assert await exported_of(runs) == text

    asyncio.run(told())


# Over HTTP


def test_the_route_answers_with_the_run_and_may_be_repeated() -> None:
    text = export_of(3, back_to=2)

    async def story(client: httpx.AsyncClient) -> None:
        answer = await client.put("/v1/runs/run/import", content=text, headers=NDJSON)
        assert answer.status_code == 201, answer.text
        assert answer.json() == (await client.get("/v1/runs/run")).json()
        assert answer.json()["generation"] == 1
        assert (await client.get("/v1/runs/run/export")).content == text
        again = await client.put("/v1/runs/run/import", content=text, headers=NDJSON)
        assert (again.status_code, again.json()) == (200, answer.json())
        await client.post("/v1/runs/run/report", json={"step": 9, "results": []})
        content = problem(await client.put("/v1/runs/run/import", content=text, headers=NDJSON), 409)
        assert "run run exists with another history" in content["detail"]
        other = await client.put("/v1/runs/other/import", content=text)  # without a type it is taken for what it is
        assert (other.status_code, other.json()["run"]) == (201, "other")

    over_shared(story)


def test_a_key_is_answered_again_and_bound_to_the_bytes() -> None:
    text, another = export_of(3), export_of(2)
    keyed = {**NDJSON, "Idempotency-Key": "k"}

    async def story(client: httpx.AsyncClient) -> None:
        first = await client.put("/v1/runs/run/import", content=text, headers=keyed)
        assert (first.status_code, "idempotent-replayed" in first.headers) == (201, False)
        await client.post("/v1/runs/run/report", json={"step": 9, "results": [{"prompt": "a", "rewards": [0, 1]}]})
        again = await client.put("/v1/runs/run/import", content=in_pieces(text), headers=keyed)
        assert (again.status_code, again.content) == (201, first.content)
        assert again.headers["idempotent-replayed"] == "true"
        content = problem(await client.put("/v1/runs/run/import", content=another, headers=keyed), 422)
        assert content["type"] == "urn:greso:problem:idempotency-key-reused"

    over_shared(story)


def test_an_import_that_found_its_run_there_is_answered_again_too() -> None:
    text, another = export_of(3), export_of(2)
    keyed = {**NDJSON, "Idempotency-Key": "k"}

    async def story(client: httpx.AsyncClient) -> None:
        await client.put("/v1/runs/run/import", content=text, headers=NDJSON)
        first = await client.put("/v1/runs/run/import", content=text, headers=keyed)
        assert (first.status_code, "idempotent-replayed" in first.headers) == (200, False)
        await client.post("/v1/runs/run/report", json={"step": 9, "results": [{"prompt": "a", "rewards": [0, 1]}]})
        again = await client.put("/v1/runs/run/import", content=text, headers=keyed)
        assert (again.status_code, again.content) == (200, first.content)
        assert again.headers["idempotent-replayed"] == "true"
        content = problem(await client.put("/v1/runs/run/import", content=another, headers=keyed), 422)
        assert content["type"] == "urn:greso:problem:idempotency-key-reused"
        body = {"step": 9, "results": []}
        reused = await client.post("/v1/runs/run/report", json=body, headers={"Idempotency-Key": "k"})
        assert problem(reused, 422)["type"] == content["type"]

    over_shared(story)


def test_a_generation_must_be_that_of_the_export() -> None:
    text = export_of(3, back_to=2)

    async def story(client: httpx.AsyncClient) -> None:
        for wrong, kind in (("0", "stale-generation"), ("2", "conflict")):
            headers = {**NDJSON, "Greso-Generation": wrong}
            content = problem(await client.put("/v1/runs/run/import", content=text, headers=headers), 409)
            assert content["type"].endswith(kind)
            problem(await client.get("/v1/runs/run"), 404)
        headers = {**NDJSON, "Greso-Generation": "1"}
        assert (await client.put("/v1/runs/run/import", content=text, headers=headers)).status_code == 201

    over_shared(story)


def _mark_of(number: int) -> Callable[[list[bytes]], list[bytes]]:
    return lambda lines: [*lines[:number], lines[number].replace(b'"mark":"', b'"mark":"9'), *lines[number + 1 :]]


@pytest.mark.parametrize(
    ("change", "pointer", "detail"),
    [
        (lambda lines: lines[:-1], "/9", "cut off behind line 9"),
        (lambda lines: [], "/0", "cut off behind line 0"),
        (lambda lines: [*lines, b"\n"], "/10", "line 11 stands behind the end"),
        (lambda lines: lines[1:], "/0", "line 1 is not the manifest"),
        (lambda lines: [lines[0].replace(b"greso", b"other"), *lines[1:]], "/0", "line 1 is not the manifest"),
        (lambda lines: [lines[0].replace(b'"run":"run"', b'"run":"ran"'), *lines[1:]], "/9", "another checksum"),
        (lambda lines: [*lines[:4], *lines[5:]], "/4", "line 5 has the mark"),
        (lambda lines: [*lines[:4], b"no JSON\n", *lines[5:]], "/4", "line 5 is not JSON"),
        (_mark_of(3), "/3", "line 4 has the mark"),
        (lambda lines: [lines[0].replace(b'"events":8', b'"events":7'), *lines[1:]], "/9", "says 8 events"),
        (lambda lines: [lines[0].replace(b'"mark":"8', b'"mark":"7'), *lines[1:]], "/9", "ends at the mark 8-"),
    ],
)  # fmt: skip
def test_what_is_off_is_422_with_its_line(
    change: Callable[[list[bytes]], list[bytes]], pointer: str, detail: str
) -> None:
    text = changed(export_of(3), change)

    async def story(client: httpx.AsyncClient) -> None:
        for run in ("run", "there"):
            await client.put("/v1/runs/there", json={})
            content = problem(await client.put(f"/v1/runs/{run}/import", content=text, headers=NDJSON), 422)
            assert pointers(content) == [pointer]
            assert detail in content["detail"]
        problem(await client.get("/v1/runs/run"), 404)

    over_shared(story)


def rewritten(payloads: list[bytes]) -> bytes:
    """An export with these payloads that is right in itself."""
    mark = Mark()
    for payload in payloads:
        mark = mark.then(payload)
    writer = exported.Writer("run", mark)
    return writer.begin() + writer.lines(payloads) + writer.end()


@pytest.mark.parametrize(
    ("change", "pointer", "detail"),
    [
        (lambda events: [], "/1", "line 2 is the end, and no event was before it"),
        (lambda events: events[1:], "/1", "line 2 has an event that can't be: a history begins with created"),
        (lambda events: [*events, events[0]], "/9", "line 10 has an event that can't be: a history has one created"),
        (lambda events: [*events[:3], b"\x09" + events[3][1:]], "/4", "event of version 9"),
        (lambda events: [*events[:3], events[3][:30]], "/4", "damaged event"),
        (lambda events: [events[0], *events[2:]], "/2", "line 3 has an event that can't be: a draw ends outside"),
        (lambda events: [*events[:2], events[1]], "/3", "a new prompt is known"),
        (lambda events: [*events[:2], b"\x01\x02" + bytes(18) + b"[" * 100_000], "/3", "line 4 has an event that"),
        (
            lambda events: [*events[:2], b"\x01\x02" + bytes(18) + b'{"solved_reward": 1' + b"0" * 400 + b"}"], "/3",
            "line 4 has an event that",
        ),
    ],
)  # fmt: skip
def test_an_event_that_can_not_be_is_422_with_its_line(
    change: Callable[[list[bytes]], list[bytes]], pointer: str, detail: str
) -> None:
    payloads = list(exported.read(export_of(3).splitlines(keepends=True)))
    text = rewritten(change(payloads))

    async def story(client: httpx.AsyncClient) -> None:
        content = problem(await client.put("/v1/runs/run/import", content=text, headers=NDJSON), 422)
        assert detail in content["detail"]
        assert pointers(content) == [pointer]
        problem(await client.get("/v1/runs/run"), 404)

    over_shared(story)


def test_it_has_a_limit_of_its_own() -> None:
    text = export_of(40)
    assert len(text) > 4096

    async def taken(client: httpx.AsyncClient) -> None:
        for content in (text, in_pieces(text)):
            assert (await client.put("/v1/runs/run/import", content=content, headers=NDJSON)).is_success
        problem(await client.put("/v1/runs/run/pool", content=text, headers=NDJSON), 413)

    async def refused(client: httpx.AsyncClient) -> None:
        for content in (text, in_pieces(text)):
            answer = await client.put("/v1/runs/run/import", content=content, headers=NDJSON)
            assert "max_import_bytes (4096)" in problem(answer, 413)["detail"]
        problem(await client.get("/v1/runs/run"), 404)

    within(taken, max_body_bytes=1024)
    within(refused, max_import_bytes=4096)


def test_another_type_or_method_is_refused() -> None:
    async def story(client: httpx.AsyncClient) -> None:
        problem(await client.put("/v1/runs/run/import", json={}), 415)
        packed = {**NDJSON, "Content-Encoding": "gzip"}
        told = problem(await client.put("/v1/runs/run/import", content=b"\x1f\x8b", headers=packed), 415)["detail"]
        assert told.endswith("Content-Encoding: gzip; `greso import` reads compressed files")
        problem(await client.post("/v1/runs/run/import", json={}), 405)
        keyed = {**NDJSON, "Idempotency-Key": "a b"}
        content = problem(await client.put("/v1/runs/run/import", content=b"", headers=keyed), 422)
        assert pointers(content) == ["/header/idempotency-key"]

    over_shared(story)


def test_a_line_without_end_is_refused_before_it_fills_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exported, "LONGEST_LINE", 3000)

    async def story(client: httpx.AsyncClient) -> None:
        first = export_of_lines[0] + b"x" * 9000
        content = problem(await client.put("/v1/runs/run/import", content=in_pieces(first), headers=NDJSON), 422)
        assert "line 2 is longer than 3000 bytes" in content["detail"]

    export_of_lines = export_of(1).splitlines(keepends=True)
    over_shared(story)


# What dies on the way


def sent(port: int, text: bytes, count: int) -> socket.socket:
    """A connection over which the first `count` bytes of an import have gone."""
    connection = socket.create_connection(("127.0.0.1", port))
    head = ["PUT /v1/runs/run/import HTTP/1.1", "Host: greso", "Content-Type: application/x-ndjson"]
    connection.sendall("\r\n".join([*head, f"Content-Length: {len(text)}", "", ""]).encode() + text[:count])
    return connection


def test_a_sender_that_hangs_up_leaves_nothing(start_service: Callable[..., Service], tmp_path: Any) -> None:
    text = export_of(LONG)
    redis = RedisServer(tmp_path / "redis").start()
    try:
        service = start_service("--redis-url", redis.url)
        with redis.client() as client:
            with sent(service.port, text, 9 * len(text) // 10):
                eventually(lambda: bool(client.keys("*:log:*")))
            eventually(lambda: not client.keys("*"))
        assert service.call("GET", "/v1/runs/run").status_code == 404
    finally:
        redis.close()


def test_a_service_killed_on_the_way_leaves_no_run(start_service: Callable[..., Service], tmp_path: Any) -> None:
    text = export_of(LONG)
    redis = RedisServer(tmp_path / "redis").start()
    try:
        service = start_service("--redis-url", redis.url)
        with redis.client() as client:
            with sent(service.port, text, 9 * len(text) // 10):
                eventually(lambda: bool(client.keys("*:log:*")))
                service.kill()
            [draft] = client.keys("*")
            assert 0 < client.ttl(draft) <= DRAFT_GRACE
        service.start()
        assert service.json("GET", "/v1/runs")["runs"] == []
        assert service.call("GET", "/v1/runs/run").status_code == 404
        answer = service.http.put("/v1/runs/run/import", content=text, headers=NDJSON)
        assert answer.status_code == 201
        assert service.call("GET", "/v1/runs/run/export").content == text
    finally:
        redis.close()


def over_redis(store: RedisStore, story: Callable[[httpx.AsyncClient], Awaitable[None]]) -> None:
    async def told() -> None:
        app = create_app(load({"redis_url": store.redis_url}))
        async with app.router.lifespan_context(app), client_of(app) as client:
            await story(client)

    asyncio.run(told())


def test_a_redis_that_freezes_on_the_way_is_503_and_the_import_may_be_repeated(redis_store: RedisStore) -> None:
    text = export_of(LONG)
    keyed = {**NDJSON, "Idempotency-Key": "k"}

    async def freezing() -> AsyncIterator[bytes]:
        yield text[: 9 * len(text) // 10]
        os.kill(redis_store.pid, signal.SIGSTOP)
        yield text[9 * len(text) // 10 :]

    async def story(client: httpx.AsyncClient) -> None:
        try:
            answer = await client.put("/v1/runs/run/import", content=freezing(), headers=keyed)
        finally:
            os.kill(redis_store.pid, signal.SIGCONT)
        problem(answer, 503)
        assert int(answer.headers["retry-after"]) >= 1

        async def answers() -> bool:
            return (await client.get("/v1/runs")).status_code == 200

        while not await answers():  # noqa: ASYNC110  # another process
            await asyncio.sleep(0.1)
        problem(await client.get("/v1/runs/run"), 404)
        assert (await client.get("/v1/runs")).json()["runs"] == []
        again = await client.put("/v1/runs/run/import", content=text, headers=keyed)
        assert again.status_code == 201, again.text
        assert (await client.get("/v1/runs/run/export")).content == text

    over_redis(redis_store, story)


def test_two_replicas_see_an_import_at_once(redis_store: RedisStore) -> None:
    text = export_of(30, back_to=20)

    async def story(client: httpx.AsyncClient) -> None:
        async with redis_store.opened() as history:
            other = replica(history)
            assert (await client.put("/v1/runs/run/import", content=text, headers=NDJSON)).status_code == 201
            assert await exported_of(other) == text
            await other.delete(KEY)
            assert (await client.put("/v1/runs/run/import", content=text, headers=NDJSON)).status_code == 201
            assert json.loads((await other.show(KEY)).body) == (await client.get("/v1/runs/run")).json()

    over_redis(redis_store, story)
