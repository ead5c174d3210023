"""docs/redis-layout.md describes every key, event type and byte that the service writes."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any, get_args

from greso_service.core.events import Event, Reported
from greso_service.given import Given, Idempotency
from greso_service.history import codec, snapshot
from greso_service.history.base import RunKey
from greso_service.history.redis_parts import _PART_BYTES, DRAFT_GRACE
from greso_service.runs import Runs

from ..stores import RedisStore  # noqa: TID252

PAGE = (Path(__file__).parents[2] / "docs" / "redis-layout.md").read_text()
KEY = RunKey("default", "run")


def rows(heading: str) -> list[list[str]]:
    """The rows of the tables of a section, without their heads."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


KEYS = {row[0].strip("`"): row for row in rows("Keys")[1:]}


def pattern(template: str) -> str:
    """A regular expression for the keys that a template stands for."""
    escaped = re.escape(template)
    for name, shape in (("tenant", "default"), ("run", "(?:run|fork)"), ("key", "[!-~]+"), ("random", "[0-9a-f]{16}")):
        escaped = escaped.replace(f"<{name}>", shape)
    return escaped


async def use_everything(store: RedisStore) -> dict[str, Any]:
    """Makes the service write every kind of key; those it was writing meanwhile come too."""
    seen: dict[str, str] = {}
    async with store.opened() as history:
        runs = Runs(history, idempotency_ttl=86_400, snapshot_every=2)
        await runs.create(KEY, {})
        given = Given(Idempotency("retry-1", bytes(32)))
        await runs.add_prompts(KEY, ["a", "b"], given=given)
        await runs.draw(KEY, 0, 1)
        await runs.select(KEY, 0, ["c"])
        await runs.change(KEY, {"train_batch_size": 5})
        await runs.report(KEY, 0, ["a"], [[0, 1]], final=False)
        await runs.close()
        client: Any = history._redis  # type: ignore[attr-defined]
        send = client.execute_command

        async def watched(*args: Any, **options: Any) -> Any:
            answer = await send(*args, **options)
            found = store.keys()
            seen.update({key.decode(): store.redis.type(key).decode() for key in found})
            return answer

        client.execute_command = watched
        await runs.report(KEY, 0, ["a"], [[0, 1]], final=False)
        await runs.report(KEY, 0, ["a"], [[0, 1]], final=False)
        await runs.fork(KEY, "fork", None)
        await runs.close()
        trimming = Runs(history, idempotency_ttl=86_400, snapshot_every=1, keep_steps=1)
        for step in range(1, 4):
            await trimming.report(KEY, step, ["a"], [[0, 1]], final=True)
            await trimming.close()
        await trimming.rewind(KEY, 3)
        await trimming.close()
    return seen


def test_every_key_is_described_with_its_type(redis_store: RedisStore) -> None:
    seen = asyncio.run(use_everything(redis_store))
    kinds = {"sorted set": "zset"}
    for key, kind in seen.items():
        [row] = [row for template, row in KEYS.items() if re.fullmatch(pattern(template), key)]
        assert kinds.get(row[1], row[1]) == kind, key
    unused = [template for template in KEYS if not any(re.fullmatch(pattern(template), key) for key in seen)]
    assert unused == []


def test_fields_of_hashes_are_described(redis_store: RedisStore) -> None:
    asyncio.run(use_everything(redis_store))
    redis = redis_store.redis
    assert set(redis.hgetall("greso:{default/run}:head")) == {b"mark", b"active", b"rewound"}
    for key in ("snap", "base"):
        fields = redis.hgetall(f"greso:{{default/run}}:{key}")
        assert set(fields) == {b"mark", fields[b"mark"] + b":0"}
    [(first, _)] = redis.xrange("greso:{default/run}:log", count=1)
    assert first == redis.hget("greso:{default/run}:base", "mark")
    [(mark, entry)] = redis.xrevrange("greso:{default/run}:log", count=1)
    assert set(entry) == {b"e"}
    assert redis.hget("greso:{default/run}:head", "mark") == mark
    record = redis.get("greso:{default/run}:once:retry-1")
    assert isinstance(record, bytes)
    assert record == bytes(32) + b'0{"added":2,"pool":2}'
    assert 86_000 < redis.ttl("greso:{default/run}:once:retry-1") <= 86_400
    assert redis.zrange("greso:{default/run}:onces", 0, -1) == [b"retry-1"]


def test_every_event_type_is_described_with_its_number() -> None:
    described = {
        row[1].strip("`"): int(row[0]) for row in rows("Events") if row[0].isdecimal() and row[1].startswith("`")
    }
    numbers = {kind.__name__: number for kind, (number, _, _) in codec._BY_TYPE.items()}
    assert described == numbers
    assert set(described) == {kind.__name__ for kind in get_args(Event)}


def test_versions_and_sizes_are_as_described() -> None:
    assert f"version of the encoding: {codec.VERSION}" in PAGE
    assert f"envelope of {codec._HEAD.size} bytes" in PAGE
    assert f"Byte 0 is the version, {snapshot.VERSION}" in PAGE
    assert f"of {_PART_BYTES // 2**20} MiB each" in PAGE
    assert f"{DRAFT_GRACE} s at most" in PAGE


def test_the_worked_example_is_what_the_service_writes() -> None:
    block = PAGE.partition("0 0 0 0:\n\n```text\n")[2].partition("```")[0]
    payload = bytes.fromhex("".join(re.match(r"(?:[0-9a-f]{2} {1,2})+", line)[0] for line in block.splitlines()))  # type: ignore[index]
    recorded = codec.decode(payload)
    assert codec.encode(recorded) == payload
    event = recorded.event
    assert isinstance(event, Reported)
    assert (recorded.at_ms, event.step, event.final, event.new) == (1764000000123, 12, True, [b"a", b"b"])
    assert event.index.tolist() == [0, 1, 0]
    assert event.rewards.values.tolist() == [1, 0, 0, 1, 0, 0, 0, 0, 1, 1, 1, 1]
