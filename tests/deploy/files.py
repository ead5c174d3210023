"""Where the files under test are, and how they are read."""

from __future__ import annotations

import re
import shutil
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILE = ROOT / "Dockerfile"
COMPOSE = DEPLOY / "compose.yaml"
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
# A release, all of it: 7.2.11-bookworm, v3.5.0; never `latest`, `7` or `7.2`. A digest may follow.
PINNED = re.compile(r"[\w./-]+:v?\d+\.\d+\.\d+(-[\w.-]+)?(@sha256:[0-9a-f]{64})?")


def tool(name: str) -> str:
    """The path of a program that the tests' dependency group brings."""
    found = Path(sys.executable).with_name(name)
    if found.exists():
        return str(found)
    on_path = shutil.which(name)
    if on_path is None:
        pytest.fail(f"{name} is not installed; run: make test")
    return on_path


def documents(path: Path) -> list[dict[str, Any]]:
    """The documents of a YAML file; a key that stands twice in a mapping is an error."""
    return list(yaml.load_all(path.read_text(), Loader=_Strict))


class _Strict(yaml.SafeLoader):
    """Refuses what YAML's readers differ in: of a key that stands twice most take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"line {node.start_mark.line + 1}: {sorted(twice)} stands twice")
        return super().construct_mapping(node, deep)


def compose(environment: dict[str, str] | None = None) -> dict[str, Any]:
    """The compose file as `docker compose` reads it, `${NAME:-default}` being taken from `environment`."""
    given = environment or {}
    text = re.sub(r"\$\{(\w+):-([^}]*)\}", lambda found: given.get(found[1]) or found[2], COMPOSE.read_text())
    assert "${" not in text, "a variable without a default: nothing but secrets may be missing"
    [content] = yaml.load_all(text.replace("$$", "$"), Loader=_Strict)
    return dict(content)
