"""The Dockerfile: what hadolint says, and what it must hold. What it builds is run by hand in test_image_by_hand.py."""

from __future__ import annotations

import fnmatch
import re
import subprocess
from importlib.metadata import requires
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from .dockerfile import Stage, parse
from .files import DEPLOY, DOCKERFILE, PINNED, ROOT, VERSION, tool

if TYPE_CHECKING:
    from collections.abc import Iterable

STAGES = parse(DOCKERFILE.read_text())
IMAGES = [STAGES["service"], STAGES["trainer"]]
LOCK = set((ROOT / "requirements.lock").read_text().splitlines())

# What greso[trainer] asks for and vLLM 0.32.0 brings, by the metadata of its distribution for CPUs (`make test-vllm`).
BROUGHT_BY_VLLM = {
    *("anyio", "certifi", "grpcio", "h11", "httpcore", "httpx", "idna", "markdown-it-py", "markupsafe", "mdurl"),
    *("mpmath", "numpy", "packaging", "pillow", "protobuf", "pygments", "rich", "setuptools", "sympy"),
    *("typing-extensions", "torch", "transformers"),
}


def test_hadolint_has_nothing_to_say() -> None:
    done = subprocess.run(
        [tool("hadolint"), "--no-color", str(DOCKERFILE)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr
    assert "hadolint ignore" not in DOCKERFILE.read_text()


def test_hadolint_would_have_something_to_say() -> None:
    bad = DOCKERFILE.read_text().replace("USER 10001:10001", "RUN sudo true")
    done = subprocess.run([tool("hadolint"), "-"], input=bad, capture_output=True, text=True, check=False)
    assert done.returncode
    assert "DL3004" in done.stdout


def test_the_service_is_what_is_built_by_default() -> None:
    assert list(STAGES)[-1] == "service"


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
def test_bases_are_pinned_to_a_release(stage: Stage) -> None:
    assert PINNED.fullmatch(stage.base), f"{stage.name} is FROM {stage.base}"


@pytest.mark.parametrize("stage", IMAGES, ids=lambda stage: str(stage.name))
def test_an_image_runs_as_a_user_of_no_rights_and_stops_when_told(stage: Stage) -> None:
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", stage.only("USER").text), "a number: runAsNonRoot can't tell a name"
    assert stage.only("ENTRYPOINT").text.startswith("["), "a shell in between would not pass SIGTERM on"
    assert stage.only("CMD").text.startswith("[")
    assert stage.only("STOPSIGNAL").text == "SIGTERM"
    assert stage.all("HEALTHCHECK")
    assert stage.pairs("ENV")["PYTHONUNBUFFERED"] == "1"
    keywords = [each.keyword for each in stage.instructions]
    assert not {"RUN", "COPY", "ADD"} & set(keywords[keywords.index("USER") :]), "what the user could change"


@pytest.mark.parametrize("stage", IMAGES, ids=lambda stage: str(stage.name))
def test_an_image_says_what_it_is(stage: Stage) -> None:
    labels = stage.pairs("LABEL")
    names = {"title", "description", "licenses", "version", "revision"}
    assert set(labels) == {f"org.opencontainers.image.{name}" for name in names}
    assert labels["org.opencontainers.image.version"] == VERSION


def test_no_build_tool_and_no_installer_runs_in_the_service_image() -> None:
    runs = " ".join(each.text for each in STAGES["service"].all("RUN"))
    assert not re.search(r"\b(pip|apt-get|curl|wget|gcc|make)\b", runs)
    assert "--without-pip" in " ".join(each.text for each in STAGES["build"].all("RUN"))


def test_the_service_listens_on_all_addresses_only_if_it_is_told_that_it_may() -> None:
    environment = STAGES["service"].pairs("ENV")
    assert environment["GRESO_HOST"] == "0.0.0.0"
    assert "GRESO_ALLOW_UNAUTHENTICATED" not in environment
    assert STAGES["service"].only("EXPOSE").text == environment["GRESO_PORT"]


def test_what_is_copied_is_sent_to_the_builder_and_nothing_else() -> None:
    lines = (ROOT / ".dockerignore").read_text().split("\n")
    patterns = [line for line in lines if line and not line.startswith("#")]
    sent = {pattern.removeprefix("!") for pattern in patterns if pattern.startswith("!")}
    copied = set()
    for stage in STAGES.values():
        for copy in stage.all("COPY"):
            flags, *words = copy.words() if copy.text.startswith("--") else ["", *copy.words()]
            if not flags:
                copied |= {word.removeprefix("./") for word in words[:-1]}
    assert patterns[0] == "*"
    assert copied == sent
    assert all((ROOT / name).exists() for name in copied)
    assert any(fnmatch.fnmatch("service/greso_service/__pycache__", pattern) for pattern in patterns)


def test_what_builds_the_wheel_is_pinned() -> None:
    [run] = [each.text for each in STAGES["wheel"].all("RUN") if "hatchling" in each.text]
    assert "-c requirements.lock" in run
    assert re.search(r"\bhatchling==\d", run)
    assert "--no-build-isolation" in " ".join(each.text for each in STAGES["wheel"].all("RUN"))


def test_nothing_comes_into_the_service_but_by_the_lock() -> None:
    [run] = [each.text for each in STAGES["build"].all("RUN") if " install " in each.text]
    assert "-c requirements.lock" in run
    assert "pip --python /opt/greso/bin/python check" in run


def test_the_trainer_adds_just_what_vllm_does_not_bring_at_the_locks_versions() -> None:
    text = (DEPLOY / "trainer" / "requirements.txt").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert set(lines) <= LOCK
    asked = closure(
        Requirement(line)
        for line in requires("greso") or ()
        if "extra ==" not in line or 'extra == "trainer"' in line.replace("'", '"')
    )
    assert {canonicalize_name(Requirement(line).name) for line in lines} == asked - BROUGHT_BY_VLLM


def closure(asked: Iterable[Requirement]) -> set[str]:
    """The names of all that these requirements bring; what torch and transformers bring is not followed."""
    todo, found = [canonicalize_name(each.name) for each in asked], set[str]()
    while todo:
        name = todo.pop()
        if name in found:
            continue
        found.add(name)
        if name not in {"torch", "transformers"}:
            wanted = [Requirement(line) for line in requires(name) or ()]
            todo += [
                canonicalize_name(each.name)
                for each in wanted
                if each.marker is None or each.marker.evaluate({"extra": ""})
            ]
    return found - {"greso"}
