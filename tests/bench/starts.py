"""How long a run takes until it can be asked after a restart, the memory that it takes, and what a snapshot costs."""

from __future__ import annotations

import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import redis
from tests.bench import filled
from tests.bench.sizing import resident, settled, used
from tests.bench.timing import Row
from tests.servers import Service

from greso_service.history import snapshot

_RUN = "bench"


def restarts(sizes: Sequence[int], times: int) -> Iterator[Row]:
    """From the start of the process until a run of so many prompts, all reported on, has answered; and the memory."""
    for size in sizes:
        with tempfile.TemporaryDirectory(prefix="greso-bench-") as folder:
            service = Service(Path(folder), "--max-body-bytes", str(2**30))
            service.http.timeout = 600
            try:
                service.start()
                store: Any = redis.Redis(unix_socket_path=str(Path(folder, "data", "redis.sock")))
                empty, empty_store = resident(service.pid), used(store)
                filled.at_service(service.http, _RUN, size, size)
                full = settled(service.pid)
                yield Row(f"service, memory a prompt of {size:,}", _one((full - empty) / size), unit="bytes")
                grown = store.memory_usage(_key("log"), samples=0)
                yield Row("Redis, log a group of 8 and its prompt", _one(grown / size), unit="bytes")
                yield Row(
                    "Redis, all a group of 8 and its prompt", _one((used(store) - empty_store) / size), unit="bytes"
                )
                took = [_restart(service) for _ in range(times)]
                process = np.array([ready for ready, _ in took])
                yield Row(
                    f"restart, run of {size:,}", np.array([whole for _, whole in took]), {"process": process}, unit="s"
                )
                store.delete(_key("snap"))
                ready, whole = _restart(service)
                yield Row("the same without a snapshot", _one(whole), {"process": _one(ready)}, unit="s")
            finally:
                service.close()


def _restart(service: Service) -> tuple[float, float]:
    """Seconds until it is ready, and until the run has answered."""
    service.signal(signal.SIGTERM)
    assert service.process is not None
    service.process.wait(600)
    began = time.perf_counter()
    service.start()
    ready = time.perf_counter() - began
    service.json("POST", f"/v1/runs/{_RUN}/select", {"step": 1, "prompts": ["one"]})
    return ready, time.perf_counter() - began


def snapshots(sizes: Sequence[int], times: int) -> Iterator[Row]:
    """A snapshot of a run of so many prompts: how long answers wait for it, and what a thread does meanwhile."""
    for size in sizes:
        state = filled.in_memory(size)[0]
        frozen = _taken(partial(snapshot.Frozen, state), times)
        yield Row(f"snapshot of {size:,}: answers wait", frozen)
        content = snapshot.Frozen(state)
        yield Row(f"snapshot of {size:,}: packed in a thread", _taken(content.encode, times))
        packed = content.encode()
        yield Row(f"snapshot of {size:,}: size a prompt", _one(len(packed) / size), unit="bytes")
        yield Row(f"snapshot of {size:,}: read", _taken(partial(snapshot.read, packed), times))


def _taken(work: Callable[[], object], times: int) -> np.ndarray:
    found = np.zeros(times)
    for place in range(times):
        began = time.perf_counter()
        work()
        found[place] = (time.perf_counter() - began) * 1e3
    return found


def _one(value: float) -> np.ndarray:
    return np.array([value])


def _key(name: str) -> str:
    return f"greso:{{default/{_RUN}}}:{name}"
