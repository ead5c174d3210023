"""Machines ask a real service, over HTTP and with keys on, whatever its description allows and much that it does not.

The seed is fixed, so that the same requests come each time; GRESO_FUZZ_SEED takes another.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..keys import KeyFile, bearer  # noqa: TID252
from ..servers import Service  # noqa: TID252

pytestmark = pytest.mark.slow

SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
CONFIG = Path(__file__).with_name("schemathesis.toml")
FILTER = Path(__file__).with_name("schemathesis_filter.py")
HELP = Path(__file__).with_name("schemathesis_hooks.py")
SEED = os.environ.get("GRESO_FUZZ_SEED", "6")


class Fuzzed:
    """A service with an own Redis, and a key that may do all."""

    def __init__(self, folder: Path) -> None:
        keys = KeyFile(folder / "keys.json")
        self.key = keys.add("team-a", "admin")
        self.service = Service(folder / "service", "--keys-file", str(keys.path))
        self.folder = folder

    def ask(self, phases: str, examples: int, mode: str = "all") -> str:
        """What schemathesis says when it is through, with every check it has. Fails where it found anything.

        Good requests (`positive`) are helped to come to something; what is wrong in others is left as it is.
        """
        env = {**os.environ, "SCHEMATHESIS_HOOKS": str(HELP if mode == "positive" else FILTER)}
        print(f"GRESO_FUZZ_SEED={SEED}")  # noqa: T201  # pytest shows it with a failure
        command = [
            str(SCHEMATHESIS), "--config-file", str(CONFIG), "run", f"{self.service.url}/openapi.json",
            "--checks", "all", "--mode", mode, "--phases", phases, "--max-examples", str(examples), "--seed", SEED,
            "--header", f"Authorization: {bearer(self.key)['Authorization']}", "--request-timeout", "30",
            "--continue-on-failure", "--no-color", "--generation-database", "none", "--suppress-health-check", "all",
        ]  # fmt: skip
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
        return done.stdout

    def refused_for_want_of_a_key(self) -> float:
        """How many requests were answered 401, by the service's own count."""
        text = self.service.http.get("/metrics", headers=bearer(self.key)).text
        found = re.findall(r'^greso_requests_total\{.*status="401".*\} (\S+)$', text, re.MULTILINE)
        return sum(map(float, found))


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzzed]:
    world = Fuzzed(tmp_path_factory.mktemp("fuzzed"))
    try:
        world.service.start()
        yield world
    finally:
        world.service.close()


def through(said: str) -> tuple[int, int]:
    """How many operations there are, and how many were tested."""
    selected, tested = re.search(r"Selected: (\d+)", said), re.search(r"Tested: (\d+)", said)
    assert selected
    assert tested, said
    return int(selected[1]), int(tested[1])


def test_all_edges_of_the_description(fuzzed: Fuzzed) -> None:
    selected, tested = through(fuzzed.ask("examples,coverage", 1))
    assert tested == selected > 20
    assert fuzzed.refused_for_want_of_a_key() > 0, "requests without the key, and with a wrong one, are among them"
    assert "Traceback" not in fuzzed.service.said()


def test_many_requests_of_every_kind(fuzzed: Fuzzed) -> None:
    selected, tested = through(fuzzed.ask("fuzzing", 25))
    assert tested == selected > 20
    assert "Traceback" not in fuzzed.service.said()


def test_what_follows_from_answers(fuzzed: Fuzzed) -> None:
    """Runs are made, filled, drawn from, reported to, rewound, forked, exported and deleted, along the links."""
    said = fuzzed.ask("stateful", 60, mode="positive")
    covered = re.search(r"API Links:\s+(\d+) covered", said)
    assert covered
    assert int(covered[1]) >= 15, said[-5000:]
    assert "Traceback" not in fuzzed.service.said()
