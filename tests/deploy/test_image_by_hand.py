"""The service's image without an engine: its Dockerfile's steps done by hand, and the result run as compose runs it.

What is built, started and asked comes from Dockerfile, deploy/compose.yaml and deploy/redis, not from here.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tests.servers import Process, eventually, free_port

from .by_hand import Image, give_back_writing, take_away_writing
from .files import ROOT, VERSION, compose
from .redis_process import Started

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.slow

MOST_BYTES = 250 * 10**6  # of the environment; 154 MB when this was written
GREEN = 60.0  # seconds to start beside heavy other work
COMPOSED = compose()["services"]["greso"]

LIST = """
import importlib.metadata, platform
print(platform.python_version())
for each in importlib.metadata.distributions(): print(each.name, each.version)
"""


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    # Not in pytest's folder, which is closed to other users.
    root = Path(tempfile.mkdtemp(prefix="greso-image-"))
    root.chmod(0o755)
    try:
        built = Image(root)
        built.build()
        take_away_writing(root)
        yield built
    finally:
        give_back_writing(root)
        shutil.rmtree(root)


class Container(Process):
    """The image, run with the compose file's variables; where Redis and the port are is the test's."""

    def __init__(self, image: Image, folder: Path, redis: Started, **variables: str) -> None:
        super().__init__(folder / "service.log")
        self.image, self.port = image, free_port()
        self.environment = image.environment() | COMPOSED["environment"] | variables
        assert self.environment["GRESO_REDIS_PASSWORD_FILE"] == "/run/secrets/redis_password"
        self.environment["GRESO_REDIS_PASSWORD_FILE"] = str(redis.password_file)
        self.environment["GRESO_REDIS_URL"] = self.environment["GRESO_REDIS_URL"].replace(
            "redis:6379", f"127.0.0.1:{redis.port}"
        )
        self.environment["GRESO_PORT"] = str(self.port)
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", trust_env=False, timeout=5)

    def popen(self, command: list[str], **more: object) -> subprocess.Popen[bytes]:
        """A process in the container."""
        user, group = self.image.user
        as_user = {"user": user, "group": group, "extra_groups": []} if os.geteuid() == 0 else {}
        cwd = self.image.here(self.image.service.only("WORKDIR").text)
        return subprocess.Popen(command, cwd=cwd, env=self.environment, stdin=subprocess.DEVNULL, **as_user, **more)  # type: ignore[call-overload,no-any-return]

    def start(self) -> Container:
        """Run its entry point."""
        with self.log.open("ab") as output:
            self.process = self.popen(self.image.command(), stdout=output, stderr=output, start_new_session=True)
        return self

    def healthy(self) -> bool:
        """What the image's HEALTHCHECK says."""
        with self.popen(self.image.health_check(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as check:
            check.communicate(timeout=20)
            return check.returncode == 0

    def healthy_at_last(self) -> bool:
        """The same, and that it still runs."""
        assert not self.ended(), self.said()
        return self.healthy()

    def ready(self) -> bool:
        """What /readyz says."""
        return self.http.get("/readyz").status_code == 200

    def close(self) -> None:
        self.http.close()
        super().close()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Started]:
    server = Started(tmp_path, "of-the-secret", REDIS_APPENDFSYNC="always")
    server.password_file = readable_by_all(server.password_file)
    try:
        yield server.start()
    finally:
        server.close()
        shutil.rmtree(server.password_file.parent)


def readable_by_all(file: Path) -> Path:
    """A copy of a file where any user reaches it, as a mounted secret is."""
    folder = Path(tempfile.mkdtemp(prefix="greso-secret-"))
    folder.chmod(0o755)
    copied = Path(shutil.copy(file, folder / "redis_password"))
    copied.chmod(0o444)
    return copied


@pytest.fixture
def container(image: Image, redis: Started, tmp_path: Path) -> Iterator[Container]:
    running = Container(image, tmp_path, redis)
    try:
        yield running
    finally:
        running.close()


def test_the_environment_is_the_locks_and_small(image: Image, record_property: Callable[[str, object], None]) -> None:
    folder = Path(image.here("/opt/greso"))
    done = subprocess.run([f"{folder}/bin/python", "-c", LIST], capture_output=True, text=True, check=True)
    version, *listed = done.stdout.split("\n")
    installed = {str(canonicalize_name(name)): number for name, number in map(str.split, filter(None, listed))}
    locked = [Requirement(line) for line in (ROOT / "requirements.lock").read_text().splitlines()]
    target = {"python_full_version": version, "python_version": ".".join(version.split(".")[:2])}
    pinned = {
        str(canonicalize_name(each.name)): str(each.specifier)
        for each in locked
        if each.marker is None or each.marker.evaluate(target)
    }
    assert installed.pop("greso") == VERSION
    assert {name: f"=={version}" for name, version in installed.items()} == {name: pinned[name] for name in installed}
    assert {"fastapi", "redis", "uvicorn", "opentelemetry-sdk"} <= installed.keys()
    assert not {"pip", "setuptools", "torch", "transformers", "pytest", "matplotlib"} & installed.keys()
    size = sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    record_property("bytes", size)
    print(f"the environment has {size / 1e6:.0f} MB, {len(installed) + 1} distributions")  # noqa: T201
    assert size < MOST_BYTES
    sources, compiled = list(folder.glob("lib/*/site-packages/greso_service/*.py")), "__pycache__"
    assert sources
    assert all(list((path.parent / compiled).glob(f"{path.stem}.*.pyc")) for path in sources), "bytecode is made once"


def test_it_lives_through_an_outage_of_redis_and_stops_when_told(container: Container, redis: Started) -> None:
    assert not container.healthy(), "nothing runs yet"
    container.start()
    eventually(container.healthy_at_last, GREEN, container.said)
    assert container.ready(), "it listens only once Redis was seen to be usable"

    group = {"prompt": "1+1", "rewards": [0, 1]}
    container.http.put("/v1/runs/in-a-container", json={}).raise_for_status()
    container.http.post("/v1/runs/in-a-container/report", json={"step": 1, "results": [group]}).raise_for_status()

    redis.kill()
    eventually(lambda: not container.ready(), 30)
    assert container.healthy(), "restarting the service would not bring Redis back"
    asked = container.http.post("/v1/runs/in-a-container/select", json={"step": 2, "prompts": ["1+1"]}).json()
    assert asked["stale"] is True

    redis.start()
    eventually(container.ready, 30, container.said)
    assert container.http.get("/v1/runs/in-a-container/prompts/1+1").status_code in {200, 404}
    assert container.http.get("/v1/runs/in-a-container").json()["prompts"] == 1

    container.signal(signal.SIGSTOP)
    assert not container.healthy(), "a service that hangs is not healthy"
    container.signal(signal.SIGCONT)
    eventually(container.healthy_at_last, 30)

    container.signal(signal.SIGTERM)
    assert container.process is not None
    grace = float(COMPOSED["stop_grace_period"].removesuffix("s"))
    assert container.process.wait(grace) == 0, container.said()
    said = container.said()
    assert "of-the-secret" not in said
    assert "Traceback" not in said


def test_it_has_written_nothing_outside_of_redis(image: Image, container: Container) -> None:
    def everything() -> set[Path]:
        return set(image.root.rglob("*"))

    before = everything()
    container.start()
    eventually(container.healthy_at_last, GREEN, container.said)
    container.signal(signal.SIGTERM)
    assert container.process is not None
    container.process.wait(60)
    assert everything() == before


def test_without_the_word_that_it_may_it_listens_to_nobody(image: Image, redis: Started, tmp_path: Path) -> None:
    careless = Container(image, tmp_path, redis, GRESO_ALLOW_UNAUTHENTICATED="false").start()
    assert careless.process is not None
    assert careless.process.wait(GREEN) == 1
    careless.http.close()
    assert re.search(r"without keys greso listens on loopback only, not on 0\.0\.0\.0", careless.said())


def test_other_commands_are_a_word_away(image: Image, container: Container) -> None:
    with container.popen(image.command("check"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as check:
        said, _ = check.communicate(timeout=GREEN)
    assert check.returncode == 0, said
    assert b"append-only file" in said
    assert b"of-the-secret" not in said
