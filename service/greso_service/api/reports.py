"""Reports as they come over the wire, the largest bodies of every step: read by a quick decoder.

It takes nothing that `ReportRequest` refuses. What it does not take is read again by that, which says what is wrong
with it and where.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from fastapi import Request
from msgspec import Meta, Struct

from greso_service.api import body
from greso_service.api.wire_requests import MOST_SECONDS, ReportRequest
from greso_service.core.events import Seconds
from greso_service.core.limits import LARGEST_STEP

_Some = Annotated[float, Meta(ge=0, le=MOST_SECONDS)]


class _Seconds(Struct, forbid_unknown_fields=True):
    rollout: _Some = 0.0
    update: _Some = 0.0


class _Group(Struct, forbid_unknown_fields=True, gc=False):  # holds numbers and a string: it is in no cycle
    prompt: str
    rewards: list[float]


class _Report(Struct, forbid_unknown_fields=True):
    step: Any  # as an int it would take 1.0
    results: list[_Group]
    final: bool = False
    seconds: _Seconds | None = None


_DECODER = msgspec.json.Decoder(_Report)


@dataclass(frozen=True, slots=True)
class Report:
    """What the rollouts of a step earned; `prompts` and `rewards` are by group."""

    step: int
    prompts: Sequence[str]
    rewards: Sequence[Sequence[float]]
    final: bool
    seconds: Seconds | None


async def read(request: Request) -> Report:
    """The request's report. Raises as `body.read`."""
    body.media_type(request, body.JSON)
    content = await request.body()
    if (quick := await body.placed(content, lambda: quickly(content))) is not None:
        return quick
    return thoroughly(await body.read(request, ReportRequest))


def quickly(content: bytes) -> Report | None:
    """The report in these bytes; None if there may be anything wrong with it."""
    try:
        read = _DECODER.decode(content)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):  # the last for what is nested too deep
        return None
    if type(read.step) is not int or not 0 <= read.step <= LARGEST_STEP:
        return None
    spent = None if read.seconds is None else Seconds(read.seconds.rollout, read.seconds.update)
    groups = read.results
    return Report(read.step, [group.prompt for group in groups], [group.rewards for group in groups], read.final, spent)


def thoroughly(asked: ReportRequest) -> Report:
    """The same of a body that pydantic has read."""
    spent = asked.seconds
    return Report(
        asked.step,
        [group["prompt"] for group in asked.results],
        [group["rewards"] for group in asked.results],
        asked.final,
        None if spent is None else Seconds(spent.get("rollout", 0.0), spent.get("update", 0.0)),
    )
