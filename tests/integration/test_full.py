"""A Redis that is full: what is seen of it, that nothing acknowledged is lost, and that it goes on with room."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable
from typing import Any

import pytest
import redis

from ..servers import Service, eventually  # noqa: TID252

RUN = "/v1/runs/r"


class Full:
    """A service whose Redis a test fills; reports that count themselves."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.redis = redis.Redis(unix_socket_path=str(service.folder / "data" / "redis.sock"))
        self.acknowledged = 0
        service.json("PUT", RUN, {})

    def report(self, number: int) -> Any:
        """The answer's content; the same number is the same report."""
        body = {"step": 1, "results": [{"prompt": f"p{number}", "rewards": [0, 1]}]}
        answer = self.service.call("POST", f"{RUN}/report", body, f"g0-{number}")
        self.acknowledged += answer.status_code == 200 and "Idempotent-Replayed" not in answer.headers
        return answer.json()

    def refused(self) -> tuple[int, str]:
        """The number of the first report that is refused, and why."""
        for number in range(2000):
            content = self.report(number)
            if "detail" in content:
                assert content["status"] == 503
                return number, content["detail"]
        raise AssertionError("nothing is refused")

    def readiness(self) -> tuple[int, Any]:
        """Status and components of /readyz."""
        answer = self.service.call("GET", "/readyz")
        return answer.status_code, answer.json()["components"]

    def nothing_is_lost(self, number: int) -> None:
        """The refused report counts once when it comes again, beside all that were acknowledged."""
        eventually(lambda: "detail" not in self.report(number))
        assert self.service.json("GET", RUN)["totals"]["groups"] == self.acknowledged
        assert self.readiness()[1]["writes"] == {"ok": True, "detail": "none was refused lately"}


def test_memory_is_full(start_service: Callable[..., Service]) -> None:
    full = Full(start_service())
    full.service.json("PUT", "/v1/runs/done", {})
    full.report(0)
    full.redis.config_set("maxmemory", full.redis.info("memory")["used_memory"])
    number, why = full.refused()
    assert why == "Redis can't take writes now: command not allowed when used memory > 'maxmemory'"
    status, components = full.readiness()
    assert (status, components["redis"]["ok"]) == (200, True), "no other replica could write, either"
    assert "detail" not in full.report(0), "an old answer needs no room"
    assert full.readiness()[1]["writes"] == components["writes"] == {"ok": False, "detail": why}
    assert full.service.json("POST", f"{RUN}/select", {"step": 1, "prompts": ["x"]})["stale"] is True
    assert full.service.call("DELETE", "/v1/runs/done").status_code == 204, "which makes room"
    full.redis.config_set("maxmemory", 0)
    full.nothing_is_lost(number)


@pytest.mark.skipif(sys.platform != "linux", reason="it limits another process")
def test_the_disk_is_full_and_redis_refuses(start_service: Callable[..., Service]) -> None:
    full = Full(start_service())
    pid = full.redis.info("server")["process_id"]
    limit(pid, 20_000)
    number, why = full.refused()
    assert why == "Redis can't take writes now: MISCONF Errors writing to the AOF file: No space left on device"
    assert full.readiness()[1]["writes"] == {"ok": False, "detail": why}
    eventually(lambda: full.readiness()[0] == 503)  # it refuses to be pinged, too
    assert full.readiness()[1]["redis"]["detail"] == why
    assert "Short write while writing to the AOF file" in (full.service.folder / "data" / "redis.log").read_text()
    assert full.service.call("DELETE", RUN).status_code == 503, "a deletion would have to be written"
    limit(pid, resource.RLIM_INFINITY)
    full.nothing_is_lost(number)


@pytest.mark.skipif(sys.platform != "linux", reason="it limits another process")
def test_the_disk_is_full_and_redis_ends_which_the_log_quotes(start_service: Callable[..., Service]) -> None:
    full = Full(start_service("--redis-fsync", "always"))
    limit(full.redis.info("server")["process_id"], 20_000)
    number, _ = full.refused()
    eventually(lambda: "is started again" in full.service.said())
    [line] = [line for line in full.service.said().splitlines() if "is started again" in line]
    assert "Short write while writing to the AOF file" in line
    assert "Can't recover from AOF write error when the AOF fsync policy is 'always'" in line
    assert line.endswith(f"(see {full.service.folder / 'data' / 'redis.log'})")
    full.nothing_is_lost(number)


def limit(pid: int, size: int) -> None:
    """Let files of a process grow to `size` bytes, no further: its disk is full."""
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))  # type: ignore[attr-defined,unused-ignore]
