"""The commands of docs/deploy.md: what needs no engine is run; the rest names files, services, options that exist."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tests.bench import sizing
from tests.servers import Service, tool

from greso_service.access import key_file

from .dockerfile import parse
from .files import COMPOSE, DEPLOY, DOCKERFILE, PINNED, ROOT, VERSION, compose, documents

WITH_KEYS_FILE = DEPLOY / "compose.keys.yaml"
PAGE = (ROOT / "docs" / "deploy.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
SERVICES = compose()["services"]
READABLE = "chmod -R a+rX deploy/redis deploy/prometheus deploy/grafana"
RUN_HERE = (READABLE, "chmod -R a+rX greso-backup", "sh deploy/kubernetes/alerts.sh | kubectl apply -f -")
[WITH_KEYS] = [block for block in BLOCKS if "greso keys add" in block]
[ONE_RUN] = [block for block in BLOCKS if "greso export" in block]
EMBEDDED = [block for block in BLOCKS if ".local/state/greso" in block]
COMMANDS = [
    shlex.split(line) for block in BLOCKS for line in block.splitlines() if line.startswith(("docker ", "kubectl "))
]


def test_the_passwords_are_made_as_redis_wants_them(tmp_path: Path) -> None:
    shutil.copytree(DEPLOY / "redis", tmp_path / "deploy" / "redis")
    subprocess.run(["sh", "-eu"], input=BLOCKS[0], text=True, cwd=tmp_path, check=True)
    folder = tmp_path / "deploy" / "secrets"
    assert folder.stat().st_mode & 0o777 == 0o700
    for name in ("redis-password", "grafana-password"):
        assert (folder / name).stat().st_mode & 0o777 == 0o644
        assert re.fullmatch(r"[A-Za-z0-9_-]{43}\n", (folder / name).read_text()), "as start.sh allows it"


def test_the_keys_are_made_where_the_compose_file_mounts_them(tmp_path: Path) -> None:
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "bin").symlink_to(Path(sys.executable).parent)
    done = subprocess.run(["sh", "-eu"], input=WITH_KEYS, text=True, cwd=tmp_path, check=True, capture_output=True)
    assert done.stdout.startswith("greso_")
    [mount] = yaml.safe_load(WITH_KEYS_FILE.read_text())["services"]["greso"]["volumes"]
    source, target, mode = mount.split(":")
    given = yaml.safe_load(WITH_KEYS_FILE.read_text())["services"]["greso"]["environment"]["GRESO_KEYS_FILE"]
    file = tmp_path / "deploy" / source / Path(given).relative_to(target)
    assert mode == "ro"
    assert len(key_file.read(file)[0].keys) == 1
    for path in (file, file.parent):
        assert path.stat().st_mode & 0o004, "the container's user reads it"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_the_measurement_prints_the_figures_that_are_told_of(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    [block] = [block for block in BLOCKS if "tests.bench" in block]
    words = shlex.split(block)
    assert words[:3] == [".venv/bin/python", "-m", sizing.__name__]
    monkeypatch.setattr("sys.argv", words[2:])
    # None of the figures below is of memory that a service takes its time to give back.
    monkeypatch.setattr(sizing, "settled", sizing.resident)
    sizing.main()
    figures = dict(re.findall(r"│ (\S.*?) +│ +([\d.,]+) \(", capsys.readouterr().out))
    assert 1_900 < number(figures["Redis, bytes a report in the log"]) < 2_200
    assert 1_600 < number(figures["Redis, bytes a report's key"]) < 2_000
    assert number(figures["service, at most, MB"]) < 200


def number(text: str) -> float:
    return float(text.replace(",", ""))


def test_every_block_is_looked_at_here() -> None:
    for block in BLOCKS[1:]:
        if "tests.bench" in block:
            continue
        for line in block.splitlines():
            run_here = line in RUN_HERE or block in {WITH_KEYS, ONE_RUN, *EMBEDDED}
            assert line.startswith(("docker ", "kubectl ", "export TRAINER_")) or run_here, line


def test_what_is_mounted_can_be_read_after_a_checkout_for_one_alone(tmp_path: Path) -> None:
    mounts = [volume for service in SERVICES.values() for volume in service.get("volumes", []) if volume[:2] == "./"]
    folders = {mount.partition(":")[0] for mount in mounts} - {"./trainer/model", "./trainer/data"}
    shutil.copytree(DEPLOY, tmp_path / "deploy", ignore=shutil.ignore_patterns("secrets", "__pycache__"))
    subprocess.run(["chmod", "-R", "go-rwx", tmp_path / "deploy"], check=True)
    subprocess.run(["sh", "-eu", "-c", READABLE], cwd=tmp_path, check=True)
    for path in (
        each
        for folder in folders
        for each in [tmp_path / "deploy" / folder, *(tmp_path / "deploy" / folder).rglob("*")]
    ):
        wanted = 0o005 if path.is_dir() or os.access(DEPLOY / path.relative_to(tmp_path / "deploy"), os.X_OK) else 0o004
        assert path.stat().st_mode & wanted == wanted, path


@pytest.mark.parametrize("words", [words for words in COMMANDS if words[:2] == ["docker", "compose"]], ids=" ".join)
def test_compose_is_asked_for_what_it_has(words: list[str]) -> None:
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("-f", action="append", required=True)
    parser.add_argument("--profile", action="append", default=[])
    parser.add_argument("verb", choices=["up", "exec", "logs", "run", "cp", "stop"])
    parser.add_argument("rest", nargs=argparse.REMAINDER)
    asked = parser.parse_args(words[2:])
    assert ROOT / asked.f[0] == COMPOSE
    assert all((ROOT / file).exists() for file in asked.f)
    assert {profile for service in SERVICES.values() for profile in service.get("profiles", [])} >= set(asked.profile)
    named = [word.partition(":")[0] for word in asked.rest if not word.startswith("-")][:1]
    assert set(named) <= SERVICES.keys()
    if asked.verb in {"run", "exec"} and named == ["trainer"]:
        assert asked.profile == ["trainer"]


def test_a_backup_is_put_in_the_place_of_what_is_there(tmp_path: Path) -> None:
    [command] = [words for words in COMMANDS if "--entrypoint=sh" in words]
    assert command[-4:-1] == ["--entrypoint=sh", "redis", "-c"]
    assert "--volume=$PWD/greso-backup:/backup:ro" in command
    assert "redis-data:/data" in SERVICES["redis"]["volumes"]
    for name in ("data/appendonlydir", "backup"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / f"of-{tmp_path.joinpath(name).name}").touch()
    script = re.sub(r"/(?=data|backup)", f"{tmp_path}/", command[-1])
    subprocess.run(["sh", "-eu", "-c", script], check=True)
    assert [file.name for file in (tmp_path / "data" / "appendonlydir").iterdir()] == ["of-backup"]


@pytest.mark.slow
@pytest.mark.parametrize("stopped", [False, True])
def test_the_embedded_redis_is_backed_up_and_restored(tmp_path: Path, stopped: bool) -> None:
    if not stopped:
        tool("redis-cli", "it comes with the distribution's Redis")
    home, work = tmp_path / "home", tmp_path / "work"
    work.mkdir()
    (work / "deploy").symlink_to(DEPLOY)
    running, copying, restoring = EMBEDDED
    service = Service(tmp_path / "service", "--data-dir", str(home / ".local" / "state" / "greso"))

    def do(block: str) -> None:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = os.environ | {"HOME": str(home), "GRESO_URL": service.url, "PATH": path}
        subprocess.run(["sh", "-eu"], input=block, text=True, cwd=work, env=environment, check=True, timeout=60)

    def report(step: int) -> None:
        service.json("POST", "/v1/runs/my-run/report", {"step": step, "results": [{"prompt": "p", "rewards": [0, 1]}]})

    def stop() -> None:
        service.signal(signal.SIGTERM)
        assert service.process is not None
        assert service.process.wait(30) == 0

    try:
        service.start().json("PUT", "/v1/runs/my-run", {})
        report(1)
        if stopped:
            stop()
            do(copying)
            with pytest.raises(subprocess.CalledProcessError):
                do(copying)  # into what is there already
            service.start()
        else:
            do(running)
            assert (home / "greso-backup").stat().st_mode & 0o077 == 0
        before = service.json("GET", "/v1/runs/my-run")
        report(2)
        stop()
        for _ in range(2):  # again, after something went wrong
            do(restoring)
        service.start()
        assert service.json("GET", "/v1/runs/my-run") == before
        export, again = ONE_RUN.splitlines()
        do(export)
        assert service.call("DELETE", "/v1/runs/my-run").status_code == 204
        do(again)
        assert service.json("GET", "/v1/runs/my-run") == before
    finally:
        service.close()


def test_the_image_is_built_from_a_stage_that_is_there_and_named_as_the_manifests_name_it() -> None:
    [build] = [words for words in COMMANDS if words[:2] == ["docker", "build"]]
    [push] = [words for words in COMMANDS if words[:2] == ["docker", "push"]]
    assert build[build.index("--target") + 1] in parse(DOCKERFILE.read_text())
    assert build[build.index("--tag") + 1] == push[-1] == f"REGISTRY/greso:{VERSION}"


def test_kubectl_is_given_files_that_are_there() -> None:
    applied = [words[-1] for words in COMMANDS if words[:2] == ["kubectl", "apply"]]
    assert set(applied) == {"deploy/kubernetes", "deploy/kubernetes/servicemonitor.yaml"}
    assert all((ROOT / path).exists() for path in applied)
    [deployment] = documents(DEPLOY / "kubernetes" / "deployment.yaml")
    name, labels = deployment["metadata"]["name"], deployment["spec"]["template"]["metadata"]["labels"]
    named = {word for words in COMMANDS for word in words if word.startswith("deployment/")}
    assert named == {f"deployment/{name}"}
    [selector] = [words[words.index("--selector") + 1] for words in COMMANDS if "--selector" in words]
    assert dict([selector.split("=")]) == labels
    [trainers] = [words for words in COMMANDS if words[:3] == ["kubectl", "label", "namespace"]]
    [policy] = documents(DEPLOY / "kubernetes" / "network.yaml")
    client = policy["spec"]["ingress"][0]["from"][0]
    assert client["namespaceSelector"]["matchLabels"] == client["podSelector"]["matchLabels"]
    assert client["podSelector"]["matchLabels"] == dict([trainers[-1].split("=")])
    sources = [words[-1].partition("=")[2] for words in COMMANDS if words[-1].startswith("--from-file=deploy/")]
    assert sources == ["deploy/grafana/dashboards"]
    assert list((ROOT / sources[0]).glob("*.json"))


def test_the_variables_are_those_of_the_compose_file_with_their_defaults() -> None:
    table = PAGE.partition("| variable | default | |")[2].partition("\n\n")[0]
    told = set(re.findall(r"`([A-Z_]+)`", "\n".join(line.split("|")[1] for line in table.splitlines() if "`" in line)))
    known = dict(re.findall(r"\$\{(\w+):-([^}]*)\}", COMPOSE.read_text()))
    assert told == {name for name in known if not name.startswith(("TRAINER_", "HF_"))}
    assert {name for name in known if name.startswith("TRAINER_")} == set(re.findall(r"\bTRAINER_[A-Z_]+\b", PAGE))
    for name in told:
        [row] = [line for line in table.splitlines() if f"`{name}`" in line]
        assert "see the file" in row or known[name] in row, f"{name} is {known[name]} by default"


def test_what_is_said_of_pinning_holds() -> None:
    for name in ("PYTHON_IMAGE", "VLLM_IMAGE"):
        [default] = re.findall(rf"^ARG {name}=(.*)$", DOCKERFILE.read_text(), re.MULTILINE)
        assert PINNED.fullmatch(default)
        assert PINNED.fullmatch(f"{default}@sha256:{'0' * 64}"), "one line away"
