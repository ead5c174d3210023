"""Reading uploads to the pool: ids, or objects with what is known of a prompt beforehand, as JSON or NDJSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from fastapi import Request
from pydantic import FailFast, TypeAdapter, ValidationError

from greso_service.api import body, wire_requests
from greso_service.api.problems import faults_of
from greso_service.errors import Fault, InvalidInput
from greso_service.joining import Named
from greso_service.priors import Rates, too_many

_OBJECTS = TypeAdapter(Annotated[list[wire_requests.PoolPrompt], FailFast()])
_UNSAID = 0


@dataclass(frozen=True, slots=True)
class Upload:
    """Prompts for a pool. `prompts`: None for all that `from_run` has. `pointer`: where they stand in the request."""

    prompts: list[str] | None
    pointer: str
    rates: Rates | None = None
    domains: Named | None = None
    from_run: str | None = None


async def read(request: Request, most: int) -> Upload:
    """The upload in a request's body, of `most` prompts (the setting max_pool_upload)."""
    if body.media_type(request, body.JSON, body.NDJSON) == body.NDJSON:
        pointer, from_run, given = "", None, await body.read_lines(request)
    else:
        asked = await body.read(request, wire_requests.PoolRequest)
        pointer, from_run, given = "/prompts", asked.from_run or None, asked.prompts
        if "prompts" not in asked.model_fields_set:
            if from_run is None:
                raise InvalidInput(Fault(pointer, "field required"))
            return Upload(None, pointer, from_run=from_run)
    if len(given) > most:
        raise InvalidInput(Fault(pointer, f"has {len(given)} entries; {too_many(most)}"))
    content = await request.body()
    prompts, rates, domains = await body.placed(content, lambda: _read(given, pointer))
    return Upload(prompts, pointer, rates, domains, from_run)


def _read(given: Sequence[Any], pointer: str) -> tuple[list[str], Rates | None, Named | None]:
    """Ids, and the rates and domains that some came with. Raises `InvalidInput` for the first item that is wrong."""
    if set(map(type, given)) <= {str}:
        return list(given), None, None
    rows = [row for row, item in enumerate(given) if type(item) is not str]
    items = [given[row] for row in rows]
    stray = next((place for place, item in enumerate(items) if type(item) is not dict), None)
    try:
        objects = _OBJECTS.validate_python(items if stray is None else items[:stray])
    except ValidationError as error:
        raise InvalidInput(*(_moved(fault, rows, pointer) for fault in faults_of(error))) from None
    if stray is not None:
        raise InvalidInput(Fault(f"{pointer}/{rows[stray]}", "must be a JSON string, the prompt's id, or an object"))
    prompts = list(given)
    for row, item in zip(rows, objects, strict=True):
        prompts[row] = item["prompt"]
    return prompts, _rates(rows, objects, pointer), _domains(rows, objects)


def _moved(fault: Fault, rows: Sequence[int], pointer: str) -> Fault:
    """A fault in one of the objects, by its place in the request."""
    _, place, *within = fault.pointer.split("/")
    if within == ["prompt"] and fault.detail == "field required":
        return Fault(f"{pointer}/{rows[int(place)]}", "must be the prompt's id, or an object with a prompt")
    return Fault("/".join([f"{pointer}/{rows[int(place)]}", *within]), fault.detail)


def _rates(rows: Sequence[int], objects: Sequence[wire_requests.PoolPrompt], pointer: str) -> Rates | None:
    rate = np.array([item.get("pass_rate", math.nan) for item in objects], np.float64)
    samples = np.array([item.get("samples", _UNSAID) for item in objects], np.int64)
    rated = ~np.isnan(rate)
    unrated = np.flatnonzero(~rated & (samples != _UNSAID))
    if unrated.size:
        raise InvalidInput(Fault(f"{pointer}/{rows[unrated[0]]}/samples", "says nothing without a pass_rate"))
    return Rates(np.array(rows, np.int64)[rated], rate[rated], samples[rated]) if rated.any() else None


def _domains(rows: Sequence[int], objects: Sequence[wire_requests.PoolPrompt]) -> Named | None:
    said = [(row, item["domain"]) for row, item in zip(rows, objects, strict=True) if "domain" in item]
    return Named(np.array([row for row, _ in said], np.int64), [name for _, name in said]) if said else None
