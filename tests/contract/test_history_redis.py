"""What the History promises beyond its contract when a real server is frozen, full, restarted or half told."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from greso_service.api.shared import page_of
from greso_service.core.mark import START, Mark
from greso_service.errors import Unavailable
from greso_service.history import redis as redis_module
from greso_service.history.base import Appended, History, Listed, Moved, Once, RunKey, Seen
from greso_service.history.connect import connect
from greso_service.history.redis import RedisHistory
from greso_service.history.redis_wire import Script

from ..integration.fake_redis import FakeRedis  # noqa: TID252
from ..servers import RedisServer, eventually, free_port  # noqa: TID252
from ..stores import DEADLINE, RedisStore  # noqa: TID252
from .test_history import KEY, OTHER, begun, mark_of, once, over

MOST_COMMANDS = 8  # no method of a History on a small run sends more


@contextlib.contextmanager
def frozen(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@asynccontextmanager
async def tapped(store: RedisStore, tap: Callable[[int], Awaitable[None]]) -> AsyncIterator[History]:
    """A History whose client awaits `tap(n)` before it sends its n-th command (from 0)."""
    client: Any = connect(store.redis_url, 0.5)
    send, sent = client.execute_command, 0

    async def execute(*args: Any, **options: Any) -> Any:
        nonlocal sent
        await tap(sent)
        sent += 1
        return await send(*args, **options)

    client.execute_command = execute
    history = RedisHistory(client, deadline=DEADLINE)
    try:
        yield history
    finally:
        await history.close()


async def full_run(history: History, key: RunKey = KEY) -> None:
    result = await history.append(key, START, [b"a", b"b"], at_ms=1, once=once("one"))
    assert isinstance(result, Appended)
    await history.append(key, result.mark, [b"c"], at_ms=2, once=once("two", ttl=100))
    await history.save(key, mark_of(b"a", b"b"), os.urandom(9 * 2**20))


def test_a_drop_leaves_no_key_at_all(redis_store: RedisStore) -> None:
    async def story(history: History) -> None:
        await full_run(history)
        await history.save(KEY, mark_of(b"a", b"b", b"c"), b"newer")
        assert len(redis_store.keys()) >= 6
        assert await history.drop(KEY)
        assert redis_store.keys() == set()

    over(redis_store, story)


def test_a_drop_touches_no_other_run(redis_store: RedisStore) -> None:
    async def story(history: History) -> None:
        await full_run(history, OTHER)
        before = redis_store.keys()
        await full_run(history)
        await history.drop(KEY)
        assert redis_store.keys() == before

    over(redis_store, story)


def test_every_key_that_belongs_to_a_run_carries_its_hash_tag(redis_store: RedisStore) -> None:
    async def story(history: History) -> None:
        await full_run(history)
        keys = redis_store.keys() - {b"greso:{default}:runs"}
        assert keys
        assert all(key.startswith(b"greso:{default/run}:") for key in keys)

    over(redis_store, story)


def test_a_used_up_idempotency_key_leaves_no_trace(redis_store: RedisStore) -> None:
    async def story(history: History) -> None:
        mark = await begun(history, b"a")
        await history.append(KEY, mark, [b"b"], at_ms=1, once=once("short", ttl=1))
        mark = mark.then(b"b")
        give_up = time.monotonic() + 10
        while b"short" in redis_store.redis.zrange("greso:{default/run}:onces", 0, -1):
            assert time.monotonic() < give_up
            await asyncio.sleep(0.1)
            await history.append(KEY, mark, [b"c"], at_ms=1, once=once(f"later{mark.number}", ttl=60))
            mark = mark.then(b"c")
        assert redis_store.redis.get("greso:{default/run}:once:short") is None
        assert b"later2" in redis_store.redis.zrange("greso:{default/run}:onces", 0, -1)

    over(redis_store, story)


@pytest.mark.parametrize("unanswered", range(MOST_COMMANDS + 1))
def test_a_drop_broken_off_anywhere_does_not_spoil_the_name(redis_store: RedisStore, unanswered: int) -> None:
    async def away_from(number: int) -> None:
        if number >= unanswered:
            raise RedisConnectionError("the service was killed here")

    async def story(history: History) -> None:
        await full_run(history)
        async with tapped(redis_store, away_from) as dying:
            with contextlib.suppress(Unavailable):
                await dying.drop(KEY)
        left = await history.read(KEY, START, 10)
        if left:
            assert left == [b"a", b"b", b"c"], "a run is there whole or not at all"
            assert [listed.run for listed in await history.runs("default")] == ["run"]
            assert await history.drop(KEY)
        assert await begun(history, b"new") == mark_of(b"new")
        assert await history.read(KEY, START, 10) == [b"new"]
        assert await history.load(KEY) is None
        assert [listed.run for listed in await history.runs("default")] == ["run"]

    over(redis_store, story)


@pytest.mark.parametrize("before", range(6))
def test_a_run_made_while_an_older_one_is_dropped_is_whole_and_listed(redis_store: RedisStore, before: int) -> None:
    async def story(history: History) -> None:
        await full_run(history)
        made: list[object] = []

        async def make_at(number: int) -> None:
            if number == before:
                made.append(await history.append(KEY, START, [b"new"], at_ms=9, once=once("new")))

        async with tapped(redis_store, make_at) as dropping:
            await dropping.drop(KEY)
        left = await history.read(KEY, START, 10)
        assert left == ([b"new"] if made and isinstance(made[0], Appended) else [])
        assert [listed.run for listed in await history.runs("default")] == (["run"] if left else [])
        if left:
            assert await history.append(KEY, mark_of(b"new"), [b"x"], at_ms=9, once=once("new")) == once_seen()

    over(redis_store, story)


def once_seen() -> Seen:
    return Seen(once().digest, once().answer)


@pytest.mark.parametrize("unanswered", range(MOST_COMMANDS + 1))
def test_a_creation_broken_off_anywhere_can_be_repeated(redis_store: RedisStore, unanswered: int) -> None:
    async def away_from(number: int) -> None:
        if number >= unanswered:
            raise RedisConnectionError("the service was killed here")

    async def story(history: History) -> None:
        async with tapped(redis_store, away_from) as dying:
            with contextlib.suppress(Unavailable):
                await dying.append(KEY, START, [b"a"], at_ms=1)
        there = await history.read(KEY, START, 10)
        assert [listed.run for listed in await history.runs("default")] == (["run"] if there else [])
        assert await history.append(KEY, START, [b"a"], at_ms=1) == Appended(mark_of(b"a"))
        assert [listed.run for listed in await history.runs("default")] == ["run"]

    over(redis_store, story)


def test_scripts_that_the_server_forgot_are_loaded_again(redis_store: RedisStore) -> None:
    async def story(history: History) -> None:
        mark = await begun(history, b"a")
        redis_store.redis.script_flush()
        assert await history.append(KEY, mark, [b"b"], at_ms=1) == Appended(mark.then(b"b"))
        redis_store.redis.script_flush()
        assert await history.read(KEY, START, 10) == [b"a", b"b"]
        redis_store.redis.script_flush()
        await history.save(KEY, mark, b"snapshot")
        assert await history.load(KEY) == (mark, b"snapshot")

    over(redis_store, story)


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_draft_that_lost_an_event_does_not_become_a_run(redis_store: RedisStore, lost: int) -> None:
    async def payloads() -> AsyncIterator[list[bytes]]:
        yield [b"a", b"b", b"c"]
        yield []
        [draft] = [key for key in redis_store.redis.keys("*") if b":log:" in key]
        redis_store.redis.xdel(draft, redis_store.redis.xrange(draft)[lost][0])

    async def story(history: History) -> None:
        with pytest.raises(Unavailable, match="draft"):
            await history.begin(KEY, payloads(), at_ms=1, once=once())
        assert await history.read(KEY, START, 10) == []
        assert await history.recall(KEY, "k") is None
        assert not [key for key in redis_store.redis.keys("*") if b":log" in key]

    over(redis_store, story)


CALLS: dict[str, Callable[[History], Awaitable[object]]] = {
    "append": lambda history: history.append(KEY, mark_of(b"a"), [b"b"], at_ms=1),
    "read": lambda history: history.read(KEY, START, 10),
    "save": lambda history: history.save(KEY, mark_of(b"a"), b"snapshot"),
    "load": lambda history: history.load(KEY),
    "drop": lambda history: history.drop(KEY),
    "draft": lambda history: history.draft(KEY).extend([b"a"]),
    "recall": lambda history: history.recall(KEY, "k"),
    "remember": lambda history: history.remember(KEY, once()),
    "runs": lambda history: history.runs("default"),
    "ping": lambda history: history.ping(),
    "usage": lambda history: history.usage(),
}


def test_a_frozen_server_is_given_up_within_the_deadline(redis_store: RedisStore) -> None:
    async def given_up(call: Callable[[History], Awaitable[object]]) -> float:
        async with redis_store.opened() as history:
            began = time.monotonic()
            with pytest.raises(Unavailable, match="Redis does not answer"):
                await call(history)
            took = time.monotonic() - began
            with pytest.raises(Unavailable) as raised:  # a moment later nobody waits again
                await history.read(KEY, START, 10)
            assert time.monotonic() - began < took + 0.1
            assert raised.value.retry_after > 0
            return took

    async def story(history: History) -> None:
        await begun(history, b"a")
        with frozen(redis_store.pid):
            took = await asyncio.gather(*map(given_up, CALLS.values()))
        assert max(took) < DEADLINE + 0.5
        await asyncio.wait_for(recovered(history), 10)

    over(redis_store, story)


async def recovered(history: History) -> None:
    while True:
        try:
            await history.ping()
        except Unavailable:
            await asyncio.sleep(0.01)
        else:
            return


def test_an_append_whose_reply_was_lost_is_found_done_once(redis_store: RedisStore) -> None:
    async def story(history: History) -> None:
        mark = await begun(history, b"a")
        named = once(answer=b"first")
        with frozen(redis_store.pid), pytest.raises(Unavailable):
            await history.append(KEY, mark, [b"b"], at_ms=1, once=named)
        await recovered(history)  # the server reads what stood in its socket first
        again = await history.append(KEY, mark, [b"b"], at_ms=1, once=named)
        assert again in (Appended(mark.then(b"b")), Seen(named.digest, named.answer))
        assert await history.read(KEY, START, 10) == [b"a", b"b"]

    over(redis_store, story)


def test_a_full_server_refuses_and_nothing_is_half_applied(redis_store: RedisStore) -> None:
    redis = redis_store.redis

    async def story(history: History) -> None:
        mark = await begun(history, b"a")
        before = redis_store.keys()
        redis.config_set("maxmemory", "1")
        try:
            named = Once("big", once().digest, b"answer", 60)
            with pytest.raises(Unavailable, match="can't take writes now"):
                await history.append(KEY, mark, [b"b", b"c"], at_ms=2, once=named)
            assert await history.read(KEY, START, 10) == [b"a"], "what is there can be read"
        finally:
            redis.config_set("maxmemory", "0")
        assert redis_store.keys() == before
        await recovered(history)
        assert await history.read(KEY, START, 10) == [b"a"]
        assert await history.append(KEY, mark, [b"b", b"c"], at_ms=2, once=named) == Appended(mark_of(b"a", b"b", b"c"))

    over(redis_store, story)


def test_a_full_server_says_again_what_it_has_said(redis_store: RedisStore) -> None:
    redis = redis_store.redis

    async def story(history: History) -> None:
        mark = await begun(history, b"a")
        await history.append(KEY, mark, [b"b"], at_ms=2, once=once())
        before = redis_store.dump()
        redis.config_set("maxmemory", "1")
        try:
            assert await history.append(KEY, mark, [b"b"], at_ms=3, once=once()) == once_seen(), "a repeated request"
            assert await history.append(KEY, mark, [b"b"], at_ms=3) == Appended(mark.then(b"b")), "a lost reply"
            assert await history.append(KEY, mark, [b"c"], at_ms=3) == Moved()
            assert await history.recall(KEY, once().key) == once_seen()
        finally:
            redis.config_set("maxmemory", "0")
        assert redis_store.dump() == before, "nothing was written"
        assert redis.ttl("greso:{default/run}:head") == -1

    over(redis_store, story)


def test_a_full_server_makes_no_run_and_keeps_no_snapshot(redis_store: RedisStore) -> None:
    redis = redis_store.redis

    async def story(history: History) -> None:
        await begun(history, b"a")
        before = redis_store.keys()
        redis.config_set("maxmemory", "1")
        try:
            with pytest.raises(Unavailable):
                await history.append(OTHER, START, [b"x"], at_ms=2)
            with contextlib.suppress(Unavailable):
                await history.ping()  # ends the pause after a failure
            with pytest.raises(Unavailable):
                await history.save(KEY, mark_of(b"a"), os.urandom(1000))
        finally:
            redis.config_set("maxmemory", "0")
        assert redis_store.keys() == before

    over(redis_store, story)


def test_a_server_that_is_a_replica_is_unavailable_for_writes(redis_store: RedisStore) -> None:
    redis = redis_store.redis

    async def story(history: History) -> None:
        mark = await begun(history, b"a")
        redis.replicaof("127.0.0.1", "1")
        try:
            with pytest.raises(Unavailable):
                await history.append(KEY, mark, [b"b"], at_ms=2)
        finally:
            redis.replicaof("NO", "ONE")
        await recovered(history)
        assert await history.read(KEY, START, 10) == [b"a"]

    over(redis_store, story)


@pytest.mark.parametrize(
    "refusal",
    [
        "READONLY You can't write against a read only replica. script: 1, on @user_script:29.",
        "NOREPLICAS Not enough good replicas to write. script: 1, on @user_script:29.",
        "ERR Error running script (call to f_1): @user_script:29: @user_script: 29: -READONLY You can't write.",
        "ERR Error running script (call to f_1): @user_script:29: @user_script: 29: -NOREPLICAS Not enough replicas.",
    ],
)
def test_a_server_that_may_not_write_now_is_unavailable_as_each_version_says_it(refusal: str) -> None:
    async def story(url: str) -> None:
        history = RedisHistory(connect(url, 0.5), deadline=DEADLINE)
        try:
            with pytest.raises(Unavailable, match=r"READONLY|NOREPLICAS|read only") as refused:
                await history.append(KEY, mark_of(b"a"), [b"b"], at_ms=1)
            assert "script" not in str(refused.value), "where in ours is of use to nobody"
        finally:
            await history.close()

    with FakeRedis(f"-{refusal}") as server:
        asyncio.run(story(server.url))


def test_a_server_that_became_a_replica_confirms_nothing(redis_store: RedisStore) -> None:
    """The script had nothing to write there, and WAIT is refused: by an error that says nothing of a passing state."""

    async def story() -> None:
        history = RedisHistory(connect(redis_store.redis_url, 0.5), deadline=DEADLINE, replicas=1, confirm_within=0.1)
        redis_store.redis.replicaof("127.0.0.1", "1")
        try:
            with pytest.raises(Unavailable, match="can't take writes now"):
                await history.append(OTHER, mark_of(b"a"), [b"b"], at_ms=2)
        finally:
            redis_store.redis.replicaof("NO", "ONE")
            await history.close()

    asyncio.run(story())


@pytest.mark.parametrize("at", [None, mark_of(b"a", b"b", b"c")])
def test_a_drop_whose_reply_is_lost_was_one(redis_store: RedisStore, at: Mark | None) -> None:
    """redis-py sends the script again, and the second time there is nothing to remove."""

    async def story(history: History) -> None:
        assert isinstance(history, RedisHistory)
        await full_run(history)
        evaluate = history._evaluate

        async def twice(script: Script, *args: Any, **options: Any) -> Any:
            await evaluate(script, *args, **options)
            return await evaluate(script, *args, **options)

        history._evaluate = twice  # type: ignore[method-assign]
        assert await history.drop(KEY, at)
        assert redis_store.keys() == set()
        assert not await history.drop(KEY, at), "there was none"

    over(redis_store, story)


def test_a_server_that_lost_its_newest_writes_does_not_contain_their_marks(redis_store: RedisStore) -> None:
    async def story(history: History) -> None:
        mark = await begun(history, b"a")
        kept = redis_store.dump()
        await history.append(KEY, mark, [b"b", b"c"], at_ms=2)
        redis_store.restore(kept)
        assert await history.read(KEY, mark_of(b"a", b"b", b"c"), 10) is None
        assert await history.read(KEY, START, 10) == [b"a"]
        assert await history.append(KEY, mark_of(b"a", b"b", b"c"), [b"d"], at_ms=2) == Moved()
        assert await history.append(KEY, mark, [b"other"], at_ms=2) == Appended(mark.then(b"other"))
        assert await history.read(KEY, mark_of(b"a", b"b"), 10) is None

    over(redis_store, story)


def test_a_snapshot_never_finished_disappears_by_itself(redis_store: RedisStore) -> None:
    async def story(history: History) -> None:
        mark = await begun(history, b"a")

        async def away_at_the_end(number: int) -> None:
            if number >= 1:
                raise RedisConnectionError("the service was killed here")

        await history.save(KEY, mark, b"earlier")
        assert redis_store.redis.ttl("greso:{default/run}:snap") == -1, "a finished one stays"
        before = redis_store.keys()
        async with tapped(redis_store, away_at_the_end) as dying:
            with pytest.raises(Unavailable):
                await dying.save(KEY, mark, b"snapshot")
        [draft] = redis_store.keys() - before
        assert 0 < redis_store.redis.ttl(draft) <= 300
        assert await history.load(KEY) == (mark, b"earlier")

    over(redis_store, story)


def test_a_snapshot_whose_last_reply_is_lost_stays(redis_store: RedisStore) -> None:
    """The second try put the mark alone in its place."""

    async def story(history: History) -> None:
        mark = await begun(history, b"a")
        client: Any = connect(redis_store.redis_url, 0.5)
        send = client.execute_command

        async def twice(*args: Any, **options: Any) -> Any:
            await send(*args, **options)
            return await send(*args, **options)

        client.execute_command = twice
        saving = RedisHistory(client, deadline=DEADLINE)
        await saving.save(KEY, mark, b"snapshot")
        await saving.close()
        assert await history.load(KEY) == (mark, b"snapshot")

    over(redis_store, story)


@pytest.mark.parametrize("before", range(4))
def test_a_snapshot_put_in_anothers_place_while_that_is_loaded_is_loaded(redis_store: RedisStore, before: int) -> None:
    """Half of it was none: it could not be read, and a whole history was folded instead."""

    async def story(history: History) -> None:
        mark = await begun(history, b"a")
        await history.save(KEY, mark, b"older")
        newer = await history.append(KEY, mark, [b"b"], at_ms=2)
        assert isinstance(newer, Appended)

        async def replace_at(number: int) -> None:
            if number == before:
                await history.save(KEY, newer.mark, b"newer")

        async with tapped(redis_store, replace_at) as loading:
            assert await loading.load(KEY) == (newer.mark, b"newer")

    over(redis_store, story)


async def unconfirmed(url: str) -> None:
    """What a server without replicas has taken stays, and is acknowledged by nothing that is asked about it again."""
    history = RedisHistory(connect(url, 0.5), deadline=DEADLINE, replicas=1, confirm_within=0.1)
    try:
        for _ in range(2):
            with pytest.raises(Unavailable, match="0 of 1 replicas"):
                await history.append(KEY, START, [b"a"], at_ms=1, once=once())
            assert await history.read(KEY, START, 10) == [b"a"]
        with pytest.raises(Unavailable, match="0 of 1 replicas"):
            await history.recall(KEY, once().key)
        with pytest.raises(Unavailable, match="0 of 1 replicas"):
            await history.confirm(KEY)
    finally:
        await history.close()


def test_a_write_that_no_replica_confirms_is_unavailable(redis_store: RedisStore) -> None:
    asyncio.run(unconfirmed(redis_store.redis_url))


def test_a_write_to_a_cluster_that_no_replica_confirms_is_unavailable(tmp_path: Path) -> None:
    node = RedisServer(tmp_path, "--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    try:
        with node.start().client() as asking:
            asking.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            eventually(lambda: "cluster_state:ok" in str(asking.execute_command("CLUSTER", "INFO")))
        asyncio.run(unconfirmed(f"redis+cluster://127.0.0.1:{node.port}"))
    finally:
        node.close()


def test_a_write_counts_when_its_replica_confirms_also_a_repeated_one(tmp_path: Path) -> None:
    async def story() -> None:
        client = connect(primary.url, 1.0)
        history = RedisHistory(client, deadline=DEADLINE, replicas=1, confirm_within=0.5)
        try:
            mark = await begun(history, b"a")
            replica.signal(signal.SIGSTOP)
            for _ in range(2):
                with pytest.raises(Unavailable, match="0 of 1 replicas"):
                    await history.append(KEY, mark, [b"b"], at_ms=1, once=once())
            replica.signal(signal.SIGCONT)
            await history.confirm(KEY)
            assert await history.append(KEY, mark, [b"b"], at_ms=1, once=once()) == once_seen()
            with replica.client() as reader:
                assert reader.xlen("greso:{default/run}:log") == 2
        finally:
            await history.close()

    primary, replica = RedisServer(tmp_path / "p", "--repl-diskless-sync-delay", "0"), RedisServer(tmp_path / "r")
    try:
        primary.start()
        replica.options = ("--replicaof", f"127.0.0.1 {primary.port}")
        replica.start()
        with primary.client() as asking:
            eventually(lambda: "'state': 'online'" in str(asking.info("replication")))
        asyncio.run(story())
    finally:
        primary.close()
        replica.close()


def test_usage_is_the_memory_of_the_server_and_its_limit(redis_store: RedisStore) -> None:
    async def story(history: History) -> None:
        redis_store.redis.config_set("maxmemory", "64mb")
        try:
            before = await history.usage()
            redis_store.redis.set("ballast", b"x" * 2**20)
            after = await history.usage()
            assert before is not None
            assert after is not None
            assert before.limit == after.limit == 64 * 2**20
            assert after.used - before.used >= 2**20
            redis_store.redis.config_set("maxmemory", "0")
            unlimited = await history.usage()
            assert unlimited is not None
            assert unlimited.limit > 2**30, "the machine's"
        finally:
            redis_store.redis.config_set("maxmemory", "0")
            redis_store.redis.delete("ballast")

    over(redis_store, story)


def test_usage_is_unknown_to_a_login_that_may_not_ask(redis_store: RedisStore) -> None:
    async def story(history: History) -> None:
        redis_store.redis.execute_command("ACL", "SETUSER", "default", "-info")
        try:
            assert await history.usage() is None
            await history.ping()
        finally:
            redis_store.redis.execute_command("ACL", "SETUSER", "default", "+info")

    over(redis_store, story)


def test_runs_are_listed_in_the_order_in_which_pages_go_on(
    redis_store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those of which no time is known and some are away: a page that ends among them would leave some out."""
    there = [Listed("z", 0), Listed("n", 7), Listed("a", 0, away=True), Listed("m", 7)]

    async def listed(*_: Any) -> list[Listed]:
        return there

    monkeypatch.setattr(redis_module, "listed", listed)

    async def story(history: History) -> None:
        whole = await history.runs("default")
        assert [run.run for run in whole] == ["m", "n", "a", "z"]
        first, cursor = page_of(whole, 3, None)
        assert [*first, *page_of(whole, 3, cursor)[0]] == whole

    over(redis_store, story)
