"""The commands of docs/deploy.md: what needs no engine is run; the rest names files, services, options that exist."""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from .files import COMPOSE, DEPLOY, DOCKERFILE, PINNED, ROOT, compose

if TYPE_CHECKING:
    from pathlib import Path

PAGE = (ROOT / "docs" / "deploy.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
SERVICES = compose()["services"]
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


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_the_measurement_prints_the_figures_that_are_told_of() -> None:
    [block] = [block for block in BLOCKS if "tests.bench" in block]
    command = [sys.executable, *shlex.split(block)[1:]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    figures = dict(re.findall(r"│ (\S.*?) +│ +([\d.,]+) \(", done.stdout))
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
            assert line.startswith(("docker compose ", "kubectl ", "export TRAINER_")), line


@pytest.mark.parametrize("words", [words for words in COMMANDS if words[0] == "docker"], ids=" ".join)
def test_compose_is_asked_for_what_it_has(words: list[str]) -> None:
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("-f", required=True)
    parser.add_argument("--profile", action="append", default=[])
    parser.add_argument("verb", choices=["up", "exec", "logs", "run", "cp"])
    parser.add_argument("rest", nargs=argparse.REMAINDER)
    assert words[:2] == ["docker", "compose"]
    asked = parser.parse_args(words[2:])
    assert ROOT / asked.f == COMPOSE
    assert {profile for service in SERVICES.values() for profile in service.get("profiles", [])} >= set(asked.profile)
    named = [word.partition(":")[0] for word in asked.rest if not word.startswith("-")][:1]
    assert set(named) <= SERVICES.keys()
    if asked.verb in {"run", "exec"} and named == ["trainer"]:
        assert asked.profile == ["trainer"]


def test_kubectl_is_given_files_that_are_there() -> None:
    applied = [words[-1] for words in COMMANDS if words[:2] == ["kubectl", "apply"]]
    assert applied == ["deploy/kubernetes", "deploy/kubernetes/servicemonitor.yaml"]
    assert all((ROOT / path).exists() for path in applied)


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
