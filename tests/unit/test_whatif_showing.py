"""Showing what came of a replay: tables, JSON, CSV, the picture, and the command line around them."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from greso_service.cli import run
from greso_service.core.audit import wilson
from greso_service.core.spec import POLICIES
from greso_service.whatif import files, plot, table

from .test_whatif_judging import BOTH, EASY, THREE_STEPS, Row, results, trained

SPEC: dict[str, Any] = {"p_easy": 0.0, "p_hard": 0.0, "exploration_bounds": (0.0, 0.0), "min_keep_probability": 0.0}
OPTIONS = [f"--set={name}={json.dumps(value)}" for name, value in SPEC.items()]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return written(tmp_path / "log.jsonl", THREE_STEPS)


def written(path: Path, rows: list[Row]) -> Path:
    path.write_text("".join(json.dumps({"step": s, "prompt": p, "rewards": r}) + "\n" for s, p, r in rows))
    return path


def greso(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["greso", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        run()
    return int(end.value.code or 0)


def test_a_row_has_every_figure() -> None:
    [row] = files.rows_of(results(THREE_STEPS, "greso", **SPEC))
    lost, false = wilson(3, 4), wilson(3, 5)
    assert row == {
        "policy": "greso", "groups": 9, "kept": 4, "skipped_easy": 3, "skipped_hard": 2, "rollouts": 8,
        "rollouts_saved": 10 / 18, "effective": 1,
        "effective_lost": 3, "effective_lost_share": 0.75,
        "effective_lost_low": lost[0], "effective_lost_high": lost[1],
        "lost_by_chance": 5 / 6 * 3 / 4,
        "false_skips": 0.6, "false_skips_low": false[0], "false_skips_high": false[1], "yield": 0.25,
    }  # fmt: skip


def test_the_table_says_it_in_words() -> None:
    text = table.text(results(THREE_STEPS, "greso", **SPEC))
    assert "9 groups (18 rollouts) of 3 prompts in 3 steps: 44.4% effective, 33.3% easy, 22.2% hard" in text
    assert "6 of them are of prompts seen before" in text
    assert "greso would have saved 55.6% of the rollouts and lost 75.0% of the effective groups" in text
    assert not any(line.endswith(" ") for line in text.splitlines())


def test_what_cant_be_told_is_a_dash_and_none() -> None:
    found = results([(0, "a", EASY), (1, "a", EASY)])
    assert " nan" not in table.text(found)
    rows = {row["policy"]: row for row in files.rows_of(found)}
    assert rows["uniform"]["effective_lost_share"] is None
    assert rows["uniform"]["false_skips"] is None
    json.dumps(files.content(found), allow_nan=False)
    assert files.content(found)["policies"][0]["curve"] is None


def test_who_loses_least_is_said_only_if_that_is_clear() -> None:
    found = results(trained(10, 100), "greso", "mopps")
    for lost, said in ((0, True), (found.policies["greso"].lost, False)):
        found.policies["mopps"].lost = lost
        assert ("mopps loses least" in table.text(found)) is said


def test_csv_and_json_have_a_row_for_each_policy() -> None:
    found = results(THREE_STEPS)
    assert [row["policy"] for row in csv.DictReader(io.StringIO(files.as_csv(found)))] == list(POLICIES)
    told = files.content(found)
    assert told["leader"] == "greso"
    assert told["log"]["again"]["groups"] == 6
    assert {policy["policy"] for policy in told["policies"] if policy["curve"]} == {"mopps", "p_mixed", "irt"}
    assert [policy["policy"] for policy in told["policies"] if "exploration" in policy] == ["greso"]


@pytest.mark.parametrize(
    "rows",
    [THREE_STEPS, [(0, "a", EASY), (1, "a", EASY)], [(0, "a", BOTH), (1, "a", BOTH)]],
    ids=["all", "easy", "both"],
)
def test_the_picture_can_be_drawn_of_any_log(rows: list[Row], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    plot.save(tmp_path / "replay.png", results(rows))
    assert (tmp_path / "replay.png").read_bytes().startswith(b"\x89PNG")


# The command


def test_the_command_prints_tables(
    log: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert greso(monkeypatch, "replay", log, "--policy", "greso", *OPTIONS) == 0
    said = capsys.readouterr()
    assert "55.6%  75.0% (30.1-95.4)" in said.out
    assert said.err == "\nwith --out DIR also a picture, CSV and JSON\n"


def test_the_command_writes_a_folder(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / "what" / "if"
    assert greso(monkeypatch, "replay", log, "--out", out, "--json") == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == json.loads((out / "replay.json").read_text())
    assert sorted(path.name for path in out.iterdir()) == [f"replay.{end}" for end in ("csv", "json", "png", "txt")]
    assert said.err.startswith("written: ")


def test_without_matplotlib_one_line_says_what_to_install(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(plot, "available", lambda: False)
    assert greso(monkeypatch, "replay", log, "--out", tmp_path / "out") == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["replay.csv", "replay.json", "replay.txt"]
    assert capsys.readouterr().err.endswith("no picture: it needs matplotlib; run: pip install matplotlib\n")


def asked(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    assert greso(monkeypatch, "replay", *arguments, "--json") == 0
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return told


def test_parameters_are_of_all_policies_or_of_one(
    log: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own = "band:pass_rate_band=[0.2,0.6],min_keep_probability=0.1"
    told = asked(
        monkeypatch, capsys, log, "--policy", "greso", "--policy", own, "--set", "min_keep_probability=0.2", "--seed", 5
    )
    greso_, band = (policy["spec"] for policy in told["policies"])
    assert (greso_["min_keep_probability"], greso_["seed"], greso_["group_size"]) == (0.2, 5, 2)
    assert (band["min_keep_probability"], band["pass_rate_band"], band["seed"]) == (0.1, [0.2, 0.6], 5)
    assert told["policies"][1]["policy"] == own


def test_new_bounds_move_the_exploration_inside(
    log: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = asked(monkeypatch, capsys, log, "--policy", "greso:exploration_bounds=[0.1,0.3]", "--group-size", 4)
    spec = told["policies"][0]["spec"]
    assert (spec["p_easy"], spec["group_size"]) == (0.3, 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--policy", "best"], "--policy best: there is no policy 'best'; there are greso, uniform"),
        (["--policy", "greso:p"], "--policy greso:p: 'p' is no FIELD=VALUE with one of the fields seed,"),
        (["--policy", "band:pass_rate_band=0.2,0.8"], "write a list as [0.2,0.8]"),
        (["--set", "pass_rate_band=0.2,0.8"], "write a list as [0.2,0.8]"),
        (["--set", "target=1"], "--set: 'target=1' is no FIELD=VALUE"),
        (["--set", "policy=irt"], "--set: 'policy=irt' is no FIELD=VALUE"),
        (["--set", "target_zero_variance=2"], "--set: target_zero_variance: "),
        (["--set", "train_batch_size=many"], "--set: train_batch_size: "),
        (["--policy", "band:pass_rate_band=[0.9,0.1]"], "pass_rate_band: the lower rate exceeds the upper"),
        (["--prompt-field", "uid"], "line 1 has no prompt: no field 'uid'"),
        (["--out", "/dev/null/x"], "/dev/null"),
    ],
)
def test_what_is_asked_wrongly_is_one_line(
    arguments: list[str], message: str, log: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert greso(monkeypatch, "replay", log, *arguments) == 1
    said = capsys.readouterr().err
    assert message in said
    assert said.startswith("greso: ")
    assert said.count("\n") == 1


def test_what_breaks_off_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_result: object) -> str:
        raise KeyboardInterrupt

    found = results(THREE_STEPS)
    files.save(tmp_path, found)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(files, "as_csv", interrupted)
    with pytest.raises(KeyboardInterrupt):
        files.save(tmp_path, found)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
