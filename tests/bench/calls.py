"""What the calls of a training step cost, whole round trips with our client, by candidates and by the run's size.

Beside them the floors: the same server echoing the request's bytes, the bare commands to Redis with as many bytes, and
the decision alone without HTTP and Redis; and what a trainer does today, a loop in its own process.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import count

import redis
from tests.bench import filled, loop
from tests.bench.serving import Served, prompt_id
from tests.bench.timing import Row, in_turns

from greso_client import Client, Group
from greso_service import plans
from greso_service.history import codec
from greso_service.history.codec import Recorded

Call = Callable[[], object]


def by_candidates(served: Served, sizes: Sequence[int], prompts: int, rounds: int) -> Iterator[Row]:
    """Select, draw and report of so many prompts in a run of `prompts` prompts, all reported on."""
    state, own = filled.in_memory(prompts)
    dice, number = random.Random(1), count()
    with served.http() as http, redis.Redis.from_url(served.redis_url) as store, _client(served, "bench") as client:
        filled.at_service(http, "bench", prompts, prompts)

        def echo(body: object) -> Call:
            content = json.dumps(body).encode()
            return lambda: http.post("/echo", content=content).raise_for_status()

        def bare(plan: plans.Plan) -> Call:
            payload = b"".join(codec.encode(Recorded(event, 0, 0)) for event in plan.events)

            def commands() -> None:
                with store.pipeline() as pipeline:
                    pipeline.xadd("bare:log", {"e": payload})
                    pipeline.hset("bare:head", "mark", next(number))
                    pipeline.set(f"bare:once:{next(number)}", plan.answer, ex=60)
                    pipeline.execute()

            return commands

        for size in sizes:
            names = [prompt_id(place) for place in dice.sample(range(prompts), size)]

            def select(names: list[str] = names) -> plans.Plan:
                return plans.select(state, 1, names, limit=None, at_least=0, explain=False, stale=False)

            calls: list[Call] = [
                partial(client.select, 1, names),
                echo({"step": 1, "prompts": names}),
                bare(select()),
                select,
                partial(own.select, [filled.place(name) for name in names]),
            ]
            called, *others = in_turns(calls, _rounds(rounds, size))
            beside = dict(zip(("echo", "bare Redis", "decision", loop.NAME), others, strict=True))
            yield Row(f"select {size:,}", called, beside, slower=(loop.NAME,))
        for size in sizes:
            if size > prompts // 2:
                continue

            def draw(size: int = size) -> plans.Plan:
                return plans.draw(state, 1, size)

            calls = [partial(client.draw, 1, size), echo({"step": 1, "count": size}), bare(draw()), draw]
            called, *others = in_turns(calls, _rounds(rounds, size))
            yield Row(f"draw {size:,}", called, dict(zip(("echo", "bare Redis", "decision"), others, strict=True)))
        for size in sizes:
            chosen = [(prompt_id(place), filled.rewards(dice)) for place in dice.sample(range(prompts), size)]
            told = [Group(name, earned) for name, earned in chosen]
            body = {"step": 1, "results": [{"prompt": name, "rewards": earned} for name, earned in chosen]}

            def report(chosen: filled.Groups = chosen) -> plans.Plan:
                names, earned = [name for name, _ in chosen], [rewards for _, rewards in chosen]
                return plans.report(state, 1, names, earned, final=False)

            calls = [partial(client.report, 1, told), echo(body), bare(report()), report]
            called, *others = in_turns(calls, _rounds(rounds, size))
            beside = dict(zip(("echo", "bare Redis", "decision"), others, strict=True))
            yield Row(f"report {size:,} x {filled.GROUP_SIZE}", called, beside)


def by_run_size(served: Served, sizes: Sequence[int], rounds: int, reported: int) -> Iterator[Row]:
    """The same calls in runs of so many prompts, `reported` of them reported on, beside those in the smallest run."""
    names = [prompt_id(place) for place in random.Random(2).sample(range(min(sizes)), 1_024)]
    groups = [Group(name, filled.rewards(random.Random(3))) for name in names[:384]]
    clients = []
    with served.http() as http:
        for size in sizes:
            filled.at_service(http, f"bench-{size}", size, min(reported, size))
            clients.append(_client(served, f"bench-{size}"))
    kinds: dict[str, Callable[[Client], object]] = {
        "select 1,024": lambda client: client.select(1, names),
        "draw 384": lambda client: client.draw(1, 384),
        f"report 384 x {filled.GROUP_SIZE}": lambda client: client.report(1, groups),
    }
    for name, call in kinds.items():
        smallest, *larger = in_turns([partial(call, one) for one in clients], rounds)
        yield Row(f"{name}, run of {sizes[0]:,}", smallest)
        for size, took in zip(sizes[1:], larger, strict=True):
            yield Row(f"{name}, run of {size:,}", took, {f"run of {sizes[0]:,}": smallest})
    for client in clients:
        client.close()


def _client(served: Served, run: str) -> Client:
    return Client(served.url, run=run, strict=True, spool=False, budget=120)


def _rounds(rounds: int, size: int) -> int:
    """Fewer of the large ones, which vary less."""
    return max(rounds if size <= 1_024 else rounds * 1_024 // size, 10)
