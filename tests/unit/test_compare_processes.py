"""The processes beside the experiment: they end with it, and tell why when they fail."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from tests.servers import eventually

from greso_client.trainer.compare import tether
from greso_client.trainer.compare.configuration import CPU
from greso_client.trainer.compare.jobs import Job, Jobs, Told
from greso_client.trainer.compare.results import Results
from greso_client.trainer.compare.service import OwnService, ServiceError

if TYPE_CHECKING:
    from pathlib import Path

# Holds a web server of the standard library, says its process number, and waits.
HOLDER = """
import sys
from greso_client.trainer.compare import tether
held = tether.hold(["http.server", "0", "--bind", "127.0.0.1"], stdout=2, stderr=2)
print(held.pid, flush=True)
sys.stdin.read()
"""


def alive(pid: int) -> bool:
    """Whether the process runs; one that has ended and waits to be collected doesn't."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    told = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(told) and not told.startswith("Z")


def test_what_is_held_ends_when_its_holder_is_killed() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as holder:
        assert holder.stdout is not None
        held = int(holder.stdout.readline())
        assert alive(held)
        holder.kill()
    eventually(lambda: not alive(held), 20)


def test_what_is_held_gets_its_arguments_but_no_settings_of_the_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "telling.py").write_text("import os, sys; print(sys.argv[1:], 'GRESO_REDIS_URL' in os.environ)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("GRESO_REDIS_URL", "redis://elsewhere")
    with (tmp_path / "log").open("wb") as log:
        held = tether.hold(["telling", "--port", "1"], stdout=log, stderr=log)
        assert held.wait() == 0
    tether.let_go(held)
    assert tether.last_words(tmp_path / "log") == "['--port', '1'] False"


def test_a_service_that_cannot_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "data").touch()  # a file where a folder is needed
    with pytest.raises(ServiceError, match="did not start"), OwnService(tmp_path / "data", tmp_path / "log"):
        pass


def test_a_job_that_fails_says_why_and_the_others_go_on(tmp_path: Path) -> None:
    results = Results(tmp_path)
    results.open(CPU)
    told: list[tuple[Job, Told]] = []
    (tmp_path / "configuration.json").write_text("{")  # a worker finds that out at once
    jobs = [Job("grpo", 1), Job("greso", 1), Job("grpo", 2)]
    failed = Jobs(results, "http://127.0.0.1:9", lambda job, how: told.append((job, how))).run(jobs, 2)
    assert list(failed) == jobs
    for job, why in failed.items():
        assert "is not the configuration of an experiment" in why
        assert f"{job.arm}-seed-{job.seed}.log" in why
    assert {job for job, how in told if how.ended and how.doing.startswith("FAILED")} == set(jobs)
    assert results.finished(("grpo", "greso"), (1, 2)) == []
