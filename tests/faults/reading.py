"""From a run's exported history to what the checker judges: which event is whose, and what it should have answered."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from greso_service import answers, plans, replay
from greso_service.core.events import Created, Event, Pooled, Reported, Rewound, Selected
from greso_service.core.fold import fold, rewound
from greso_service.core.mark import START
from greso_service.core.state import RunState
from greso_service.errors import GresoError
from greso_service.history import codec, exported
from greso_service.history.base import DEFAULT_TENANT, RunKey
from greso_service.history.codec import Recorded
from greso_service.history.memory import MemoryHistory

from ..folding import digest  # noqa: TID252
from .record import Asked, Happened

CREATED = "created"
_KINDS: dict[type[Event], tuple[str, ...]] = {Pooled: ("pool",), Reported: ("report",), Selected: ("select", "draw")}


@dataclass(frozen=True, slots=True)
class Read:
    """A history: its events, the digest of the state that they make, stale selections that no state in it makes."""

    happened: list[Happened]
    digest: str
    groundless: list[str]


async def read(run: str, export: bytes, asked: Sequence[Asked]) -> Read:
    """Read an export. Raises `ExportError` if it is not whole."""
    payloads = list(exported.read(export.splitlines(keepends=True)))
    history, key = MemoryHistory(), RunKey(DEFAULT_TENANT, run)
    await history.append(key, START, payloads, at_ms=0)
    reader = _Reader(run, asked)
    mark = START
    for payload in payloads:
        mark = mark.then(payload)
        recorded = codec.decode(payload)
        event = recorded.event
        if isinstance(event, Rewound):
            state = await replay.refold(history, key, event.kept)
            rewound(state, event, mark)
            reader.rewound(event, state)
        else:
            reader.take(recorded, payload)
    assert reader.state is not None
    return Read(reader.happened, digest(reader.state), [asked.id for asked in reader.stale])


class _Reader:
    """Goes through a history and finds for each event the request that it came of."""

    def __init__(self, run: str, asked: Iterable[Asked]) -> None:
        self.run = run
        self.state: RunState | None = None
        self.happened: list[Happened] = []
        self.free = list(asked)  # requests whose event was not met yet
        self.stale = [each for each in self.free if each.kind == "select" and any(told.stale for told in each.told)]

    def take(self, recorded: Recorded, payload: bytes) -> None:
        """The next event, no rewind."""
        event = recorded.event
        if self.state is None:
            self.happened.append(Happened(CREATED if isinstance(event, Created) else ""))
            self.state = RunState(event) if isinstance(event, Created) else None
            assert self.state is not None, "a history begins with its creation"
            return
        self._look_at_stale()
        self.happened.append(self._whose(self.state, recorded, payload))
        fold(self.state, event)
        self._look_at_stale()

    def rewound(self, event: Rewound, state: RunState) -> None:
        """The next event, a rewind to this state."""
        self.state = state
        answer = answers.run(self.run, state).body
        found = next((each for each in self.free if each.kind == "rewind" and each.body["step"] == event.step), None)
        if found is not None:
            self.free.remove(found)
        self.happened.append(Happened(found.id if found else "", answer=answer))
        self._look_at_stale()

    def _whose(self, state: RunState, recorded: Recorded, payload: bytes) -> Happened:
        kinds = _KINDS.get(type(recorded.event), ())
        near = None
        for each in self.free:
            if each.kind not in kinds or not _may_be(state, each, recorded.event):
                continue
            plan = planned(state, each)
            if plan is not None and codec.encode(Recorded(plan.events[0], recorded.at_ms, recorded.nonce)) == payload:
                self.free.remove(each)
                return Happened(each.id, answer=plan.answer)
            near = each if each.kind == "report" else near
        if near is None:  # a second event of one request, if it has one
            return Happened(self._second(state, recorded.event))
        self.free.remove(near)
        return Happened(near.id, whole=False)

    def _second(self, state: RunState, event: Event) -> str:
        return _own(state, event) if isinstance(event, Reported) else ""

    def _look_at_stale(self) -> None:
        for each in list(self.stale):
            plan = None if self.state is None else planned(self.state, each, stale=True)
            if plan and all(told.body == plan.answer for told in each.told if told.stale):
                self.stale.remove(each)


def _may_be(state: RunState, asked: Asked, event: Event) -> bool:
    """Whether an event may be of a request, by what tells requests of a kind apart."""
    match event:
        case Reported():
            return _own(state, event) == asked.id
        case Selected():
            drawn = event.cursor is not None or event.ranked is not None
            if event.step != asked.body["step"] or drawn != (asked.kind == "draw"):
                return False
            return drawn or event.examined == len(asked.body["prompts"])
    return True


def _own(state: RunState, event: Reported) -> str:
    """The id of the request that a report's own prompt names."""
    size = state.table.size
    for place in event.index.tolist():
        name = event.new[place - size].decode() if place >= size else state.table.texts([place])[0]
        if name.startswith("own/"):
            return f"report-{name.removeprefix('own/')}"
    return ""


def planned(state: RunState, asked: Asked, *, stale: bool = False) -> plans.Plan | None:
    """What a request would do to a state; None if it would be refused."""
    body = asked.body
    try:
        match asked.kind:
            case "report":
                groups = body["results"]
                prompts, rewards = [each["prompt"] for each in groups], [each["rewards"] for each in groups]
                return plans.report(state, body["step"], prompts, rewards, final=body["final"])
            case "select":
                return plans.select(
                    state, body["step"], body["prompts"], limit=None, at_least=0, explain=False, stale=stale
                )
            case "draw":
                return plans.draw(state, body["step"], body["count"])
            case _:
                return plans.pool(state, body["prompts"], "/prompts")
    except GresoError:
        return None
