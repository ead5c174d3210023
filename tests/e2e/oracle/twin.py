"""Whole runs held against each other: everything that can be looked at, and what they answer from here on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .service import segment
from .views import all_pages

if TYPE_CHECKING:
    from .life import Life
    from .service import Service


@dataclass(frozen=True)
class Picture:
    """All that is shown of a run, but for what may differ between a run and its twin: name and generation."""

    state: dict[str, Any]
    steps: list[dict[str, Any]]
    prompts: dict[str, dict[str, Any]]


def picture(service: Service, path: str, *, pages: bool = True) -> Picture:
    """Look at everything; `pages` includes the page of each prompt with its recent groups."""
    state = service.json("GET", path)
    steps = service.json("GET", f"{path}/steps?limit=1000")["steps"]
    listed = {row["prompt"]: row for row in all_pages(service, f"{path}/prompts", "prompts", limit=1000)}
    if pages:
        listed = {prompt: service.json("GET", f"{path}/prompts/{segment(prompt)}") for prompt in listed}
    return Picture(anonymous(state), steps, listed)


def anonymous(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer without the run's name and generation."""
    return {name: value for name, value in answer.items() if name not in {"run", "generation"}}


def unrounded(shown: Picture, life: Life) -> Picture:
    """The picture without `rounds` of steps that a rewind ended: their twin needs a report to be ended by."""
    ended = {deed.arguments[0] for deed in life.deeds if deed.name == "end"}
    steps = [row | {"rounds": None} if row["step"] in ended else row for row in shown.steps]
    return Picture(shown.state, steps, shown.prompts)


def live_again(service: Service, life: Life, name: str) -> str:
    """Make a run to which only what `life` remembers was ever done, each answer the same; returns its path."""
    path = service.create(name, **life.first_spec.json())
    for deed in life.deeds:
        if deed.name == "end":
            service.json("POST", f"{path}/report", {"step": deed.arguments[0], "results": [], "final": True})
            continue
        assert deed.request is not None, deed
        request = deed.request
        answer = service.json(request.method, path + request.suffix, request.body)
        assert _lasting(answer) == _lasting(request.answer), f"{request} was answered {answer} by the twin"
    return path


def _lasting(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer without what counts questions that may be forgotten by now: the state that a change answers with."""
    return {"spec": answer["spec"]} if "spec" in answer else anonymous(answer)


def go_on(service: Service, path: str, step: int, prompts: list[str]) -> list[dict[str, Any]]:
    """What a trainer is told that goes on from here, without name and generation: selects, draws, a report."""
    names = sorted(prompts)
    told = []
    for later in (step + 1, step + 2):
        body: dict[str, Any] = {"step": later, "prompts": names, "explain": True, "at_least": len(names) // 2}
        told.append(service.json("POST", f"{path}/select", body))
        if service.json("GET", path)["pool"]:
            told += [service.json("POST", f"{path}/draw", {"step": later, "count": count}) for count in (1, 4, 9)]
            told.append(service.json("POST", f"{path}/draw", {"step": later}))
        results = [{"prompt": name, "rewards": [0, at % 3 // 2, 0]} for at, name in enumerate(names)]
        told.append(service.json("POST", f"{path}/report", {"step": later, "results": results}))
    return [anonymous(answer) for answer in told]
