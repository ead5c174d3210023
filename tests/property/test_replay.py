"""A repeated idempotency key changes nothing, whatever came in between."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from greso_service.answers import Answer
from greso_service.errors import Conflict, InvalidInput
from greso_service.given import Given, Idempotency
from greso_service.history.base import RunKey
from greso_service.history.memory import MemoryHistory
from greso_service.runs import Runs

from ..folding import content  # noqa: TID252
from .traces import Action, Draw, Patch, Pool, Report, Select, specs, traces

KEY = RunKey("default", "run")


async def ask(runs: Runs, action: Action, given: Given) -> Answer:
    match action:
        case Pool(prompts):
            return await runs.add_prompts(KEY, prompts, given=given, rates=action.rates, domains=action.named)
        case Select(step, prompts, limit, at_least):
            return await runs.select(KEY, step, prompts, limit=limit, at_least=at_least, given=given)
        case Draw(step, count):
            return await runs.draw(KEY, step, count, given)
        case Report(step, groups, final):
            earned = [rewards for _, rewards in groups]
            return await runs.report(KEY, step, [prompt for prompt, _ in groups], earned, final=final, given=given)
        case Patch():
            raise AssertionError("PATCH takes no idempotency key")


def replica(history: MemoryHistory) -> Runs:
    return Runs(history, idempotency_ttl=86_400, snapshot_every=3)


def state_of(runs: Runs) -> dict[str, Any]:
    live = runs._live.known(KEY)
    assert live is not None
    return content(live)


@given(specs, traces, st.lists(st.integers(0, 24), max_size=25))
def test_a_replayed_key_changes_nothing(spec: dict[str, Any], trace: list[Action], again: list[int]) -> None:
    asyncio.run(_replaying(spec, trace, again))


async def _replaying(spec: dict[str, Any], trace: list[Action], again: list[int]) -> None:
    history = MemoryHistory()
    replicas = replica(history), replica(history)
    await replicas[0].create(KEY, spec)
    answers: dict[int, Answer] = {}

    async def replayed(number: int) -> None:
        for runs in replicas:
            await runs.show(KEY)  # catch up
            before = state_of(runs)
            answer = await ask(runs, trace[number], named(number, trace[number]))
            assert (answer.body, answer.replayed) == (answers[number].body, True)
            await runs.show(KEY)
            assert state_of(runs) == before

    for number, action in enumerate(trace):
        if isinstance(action, Patch):
            await replicas[0].change(KEY, action.changes)
            continue
        try:
            answers[number] = await ask(replicas[number % 2], action, named(number, action))
        except (Conflict, InvalidInput):  # a draw from an empty pool, a prompt that would change its domain
            continue
        if number < len(again) and again[number] in answers:
            await replayed(again[number])
    for number in answers:
        await replayed(number)
    for runs in replicas:
        await runs.show(KEY)
    assert state_of(replicas[0]) == state_of(replicas[1])
    for runs in replicas:
        await runs.close()


def named(number: int, action: Action) -> Given:
    return Given(Idempotency(f"key-{number}", hashlib.sha256(repr(action).encode()).digest()))
