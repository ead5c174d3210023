"""What else may stand in Redis under our keys: refused with the key's name, never a wrong state; other runs go on."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from greso_service.core.mark import START
from greso_service.history.connect import connect
from greso_service.history.redis import RedisHistory

from ..asgi import problem, within  # noqa: TID252
from ..stores import RedisStore  # noqa: TID252

RUN = "greso:{default/r}"
LOG, HEAD, SNAP, ONCE, ONCES = (f"{RUN}:{part}" for part in ("log", "head", "snap", "once:first", "onces"))
INDEX = "greso:{default}:runs"
REPORT = {"step": 1, "results": [{"prompt": "a", "rewards": [0, 1]}, {"prompt": "b", "rewards": [1, 1]}]}
KEYED = {"Idempotency-Key": "first"}


def told(store: RedisStore, story: Callable[[httpx.AsyncClient], Any]) -> None:
    """Tell a story to a client of a replica that starts with what is in Redis."""
    within(story, RedisHistory(connect(store.redis_url, 10.0), deadline=20.0), snapshot_every=4)


async def begin(client: httpx.AsyncClient) -> None:
    """Two runs of some steps, with snapshots; of `r` the events behind its snapshot are two."""
    for run in ("other", "r"):
        assert (await client.put(f"/v1/runs/{run}", json={"train_batch_size": 2})).status_code == 201
        pool = {"prompts": [f"p{number}" for number in range(9)]}
        assert (await client.put(f"/v1/runs/{run}/pool", json=pool)).status_code == 200
        for step in range(3):
            assert (await client.post(f"/v1/runs/{run}/draw", json={"step": step, "count": 3})).status_code == 200
            report = {**REPORT, "step": step, "final": True}
            assert (await client.post(f"/v1/runs/{run}/report", json=report)).status_code == 200
    answer = await client.post("/v1/runs/r/report", json={"step": 2, "results": []}, headers=KEYED)
    assert answer.status_code == 200


def begun(store: RedisStore) -> None:
    """What `begin` makes is in Redis; it is made once for each kind of server, as that takes as long as a test."""
    if store.redis_url not in _BEGUN:
        told(store, begin)
        _BEGUN[store.redis_url] = store.dump()
    store.restore(_BEGUN[store.redis_url])


_BEGUN: dict[str, dict[bytes, bytes]] = {}


def kept(store: RedisStore) -> dict[bytes, Any]:
    """What is in Redis, without the snapshot, which is made beside all else, and the time of the last try to write."""
    content: dict[bytes, Any] = {key: value for key, value in store.dump().items() if b":snap" not in key}
    if store.redis.type(HEAD) == b"hash":
        content[HEAD.encode()] = store.redis.hget(HEAD, "mark")
    return content


def payloads(redis: Any) -> list[bytes]:
    return [fields[b"e"] for _, fields in redis.xrange(LOG)]


def rewritten(redis: Any, events: list[bytes]) -> Any:
    """A log of these events, with the marks that they have."""
    redis.delete(LOG)
    mark = START
    for payload in events:
        mark = mark.then(payload)
        redis.xadd(LOG, {"e": payload}, id=str(mark))
    return redis.hset(HEAD, "mark", str(mark))


def replaced(redis: Any, place: int, payload: bytes) -> Any:
    """A log in which an event is another, under the mark that it had."""
    entries = redis.xrange(LOG)
    redis.delete(LOG)
    for number, (mark, fields) in enumerate(entries):
        redis.xadd(LOG, {"e": payload if number == place else fields[b"e"]}, id=mark)
    return redis.xlen(LOG)


def flipped(payload: bytes) -> bytes:
    """The payload with its last bit turned round: still an event, only another."""
    return payload[:-1] + bytes([payload[-1] ^ 1])


def as_string(key: str) -> Callable[[Any], None]:
    def put(redis: Any) -> None:
        redis.delete(key)
        redis.set(key, "nonsense")

    return put


@dataclass(frozen=True)
class Damage:
    """What is done to Redis, and what the message must say."""

    do: Callable[[Any], Any]
    says: tuple[str, ...]


UNREADABLE: dict[str, Damage] = {
    "the log is a string": Damage(as_string(LOG), (LOG, "string", "stream", "backup")),
    "the log is a list": Damage(lambda r: (r.delete(LOG), r.rpush(LOG, "x")), (LOG, "list")),
    "the log is gone": Damage(lambda r: r.delete(LOG), (LOG, "head says")),
    "the log is trimmed to its end": Damage(lambda r: r.xtrim(LOG, 1, approximate=False), (LOG,)),
    "an entry of other fields behind the last": Damage(
        lambda r: r.xadd(LOG, {"foo": "bar"}), (LOG,)
    ),
    "an entry of other fields within": Damage(
        lambda r: (
            r.xadd(LOG, {"foo": "bar"}, id="99-99"),
            r.hset(HEAD, "mark", "99-99"),
        ),
        (LOG, "99-99", "other fields"),
    ),
    "an entry of more fields": Damage(
        lambda r: (r.xadd(LOG, {"e": "x", "f": "y"}, id="99-99"), r.hset(HEAD, "mark", "99-99")), (LOG, "other fields")
    ),
    "an entry that is no event": Damage(lambda r: rewritten(r, [*payloads(r), b"nonsense"]), (LOG, "event 10")),
    "the last event cut short": Damage(
        lambda r: rewritten(r, [*payloads(r)[:-1], payloads(r)[-1][:-3]]), (LOG, "event 9", "too short")
    ),
    "an event of a later version": Damage(
        lambda r: rewritten(r, [*payloads(r), b"\x02" + payloads(r)[-1][1:]]), (LOG, "event 10: event of version 2")
    ),
    "an event of a type to come": Damage(
        lambda r: rewritten(r, [*payloads(r), b"\x01\xfa" + payloads(r)[-1][2:]]), (LOG, "event 10")
    ),
    "an event of prompts that are not there": Damage(
        lambda r: rewritten(r, [*payloads(r)[:4], of_nothing(payloads(r)[7])]), (LOG, "event 5")
    ),
    "a flipped bit": Damage(
        lambda r: replaced(r, 4, flipped(payloads(r)[4])), (LOG, "is not event 5-")
    ),
    "a flipped bit in the last": Damage(lambda r: replaced(r, 8, flipped(payloads(r)[8])), (LOG, "is not event 9-")),
    "an event missing": Damage(
        lambda r: r.xdel(LOG, r.xrange(LOG)[4][0]), (LOG, "is not event 5-")
    ),
    "the first event missing": Damage(
        lambda r: r.xdel(LOG, r.xrange(LOG)[0][0]), (LOG, "begins with another event")
    ),
    "the last event missing": Damage(lambda r: r.xdel(LOG, r.xrange(LOG)[-1][0]), (LOG, "it ends at 8-")),
    "no creation": Damage(lambda r: rewritten(r, payloads(r)[1:]), (LOG, "event 1", "creation")),
    "the head is a string": Damage(as_string(HEAD), (HEAD, "string", "hash")),
    "the head is gone": Damage(lambda r: r.delete(HEAD), (LOG, "head says nothing")),
    "the head has no mark": Damage(lambda r: r.hdel(HEAD, "mark"), (LOG, "head says nothing")),
    "the head has a mark that is none": Damage(lambda r: r.hset(HEAD, "mark", "nonsense"), (LOG, "head says nonsense")),
    "the head has an earlier mark": Damage(
        lambda r: r.hset(HEAD, "mark", r.xrange(LOG)[3][0]), (LOG,)
    ),
}  # fmt: skip


def of_nothing(report: bytes) -> bytes:
    """The report, only that its one group is of prompt 2^20."""
    body = struct.pack("<qB", 2, 0) + struct.pack("<III", 0, 1, 2**20) + bytes([1, 1, 0, 0, 0]) + bytes(8)
    return report[:2] + b"\0\0" + report[4:20] + body


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_run_that_is_no_history_is_refused_and_the_others_go_on(redis_store: RedisStore, name: str) -> None:
    damage = UNREADABLE[name]

    async def refuse(client: httpx.AsyncClient) -> None:
        before = kept(redis_store)
        for answer in (
            await client.get("/v1/runs/r"),
            await client.post("/v1/runs/r/report", json=REPORT),
            await client.post("/v1/runs/r/report", json=REPORT, headers={"Idempotency-Key": "second"}),
            await client.post("/v1/runs/r/select", json={"step": 3, "prompts": ["a"]}),
            await client.put("/v1/runs/r/pool", json={"prompts": ["new"]}),
            await client.post("/v1/runs/r/draw", json={"step": 3}),
            await client.post("/v1/runs/r/rewind", json={"step": 1}),
            await client.post("/v1/runs/r/fork", json={"run": "f"}),
            await client.put("/v1/runs/r", json={"train_batch_size": 2}),
            await client.get("/v1/runs/r/export"),
        ):
            content = problem(answer, 500)
            assert content["type"] == "urn:greso:problem:unreadable-history"
            assert [part for part in damage.says if part not in content["detail"]] == [], content["detail"]
        assert kept(redis_store) == before, "nothing was applied"

    async def go_on(client: httpx.AsyncClient) -> None:
        assert (await client.get("/v1/runs/other")).json()["totals"]["groups"] == 6
        assert (await client.post("/v1/runs/other/report", json=REPORT)).status_code == 200
        listed = (await client.get("/v1/runs")).json()["runs"]
        assert "other" in [row["run"] for row in listed]
        overview = (await client.get("/v1/overview")).json()
        assert [row["run"] for row in overview["runs"]] == ["other"]
        assert overview["unreadable"] == ["r"] * ("r" in [row["run"] for row in listed])

    async def mend(client: httpx.AsyncClient) -> None:
        removed = await client.delete("/v1/runs/r")
        assert removed.status_code in (204, 404), removed.text
        assert (await client.put("/v1/runs/r", json={})).status_code == 201
        assert (await client.post("/v1/runs/r/report", json=REPORT)).status_code == 200

    begun(redis_store)
    redis_store.redis.delete(SNAP)  # what it covers would not be looked at
    damage.do(redis_store.redis)

    async def story(client: httpx.AsyncClient) -> None:
        await refuse(client)
        await go_on(client)
        await mend(client)

    told(redis_store, story)


@pytest.mark.slow
@pytest.mark.parametrize("name", UNREADABLE)
def test_a_replica_at_work_writes_nothing_onto_it(redis_store: RedisStore, name: str) -> None:
    damage = UNREADABLE[name]

    async def story(client: httpx.AsyncClient) -> None:
        await begin(client)
        groups = (await client.get("/v1/runs/r")).json()["totals"]["groups"]
        redis_store.redis.delete(SNAP)
        damage.do(redis_store.redis)
        before = kept(redis_store)
        answer = await client.post("/v1/runs/r/report", json=REPORT)
        if answer.status_code == 200:  # the state in memory is the true one; what it can't see is damaged
            assert (await client.get("/v1/runs/r")).json()["totals"]["groups"] == groups + 2
            return
        assert problem(answer, 500)["type"] == "urn:greso:problem:unreadable-history"
        assert kept(redis_store) == before
        assert (await client.post("/v1/runs/other/report", json=REPORT)).status_code == 200

    told(redis_store, story)


USELESS: dict[str, Callable[[Any], Any]] = {
    "missing": lambda r: r.delete(SNAP),
    "a string": as_string(SNAP),
    "empty": lambda r: (r.delete(SNAP), r.hset(SNAP, "mark", "4-1")),
    "without a mark": lambda r: r.hdel(SNAP, "mark"),
    "of a mark that is none": lambda r: r.hset(SNAP, "mark", "nonsense"),
    "of a huge mark": lambda r: r.hset(SNAP, "mark", "9" * 5000 + "-1"),
    "of a later version": lambda r: snapshot(r, lambda content: b"\x63" + content[1:]),
    "of an earlier version": lambda r: snapshot(r, lambda content: b"\x01" + content[1:]),
    "cut short": lambda r: snapshot(r, lambda content: content[:-9]),
    "nonsense": lambda r: snapshot(r, lambda _: b"\x04nonsense"),
    "newer than the log": lambda r: renamed(r, b"99-1234"),
    "of another history": lambda r: renamed(r, b"4-77"),
    "that of another run": lambda r: (r.delete(SNAP), r.copy("greso:{default/other}:snap", SNAP)),
}


def snapshot(redis: Any, change: Callable[[bytes], bytes]) -> None:
    field = redis.hget(SNAP, "mark") + b":0"
    redis.hset(SNAP, field, change(redis.hget(SNAP, field)))


def renamed(redis: Any, mark: bytes) -> None:
    content = redis.hget(SNAP, redis.hget(SNAP, "mark") + b":0")
    redis.delete(SNAP)
    redis.hset(SNAP, mapping={b"mark": mark, mark + b":0": content})


@pytest.mark.parametrize("name", USELESS)
def test_a_snapshot_that_is_none_is_folded_around(redis_store: RedisStore, name: str) -> None:
    states: list[Any] = []

    async def look(client: httpx.AsyncClient) -> None:
        states.append(
            [(await client.get(path)).json() for path in ("/v1/runs/r", "/v1/runs/r/steps", "/v1/runs/r/prompts")]
        )

    async def write(client: httpx.AsyncClient) -> None:
        for step in range(3, 7):
            assert (await client.post("/v1/runs/r/report", json={**REPORT, "step": step})).status_code == 200

    begun(redis_store)
    told(redis_store, look)
    USELESS[name](redis_store.redis)
    told(redis_store, look)
    assert states[0] == states[1]
    told(redis_store, write)
    assert redis_store.redis.hget(SNAP, "mark").startswith(b"1"), "a new one stands in its place"
    told(redis_store, look)


@pytest.mark.parametrize(
    ("value", "says"),
    [(b"", "no record"), (b"x" * 32, "no record"), (b"x" * 32 + b"2{}", "no record"), (b"x" * 32 + b"1{}", "damaged")],
)
def test_an_idempotency_record_that_is_none(redis_store: RedisStore, value: bytes, says: str) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        redis_store.redis.set(ONCE, value)
        before = kept(redis_store)
        content = problem(await client.post("/v1/runs/r/report", json=REPORT, headers=KEYED), 500)
        assert ONCE in content["detail"]
        assert says in content["detail"]
        assert kept(redis_store) == before
        assert (await client.post("/v1/runs/r/report", json=REPORT)).status_code == 200

    begun(redis_store)
    told(redis_store, story)


@pytest.mark.parametrize(("key", "kind"), [(ONCE, "list"), (ONCES, "list")])
def test_keys_of_idempotency_of_another_type(redis_store: RedisStore, key: str, kind: str) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        redis_store.redis.delete(key)
        redis_store.redis.rpush(key, "nonsense")
        given = {"Idempotency-Key": "first" if key == ONCE else "second"}
        before = redis_store.dump()
        content = problem(await client.post("/v1/runs/r/report", json=REPORT, headers=given), 500)
        assert key in content["detail"]
        assert f"is a {kind}" in content["detail"]
        assert redis_store.dump() == before, "nothing was applied"
        assert (await client.post("/v1/runs/r/report", json=REPORT)).status_code == 200, "without a key it goes on"

    begun(redis_store)
    told(redis_store, story)


def test_an_index_of_another_type(redis_store: RedisStore) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        as_string(INDEX)(redis_store.redis)
        before = redis_store.dump()
        for answer in (
            await client.get("/v1/runs"),
            await client.get("/v1/overview"),
            await client.put("/v1/runs/new", json={}),
            await client.delete("/v1/runs/r"),
        ):
            assert INDEX in problem(answer, 500)["detail"]
        assert redis_store.dump() == before, "nothing was applied"
        assert (await client.post("/v1/runs/r/report", json=REPORT)).status_code == 200, "runs that are there go on"

    begun(redis_store)
    told(redis_store, story)


def test_an_index_with_members_that_are_no_runs(redis_store: RedisStore) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        redis_store.redis.sadd(INDEX, b"\xff\xfe", "a/b", "", "x" * 200, "gone")
        redis_store.redis.hset(HEAD, "active", "nonsense")
        redis_store.redis.hset("greso:{default/other}:head", "active", "9" * 30)
        listed = (await client.get("/v1/runs")).json()["runs"]
        assert sorted(row["run"] for row in listed) == ["other", "r"]
        overview = (await client.get("/v1/overview")).json()
        assert (sorted(row["run"] for row in overview["runs"]), overview["unreadable"]) == (["other", "r"], [])

    begun(redis_store)
    told(redis_store, story)
