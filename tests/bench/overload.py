"""`python -m tests.bench.overload`: what a service still does when it is asked for three times what it can do.

Rollout batches are selected and reported on in several runs. First clients that wait for their answers, more and more
of them, show what is answered per second, and how many of them saturate the service. Then these clients, and as many
requests a second as they get answered, twice and three times as many, sent at random moments whatever has become of
those before, take turns: on a machine that is now faster and now slower only what is measured side by side compares.
`of the most`: of what the clients of the same turn got answered; the median of the turns, and the least and the most.
Goodput counts answers of status 200 within the client's time budget; times count from the moment at which a request was
to be sent. Goodput per second of the service's CPU time tells what refusing costs on a machine with other things to do.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit

import httpx
import numpy as np
import uvloop
from rich.console import Console
from rich.table import Table
from tests.bench.serving import prompt_id
from tests.servers import Service

BUDGET = 2.0
"""Seconds that a client waits before it goes on without the filter."""

PROMPTS, _GROUP_SIZE = 20_000, 8  # of each run
_BODIES = 16  # of each kind and run, sent again and again
_LOST = 0  # in place of a status

Answered = list[tuple[int, float]]
"""Status and seconds of each request."""


class Requests:
    """Requests as bytes, of `verbs` (select, report) in turn, each with a key of its own."""

    def __init__(self, runs: int, prompts: int, verbs: Sequence[str] = ("select", "report")) -> None:
        dice = random.Random(0)
        self._number = itertools.count(time.time_ns())  # other requests to this service have other keys
        made: list[list[tuple[bytes, bytes]]] = []
        for run in range(runs):
            made.append([])
            for step in range(_BODIES):
                chosen = [prompt_id(place) for place in dice.sample(range(PROMPTS), prompts)]
                groups = [{"prompt": name, "rewards": dice.choices((0, 1), k=_GROUP_SIZE)} for name in chosen]
                bodies = {"select": {"step": step, "prompts": chosen}, "report": {"step": step, "results": groups}}
                made[-1] += [self._request(run, verb, bodies[verb]) for verb in verbs]
        self._made = itertools.cycle(itertools.chain.from_iterable(zip(*made, strict=True)))

    def _request(self, run: int, verb: str, body: object) -> tuple[bytes, bytes]:
        content = json.dumps(body).encode()
        head = (
            f"POST /v1/runs/run-{run}/{verb} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(content)}\r\nIdempotency-Key: overload-"
        )
        return head.encode(), b"\r\n\r\n" + content

    def __next__(self) -> bytes:
        head, content = next(self._made)
        return b"%b%d%b" % (head, next(self._number), content)


class Connection(asyncio.Protocol):
    """One request at a time; `answer`: of the one under way, its status."""

    def __init__(self) -> None:
        self._buffer = b""
        self.answer: asyncio.Future[int] | None = None
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._buffer += data
        head, ended, content = self._buffer.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0] or 0) if ended else 1
        if len(content) >= length and self.answer is not None and not self.answer.done():
            self.answer.set_result(int(head[9:12]))
            self._buffer = b""

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        if self.answer is not None and not self.answer.done():
            self.answer.set_result(_LOST)


class Load:
    """Asks one service. `requests`: what for."""

    def __init__(self, url: str, requests: Requests) -> None:
        self._where = urlsplit(url)
        self._requests = requests
        self._idle: list[Connection] = []
        self.behind = 0.0  # seconds that a request was sent too late, at most: by that the figures are too bad

    async def closed(self, clients: int, seconds: float) -> Answered:
        """As many requests as so many clients get answered one after another."""
        loop, answered = asyncio.get_running_loop(), Answered()
        until = loop.time() + seconds

        async def client() -> None:
            while loop.time() < until:
                await self._ask(loop.time(), answered)

        await asyncio.gather(*(client() for _ in range(clients)))
        return answered

    async def open(self, rate: float, seconds: float) -> Answered:
        """So many requests a second, at random moments."""
        loop, answered = asyncio.get_running_loop(), Answered()
        moment, until, asking = loop.time(), loop.time() + seconds, set[asyncio.Task[None]]()
        dice = random.Random(1)
        while (moment := moment + dice.expovariate(rate)) < until:
            if moment > loop.time():
                await asyncio.sleep(moment - loop.time())
            self.behind = max(self.behind, loop.time() - moment)
            task = asyncio.create_task(self._ask(moment, answered))
            asking.add(task)
            task.add_done_callback(asking.discard)
        await asyncio.gather(*asking)
        return answered

    async def _ask(self, moment: float, answered: Answered) -> None:
        loop, request, status = asyncio.get_running_loop(), next(self._requests), _LOST
        try:
            # As every client does: a connection that was idle may just be closed by the service.
            while status == _LOST and (idle := self._open()) is not None:
                status = await self._answer(idle, request)
            if status == _LOST:
                where = self._where.hostname or "", self._where.port or 0
                _, made = await loop.create_connection(Connection, *where)
                status = await self._answer(made, request)
        except OSError:
            pass
        answered.append((status, loop.time() - moment))

    async def _answer(self, connection: Connection, request: bytes) -> int:
        connection.answer = asyncio.get_running_loop().create_future()
        connection.transport.write(request)
        status = await asyncio.wait_for(connection.answer, 60)
        if status != _LOST:
            self._idle.append(connection)
        return status

    def _open(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.transport.is_closing():
                return connection
        return None

    def close(self) -> None:
        """Close the connections that nobody uses."""
        while self._idle:
            self._idle.pop().transport.close()


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.overload", description=__doc__)
    parser.add_argument("--prompts", type=int, default=384, help="of each select and report (default %(default)s)")
    parser.add_argument("--runs", type=int, default=8, help="that are asked about (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=4, help="of each load (default %(default)s)")
    parser.add_argument("--turns", type=int, default=5, help="of each load (default %(default)s)")
    parser.add_argument("--times", type=float, nargs="+", default=[1, 2, 3], help="of what saturates it")
    parser.add_argument(
        "--apart",
        action="store_true",
        help="the service and its Redis on one core, the load on the others, which are kept busy all the time (Linux)",
    )
    parser.add_argument("options", nargs="*", help="of the service, behind --")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        service = Service(Path(folder), *asked.options)
        try:
            with apart(service) if asked.apart else nullcontext(service.start()):
                uvloop.run(measure(service, asked))
        finally:
            service.close()


@contextmanager
def apart(service: Service) -> Iterator[None]:
    """Start the service, and give it and its Redis one core, this process the others.

    What has nothing else to do there keeps them busy: where two cores are two threads of one, the service is slower the
    busier they are, and would be measured at another speed with each load.
    """
    first, *others = sorted(os.sched_getaffinity(0))
    if not others:
        sys.exit("--apart needs two cores")
    os.sched_setaffinity(0, {first})
    try:
        service.start()
    finally:
        os.sched_setaffinity(0, others)
    idlers = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in others]
    try:
        for idler in idlers:
            os.sched_setscheduler(idler.pid, os.SCHED_IDLE, os.sched_param(0))
        yield
    finally:
        for idler in idlers:
            idler.kill()
            idler.wait()


async def measure(service: Service, asked: argparse.Namespace) -> None:
    """Fill the runs, find the most that the service can do, ask for more."""
    console, names = Console(width=None if sys.stdout.isatty() else 160), [prompt_id(place) for place in range(PROMPTS)]
    async with httpx.AsyncClient(base_url=service.url, timeout=60, trust_env=False) as client:
        for run in range(asked.runs):
            (await client.put(f"/v1/runs/run-{run}", json={"train_batch_size": 10**6})).raise_for_status()
            (await client.put(f"/v1/runs/run-{run}/pool", json={"prompts": names})).raise_for_status()
    load = Load(service.url, Requests(asked.runs, asked.prompts))
    await load.closed(4, 2)
    table = Table(title=f"select and report of {asked.prompts} prompts in {asked.runs} runs", title_justify="left")
    for name in (
        "load",
        "asked for/s",
        "goodput/s",
        "of the most",
        "per CPU s",
        "p50 s",
        "p99 s",
        "503",
        "p99 of 503 s",
    ):
        table.add_column(name, justify="left" if name == "load" else "right")
    table.add_column("lost", justify="right")
    table.add_column("sent late s", justify="right")
    seen = dict[int, float]()
    for clients in (1, 2, 4, 8, 16, 32):  # more wait for each other so long that it is an overload
        part = await measured(service, load.closed(clients, asked.seconds / 2), asked.seconds / 2)
        seen[clients] = part.rate
        table.add_row(f"{clients} clients", "", *row([part]), "")
    clients = max(seen, key=lambda clients: seen[clients])
    turns = dict[float, list[Part]]()
    for _ in range(asked.turns):
        most = await measured(service, load.closed(clients, asked.seconds), asked.seconds)
        turns.setdefault(0, []).append(most)
        for times in asked.times:
            rate, load.behind = times * most.rate, 0.0
            part = await measured(service, load.open(rate, asked.seconds), asked.seconds)
            turns.setdefault(times, []).append(part._replace(of=most.rate, asked=rate, behind=load.behind))
    table.add_section()
    table.add_row(f"{clients} clients", "", *row(turns.pop(0)), "")
    for times, parts in turns.items():
        rate, behind = np.median([part.asked for part in parts]), max(part.behind for part in parts)
        table.add_row(f"{times:g} x", f"{rate:.0f}", *row(parts), f"{behind:.3f}")
    load.close()
    console.print(table)
    console.print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}")


class Part(NamedTuple):
    """What became of a load. `rate`: goodput a second; `spent`: CPU time of the service, in seconds; `of`: the rate of
    the clients of the same turn; `asked`: requests a second; `behind`: seconds that one was sent late, at most.
    """

    answered: Answered
    rate: float
    spent: float
    of: float = 0.0
    asked: float = 0.0
    behind: float = 0.0


async def measured(service: Service, load: Coroutine[Any, Any, Answered], seconds: float) -> Part:
    """A load of so many seconds, carried out."""
    before = used(service)
    answered = await load
    return Part(answered, goodput(answered) / seconds, used(service) - before)


def used(service: Service) -> float:
    """Seconds of CPU time that the service has used."""
    fields = Path(f"/proc/{service.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def goodput(answered: Answered) -> int:
    """How many were answered with 200 in time."""
    return sum(status == 200 and took <= BUDGET for status, took in answered)


def row(parts: Sequence[Part]) -> Iterator[str]:
    """The figures of one load, of all of its turns."""
    answered = list(itertools.chain.from_iterable(part.answered for part in parts))
    counts = Counter(status for status, _ in answered)
    done = [took for status, took in answered if status == 200]
    refused = [took for status, took in answered if status == 503]
    yield f"{np.median([part.rate for part in parts]):.0f}"
    shares = [part.rate / part.of for part in parts if part.of]
    yield f"{np.median(shares):.0%} ({min(shares):.0%} - {max(shares):.0%})" if shares else ""
    yield f"{goodput(answered) / sum(part.spent for part in parts):.0f}"
    yield from (f"{np.percentile(done, at):.3f}" if done else "-" for at in (50, 99))
    yield f"{counts[503] / len(answered):.0%}"
    yield f"{np.percentile(refused, 99):.3f}" if refused else "-"
    yield f"{counts.total() - counts[200] - counts[503]}"


if __name__ == "__main__":
    main()
