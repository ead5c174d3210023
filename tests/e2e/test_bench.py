"""The benchmarks of one large run and of many run, and tell what they should; how fast it is, is not judged."""

from __future__ import annotations

import re

import pytest
from tests.bench import big, many
from tests.bench.sizing import resident

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is read off as it is: a service takes its time to give back what it no longer needs."""
    for bench in (big, many):
        monkeypatch.setattr(bench, "settled", resident)


def test_a_large_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["big", "--prompts", "5000", "--groups", "10000", "--rounds", "3"])
    big.main()
    out = capsys.readouterr().out
    for phase in ("upload of the pool", "10,000 groups", "restart: first answer", "rewind", "select, beside snapshots"):
        assert phase in out
    snapshots = re.search(r"(\d+) snapshots were made", out)
    assert snapshots
    assert int(snapshots[1]) > 0


def test_many_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--runs", "10", "--active", "3", "--prompts", "500", "--rounds", "1", "--calls", "8"]
    monkeypatch.setattr("sys.argv", ["many", *asked])
    many.main()
    out = capsys.readouterr().out
    assert re.search(r"│\s+10 │\s+3 │", out), "ten were made, three are in memory"
    assert "a run that is read from Redis" in out
