"""The alerts: Prometheus' own checks, a firing and a silent case for each, and a section in docs/operations.md."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import pytest
import yaml
from tests.watch.committed import OPERATIONS, PROMETHEUS, ROOT, alerts, dashboard
from tests.watch.prometheus import tool
from tests.watch.test_live import EMPTY_UNLESS

if TYPE_CHECKING:
    from pathlib import Path

CASES = tuple(sorted(file.name for file in PROMETHEUS.glob("*_test.yaml")))
PARTS = ("What it means.", "Look.", "Do.", "The training meanwhile.")


def promtool(*arguments: str, cwd: Path = PROMETHEUS) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [tool("promtool"), *arguments], cwd=cwd, capture_output=True, text=True, timeout=120, check=False
    )


def test_the_configuration_and_the_rules_are_what_prometheus_accepts() -> None:
    checked = promtool("check", "config", "prometheus.yml")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{len(alerts())} rules found" in checked.stdout


@pytest.mark.parametrize(
    "file", [file if file == "alerts_test.yaml" else pytest.param(file, marks=pytest.mark.slow) for file in CASES]
)
def test_the_cases_of_the_alerts_hold(file: str) -> None:
    tested = promtool("test", "rules", file)
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_a_case_that_does_not_hold_would_be_noticed(tmp_path: Path) -> None:
    rules = (PROMETHEUS / "alerts.yaml").read_text()
    (tmp_path / "alerts.yaml").write_text(rules.replace("greso_store_up == 0", "greso_store_up == 1"))
    cases = yaml.safe_load((PROMETHEUS / "alerts_test.yaml").read_text())
    cases["tests"] = [each for each in cases["tests"] if "GresoRedisDown" in str(each)]
    (tmp_path / "alerts_test.yaml").write_text(yaml.safe_dump(cases))
    tested = promtool("test", "rules", "alerts_test.yaml", cwd=tmp_path)
    assert tested.returncode != 0
    assert "GresoRedisDown" in tested.stdout + tested.stderr


def test_every_alert_has_a_firing_and_a_silent_case() -> None:
    cases = [test for file in CASES for test in yaml.safe_load((PROMETHEUS / file).read_text())["tests"]]
    expected: dict[str, set[bool]] = {}
    for case in (each for test in cases for each in test["alert_rule_test"]):
        expected.setdefault(case["alertname"], set()).add(bool(case["exp_alerts"]))
    assert expected == {name: {True, False} for name in alerts()}


def test_what_may_be_empty_is_named_with_a_test_that_is_there() -> None:
    assert EMPTY_UNLESS.keys() == alerts().keys()
    for reason, test in EMPTY_UNLESS.values():
        assert reason
        file, _, name = test.partition("::")
        assert f"def {name}(" in (ROOT / "tests" / "watch" / file).read_text()
    outages = (ROOT / "tests" / "watch" / "test_outage.py").read_text()
    for alert in (name for name, (_, test) in EMPTY_UNLESS.items() if test.startswith("test_outage")):
        assert re.search(rf'fires\([^)]*"{alert}"', outages), f"no outage makes {alert} fire"


@pytest.mark.parametrize("name", alerts())
def test_every_alert_says_what_it_is_about_and_where_to_read_on(name: str) -> None:
    rule = alerts()[name]
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    told = rule["annotations"]
    assert set(told) == {"summary", "description", "runbook_url"}
    page, _, anchor = told["runbook_url"].partition("#")
    assert (ROOT / page, anchor) == (OPERATIONS, name.lower())
    section = OPERATIONS.read_text().partition(f"\n### {name}\n")[2].partition("\n##")[0]
    for part in PARTS:
        assert f"**{part}**" in section, f"docs/operations.md, {name}: say {part}"


def test_no_section_is_left_of_an_alert_that_is_gone() -> None:
    told = re.findall(r"^### (Greso\w+)$", OPERATIONS.read_text(), re.MULTILINE)
    assert told == list(alerts())


def test_alerts_ask_for_the_job_that_is_scraped_and_grafana_for_the_prometheus_that_is_provisioned() -> None:
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    jobs = {job["job_name"] for job in config["scrape_configs"]}
    asked = set(re.findall(r'job="(\w+)"', (PROMETHEUS / "alerts.yaml").read_text()))
    assert asked == {"greso"} <= jobs
    provisioning = ROOT / "deploy" / "grafana" / "provisioning"
    [source] = yaml.safe_load((provisioning / "datasources" / "greso.yaml").read_text())["datasources"]
    assert source["jsonData"]["timeInterval"] == config["global"]["scrape_interval"]
    for name in ("run", "service", "fleet"):
        [variable] = [each for each in dashboard(name)["templating"]["list"] if each["type"] == "datasource"]
        assert variable["current"]["value"] == source["uid"]
