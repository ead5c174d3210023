"""What the demo measures and says, without training."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from greso_client.trainer.demo.command import main
from greso_client.trainer.demo.measure import ArmResult, Point, StepRow, common_accuracy, reached, smoothed
from greso_client.trainer.demo.options import ARMS, Options, parse
from greso_client.trainer.demo.plot import save_plot
from greso_client.trainer.demo.service import OwnService, ServiceError
from greso_client.trainer.demo.table import summary_table, verdict

if TYPE_CHECKING:
    from collections.abc import Sequence


def curve(*accuracies: float) -> list[Point]:
    """One evaluation every 1,000 rollouts and every 10 steps, the start first."""
    return [Point(10 * i, 1000 * i, accuracy) for i, accuracy in enumerate(accuracies)]


def result(arm: str, accuracies: Sequence[float]) -> ArmResult:
    rows = [
        StepRow(
            step=i,
            rollouts=1000 * i,
            rounds=2,
            groups=125,
            effective=40,
            learnt_from=32,
            examined=200,
            skipped_easy=30,
            skipped_hard=45,
            reason="complete",
            loss=0.0,
            accuracy=accuracy,
            seconds=2.0,
            rollout_seconds=1.0,
            service_seconds=0.1,
            p_easy=0.5,
            p_hard=0.5,
        )
        for i, accuracy in enumerate(accuracies[1:], start=1)
    ]
    return ArmResult(arm, f"run-{arm}", accuracies[0], rows)


def test_the_start_is_kept_and_the_rest_are_means_of_up_to_three() -> None:
    accuracies = [point.accuracy for point in smoothed(curve(0.1, 0.2, 0.4, 0.6, 0.8))]
    assert accuracies == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.6])


def test_an_accuracy_is_reached_between_two_evaluations() -> None:
    goal = reached(curve(0.1, 0.2, 0.4, 0.6), 0.35)  # smoothed 0.1, 0.2, 0.3, 0.4
    assert goal is not None
    assert goal.rollouts == pytest.approx(2500)
    assert goal.step == pytest.approx(25)


def test_an_accuracy_that_is_never_reached_is_not_reached_by_one_lucky_evaluation() -> None:
    assert reached(curve(0.1, 0.2, 0.9, 0.2, 0.2), 0.6) is None


def test_the_common_accuracy_is_the_weakest_arms_best_rounded_down() -> None:
    assert common_accuracy([curve(0.1, 0.5, 0.5, 0.5), curve(0.1, 0.309, 0.309, 0.309)]) == 0.30


def test_arms_that_hardly_rose_have_no_common_accuracy() -> None:
    assert common_accuracy([curve(0.25, 0.28, 0.28), curve(0.25, 0.6, 0.6)]) is None


@pytest.mark.parametrize(
    ("greso", "said"),
    [
        ([0.1, 0.8, 0.8, 0.8, 0.8], "fewer rollouts"),
        ([0.1, 0.2, 0.3, 0.4, 0.5], "about as many"),
        ([0.1, 0.11, 0.11, 0.11, 0.11, 0.11, 0.9, 0.9], "saved nothing"),
    ],
)
def test_the_verdict_is_what_happened(greso: list[float], said: str) -> None:
    results = [result("dynamic", [0.1, 0.2, 0.3, 0.4, 0.5]), result("greso", greso)]
    level = common_accuracy([each.curve for each in results])
    (sentence,) = verdict(results, level)
    assert said in sentence


def test_greso_is_compared_with_every_other_arm() -> None:
    results = [result(arm, [0.1, 0.5, 0.5]) for arm in ("grpo", "greso", "dynamic")]
    assert [("grpo" in sentence, "dynamic" in sentence) for sentence in verdict(results, 0.4)] == [
        (True, False),
        (False, True),
    ]


@pytest.mark.parametrize("arms", [["greso"], ["dynamic", "grpo"]])
def test_arms_that_cannot_be_compared_say_so(arms: list[str]) -> None:
    assert "--arms" in " ".join(verdict([result(arm, [0.1, 0.5]) for arm in arms], 0.4))


def test_the_table_fits_80_columns_and_holds_the_figures() -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    results = [result(arm, [0.1, 0.5, 0.5]) for arm in ARMS]
    console.print(summary_table(results, 0.4))
    text = console.export_text()
    for figure in ("2,000", "32%", "26%", "0.100", "0.500", "rollouts to accuracy 0.40", "750", "5.0%"):
        assert figure in text
    assert "…" not in text


@pytest.mark.parametrize("level", [0.4, None])
def test_the_plot_is_a_png(tmp_path: Path, level: float | None) -> None:
    save_plot(tmp_path / "plot.png", [result(arm, [0.1, 0.5, 0.5]) for arm in ARMS], level)
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_options_and_their_defaults() -> None:
    assert parse([]) == Options()
    given = parse(["--url", "http://h:1", "--arms", "grpo", "greso", "--seed", "3", "--rollouts", "9", "--out", "o"])
    assert given == Options("http://h:1", ("grpo", "greso"), 3, 9, Path("o"))
    assert parse(["--quick"]).budget < parse([]).budget


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


def test_a_service_that_cannot_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "data").touch()  # a file where a folder is needed
    with pytest.raises(ServiceError, match="did not start"), OwnService(tmp_path / "data", tmp_path / "log"):
        pass
