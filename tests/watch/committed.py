"""What is committed for watching the service: dashboards, alerts, configuration; and the queries in them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROOT: Final = Path(__file__).parents[2]
GRAFANA: Final = ROOT / "deploy" / "grafana"
PROMETHEUS: Final = ROOT / "deploy" / "prometheus"
OPERATIONS: Final = ROOT / "docs" / "operations.md"
DASHBOARDS: Final = ("run", "service", "fleet")


def dashboard(name: str) -> dict[str, Any]:
    """The committed JSON."""
    content: dict[str, Any] = json.loads((GRAFANA / "dashboards" / f"{name}.json").read_text())
    return content


def panels(name: str) -> list[dict[str, Any]]:
    """The panels of a dashboard, rows left out."""
    return [panel for panel in dashboard(name)["panels"] if panel["type"] != "row"]


def alerts() -> dict[str, dict[str, Any]]:
    """The alerting rules by name."""
    groups = yaml.safe_load((PROMETHEUS / "alerts.yaml").read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


@dataclass(frozen=True, slots=True)
class Query:
    """A query and where it stands. `form`: how it is asked: over time, as of now, or for the values of a label."""

    where: str
    expr: str
    form: Literal["range", "instant", "label_values"]


def queries() -> list[Query]:
    """Every query of every panel, variable, annotation and alert."""
    shown = [query for name in DASHBOARDS for query in _of_dashboard(name)]
    return [*shown, *(Query(f"alert {name}", rule["expr"], "instant") for name, rule in alerts().items())]


def _of_dashboard(name: str) -> Iterator[Query]:
    board = dashboard(name)
    for panel in panels(name):
        for target in panel["targets"]:
            form: Literal["range", "instant"] = "instant" if target.get("instant") else "range"
            yield Query(f"{name} / {panel['title']} / {target['refId']}", target["expr"], form)
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            yield Query(f"{name} / ${variable['name']}", variable["query"]["query"], "label_values")
    for annotation in board["annotations"].get("list", []):
        yield Query(f"{name} / {annotation['name']}", annotation["expr"], "range")


def filled_in(
    expr: str, *, run: str, runs: Sequence[str], instances: Sequence[str], durations: Mapping[str, str]
) -> str:
    """The query as Grafana sends it: `run` chosen in a list of one choice, all `runs` and `instances` in the others."""
    expr = expr.replace('run="$run"', f'run="{run}"')
    for name, values in (("run", runs), ("instance", instances)):
        expr = expr.replace(f'"${name}"', '"(' + "|".join(map(_as_grafana_escapes, values)) + ')"')
    for name, duration in durations.items():
        expr = expr.replace(f"${name}", duration)
    assert not re.search(r"\$[a-z_]", expr), f"a variable that this test does not know: {expr}"
    return expr


def _as_grafana_escapes(value: str) -> str:
    return re.sub(r"([\\^$.|?*+()\[\]{}])", r"\\\\\1", value)


SELECTOR: Final = re.compile(r"\b((?:greso|process)_\w+|up)\b(\{[^{}]*\}|\{(?:[^{}\"]|\"[^\"]*\")*\})?")


def selectors(expr: str) -> set[str]:
    """The selectors of series in a query, without their ranges."""
    return {f"{name}{{}}" if not where else f"{name}{where}" for name, where in SELECTOR.findall(expr)}
