"""Redis out of reach: writes are refused with a time to come back, `select` answers from the last state known."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .oracle.problems import problem
from .test_oracle_draws import train

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .oracle.service import Service

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds the embedded server's process in /proc")

# One request may wait for its deadline; more would stop a trainer for nothing.
DEADLINE_SECONDS = 5.0


@contextmanager
def frozen_redis(service: Service) -> Iterator[None]:
    """The service's own Redis accepts connections and answers nothing."""
    assert service.process is not None
    children = [int(at.name) for at in Path("/proc").glob("[0-9]*") if parent(at) == service.process.pid]
    assert children, "the service runs no embedded server"
    for child in children:
        os.kill(child, signal.SIGSTOP)
    try:
        yield
    finally:
        for child in children:
            os.kill(child, signal.SIGCONT)


def parent(process: Path) -> int | None:
    """The parent of a process in /proc; None when it has ended meanwhile."""
    try:
        # The name, in parentheses, may hold anything; the parent is the second field after it.
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return None


def wait_for(service: Service, ready: bool) -> None:
    deadline = time.monotonic() + 30
    while (service.call("GET", "/readyz").status_code == 200) != ready:
        assert time.monotonic() < deadline, f"/readyz does not become {ready}"
        time.sleep(0.05)


def test_writes_wait_select_answers_and_nothing_is_lost_or_doubled(private: Callable[..., Service]) -> None:
    service = private()
    prompts = [f"p/{at}" for at in range(100)]
    run = service.create("outage", seed=3)
    train(service, run, dict.fromkeys(prompts, 2))
    service.json("PUT", f"{run}/pool", {"prompts": prompts})
    question = {"step": 1, "prompts": prompts}
    before = service.json("POST", f"{run}/select", question)
    assert before["stale"] is False
    report = {"step": 1, "results": [{"prompt": "p/1", "rewards": [0, 1]}]}
    with frozen_redis(service):
        for method, path, body in [
            ("POST", f"{run}/report", report),
            ("POST", f"{run}/draw", {"step": 1, "count": 5}),
            ("PUT", f"{run}/pool", {"prompts": ["new"]}),
            ("PATCH", run, {"easy_share": 0.5}),
            ("PUT", "/v1/runs/another", {}),
        ]:
            start = time.monotonic()
            answer = service.call(method, path, body, "the-key" if path.endswith("report") else None)
            problem(answer, 503)
            assert int(answer.headers["retry-after"]) >= 0
            assert time.monotonic() - start < DEADLINE_SECONDS
        stale = service.json("POST", f"{run}/select", question)
        assert stale["stale"] is True
        assert stale["selected"] == before["selected"]
        assert service.call("GET", "/livez").status_code == 200
        wait_for(service, ready=False)
    # The client comes back with the same key: whether the first try got through or not, the report counts once.
    deadline = time.monotonic() + 30
    while (answer := service.call("POST", f"{run}/report", report, "the-key")).status_code == 503:
        assert time.monotonic() < deadline, "Redis is back, reports are still refused"
        time.sleep(float(answer.headers["retry-after"]))
    assert answer.status_code == 200
    assert service.json("POST", f"{run}/report", report, "the-key") == answer.json()
    totals = service.json("GET", run)["totals"]
    assert (totals["rollouts"], totals["effective"]) == (402, 1)
    assert service.json("POST", f"{run}/select", question)["stale"] is False
    wait_for(service, ready=True)


def test_a_rewind_and_a_fork_wait_and_are_done_once(private: Callable[..., Service]) -> None:
    service = private()
    run = service.create("outage", seed=3)
    for step in (1, 2):
        train(service, run, {"p": 2})
        service.json("POST", f"{run}/report", {"step": step, "results": [], "final": True})
    rewind, fork = ("POST", f"{run}/rewind", {"step": 1}, "rewind"), ("POST", f"{run}/fork", {"run": "other"}, "fork")
    with frozen_redis(service):
        for request in (rewind, fork):
            start = time.monotonic()
            problem(service.call(*request), 503)
            assert time.monotonic() - start < DEADLINE_SECONDS
    # Whether the first tries got through when the server went on or not, the retries under their keys settle it.
    deadline = time.monotonic() + 30
    for request, status in ((rewind, 200), (fork, 201)):
        while (answer := service.call(*request)).status_code == 503:
            assert time.monotonic() < deadline, "Redis is back, writes are still refused"
            time.sleep(float(answer.headers["retry-after"]))
        assert answer.status_code == status
        assert service.call(*request).content == answer.content
    state = service.json("GET", run)
    assert (state["generation"], state["step"]) == (1, 1)
    assert service.json("GET", "/v1/runs/other")["generation"] == 0
