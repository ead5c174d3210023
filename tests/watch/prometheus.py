"""A real Prometheus over services under test: the committed configuration but for where and how often it scrapes."""

from __future__ import annotations

import math
import os
import shutil
from typing import TYPE_CHECKING, Any, Self

import httpx
import pytest
import yaml
from tests.servers import START_SECONDS, Process, eventually, free_port
from tests.watch.committed import PROMETHEUS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

EVERY = "500ms"

Series = tuple[dict[str, str], list[tuple[float, float]]]


def tool(name: str) -> str:
    """A program of Prometheus' package; the test fails where it is missing."""
    found = shutil.which(name)
    if found is None:
        pytest.fail(f"{name} is not installed; apt install prometheus")
    return found


class Prometheus(Process):
    """Scrapes services twice a second and evaluates the committed alerts, whose `for` may be made short."""

    def __init__(self, folder: Path, instances: Sequence[str], *, wait: str | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(folder / "prometheus.log")
        self.folder = folder
        self.port = free_port()
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=10.0, trust_env=False)
        rules = yaml.safe_load((PROMETHEUS / "alerts.yaml").read_text())
        if wait is not None:
            for rule in (rule for group in rules["groups"] for rule in group["rules"]):
                rule["for"] = wait
        (folder / "alerts.yaml").write_text(yaml.safe_dump(rules))
        config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
        config["global"].update(scrape_interval=EVERY, evaluation_interval=EVERY)
        greso, itself = config["scrape_configs"]
        del greso["dns_sd_configs"]
        greso["static_configs"] = [{"targets": list(instances)}]
        itself["static_configs"] = [{"targets": [f"127.0.0.1:{self.port}"]}]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))

    def start(self) -> Self:
        """Start it and wait until it answers."""
        listen = f"--web.listen-address=127.0.0.1:{self.port}"
        options = ["--config.file=prometheus.yml", "--storage.tsdb.path=data", "--log.level=warn"]
        options += ["--scrape.discovery-reload-interval=100ms"]  # 5 s by default
        # It scrapes loopback only: whatever proxy this machine has is not to be asked.
        clean = [f"{name}=" for name in os.environ if name.lower().endswith("_proxy")]
        self.run(["env", *clean, tool("prometheus"), listen, *options], self.folder)
        eventually(self._ready, START_SECONDS, self.said)
        return self

    def _ready(self) -> bool:
        assert not self.ended(), self.said()
        try:
            return self.http.get("/-/ready").status_code == 200
        except httpx.TransportError:
            return False

    def close(self) -> None:
        """Stop it."""
        self.http.close()
        super().close()

    def _asked(self, path: str, **form: str) -> Any:
        answer = self.http.post(path, data=form) if form else self.http.get(path)
        content = answer.json()
        assert content["status"] == "success", f"{content['error']}: {form}"
        return content["data"]

    def now(self, expr: str) -> list[tuple[dict[str, str], float]]:
        """An instant query: labels and value of each series."""
        data = self._asked("/api/v1/query", query=expr)
        return [(found["metric"], float(found["value"][1])) for found in data["result"]]

    def over_time(self, expr: str, start: float, end: float) -> list[Series]:
        """A range query with a step of a second."""
        data = self._asked("/api/v1/query_range", query=expr, start=str(start), end=str(end), step="1")
        return [(found["metric"], [(at, float(value)) for at, value in found["values"]]) for found in data["result"]]

    def number(self, expr: str) -> float | None:
        """The value of a query with at most one series."""
        found = self.now(expr)
        assert len(found) <= 1, found
        return found[0][1] if found else None

    def label_values(self, label: str, metric: str) -> list[str]:
        """The values of a label, as Grafana asks for those of a variable."""
        answer = self.http.get(f"/api/v1/label/{label}/values", params={"match[]": metric}).json()
        assert answer["status"] == "success", answer
        values: list[str] = answer["data"]
        return values

    def firing(self) -> set[str]:
        """The names of the alerts that fire."""
        return {
            found["labels"]["alertname"]
            for found in self._asked("/api/v1/alerts")["alerts"]
            if found["state"] == "firing"
        }

    def rules(self) -> list[dict[str, Any]]:
        """The rules as evaluated: name, health and last error."""
        return [rule for group in self._asked("/api/v1/rules")["groups"] for rule in group["rules"]]


def finite(values: Sequence[float]) -> bool:
    """Whether there is a value that a panel can show."""
    return any(map(math.isfinite, values))
