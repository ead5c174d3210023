"""The benchmarks of one large run and of many run, and tell what they should; how fast it is, is not judged."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def told(*command: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-m", *command],
        check=False,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_a_large_run() -> None:
    out = told("tests.bench.big", "--prompts", "20000", "--groups", "30000", "--rounds", "5")
    for phase in ("upload of the pool", "30,000 groups", "restart: first answer", "rewind", "select, beside snapshots"):
        assert phase in out
    snapshots = re.search(r"(\d+) snapshots were made", out)
    assert snapshots
    assert int(snapshots[1]) > 0


def test_many_runs() -> None:
    out = told("tests.bench.many", "--runs", "10", "--active", "3", "--prompts", "500", "--rounds", "1", "--calls", "8")
    assert re.search(r"│\s+10 │\s+3 │", out), "ten were made, three are in memory"
    assert "a run that is read from Redis" in out
