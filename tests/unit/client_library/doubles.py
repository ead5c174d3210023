"""A service that follows the contract as far as a client can see it, and the two ways to talk to it."""

from __future__ import annotations

import json
import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx

from greso_client import Collected, Rollout
from greso_client._collect import Session
from greso_client._core import Core
from greso_client._errors import BudgetExceededError
from greso_client._io import _headers, _unavailable, run
from greso_client._options import Options
from greso_client._reply import Answer
from greso_client._requests import Request
from greso_client._spool import Spool

R = TypeVar("R")
T = TypeVar("T")

MIXED, SAME = [0.0, 1.0], [0.0, 0.0]

DEFAULT_SPEC = {"train_batch_size": 4, "rollout_batch_size": 6, "min_rollout_batch_size": 1, "safety_factor": 1.25}


def problem(status: int, detail: str = "", **more: Any) -> httpx.Response:
    headers = {"content-type": "application/problem+json"} | more.pop("headers", {})
    body = {"type": "about:blank", "title": "Problem", "status": status, "detail": detail, "instance": "req-1"} | more
    return httpx.Response(status, json=body, headers=headers)


def stale_generation(sent: int, now: int) -> httpx.Response:
    return problem(409, f"the run is at {now}, the request at {sent}", type="urn:greso:problem:stale-generation")


@dataclass
class FakeService:
    """Keeps one run. `down`: nobody listens. `script`: answers (or errors) to give first, in order.

    `ranks`: a select takes the last in alphabetical order. `elsewhere`: the prompts that any other run has.
    `forbids_seconds`: it is older than reports with seconds.
    """

    down: bool = False
    exists: bool = True
    spec: dict[str, Any] = field(default_factory=lambda: dict(DEFAULT_SPEC))
    script: deque[httpx.Response | Exception | Callable[[httpx.Request], httpx.Response]] = field(default_factory=deque)
    skip: set[str] = field(default_factory=set)
    pool: list[str] = field(default_factory=list)
    requests: list[httpx.Request] = field(default_factory=list)
    reports: list[dict[str, Any]] = field(default_factory=list)
    newest: int = -1
    closed_steps: set[int] = field(default_factory=set)
    position: int = 0
    answered: dict[str, httpx.Response] = field(default_factory=dict)
    generation: int = 0
    forks: list[str] = field(default_factory=list)
    ranks: bool = False
    elsewhere: list[str] = field(default_factory=list)
    forbids_seconds: bool = False

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if self.down:
            raise httpx.ConnectError("nobody listens", request=request)
        if self.script:
            scripted = self.script.popleft()
            if isinstance(scripted, Exception):
                raise scripted
            if isinstance(scripted, httpx.Response):
                return scripted
            return scripted(request)
        return self.serve(request)

    def serve(self, request: httpx.Request) -> httpx.Response:
        key = request.headers.get("idempotency-key")
        if request.method == "POST" and key is None:
            return problem(422, "a POST without a key")
        if self.forbids_seconds and request.url.path.endswith("/report") and "seconds" in json.loads(request.content):
            return problem(422, errors=[{"pointer": "/seconds", "detail": "is not a field of this request"}])
        if key in self.answered:
            return self.answered[key]
        response = self.route(request)
        if key is not None and response.status_code == 200:
            self.answered[key] = response
        return response

    def route(self, request: httpx.Request) -> httpx.Response:
        _, _, _, _, *rest = request.url.path.split("/")
        token = request.headers.get("greso-generation")
        if token is not None and self.exists and int(token) != self.generation:
            return stale_generation(int(token), self.generation)
        if not rest and request.method in {"PUT", "PATCH"}:
            self.spec |= json.loads(request.content)
            status = 200 if self.exists else 201
            self.exists = True
            return httpx.Response(status, json=self.state())
        if not self.exists:
            return problem(404, "no run of this name; PUT it first")
        if not rest:
            return httpx.Response(204) if request.method == "DELETE" else httpx.Response(200, json=self.state())
        return getattr(self, f"do_{rest[0]}")(request)  # type: ignore[no-any-return]

    def state(self) -> dict[str, Any]:
        both = {"easy": 0, "hard": 0}
        names = ("examined", "selected", "effective", "undetermined", "rollouts", "rollouts_avoided")
        totals = dict.fromkeys(names, 0)
        totals["groups"] = sum(len(report["results"]) for report in self.reports)
        return {
            "run": "test", "generation": self.generation, "step": max(self.newest, 0),
            "exploration": {"easy": 0.5, "hard": 0.5}, "epoch": 0, "spec": self.spec,
            "prompts": len(self.pool), "pool": len(self.pool),
            "totals": totals | {"skipped": both, "zero_variance": both},
        }  # fmt: skip

    def do_pool(self, request: httpx.Request) -> httpx.Response:
        if request.headers["content-type"] == "application/json":
            given, known = json.loads(request.content).get("prompts", self.elsewhere), self.elsewhere
        else:
            given, known = [json.loads(line) for line in request.content.decode().splitlines()], []
        items = [item if isinstance(item, dict) else {"prompt": item} for item in given]
        told = {item["prompt"] for item in items if "pass_rate" in item or item["prompt"] in known}
        new = [prompt for prompt in dict.fromkeys(item["prompt"] for item in items) if prompt not in self.pool]
        self.pool += new
        answer = {"added": len(new), "pool": len(self.pool)}
        return httpx.Response(200, json=answer | ({"priors": len(told)} if told else {}))

    def do_select(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        selected, examined = (self.ranked if self.ranks else self.filtered)(body["prompts"], body.get("limit"))
        answer = {
            "selected": selected, "examined": examined, "skipped": {"easy": 0, "hard": examined - len(selected)},
            "exploration": {"easy": 0.4, "hard": 0.6}, "rollout_batch_size": self.spec["rollout_batch_size"],
            "generation": self.generation, "stale": False,
        }  # fmt: skip
        if body.get("explain"):
            kept = set(selected)
            answer["decisions"] = [
                {"keep": i in kept, "reason": "new" if i in kept else "skip_hard", "keep_probability": 1.0, "streak": 0}
                for i in range(examined)
            ]
        return httpx.Response(200, json=answer)

    def filtered(self, prompts: list[str], limit: int | None) -> tuple[list[int], int]:
        kept: list[int] = []
        for index, prompt in enumerate(prompts):
            if len(kept) == limit:
                return kept, index
            if prompt not in self.skip:
                kept.append(index)
        return kept, len(prompts)

    def ranked(self, prompts: list[str], limit: int | None) -> tuple[list[int], int]:
        best = sorted(range(len(prompts)), key=lambda index: prompts[index], reverse=True)
        return sorted(best[:limit]), len(prompts)

    def do_draw(self, request: httpx.Request) -> httpx.Response:
        if not self.pool:
            return problem(409, "the pool is empty")
        count = json.loads(request.content).get("count", self.spec["rollout_batch_size"])
        prompts: list[str] = []
        examined = 0
        while len(prompts) < count and examined < len(self.pool):
            prompt = self.pool[self.position % len(self.pool)]
            self.position += 1
            examined += 1
            if prompt not in self.skip:
                prompts.append(prompt)
        return httpx.Response(200, json={
            "prompts": prompts, "epoch": self.position // len(self.pool), "examined": examined,
            "skipped": {"easy": 0, "hard": examined - len(prompts)}, "exploration": {"easy": 0.5, "hard": 0.5},
            "generation": self.generation,
        })  # fmt: skip

    def do_report(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        step, results = body["step"], body["results"]
        frozen = step < self.newest or step in self.closed_steps
        self.newest = max(self.newest, step)
        self.reports.append(body | {"frozen": frozen})
        effective = [i for i, group in enumerate(results) if max(group["rewards"]) - min(group["rewards"]) > 1e-6]
        counted = [group for report in self.reports if report["step"] == step and not report["frozen"]
                   for group in report["results"]]  # fmt: skip
        sofar = sum(max(group["rewards"]) - min(group["rewards"]) > 1e-6 for group in counted)
        missing = max(0, self.spec["train_batch_size"] - sofar)
        complete = frozen or missing == 0 or body.get("final", False)
        if complete:
            self.closed_steps.add(step)
        most = self.spec["rollout_batch_size"]
        wanted = most if complete or not sofar else -(-int(missing * 1.25 * len(counted)) // sofar)
        return httpx.Response(200, json={
            "effective": effective, "zero_variance": {"easy": 0, "hard": len(results) - len(effective)},
            "undetermined": 0, "next_rollout_batch_size": min(most, max(1, wanted)),
            "generation": self.generation, "exploration": {"easy": 0.5, "hard": 0.5},
            "step": {
                "number": step, "groups": len(counted), "effective": sofar, "missing": missing, "complete": complete,
            },
        })  # fmt: skip

    def do_steps(self, request: httpx.Request) -> httpx.Response:
        after, limit = int(request.url.params.get("after", -1)), int(request.url.params.get("limit", 100))
        both = {"easy": 0, "hard": 0}
        row: dict[str, Any] = dict.fromkeys(("examined", "selected", "groups", "effective", "rollouts", "rounds"), 0)
        row |= {"skipped": both, "zero_variance": both, "p_easy": 0.5, "p_hard": 0.5}
        steps = sorted({report["step"] for report in self.reports} | self.closed_steps)
        rows = [row | {"step": n, "complete": n < self.newest or n in self.closed_steps} for n in steps if n > after]
        return httpx.Response(200, json={"steps": rows[:limit]})

    def do_rewind(self, request: httpx.Request) -> httpx.Response:
        step = json.loads(request.content)["step"]
        if step not in self.closed_steps:
            return problem(409, f"step {step} has not completed; the newest that has is {max(self.closed_steps)}")
        self.newest = step
        self.closed_steps = {closed for closed in self.closed_steps if closed <= step}
        self.reports = [report for report in self.reports if report["step"] <= step]
        self.generation += 1
        return httpx.Response(200, json=self.state())

    def do_fork(self, request: httpx.Request) -> httpx.Response:
        if (name := json.loads(request.content)["run"]) in self.forks:
            return problem(409, f"there is a run {name}")
        self.forks.append(name)
        return httpx.Response(201, json=self.state() | {"run": name, "generation": 0})

    def tokens(self) -> list[tuple[str, str | None]]:
        """The fencing token of each request, with the last part of its path."""
        return [(r.url.path.rpartition("/")[2], r.headers.get("greso-generation")) for r in self.requests]

    def bodies(self, suffix: str) -> list[dict[str, Any]]:
        """The bodies of the requests to a path, in order."""
        return [json.loads(request.content) for request in self.requests if request.url.path.endswith(suffix)]

    def reported(self) -> list[tuple[int, list[str]]]:
        """What was reported, in order: step and prompts."""
        return [(report["step"], [group["prompt"] for group in report["results"]]) for report in self.reports]


class ClockIO:
    """I/O on a clock that moves only when something takes time. `takes`: seconds of each attempt, constant or queue."""

    def __init__(self, service: FakeService) -> None:
        self.service = service
        self.time = 1000.0
        self.began = time.time() - self.time
        self.takes: float | deque[float] = 0.0
        self.pauses: list[float] = []
        self.timeouts: list[float] = []

    def now(self) -> float:
        return self.time

    def wall(self) -> float:
        return self.began + self.time

    async def send(self, request: Request, timeout: float) -> Answer:  # noqa: ASYNC109 - the protocol
        self.timeouts.append(timeout)
        takes = self.takes if isinstance(self.takes, float | int) else (self.takes.popleft() if self.takes else 0.0)
        self.time += min(takes, timeout)
        if takes >= timeout:
            raise BudgetExceededError(f"no answer within {timeout} s")
        sent = httpx.Request(
            request.method, f"http://service{request.path}", content=request.body or b"", headers=_headers(request)
        )
        try:
            response = self.service(sent)
        except httpx.HTTPError as error:
            raise _unavailable(error, timeout) from error
        return Answer(response.status_code, response.headers, response.content)

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.time += seconds

    async def work(self, function: Callable[[], R]) -> R:
        return function()


def make_core(
    io: ClockIO, spool: Path | None, *, strict: bool = False, budget: float = 2.0, spool_bytes: int = 1 << 20
) -> Core:
    options = Options.make("http://service", "test", None, strict, budget, spool or False, spool_bytes)
    return Core(io, "test", options, random.Random(7))


def collect(
    core: Core,
    step: int,
    roll_out: Callable[[list[str]], Sequence[Rollout[T] | None]],
    prompts: Iterable[str] | None = None,
    max_rounds: int = 10,
    offer: int = 1,
) -> Collected[T]:
    async def awaited(chosen: list[str]) -> Sequence[Rollout[T] | None]:
        return roll_out(chosen)

    return run(Session(core, step, awaited, prompts, max_rounds, offer=offer).run())


def mixed(prompts: list[str]) -> list[Rollout[str]]:
    return [Rollout(MIXED, f"data of {prompt}") for prompt in prompts]


def same(prompts: list[str]) -> list[Rollout[str]]:
    return [Rollout(SAME, f"data of {prompt}") for prompt in prompts]


def request(number: int, size: int = 10) -> Request:
    return Request(
        "POST", "/v1/runs/test/report", json.dumps({"n": number, "x": "y" * size}).encode(), key=f"k{number}"
    )


def drain(spool: Spool) -> list[Request]:
    drained = []
    while (entry := spool.head()) is not None:
        drained.append(entry.request)
        spool.settle(entry)
    return drained


def wait_for(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Poll until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
