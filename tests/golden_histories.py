"""Whole histories as each version of the format wrote them, and what they must fold to for ever.

`python -m tests.golden_histories` makes those of the present versions, where there are none yet; they are committed and
never made again. A history is its export (docs/api.md), which holds the Redis stream event for event.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from greso_service import answers
from greso_service.core.events import Seconds
from greso_service.core.state import RunState
from greso_service.history import codec, snapshot
from greso_service.history.base import RunKey
from greso_service.history.memory import MemoryHistory
from greso_service.joining import Named
from greso_service.priors import Rates
from greso_service.runs import Runs

from .folding import named, rates

FOLDER: Final = Path(__file__).parent / "unit" / "golden_histories"
KEY = RunKey("default", "golden")
IDS = [f"p/{number}" for number in range(40)]


def rewards(prompt: str, step: int) -> list[float]:
    """Made up, and the same each time: a third right, a third wrong, a third mixed."""
    kind = (int(prompt.partition("/")[2] or 0) + step // 3) % 3
    return [[1.0] * 4, [0.0] * 4, [0.0, 1.0, 0.5, 1.0]][kind]


async def _step(runs: Runs, step: int, *, final: bool = True, seconds: Seconds | None = None) -> None:
    drawn = json.loads((await runs.draw(KEY, step, 8)).body)["prompts"]
    earned = [rewards(prompt, step) for prompt in drawn]
    await runs.report(KEY, step, drawn, earned, final=final, seconds=seconds)


async def walked(runs: Runs) -> None:
    """The rule as published: a walk, candidates of the trainer's own, audits, a rewind and a late report."""
    await runs.create(
        KEY, {"group_size": 4, "train_batch_size": 4, "rollout_batch_size": 8, "seed": 7, "audit_share": 0.2}
    )
    await runs.add_prompts(KEY, IDS)
    for step in range(12):
        await _step(runs, step, seconds=Seconds(1.5, 0.25))
    await runs.change(KEY, {"target_zero_variance": 0.3, "easy_min_mean": 0.9})
    await runs.rewind(KEY, 9)
    await runs.select(KEY, 10, [*IDS[::-1], "é\0漢", "own"], limit=12)
    await runs.report(KEY, 10, ["é\0漢", "own", "p/3"], [[0.25, -1.5, 3e300], [], [1.0]], final=False)
    await _step(runs, 11, final=False)
    await runs.report(KEY, 2, ["p/1"], [[0.0, 0.0]], final=True)


async def ranked(runs: Runs) -> None:
    """A ranking with pass rates, domains and quotas."""
    quotas = {"math": {"quota": 0.5, "target_zero_variance": 0.1}, "code": {"quota": 0.5}}
    spec = {
        "policy": "irt",
        "group_size": 4,
        "train_batch_size": 4,
        "rollout_batch_size": 8,
        "seed": 3,
        "domains": quotas,
    }
    await runs.create(KEY, spec)
    domains: Named | None = named(["math" if number % 2 else "code" for number in range(40)])
    known: Rates = rates([number / 40 for number in range(20)], [8] * 20)
    await runs.add_prompts(KEY, IDS, rates=known, domains=domains)
    for step in range(8):
        await _step(runs, step)
    await runs.select(KEY, 8, IDS[:20], at_least=4)


async def forked(runs: Runs) -> None:
    """A run that began in another."""
    await walked(runs)
    new = RunKey("default", "forked")
    await runs.fork(KEY, "forked", 9)
    await runs.delete(KEY)
    exported = b"".join([piece async for piece in await runs.export(new)])

    async def pieces() -> Any:
        yield exported

    await runs.import_history(KEY, pieces())
    await _step(runs, 10)


STORIES: Final[dict[str, Callable[[Runs], Awaitable[None]]]] = {"walked": walked, "ranked": ranked, "forked": forked}


def told(state: RunState) -> dict[str, Any]:
    """What a state says, as JSON: what users see of a run."""
    query = answers.PromptQuery(None, "visits", 1000, None, "", None)
    shown = {
        "run": answers.run("golden", state),
        "steps": answers.steps(state, -1, 1000, None),
        "prompts": answers.prompts(state, query),
    }
    return {name: json.loads(answer.body) for name, answer in shown.items()}


async def _make(name: str) -> None:
    path = FOLDER / f"{name}-events-{codec.VERSION}.ndjson"
    if path.exists():
        return
    runs = Runs(MemoryHistory(), idempotency_ttl=60, snapshot_every=10**6)
    await STORIES[name](runs)
    path.write_bytes(b"".join([piece async for piece in await runs.export(KEY)]))
    states: list[RunState] = []
    await runs.look(KEY, states.append)
    path.with_suffix(".json").write_text(json.dumps(told(states[0]), indent=1) + "\n")


async def _make_snapshot(name: str) -> None:
    path = FOLDER / f"{name}-snapshot-{snapshot.VERSION}.bin"
    if not path.exists():
        path.write_bytes(snapshot.Frozen(await folded(newest(name).read_bytes())).encode())


def newest(name: str) -> Path:
    """The history of the newest version."""
    return FOLDER / f"{name}-events-{codec.VERSION}.ndjson"


async def folded(content: bytes) -> RunState:
    """The state that an export makes in the service."""
    runs = Runs(MemoryHistory(), idempotency_ttl=60, snapshot_every=10**6)

    async def pieces() -> Any:
        yield content

    await runs.import_history(KEY, pieces())
    states: list[RunState] = []
    await runs.look(KEY, states.append)
    return states[0]


async def main() -> None:
    """Make what is missing."""
    FOLDER.mkdir(exist_ok=True)
    for name in STORIES:
        await _make(name)
        await _make_snapshot(name)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
