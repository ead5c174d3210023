"""The API keeps to its own description, docs/openapi.json: generated requests, and every answer checked."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import jsonschema  # type: ignore[import-untyped]  # its stubs are a package of their own
import pytest
import schemathesis
from hypothesis import given
from hypothesis import settings as examples
from schemathesis import Case
from schemathesis.core.result import Ok
from typer.testing import CliRunner

from greso_service.api.app import create_app
from greso_service.cli import app as cli
from greso_service.history.memory import MemoryHistory
from greso_service.settings import load

from ..asgi import client_of, over_shared, problem  # noqa: TID252

OPENAPI = Path(__file__).parents[2] / "docs" / "openapi.json"
APP = create_app(load(), MemoryHistory())
SCHEMA = schemathesis.openapi.from_asgi("/openapi.json", APP)
DESCRIBED: dict[str, Any] = json.loads(json.dumps(APP.openapi()))
# The others find fault with requests that fit the schema and contradict themselves otherwise, such as at_least > limit.
CHECKS: Any = schemathesis.checks.CHECKS.get_by_names(
    ["status_code_conformance", "content_type_conformance", "response_schema_conformance"]
)
OPERATIONS: dict[str, Any] = {
    each.ok().label: each.ok() for each in SCHEMA.get_all_operations() if isinstance(each, Ok)
}


def test_the_committed_description_is_current() -> None:
    printed = CliRunner().invoke(cli, ["openapi"])
    assert printed.exit_code == 0
    assert OPENAPI.read_text() == printed.stdout, "run: .venv/bin/greso openapi > docs/openapi.json"
    assert json.loads(printed.stdout) == DESCRIBED


@pytest.mark.parametrize("name", OPERATIONS)
def test_generated_requests_are_answered_as_described(name: str) -> None:
    # Not by schemathesis's own parametrize, which pytest 9 trips over.
    @examples(max_examples=25)
    @given(OPERATIONS[name].as_strategy())
    def answered(case: Case[Any]) -> None:
        if "run" in case.path_parameters and case.method != "DELETE":
            case.path_parameters["run"] = "fuzzed"
        if case.path.endswith("/events"):
            case.query["follow"] = "false"  # else it would never end
        answer = case.call()
        case.validate_response(answer, checks=CHECKS)
        assert answer.status_code != 500
        if answer.status_code >= 400 and case.path != "/readyz":
            assert answer.headers["content-type"] == ["application/problem+json"]
            content = answer.json()
            assert content["status"] == answer.status_code
            assert content["instance"]

    asyncio.run(_begin())
    answered()


async def _begin() -> None:
    async with client_of(APP) as client:
        await client.put("/v1/runs/fuzzed", json={})
        results = [{"prompt": "0", "rewards": [0, 0]}, {"prompt": "é", "rewards": []}]
        await client.post("/v1/runs/fuzzed/report", json={"step": 3, "results": results})


def schema_of(method: str, path: str, status: int) -> dict[str, Any]:
    """The schema of an answer, with the components it refers to."""
    operation = DESCRIBED["paths"][path][method.lower()]
    content = operation["responses"][str(status)].get("content", {})
    schema = content["application/json"]["schema"]
    return {**schema, "components": DESCRIBED["components"]}


class Exported(NamedTuple):
    """Stands for the export of a run as a body."""

    run: str


# method, template, path, body, status: in order, each on the state that those before left
STORY: list[tuple[str, str, str, Any, int]] = [
    ("PUT", "/v1/runs/{run}", "/v1/runs/r", {"seed": 7, "easy_min_mean": 0.9, "train_batch_size": 3}, 201),
    ("PUT", "/v1/runs/{run}", "/v1/runs/r", {"seed": 7, "easy_min_mean": 0.9, "train_batch_size": 3}, 200),
    ("PATCH", "/v1/runs/{run}", "/v1/runs/r", {"train_batch_size": 2, "easy_min_mean": None}, 200),
    ("GET", "/v1/runs/{run}", "/v1/runs/r", None, 200),
    ("GET", "/v1/runs/{run}/steps", "/v1/runs/r/steps", None, 200),
    ("PUT", "/v1/runs/{run}/pool", "/v1/runs/r/pool", {"prompts": ["a", "b", "é"]}, 200),
    ("POST", "/v1/runs/{run}/draw", "/v1/runs/r/draw", {"step": 0}, 200),
    ("POST", "/v1/runs/{run}/select", "/v1/runs/r/select", {"step": 0, "prompts": ["a", "x"], "explain": True}, 200),
    ("POST", "/v1/runs/{run}/select", "/v1/runs/r/select", {"step": 0, "prompts": []}, 200),
    (
        "POST", "/v1/runs/{run}/report", "/v1/runs/r/report",
        {"step": 0, "results": [{"prompt": "a", "rewards": [0, 1]}, {"prompt": "b", "rewards": []}]}, 200,
    ),
    ("POST", "/v1/runs/{run}/report", "/v1/runs/r/report", {"step": 0, "results": [], "final": True}, 200),
    ("GET", "/v1/runs/{run}", "/v1/runs/r", None, 200),
    ("GET", "/v1/runs/{run}/steps", "/v1/runs/r/steps?after=-1&limit=1", None, 200),
    ("GET", "/v1/runs/{run}/prompts", "/v1/runs/r/prompts?limit=1", None, 200),
    ("GET", "/v1/runs/{run}/prompts", "/v1/runs/r/prompts?kind=new&sort=mean", None, 200),
    ("GET", "/v1/runs/{run}/prompts/{prompt}", "/v1/runs/r/prompts/a", None, 200),
    ("GET", "/v1/runs/{run}/prompts/{prompt}", "/v1/runs/r/prompts/b", None, 200),
    ("GET", "/v1/runs/{run}/prompts/{prompt}", "/v1/runs/r/prompts/%C3%A9", None, 200),
    ("GET", "/v1/runs/{run}/overview", "/v1/runs/r/overview", None, 200),
    ("GET", "/v1/runs/{run}/curves", "/v1/runs/r/curves?points=10", None, 200),
    ("GET", "/v1/runs/{run}/map", "/v1/runs/r/map?sort=kind&limit=2", None, 200),
    ("GET", "/v1/runs/{run}/why/{prompt}", "/v1/runs/r/why/a", None, 200),
    ("GET", "/v1/runs/{run}/why/{prompt}", "/v1/runs/r/why/%C3%A9", None, 200),
    ("POST", "/v1/runs/{run}/fork", "/v1/runs/r/fork", {"run": "s", "step": 0}, 201),
    ("POST", "/v1/runs/{run}/rewind", "/v1/runs/r/rewind", {"step": 0}, 200),
    ("PUT", "/v1/runs/{run}/import", "/v1/runs/t/import", Exported("r"), 201),
    ("PUT", "/v1/runs/{run}/import", "/v1/runs/r/import", Exported("r"), 200),
    ("GET", "/v1/runs", "/v1/runs?limit=1", None, 200),
    ("GET", "/v1/overview", "/v1/overview?limit=1", None, 200),
    ("GET", "/livez", "/livez", None, 200),
    ("GET", "/readyz", "/readyz", None, 503),
    ("GET", "/version", "/version", None, 200),
]  # fmt: skip


def test_every_answer_fits_its_schema() -> None:
    async def story(client: httpx.AsyncClient) -> None:
        for method, template, path, body, status in STORY:
            if isinstance(body, Exported):
                text = (await client.get(f"/v1/runs/{body.run}/export")).content
                answer = await client.request(method, path, content=text)
            else:
                answer = await client.request(method, path, json=body)
            assert answer.status_code == status, f"{method} {path}: {answer.text}"
            jsonschema.validate(answer.json(), closed(schema_of(method, template, status)))

    over_shared(story)


def closed(schema: Any) -> Any:
    """The schema, with fields that it does not describe refused."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {name: closed(each) for name, each in schema.items()}
    return (
        {"additionalProperties": False, **inner} if "properties" in schema and schema.get("type") == "object" else inner
    )


def test_the_story_asks_every_operation_that_answers_json() -> None:
    asked = {(method, template) for method, template, _, _, _ in STORY}
    described = {(method.upper(), path) for path, methods in DESCRIBED["paths"].items() for method in methods}
    assert described - asked == {
        ("DELETE", "/v1/runs/{run}"),
        ("GET", "/metrics"),
        ("GET", "/v1/runs/{run}/events"),
        ("GET", "/v1/runs/{run}/export"),
    }


def test_problems_fit_their_schema() -> None:
    async def story(client: httpx.AsyncClient) -> None:
        schema = {**DESCRIBED["components"]["schemas"]["Problem"], "components": DESCRIBED["components"]}
        for request, status in ((client.get("/nothing"), 404), (client.put("/v1/runs/r", json={"seed": -1}), 422)):
            jsonschema.validate(problem(await request, status), closed(schema))

    over_shared(story)


@pytest.mark.parametrize(("method", "path"), [(m.upper(), p) for p, ms in DESCRIBED["paths"].items() for m in ms])
def test_every_operation_says_what_it_is_and_how_it_fails(method: str, path: str) -> None:
    operation = DESCRIBED["paths"][path][method.lower()]
    assert operation["summary"]
    assert operation["tags"]
    if path.startswith("/v1"):
        for failure in ("4XX", "5XX"):
            content = operation["responses"][failure]["content"]["application/problem+json"]
            assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
    if method in {"POST", "PUT"} and path.startswith("/v1/runs/{run}/"):
        assert "Idempotency-Key" in [each["name"] for each in operation["parameters"]]
    if method != "GET" and path.startswith("/v1/runs/{run}"):
        assert "Greso-Generation" in [each["name"] for each in operation["parameters"]]
