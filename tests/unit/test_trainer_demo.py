"""What the demo measures and says, without training."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from greso_client.trainer.compare.arms import ARMS
from greso_client.trainer.compare.measure import common_accuracy
from greso_client.trainer.demo.command import main
from greso_client.trainer.demo.options import FULL, Options, parse
from greso_client.trainer.demo.plot import save_plot
from greso_client.trainer.demo.table import summary_table, verdict

from .synthetic_trials import trial


@pytest.mark.parametrize(
    ("greso", "said"),
    [
        ([0.1, 0.8, 0.8, 0.8, 0.8], "fewer rollouts"),
        ([0.1, 0.2, 0.3, 0.4, 0.5], "about as many"),
        ([0.1, 0.11, 0.11, 0.11, 0.11, 0.11, 0.9, 0.9], "saved nothing"),
    ],
)
def test_the_verdict_is_what_happened(greso: list[float], said: str) -> None:
    results = [trial("dynamic", [0.1, 0.2, 0.3, 0.4, 0.5]), trial("greso", greso)]
    level = common_accuracy([each.curve for each in results])
    (sentence,) = verdict(results, level)
    assert said in sentence


def test_greso_is_compared_with_every_other_arm() -> None:
    results = [trial(arm, [0.1, 0.5, 0.5]) for arm in ("grpo", "greso", "dynamic")]
    assert [("grpo" in sentence, "dynamic" in sentence) for sentence in verdict(results, 0.4)] == [
        (True, False),
        (False, True),
    ]


@pytest.mark.parametrize("arms", [["greso"], ["dynamic", "grpo"]])
def test_arms_that_cannot_be_compared_say_so(arms: list[str]) -> None:
    assert "--arms" in " ".join(verdict([trial(arm, [0.1, 0.5]) for arm in arms], 0.4))


def test_the_table_fits_80_columns_and_holds_the_figures() -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    results = [trial(arm, [0.1, 0.5, 0.5]) for arm in ("grpo", "dynamic", "greso", "irt", "adaptive")]
    console.print(summary_table(results, 0.4))
    text = console.export_text()
    for figure in ("2,000", "32%", "26%", "0.100", "0.500", "rollouts to accuracy 0.40", "750", "5.0%"):
        assert figure in text
    assert "…" not in text


@pytest.mark.parametrize("level", [0.4, None])
def test_the_plot_is_a_png(tmp_path: Path, level: float | None) -> None:
    save_plot(tmp_path / "plot.png", [trial(arm, [0.1, 0.5, 0.5]) for arm in ARMS], level)
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_options_and_their_defaults() -> None:
    assert parse([]) == Options()
    given = parse(["--url", "http://h:1", "--arms", "grpo", "greso", "--seed", "3", "--rollouts", "9", "--out", "o"])
    assert given == Options("http://h:1", ("grpo", "greso"), 3, 9, Path("o"))
    assert given.configuration.stop.rollouts == 9
    assert parse([]).configuration.pool == FULL.pool > parse(["--quick"]).configuration.pool


@pytest.mark.parametrize("arguments", [["--arms", "nosuch"], ["--seed", "-1"], ["--rollouts", "many"], ["--nosuch"]])
def test_wrong_options_are_refused_in_words(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert "greso demo: error:" in capsys.readouterr().err


def test_help_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    assert "examples:" in capsys.readouterr().out


def test_an_unwritable_folder_is_one_line_and_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main(["--out", str(tmp_path / "file")]) == 1
    complaint = capsys.readouterr().err
    assert complaint.startswith("greso demo: ")
    assert len(complaint.splitlines()) == 1


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "nonsense", "http://"])
def test_an_unreachable_service_is_one_line_before_anything_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], url: str
) -> None:
    assert main(["--url", url, "--out", str(tmp_path)]) == 1
    complaint = capsys.readouterr().err
    assert complaint.startswith(f"greso demo: no service answers at {url} (")
    assert len(complaint.splitlines()) == 1
