"""Rewinds and forks, on random histories: as if what they forget had never been."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from greso_service.core.events import Created, Event, Patched, Reported, Selected, completion
from greso_service.core.spec import RunSpec
from greso_service.core.state import RunState
from greso_service.errors import Conflict, InvalidInput
from greso_service.given import BARE
from greso_service.history.base import RunKey
from greso_service.history.memory import MemoryHistory
from greso_service.runs import Runs

from ..folding import content, fold  # noqa: TID252
from .test_replay import KEY, ask
from .traces import Action, Patch, actions, plan, specs, steps


@dataclass(frozen=True)
class Rewind:
    """Back to a step."""

    step: int


@dataclass(frozen=True)
class Fork:
    """Another run from here."""

    step: int | None


Deed = Action | Rewind | Fork
deeds: st.SearchStrategy[list[Deed]] = st.lists(
    st.one_of(actions, actions, actions, st.builds(Rewind, steps), st.builds(Fork, st.none() | steps)), max_size=25
)


class Model:
    """The events that count, kept as a list; what a rewind means is said here a second time, without spans or marks."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.events: list[Event] = [Created(RunSpec.of(spec).to_dict())]

    def state(self) -> RunState:
        first, *others = self.events
        assert isinstance(first, Created)
        return fold(RunState(first), others)

    def until(self, step: int) -> list[Event] | None:
        """What counts when the run goes back to the completion of `step`; None when it has not completed."""
        first, *others = self.events
        assert isinstance(first, Created)
        state = RunState(first)
        for place, event in enumerate(others, start=1):
            if not (isinstance(event, Reported) and event.step > step):
                fold(state, [event])
                place += 1  # noqa: PLW2901 - with this event
                if not state.progress.is_complete(step):
                    continue
            counting = [e for e in self.events[:place] if not (isinstance(e, Selected) and e.step > step)]
            return [*counting, completion(step)]
        return None


@given(specs, deeds, st.integers(1, 4))
def test_a_rewound_run_is_as_if_it_had_never_gone_on(spec: dict[str, Any], trace: list[Deed], often: int) -> None:
    asyncio.run(_played(spec, trace, often))


async def _played(spec: dict[str, Any], trace: list[Deed], often: int) -> None:
    history, model, generation = MemoryHistory(), Model(spec), 0
    replicas = [Runs(history, idempotency_ttl=60, snapshot_every=often) for _ in range(2)]
    await replicas[0].create(KEY, spec)
    for number, deed in enumerate(trace):
        runs = replicas[number % 2]
        match deed:
            case Rewind(step):
                kept = model.until(step)
                if await refused(runs.rewind(KEY, step)):
                    assert kept is None
                else:
                    assert kept is not None
                    model.events, generation = kept, generation + 1
            case Fork(step):
                kept = model.events if step is None else model.until(step)
                if await refused(runs.fork(KEY, f"fork-{number}", step)):
                    assert kept is None
                else:
                    assert kept is not None
                    forked = Model(spec)
                    forked.events = kept
                    await same(replicas, RunKey(KEY.tenant, f"fork-{number}"), forked, 0)
            case Patch(changes):
                await runs.change(KEY, changes)
                model.events.append(Patched(changes))
            case _:
                added = plan(model.state(), deed)
                if not await refused(ask(runs, deed, BARE)):
                    model.events += added
        await same(replicas, KEY, model, generation)
    fresh = Runs(history, idempotency_ttl=60, snapshot_every=100)
    await same([*replicas, fresh], KEY, model, generation)
    for runs in replicas:
        await runs.close()


async def refused(asking: Any) -> bool:
    try:
        await asking
    except (Conflict, InvalidInput):
        return True
    return False


async def same(replicas: list[Runs], key: RunKey, model: Model, generation: int) -> None:
    expected = model.state()
    expected.generation = generation
    for runs in replicas:
        await runs.show(key)
        live = runs._live.known(key)
        assert live is not None
        assert content(live) == content(expected)
