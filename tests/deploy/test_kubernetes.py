"""deploy/kubernetes: by the API's schemas, strictly, and what must hold between the manifests."""

from __future__ import annotations

import copy
import json
import subprocess
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # its stubs are a package of their own
import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from greso_service.cli.serving import GRACE_SECONDS
from greso_service.settings import Settings, variable

from .dockerfile import parse
from .files import DEPLOY, DOCKERFILE, VERSION, documents

FOLDER = DEPLOY / "kubernetes"
FILES = sorted(path for path in FOLDER.glob("*.yaml") if path.name != "kustomization.yaml")
OBJECTS = {document["kind"]: document for path in FILES for document in documents(path)}
SERVICE_MONITOR = json.loads(Path(__file__).with_name("servicemonitor.schema.json").read_text())
OLDEST = "1.30"  # of the versions of Kubernetes, for preStop.sleep
POD: dict[str, Any] = OBJECTS["Deployment"]["spec"]["template"]["spec"]
[CONTAINER] = POD["containers"]


@pytest.mark.parametrize("version", [OLDEST, kubernetes_validate.utils.latest_version()])
@pytest.mark.parametrize("kind", sorted(OBJECTS.keys() - {"ServiceMonitor"}))
def test_manifests_are_by_the_schemas(kind: str, version: str) -> None:
    kubernetes_validate.validate(OBJECTS[kind], version, strict=True)


def test_the_service_monitor_is_by_the_operators_schema() -> None:
    jsonschema.validate(OBJECTS["ServiceMonitor"], SERVICE_MONITOR)


def test_the_alerts_are_the_rules_of_an_object_of_the_operator() -> None:
    printed = subprocess.run([FOLDER / "alerts.sh"], capture_output=True, text=True, check=True).stdout
    rule = yaml.safe_load(printed)
    assert (rule["apiVersion"], rule["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    assert rule["metadata"] == OBJECTS["ServiceMonitor"]["metadata"]
    [alerts] = documents(DEPLOY / "prometheus" / "alerts.yaml")
    assert rule["spec"] == alerts
    assert alerts.keys() == {"groups"}, "the operator knows nothing else"


def test_mistakes_would_be_noticed() -> None:
    wrong = copy.deepcopy(OBJECTS)
    wrong["Deployment"]["spec"]["template"]["spec"]["containers"][0]["livenesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="livenesProbe"):
        kubernetes_validate.validate(wrong["Deployment"], OLDEST, strict=True)
    wrong["ServiceMonitor"]["spec"]["endpoints"][0]["intervall"] = "15s"
    with pytest.raises(jsonschema.ValidationError, match="intervall"):
        jsonschema.validate(wrong["ServiceMonitor"], SERVICE_MONITOR)


def test_the_kustomization_names_all_but_the_example_and_the_operators_object() -> None:
    [kustomization] = documents(FOLDER / "kustomization.yaml")
    left_out = {"secret.example.yaml", "servicemonitor.yaml"}
    assert set(kustomization["resources"]) == {path.name for path in FILES} - left_out
    assert [(image["name"], image["newTag"]) for image in kustomization["images"]] == [("greso", VERSION)]
    assert CONTAINER["image"] == f"greso:{VERSION}"


def test_a_pod_can_do_no_more_than_it_must() -> None:
    user, group = parse(DOCKERFILE.read_text())["service"].only("USER").text.split(":")
    pod, container = POD["securityContext"], CONTAINER["securityContext"]
    assert (str(pod["runAsUser"]), str(pod["runAsGroup"]), pod["runAsNonRoot"]) == (user, group, True)
    assert pod["fsGroup"] == pod["runAsGroup"], "else the secret can't be read"
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert POD["automountServiceAccountToken"] is False
    assert {"requests", "limits"} <= CONTAINER["resources"].keys()


def test_probes_ask_what_they_are_for() -> None:
    paths = {kind: CONTAINER[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")}
    assert paths == {"startup": "/readyz", "liveness": "/livez", "readiness": "/readyz"}
    port = parse(DOCKERFILE.read_text())["service"].only("EXPOSE").text
    assert [(each["name"], str(each["containerPort"])) for each in CONTAINER["ports"]] == [("http", port)]


def test_a_pod_has_time_to_stop_and_one_always_serves() -> None:
    before = CONTAINER["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert POD["terminationGracePeriodSeconds"] >= before + 2 * GRACE_SECONDS
    deployment = OBJECTS["Deployment"]["spec"]
    assert deployment["replicas"] >= 2
    assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert OBJECTS["PodDisruptionBudget"]["spec"]["maxUnavailable"] < deployment["replicas"]
    assert {spread["topologyKey"] for spread in POD["topologySpreadConstraints"]} >= {"kubernetes.io/hostname"}


def test_everything_selects_the_same_pods() -> None:
    labels = OBJECTS["Deployment"]["spec"]["template"]["metadata"]["labels"]
    selectors = [
        OBJECTS["Deployment"]["spec"]["selector"]["matchLabels"],
        OBJECTS["Service"]["spec"]["selector"],
        OBJECTS["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        OBJECTS["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
        *(spread["labelSelector"]["matchLabels"] for spread in POD["topologySpreadConstraints"]),
    ]
    assert all(selector == labels for selector in selectors)
    monitor = OBJECTS["ServiceMonitor"]["spec"]
    assert monitor["selector"]["matchLabels"].items() <= OBJECTS["Service"]["metadata"]["labels"].items()
    ports = {port["name"] for port in OBJECTS["Service"]["spec"]["ports"]}
    assert {endpoint["port"] for endpoint in monitor["endpoints"]} <= ports


def test_the_variables_are_settings_with_allowed_values() -> None:
    known = {variable(name): name for name in Settings.model_fields}
    Settings(**{known[name]: value for name, value in OBJECTS["ConfigMap"]["data"].items()})
    assert [source["configMapRef"]["name"] for source in CONTAINER["envFrom"]] == [
        OBJECTS["ConfigMap"]["metadata"]["name"]
    ]


def test_the_password_is_where_the_service_looks_for_it() -> None:
    [mount] = [mount for mount in CONTAINER["volumeMounts"] if mount["name"] == "secret"]
    [volume] = [volume for volume in POD["volumes"] if volume["name"] == "secret"]
    assert volume["secret"]["secretName"] == OBJECTS["Secret"]["metadata"]["name"]
    [key] = OBJECTS["Secret"]["stringData"]
    assert OBJECTS["ConfigMap"]["data"]["GRESO_REDIS_PASSWORD_FILE"] == f"{mount['mountPath']}/{key}"


def test_a_policy_guards_what_has_no_keys() -> None:
    policy = OBJECTS["NetworkPolicy"]["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    for rule in policy["ingress"]:
        assert all(source.keys() == {"namespaceSelector", "podSelector"} for source in rule["from"])
