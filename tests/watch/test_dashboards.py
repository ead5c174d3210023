"""The dashboards' JSON: made by the code, complete, and about metrics and parameters that exist."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import units
from tests.watch.committed import DASHBOARDS, ROOT, Query, dashboard, panels, queries

from greso_service.core.spec import DOMAIN_FIELDS, params
from greso_service.settings import Settings, option
from greso_service.telemetry.catalogue import ALL, STATE, exposed

PANELS = [(name, panel) for name in DASHBOARDS for panel in panels(name)]
QUERIES = queries()
UNITS = {value for name, value in vars(units).items() if not name.startswith("_") and isinstance(value, str)}
LATEST = "|".join(exposed(metric) for metric in STATE if metric.over == "max")
COUNTERS = "|".join(exposed(metric) for metric in ALL.values() if metric.kind == "counter")


def title(panel: tuple[str, dict[str, Any]]) -> str:
    return f"{panel[0]} / {panel[1]['title']}"


def test_the_committed_dashboards_are_what_the_code_makes() -> None:
    made = subprocess.run(
        [sys.executable, "-m", "deploy.grafana.make", "--check"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr


@pytest.mark.parametrize("name", DASHBOARDS)
def test_grafanas_kit_reads_them_back_and_finds_all_it_wrote(name: str) -> None:
    content = dashboard(name)
    register_default_plugins()
    again = json.loads(json.dumps(model.Dashboard.from_json(content), cls=JSONEncoder))
    assert again["panels"] == content["panels"]
    assert again["templating"] == content["templating"]
    assert (content["uid"], content["title"]) == (f"greso-{name}", f"GRESO / {name.capitalize()}")
    assert {link["type"] for link in content["links"]} == {"dashboards"}
    assert content["tags"] == content["links"][0]["tags"]


@pytest.mark.parametrize("panel", PANELS, ids=map(title, PANELS))
def test_every_panel_says_what_it_shows_in_which_unit_and_what_to_do(panel: tuple[str, dict[str, Any]]) -> None:
    _, content = panel
    assert len(content["description"].split()) >= 12
    config = content["fieldConfig"]
    if content["type"] == "table":
        found = [each for rule in config["overrides"] for each in rule["properties"] if each["id"] == "unit"]
        assert len(found) >= len(content["targets"]) - 1
        assert {each["value"] for each in found} <= UNITS
    else:
        assert config["defaults"]["unit"] in UNITS
        assert all(target["legendFormat"] for target in content["targets"])
    assert content["targets"]
    for target in [content, *content["targets"]]:
        assert target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    references = [target["refId"] for target in content["targets"]]
    assert len(set(references)) == len(references)


OTHER_WORDS = {
    *("uniform", "other", "budget"),
    *("domains", *DOMAIN_FIELDS),
    *("read", "append", "load", "unavailable", "error", "maxmemory", "appendfsync always"),
    *("/readyz", "DELETE /v1/runs/{run}"),
}
SAID = [(title(panel), word) for panel in PANELS for word in re.findall(r"`([^`]+)`", panel[1]["description"])]


@pytest.mark.parametrize(("where", "word"), SAID, ids=[f"{where}: {word}" for where, word in SAID])
def test_what_a_description_says_to_turn_is_there(where: str, word: str) -> None:
    if word.startswith("--"):
        assert word in {option(name) for name in Settings.model_fields}
    elif re.fullmatch(r"[a-z]+(_[a-z]+)+|policy", word):
        assert word in {*params()}
    else:
        assert word in OTHER_WORDS


def test_the_run_dashboard_names_what_can_be_turned() -> None:
    wanted = {
        "target_zero_variance", "easy_share", "exploration_bounds", "exploration_step", "min_keep_probability",
        "rollout_batch_size", "min_rollout_batch_size", "train_batch_size", "safety_factor", "policy", "group_size",
        "reward_tolerance",
    }  # fmt: skip
    assert wanted <= {word for where, word in SAID if where.startswith("run / ")}


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_have_numbers_and_places_of_their_own(name: str) -> None:
    content = dashboard(name)["panels"]
    assert len({panel["id"] for panel in content}) == len(content)
    places = [panel["gridPos"] for panel in content]
    for place in places:
        assert 0 <= place["x"] < place["x"] + place["w"] <= 24
    for one, other in itertools.combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below, (one, other)


@pytest.mark.parametrize(
    ("name", "variables", "annotations"),
    [
        ("run", ["datasource", "run", "window"], ["Rewind", "Spec changed"]),
        ("service", ["datasource", "instance"], []),
        ("fleet", ["datasource", "run", "window"], ["Rewind", "Spec changed"]),
    ],
)
def test_variables_and_annotations(name: str, variables: list[str], annotations: list[str]) -> None:
    content = dashboard(name)
    assert [variable["name"] for variable in content["templating"]["list"]] == variables
    listed = content["annotations"].get("list", [])
    assert [annotation["name"] for annotation in listed] == annotations
    for annotation in listed:
        # Grafana reads the query from `target`, older ones from `expr`.
        assert annotation["target"]["expr"] == annotation["expr"]
    known = {*variables, "__rate_interval", "__range"}
    for query in (query for query in QUERIES if query.where.startswith(f"{name} / ")):
        assert set(re.findall(r"\$(\w+)", query.expr)) <= known


def test_every_metric_of_the_service_is_watched_but_those_named_here() -> None:
    asked = "".join(query.expr for query in QUERIES)
    unwatched = {name for name, metric in ALL.items() if exposed(metric) not in asked}
    assert unwatched == set()


@pytest.mark.parametrize("query", QUERIES, ids=[query.where for query in QUERIES])
def test_queries_ask_for_metrics_and_labels_that_exist(query: Query) -> None:
    names = {exposed(metric): metric for metric in ALL.values()}
    names |= {f"{exposed(metric)}_bucket": metric for metric in ALL.values() if metric.kind == "histogram"}
    for name, where in re.findall(r"\b(greso_\w+)(\{(?:[^{}\"]|\"[^\"]*\")*\})?", query.expr):
        labels = names[name].labels
        for label, values in re.findall(r'(\w+)(?:=~|!=|!~|=)"([^"]*)"', where):
            assert label in {*labels, "instance", "job"}, name
            allowed = labels.get(label)
            if allowed is not None and not values.startswith("$"):
                assert set(values.split("|")) <= set(allowed), (label, values)


def around(text: str, end: int) -> list[str]:
    """What stands around a place in a query, innermost first: `rate`, `sum by (run)`, "" for mere parentheses."""
    opened: list[str] = []
    for place, character in enumerate(text[:end]):
        if character == "(":
            opened.append(re.search(r"(\w+ ?(by \([^)]*\))?)? ?$", text[:place])[0].strip())  # type: ignore[index]
        elif character == ")":
            opened.pop()
    return opened[::-1]


@pytest.mark.parametrize("query", QUERIES, ids=[query.where for query in QUERIES])
def test_two_replicas_double_no_figure(query: Query) -> None:
    text = "" if query.form == "label_values" else re.sub(r"\s+", " ", query.expr)
    for found in re.finditer(rf"\b({LATEST})\b", text):
        [first, *_] = [each for each in around(text, found.start()) if not each.endswith("_over_time")]
        assert first.startswith("max by (run"), f"not the greatest of {found[0]}: {text}"
    for found in re.finditer(rf"\b({COUNTERS})\b", text):
        within = [each for each in around(text, found.start()) if each not in {"", "or"}]
        new = " unless " in text  # `X unless X offset T`: whether a series is new
        assert within[0] in {"rate", "increase"} or new, f"no growth of {found[0]}: {text}"
        [first, *_] = [each for each in within if each not in {"rate", "increase"}]
        assert first.startswith("sum"), f"not the sum of {found[0]}: {text}"


@pytest.mark.parametrize(
    "wrong",
    [
        "sum by (run) (greso_run_step)",
        "max by (kind) (greso_run_step)",
        "sum by (run) (max by (run) (greso_run_info) + greso_run_step)",
        "max by (run) (rate(greso_rollouts_total[5m]))",
        "sum by (run) (greso_rollouts_total)",
    ],
)
def test_a_figure_that_two_replicas_would_double_is_noticed(wrong: str) -> None:
    with pytest.raises(AssertionError, match=r"(sum|greatest|growth) of"):
        test_two_replicas_double_no_figure(Query("", wrong, "range"))
