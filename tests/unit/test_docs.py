"""What the documentation says is what the code does: parameters, vectors, routes, fields, limits, links, tests."""

from __future__ import annotations

import json
import re
from dataclasses import MISSING
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # its stubs are a package of their own
import pytest

from greso_service import answers, plans
from greso_service.api import problems
from greso_service.api.app import create_app
from greso_service.core.events import Created
from greso_service.core.fold import fold
from greso_service.core.spec import FIXED_AT_CREATION, PAPER, REFERENCE, Param, params
from greso_service.core.state import RunState
from greso_service.history.memory import MemoryHistory
from greso_service.settings import Settings, load, option

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *DOCS.rglob("*.md")])
README, ALGORITHM, API = (path.read_text() for path in (ROOT / "README.md", DOCS / "algorithm.md", DOCS / "api.md"))
FENCE = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def table(text: str, heading: str) -> list[list[str]]:
    """The rows of the first table behind a heading, without its head."""
    rest = text.partition(f"\n{heading}\n")[2]
    lines = re.search(r"(?:^\|.*\n)+", rest, re.MULTILINE)
    assert lines, f"no table behind {heading!r}"
    rows = lines.group().splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def code(cell: str) -> str:
    """The text of a cell that is `code`."""
    return cell.strip("`")


# The rule


def default_text(default: Any) -> str:
    """A default as people write it."""
    if default == 1 / 3:
        return "1/3"
    if isinstance(default, tuple):
        return json.dumps(list(default))
    if default is MISSING:  # that of `domains`
        return "none"
    if default is None or default is False:
        return "off"
    return default if isinstance(default, str) else f"{default:g}"


def allowed_text(param: Param) -> str:
    """What a field accepts."""
    if param.choices:
        return ", ".join(f"`{choice}`" for choice in param.choices)
    great = {2**63 - 1: "2^63 - 1", 1e300: "1e300", -1e300: "-1e300"}
    low, high = (great.get(bound) or f"{bound:,.0f}" for bound in (param.low, param.high))
    return " or ".join([f"{low} to {high}", *(f"`{word}`" for word in param.words)])


def parameter_table() -> str:
    """The table of docs/algorithm.md, made from the spec."""
    lines = ["| field | default | allowed | meaning | source of the default |", "|---|---|---|---|---|"]
    for name, (field, param) in params().items():
        marked = f"`{name}`" + (" *" if name in FIXED_AT_CREATION else "")
        source = {PAPER: "paper", REFERENCE: "reference"}.get(param.source, param.source)
        allowed = {"bool": "true, false", "domains": "[domains](policies.md#domains)"}.get(
            name if name == "domains" else str(field.type)
        ) or allowed_text(param)
        lines.append(f"| {marked} | {default_text(field.default)} | {allowed} | {param.help} | {source} |")
    return "\n".join(lines)


def test_the_parameters_are_those_of_the_code() -> None:
    told = ALGORITHM.partition("<!-- parameters")[2].partition("-->\n")[2].partition("\n<!-- end of parameters -->")[0]
    assert told == parameter_table(), f"docs/algorithm.md wants this table:\n{parameter_table()}"


def seen(groups: list[list[float]], **spec: Any) -> dict[str, Any]:
    """What the service tells of a prompt after these groups, all of one step that does not end: p stays 0.5."""
    state = RunState(Created(spec))
    for rewards in groups:
        for event in plans.report(state, 0, ["p"], [rewards], final=False).events:
            fold(state, event)
    if not groups:
        for event in plans.pool(state, ["p"], "").events:
            fold(state, event)
    answer = answers.prompt(state, "p")
    assert answer is not None
    told: dict[str, Any] = json.loads(answer.body)
    return told


VECTORS = table(ALGORITHM, "## Worked vectors")


@pytest.mark.parametrize(("history", "streak", "kind", "keep"), VECTORS, ids=[row[0] for row in VECTORS])
def test_the_worked_vectors_hold(history: str, streak: str, kind: str, keep: str) -> None:
    groups, _, rule = history.partition(" with ")
    spec = {"streak_rule": code(rule)} if rule else {}
    told = seen([] if groups == "none" else json.loads(f"[{groups}]"), **spec)
    assert (told["streak"], told["kind"], told["keep_probability"]) == (int(streak), kind, float(keep))


def test_the_worked_step_holds() -> None:
    kinds = [[0.0, 1.0]] * 231 + [[1.0, 1.0]] * 90 + [[0.0, 0.0]] * 63
    state = RunState(Created({}))
    names = [f"p{row}" for row in range(384)]
    for event in plans.report(state, 0, names, [[0.0, 1.0]] * 384, final=True).events:
        fold(state, event)
    plan = plans.report(state, 1, names, kinds, final=False)
    told = json.loads(plan.answer)
    assert (told["step"]["missing"], told["next_rollout_batch_size"]) == (25, 52)
    for event in [*plan.events]:
        fold(state, event)
    told = json.loads(plans.report(state, 1, [], [], final=True).answer)
    assert told["exploration"] == {"easy": 0.49, "hard": 0.51}
    for fact in ("missing = 25", "= 52", "p_easy goes to 0.49", "p_hard goes to 0.51"):
        assert fact in ALGORITHM.replace("\n", " ")


# The HTTP contract


@pytest.fixture(scope="module")
def openapi() -> dict[str, Any]:
    return create_app(load(), MemoryHistory()).openapi()


def test_every_route_is_described_and_no_other(openapi: dict[str, Any]) -> None:
    routes = {f"{method.upper()} {path}" for path, methods in openapi["paths"].items() for method in methods}
    told = set(re.findall(r"`((?:GET|PUT|POST|PATCH|DELETE) /[^`?\s]*)", API))
    assert told - {"GET /openapi.json", "GET /docs", "GET /"} == routes


def test_every_field_is_described(openapi: dict[str, Any]) -> None:
    fields = {field for schema in openapi["components"]["schemas"].values() for field in schema.get("properties", {})}
    known = set(re.findall(r"[a-z_]+", API)) | set(params())
    assert fields <= known, f"docs/api.md does not mention {sorted(fields - known)}"


def test_every_query_parameter_is_described(openapi: dict[str, Any]) -> None:
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            [line] = re.findall(rf"^.*`{method.upper()} {re.escape(path)}[`?].*$", API, re.MULTILINE)[:1]
            for parameter in operation.get("parameters", []):
                if parameter["in"] == "query":
                    assert parameter["name"] in line, f"docs/api.md: {method} {path} lacks {parameter['name']}"


def test_every_problem_type_is_described_and_no_other() -> None:
    rows = {(code(row[0]), code(row[1])) for row in table(API, "## Errors")}
    types = {(str(status), f"urn:greso:problem:{name}") for status, name in problems._TYPES.items()}
    assert rows == types | {
        ("409", "urn:greso:problem:stale-generation"),
        ("422", "urn:greso:problem:idempotency-key-reused"),
        ("500", "urn:greso:problem:unreadable-history"),
    }


def test_the_limits_are_those_of_the_settings() -> None:
    for row in table(API, "## Limits"):
        setting, default = code(row[1]), row[2]
        [name] = [name for name in Settings.model_fields if option(name) == setting]
        told = Settings.model_fields[name].default
        assert default in {f"{told:,}", f"{told // 2**20} MiB"}, f"{setting} is {told}"


@pytest.mark.parametrize(
    ("heading", "model"),
    [
        ("Pool", "Pool"),
        ("Draw", "Draw"),
        ("Select", "Selection"),
        ("Report", "Report"),
        ("Steps", "StepList"),
        ("Prompts", "PromptList"),
    ],
)
def test_the_answers_shown_fit_their_schemas(heading: str, model: str, openapi: dict[str, Any]) -> None:
    # That they are real answers is shown by tests/integration/test_docs_commands.py.
    section = API.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    [shown, *_] = re.findall(r"```json\n(\{.*?\})\n(?=```|\{)", section, re.DOTALL)
    # What the model says of a prompt is its own affair.
    answer = json.loads(shown.replace('"pass_rate": "..."', '"pass_rate": 0.5'))
    jsonschema.validate(answer, {"$ref": f"#/components/schemas/{model}", "components": openapi["components"]})
    unknown = named(answer) - {
        field for schema in openapi["components"]["schemas"].values() for field in schema.get("properties", {})
    }
    assert not unknown, f"the schema of {model} lacks {unknown}"


def named(content: Any) -> set[str]:
    """All names of members, at any depth."""
    if isinstance(content, list):
        return set().union(*map(named, content))
    if isinstance(content, dict):
        return set(content).union(*map(named, content.values()))
    return set()


# Links and names


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_links_inside_the_project_resolve(page: Path) -> None:
    for target in LINK.findall(FENCE.sub("", page.read_text())):
        if target.startswith("https://arxiv.org/"):
            continue
        path, _, anchor = target.partition("#")
        assert "://" not in path, f"{page.name} names another host: {target}"
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{page.name} links to {target}, which is not there"
        if anchor:
            assert anchor in anchors(linked.read_text()), f"{page.name} links to {target}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_no_host_but_arxiv_is_named(page: Path) -> None:
    hosts = set(re.findall(r"https?://([\w-]+(?:\.[\w-]+)+)", page.read_text()))
    assert hosts <= {"arxiv.org", "127.0.0.1"}


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_is_in_the_index() -> None:
    index = {(DOCS / target.partition("#")[0]).resolve() for target in LINK.findall((DOCS / "README.md").read_text())}
    assert {page for page in PAGES if page.is_relative_to(DOCS)} - {DOCS / "README.md"} <= index


def test_every_test_that_a_promise_names_is_there() -> None:
    named = re.findall(r"`(tests/[\w/.]+)(?:::(\w+))?`", "".join(page.read_text() for page in PAGES))
    assert len(named) > 5
    for path, test in named:
        assert (ROOT / path).exists(), f"{path} is not there"
        assert not test or f"def {test}(" in (ROOT / path).read_text(), f"{path} has no {test}"


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 150


def test_the_changelog_has_this_version() -> None:
    [version] = re.findall(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert re.search(
        rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE
    )
