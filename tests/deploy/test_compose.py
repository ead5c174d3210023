"""deploy/compose.yaml: by the schema of the Compose specification, and what must hold for each of its services."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from greso_service.cli.serving import GRACE_SECONDS
from greso_service.settings import Settings, variable

from .dockerfile import parse
from .files import COMPOSE, DEPLOY, DOCKERFILE, PINNED, VERSION, compose, tool

CONTENT = compose()
SERVICES: dict[str, dict[str, Any]] = CONTENT["services"]
EACH = pytest.mark.parametrize("name", SERVICES)
UNITS = {"m": 2**20, "g": 2**30, "mb": 2**20, "gb": 2**30}


def by_the_schema(path: Path) -> subprocess.CompletedProcess[str]:
    command = [tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_it_is_a_compose_file() -> None:
    done = by_the_schema(COMPOSE)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_mistake_would_be_noticed(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(COMPOSE.read_text().replace("cap_drop:", "cap_dorp:"))
    assert by_the_schema(tmp_path / "compose.yaml").returncode


def test_what_is_there_and_what_is_for_those_who_ask() -> None:
    assert {name: service.get("profiles", []) for name, service in SERVICES.items()} == {
        "redis": [],
        "greso": [],
        "prometheus": ["monitoring"],
        "grafana": ["monitoring"],
        "trainer": ["trainer"],
    }


@EACH
def test_a_container_can_do_no_more_than_it_must(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["read_only"] is True
    assert "no-new-privileges:true" in service["security_opt"]
    assert not {"privileged", "cap_add", "network_mode", "pid", "ipc", "userns_mode"} & service.keys()
    user = service.get("user") or parse(DOCKERFILE.read_text())[service["build"]["target"]].only("USER").text
    assert re.fullmatch(r"[1-9]\d*:\d+", user), "a number other than 0"


@EACH
def test_it_comes_back_after_a_crash_and_is_told_what_it_may_use(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == ("on-failure:3" if name == "trainer" else "unless-stopped")
    limits = service["deploy"]["resources"]["limits"]
    assert bytes_of(limits["memory"]) > 0
    assert int(limits["pids"]) > 0
    assert name == "trainer" or float(limits["cpus"]) > 0, "the trainer takes what there is"
    assert service["logging"]["options"] == {"max-size": "10m", "max-file": "5"}
    assert service["stop_grace_period"]


@EACH
def test_it_is_looked_at(name: str) -> None:
    check: dict[str, Any] = SERVICES[name].get("healthcheck", {})
    if name == "trainer":
        assert check == {"disable": True}, "a job is not asked how it is"
    elif name == "greso":
        assert not check, "that of the image counts"
        assert parse(DOCKERFILE.read_text())["service"].only("HEALTHCHECK").text != "NONE"
    else:
        assert check["test"][0] in {"CMD", "CMD-SHELL"}
        assert {"interval", "timeout", "retries", "start_period"} <= check.keys()


@EACH
def test_images_are_pinned(name: str) -> None:
    service = SERVICES[name]
    if "build" in service:
        assert service["image"].endswith(f":{VERSION}")
        assert service["build"]["target"] in parse(DOCKERFILE.read_text())
        assert (DEPLOY / service["build"]["context"] / "Dockerfile").resolve() == DOCKERFILE
    else:
        assert PINNED.fullmatch(service["image"])


@EACH
def test_ports_are_on_loopback(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port), f"{name} publishes {port}"


def test_redis_is_reached_by_the_service_only() -> None:
    assert {name for name, service in SERVICES.items() if "store" in service["networks"]} == {"redis", "greso"}
    assert CONTENT["networks"]["store"] == {"internal": True}
    assert "ports" not in SERVICES["redis"]


def test_passwords_come_from_files_and_reach_only_those_who_need_them() -> None:
    assert CONTENT["secrets"] == {
        "redis_password": {"file": "./secrets/redis-password"},
        "grafana_password": {"file": "./secrets/grafana-password"},
    }
    assert {name: service["secrets"] for name, service in SERVICES.items() if "secrets" in service} == {
        "redis": ["redis_password"],
        "greso": ["redis_password"],
        "grafana": ["grafana_password"],
    }
    for service in SERVICES.values():
        for variable_, value in service.get("environment", {}).items():
            assert "PASSWORD" not in variable_ or str(value).startswith("/run/secrets/"), variable_
    assert "*\n" in (DEPLOY / "secrets" / ".gitignore").read_text()


@EACH
def test_the_files_it_mounts_are_there_and_can_not_be_changed(name: str) -> None:
    for volume in SERVICES[name].get("volumes", []):
        source, target, *mode = volume.split(":")
        assert target.startswith("/")
        if source.startswith("."):
            assert mode == ["ro"]
            assert name == "trainer" or (DEPLOY / source).is_dir(), "the trainer's folders are its user's"
        else:
            assert source in CONTENT["volumes"]


def test_the_services_variables_are_settings_with_allowed_values() -> None:
    environment = SERVICES["greso"]["environment"]
    known = {variable(name): name for name in Settings.model_fields}
    given = {known[name]: value for name, value in environment.items()}
    Settings(**given)
    assert environment["GRESO_REDIS_URL"] == "redis://redis:6379/0"


def test_with_keys_the_service_has_a_file_of_them_and_prometheus_a_port() -> None:
    done = by_the_schema(DEPLOY / "compose.keys.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    added = yaml.safe_load((DEPLOY / "compose.keys.yaml").read_text())["services"]
    known = {variable(name): name for name in Settings.model_fields}
    both = {**SERVICES["greso"]["environment"], **added["greso"]["environment"]}
    settings = Settings(**{known[name]: value for name, value in both.items()})
    assert settings.keys_file is not None
    assert settings.metrics_host == "0.0.0.0"
    [mount] = added["prometheus"]["volumes"]
    source, target, mode = mount.split(":")
    assert (target, mode) == ("/etc/prometheus/prometheus.yml", "ro")
    plain, with_keys = ((DEPLOY / "prometheus" / name).read_text() for name in ("prometheus.yml", Path(source).name))
    assert with_keys.partition("\n")[2] == plain.replace("port: 8080", f"port: {settings.metrics_port}")
    assert yaml.safe_load(with_keys) != yaml.safe_load(plain)


def test_the_service_has_time_to_stop() -> None:
    assert float(SERVICES["greso"]["stop_grace_period"].removesuffix("s")) >= 2 * GRACE_SECONDS


def test_redis_has_room_to_rewrite_its_file() -> None:
    redis = SERVICES["redis"]
    limit = bytes_of(redis["deploy"]["resources"]["limits"]["memory"])
    assert limit >= 2 * bytes_of(redis["environment"]["REDIS_MAXMEMORY"])


def test_nobody_starts_before_what_it_needs() -> None:
    assert SERVICES["greso"]["depends_on"] == {"redis": {"condition": "service_healthy"}}
    assert SERVICES["trainer"]["depends_on"] == {"greso": {"condition": "service_healthy"}}


def test_the_trainer_has_a_gpu_and_options_that_it_knows() -> None:
    from greso_client.trainer.options import parse as parse_options  # noqa: PLC0415  # the trainer's, not a Dockerfile's

    trainer = SERVICES["trainer"]
    [device] = trainer["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    options = parse_options(trainer["command"])
    assert (options.engine, str(options.out)) == ("vllm", "/training/train")
    mounted = {volume.split(":")[1] for volume in trainer["volumes"]}
    assert {str(options.model), str(options.data.parent if options.data else ""), "/training"} <= mounted


def test_variables_change_what_they_say() -> None:
    changed = compose({"GRESO_PORT": "9999", "REDIS_APPENDFSYNC": "always", "REDIS_IMAGE": "valkey/valkey:8.1.4"})
    assert changed["services"]["greso"]["ports"] == ["127.0.0.1:9999:8080"]
    assert changed["services"]["redis"]["environment"]["REDIS_APPENDFSYNC"] == "always"
    assert changed["services"]["redis"]["image"] == "valkey/valkey:8.1.4"


def test_prometheus_and_grafana_find_each_other_and_the_service() -> None:
    scraped = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    [job] = [job for job in scraped if job["job_name"] == "greso"]
    assert "greso" in str(job)
    assert "8080" in str(job)
    sources = [
        yaml.safe_load(path.read_text()) for path in (DEPLOY / "grafana/provisioning/datasources").glob("*.yaml")
    ]
    assert {source["url"] for content in sources for source in content["datasources"]} == {"http://prometheus:9090"}
    providers = [
        yaml.safe_load(path.read_text()) for path in (DEPLOY / "grafana/provisioning/dashboards").glob("*.yaml")
    ]
    folders = {provider["options"]["path"] for content in providers for provider in content["providers"]}
    assert folders == {
        volume.split(":")[1] for volume in SERVICES["grafana"]["volumes"] if volume.startswith("./grafana/dashboards:")
    }
    assert set(SERVICES["prometheus"]["networks"]) & set(SERVICES["grafana"]["networks"])
    assert set(SERVICES["prometheus"]["networks"]) & set(SERVICES["greso"]["networks"])


def bytes_of(text: str) -> int:
    number, unit = re.fullmatch(r"(\d+)([a-z]+)", text).groups()  # type: ignore[union-attr]
    return int(number) * UNITS[unit]
