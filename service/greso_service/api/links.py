"""OpenAPI links: which call may follow which answer, for readers of the description and machines that test by it."""

from __future__ import annotations

from typing import Any, Final

_RUN: Final = "$request.path.run"
_PUT, _POST, _GET = "PUT /v1/runs/{run}", "POST /v1/runs/{run}", "GET /v1/runs/{run}"


class _Link:
    """A call that may follow: its name, and what it takes from the request and answer before it."""

    def __init__(self, call: str, body: Any = None, **parameters: str) -> None:
        self.call = call
        self.body = body
        self.parameters = parameters or {"run": _RUN}


_SELECT = _Link(f"{_POST}/select", {"step": 0, "prompts": ["a", "b", "c"]})
_POOL = _Link(f"{_PUT}/pool", {"prompts": ["a", "b", "c", "d"]})
_DRAW = _Link(f"{_POST}/draw", {"step": 0, "count": 2})
_REWIND = _Link(f"{_POST}/rewind", {"step": "$response.body#/step/number"})
_FORK = _Link(f"{_POST}/fork")
_DELETE = _Link("DELETE /v1/runs/{run}")
_PROMPT = "$response.body#/prompts/0"


def _report(prompt: str) -> _Link:
    """A report of one group that ends the step, so that the run can be rewound to it."""
    results = [{"prompt": prompt, "rewards": [0, 1]}]
    return _Link(f"{_POST}/report", {"step": "$request.body#/step", "results": results, "final": True})


_LINKS: Final[dict[tuple[str, int], list[_Link]]] = {
    (_PUT, 201): [_POOL, _SELECT, _FORK, _DELETE, _Link(_GET), _Link("PATCH /v1/runs/{run}")],
    (_PUT, 200): [_POOL, _SELECT, _DELETE],
    ("GET /v1/runs", 200): [
        _Link(_PUT, run="my-run"),
        _Link(_GET, run="$response.body#/runs/0/run"),
        _Link("GET /v1/runs", cursor="$response.body#/cursor"),
    ],
    (f"{_PUT}/pool", 200): [_DRAW, _Link(f"{_GET}/prompts")],
    (f"{_POST}/draw", 200): [_report(_PROMPT), _Link(f"{_GET}/why/{{prompt}}", run=_RUN, prompt=_PROMPT)],
    (f"{_POST}/select", 200): [_report("$request.body#/prompts/0")],
    (f"{_POST}/report", 200): [
        _REWIND,
        _FORK,
        _Link(_GET),
        _Link(f"{_GET}/steps"),
        _Link(f"{_GET}/overview"),
        _Link(f"{_GET}/curves"),
        _Link(f"{_GET}/map"),
        _Link(f"{_GET}/export"),
        _Link(f"{_GET}/events"),
        _Link(f"{_GET}/prompts/{{prompt}}", run=_RUN, prompt="$request.body#/results/0/prompt"),
    ],
    (f"{_POST}/rewind", 200): [_Link(_GET), _Link(f"{_GET}/steps"), _DRAW, _SELECT, _DELETE],
    (f"{_POST}/fork", 201): [
        _Link(each.call, each.body, run="$response.body#/run") for each in (_Link(_GET), _SELECT, _DELETE)
    ],
    (f"{_GET}/export", 200): [_Link(f"{_PUT}/import", "$response.body")],
    (f"{_PUT}/import", 201): [_Link(_GET), _Link(f"{_GET}/export"), _DELETE],
}


def add(schema: dict[str, Any]) -> None:
    """Write the links into a description of the API."""
    for (call, status), links in _LINKS.items():
        answer = _operation(schema, call)["responses"][str(status)]
        written = [_written(schema, link) for link in links]
        answer["links"] = {each["operationId"]: each for each in written}


def _written(schema: dict[str, Any], link: _Link) -> dict[str, Any]:
    written = {"operationId": _operation(schema, link.call)["operationId"], "parameters": link.parameters}
    return written if link.body is None else {**written, "requestBody": link.body}


def _operation(schema: dict[str, Any], call: str) -> Any:
    method, _, path = call.partition(" ")
    return schema["paths"][path][method.lower()]
