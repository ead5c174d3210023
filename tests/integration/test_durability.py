"""What a 503 of `--durability replicas:N` means for each call: the table in docs/deploy.md, with a real replica."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..servers import RedisServer, Service, eventually  # noqa: TID252

REPORT = {"step": 1, "results": [{"prompt": "a", "rewards": [0, 1]}], "final": True}
RUN = "/v1/runs/r"
KEYED = {
    "pool": ("PUT", f"{RUN}/pool", {"prompts": ["a", "b", "c"]}),
    "draw": ("POST", f"{RUN}/draw", {"step": 1, "count": 1}),
    "report": ("POST", f"{RUN}/report", REPORT),
    "rewind": ("POST", f"{RUN}/rewind", {"step": 1}),
    "fork": ("POST", f"{RUN}/fork", {"run": "forked"}),
}


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path / "primary")
    try:
        yield server.start()
    finally:
        server.close()


@pytest.fixture
def replica(redis: RedisServer, tmp_path: Path) -> Iterator[RedisServer]:
    """Not started yet."""
    server = RedisServer(tmp_path / "replica", "--replicaof", "127.0.0.1", str(redis.port))
    yield server
    server.close()


def test_without_replicas_every_write_but_a_deletion_is_503_and_the_same_again_counts_once(
    redis: RedisServer, replica: RedisServer, start_service: Callable[..., Service]
) -> None:
    service = start_service("--redis-url", redis.url, "--durability", "replicas:1")
    looking = start_service("--redis-url", redis.url)
    assert service.call("PUT", RUN, {}).status_code == 503
    assert looking.call("GET", RUN).status_code == 200, "the primary has it"
    assert service.call("PUT", RUN, {}).status_code == 503, "it is there, and confirmed by nobody"
    assert service.call("PATCH", RUN, {"train_batch_size": 2}).status_code == 503
    refused = service.call(*KEYED["pool"], key="pool")
    assert refused.status_code == 503
    assert "which may have been made" in refused.json()["detail"]

    replica.start()
    with redis.client() as asked:
        eventually(lambda: asked.info("replication").get("slave0", {}).get("state") == "online")
    eventually(lambda: service.call("PUT", RUN, {}).status_code == 200)
    assert service.call("PATCH", RUN, {"train_batch_size": 2}).status_code == 200
    answers = {name: service.json(*call, key=name) for name, call in KEYED.items() if name != "rewind"}
    replica.kill()
    rewind = KEYED["rewind"]
    assert service.call(*rewind, key="rewind").status_code == 503
    eventually(lambda: looking.json("GET", RUN)["generation"] == 1)
    selected = service.json("POST", f"{RUN}/select", {"step": 2, "prompts": ["z"]})
    assert (selected["stale"], selected["selected"]) == (True, [0])

    replica.start()
    with redis.client() as asked:
        eventually(lambda: asked.info("replication").get("slave0", {}).get("state") == "online")
    eventually(lambda: service.call("PUT", RUN, {}).status_code == 200)
    for name, answer in answers.items():
        again = service.call(*KEYED[name], key=name)
        assert again.headers["Idempotent-Replayed"] == "true"
        assert again.json() == answer
    assert service.json(*rewind, key="rewind")["generation"] == 1
    state = looking.json("GET", RUN)
    assert (state["generation"], state["pool"], state["totals"]["groups"]) == (1, 3, 1)

    replica.kill()
    assert service.call("DELETE", RUN).status_code == 204
    assert looking.call("GET", RUN).status_code == 404
