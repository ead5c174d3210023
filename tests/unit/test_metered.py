"""What is known of a store by what it answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import pytest

from greso_service.core.mark import START
from greso_service.errors import Unwritable
from greso_service.history.base import Once, RunKey
from greso_service.history.memory import MemoryHistory
from greso_service.telemetry.metered import LATELY, MeteredHistory
from greso_service.telemetry.metrics import Metrics

from ..stores import PassingHistory  # noqa: TID252

KEY = RunKey("default", "r")
ONCE = Once("k", b"d" * 32, b"{}", 60)


async def events() -> AsyncIterator[Sequence[bytes]]:
    yield [b"x"]


class Full(PassingHistory):
    """Takes no writes, and tells so of one question, too."""

    async def refuse(self, *_args: Any, **_options: Any) -> Any:
        raise Unwritable("full")

    append = begin = remember = confirm = extend = drop = ping = refuse

    def draft(self, *_: Any) -> Any:
        return self


def metered(history: Any, clock: Callable[[], float] = lambda: 0.0) -> MeteredHistory:
    metrics = Metrics("1.2.3", in_flight_limit=8, most_runs=1, snapshot_every=9, seen=lambda: iter(()))
    return MeteredHistory(history, metrics, clock)


WRITES: dict[str, Callable[[MeteredHistory], Awaitable[Any]]] = {
    "append": lambda history: history.append(KEY, START, [b"x"], at_ms=1),
    "begin": lambda history: history.begin(KEY, events(), at_ms=1),
    "draft": lambda history: history.draft(KEY).extend([b"x"]),
    "remember": lambda history: history.remember(KEY, ONCE),
    "confirm": lambda history: history.confirm(KEY),
}


@pytest.mark.parametrize("write", WRITES)
def test_every_write_that_is_refused_is_told_of_for_a_while(write: str) -> None:
    now = 0.0
    history = metered(Full(MemoryHistory()), lambda: now)
    with pytest.raises(Unwritable):
        asyncio.run(WRITES[write](history))  # type: ignore[arg-type]
    assert history.refused_writes() == "full"
    now = LATELY + 1
    assert history.refused_writes() == ""


@pytest.mark.parametrize("write", ["append", "begin"])
def test_it_is_told_of_no_more_when_another_one_was_taken(write: str) -> None:
    full = Full(MemoryHistory())
    history = metered(full)

    async def story() -> None:
        with pytest.raises(Unwritable):
            await WRITES["remember"](history)
        history._history = MemoryHistory()
        await WRITES[write](history)

    asyncio.run(story())
    assert history.refused_writes() == ""


def test_a_question_that_is_refused_is_no_write() -> None:
    history = metered(Full(MemoryHistory()))
    with pytest.raises(Unwritable):
        asyncio.run(history.ping())
    assert history.refused_writes() == ""
