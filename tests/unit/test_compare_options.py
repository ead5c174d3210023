"""The options of `greso bench-rl`, and what a configuration may be."""

from __future__ import annotations

from pathlib import Path

import pytest

from greso_client.trainer.compare.arms import ARMS
from greso_client.trainer.compare.command import main
from greso_client.trainer.compare.configuration import CONFIGURATIONS, CPU, GPU, QUICK, Configuration, Stop
from greso_client.trainer.compare.options import Options, parse


def test_options_and_their_defaults() -> None:
    assert parse([]) == Options()
    given = parse([
        "--config", "quick", "--arms", "dynamic", "--seeds", "4", "5", "4", "--rollouts", "9", "--seconds", "7",
        "--jobs", "2", "--accuracy", "0.7", "--url", "http://h:1", "--out", "o",
        "--set", "broken=0", "--set", "model=qwen3",
    ])  # fmt: skip
    assert given.configuration.stop == Stop(rollouts=9, seconds=7)
    assert (given.configuration.broken, given.configuration.model, given.configuration.pool) == (0, "qwen3", QUICK.pool)
    assert (given.seeds, given.jobs, given.accuracy) == ((4, 5), 2, 0.7)
    assert (given.url, given.out) == ("http://h:1", Path("o"))


def test_plain_grpo_stands_beside_everything() -> None:
    assert parse(["--arms", "greso"]).arms == ("grpo", "greso")
    assert parse(["--arms", "dynamic", "grpo"]).arms == ("grpo", "dynamic")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--arms", "nosuch"], "nosuch"),
        (["--config", "tpu"], "tpu"),
        (["--seeds", "-1"], "whole number"),
        (["--jobs", "0"], "1 or more"),
        (["--steps", "0"], "1 or more"),
        (["--accuracy", "75"], "between 0 and 1"),
        (["--set", "broken"], "NAME=VALUE"),
        (["--set", "brocken=0.5"], "is none of: broken"),
        (["--set", "stop=5"], "is none of"),
        (["--set", "pool=many"], "pool must be like 3000"),
        (["--set", "pool=0"], "pool must be 1 or more"),
        (["--set", "pool_digits=[0.5, 0.6]"], "sum to 1"),
        (["--set", "pool_digits=[0.5, 0.5]"], "warm_digits must be 2 shares"),
        (["--set", "model=llama"], "one of gpt2, qwen3"),
    ],
)
def test_wrong_options_are_refused_in_words(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert "greso bench-rl: error:" in error
    assert said in error


def test_shares_of_other_lengths_can_be_set_together() -> None:
    given = parse(["--set", "pool_digits=[0, 1]", "--set", "warm_digits=[0.5, 0.5]"])
    assert given.configuration.pool_digits == (0, 1)


def test_the_filter_can_be_set() -> None:
    assert parse(["--set", 'greso={"easy_share": 0.5}']).configuration.greso == {"easy_share": 0.5}


def test_help_names_every_arm_and_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    told = capsys.readouterr().out
    assert "examples:" in told
    assert "%%" not in told
    for name in [*ARMS, *CONFIGURATIONS]:
        assert name in told


def test_an_arm_stops_at_the_first_limit_that_it_reaches() -> None:
    stop = Stop(steps=10, rollouts=1000, seconds=5)
    assert stop.share(5, 100, 1) == 0.5
    assert stop.share(1, 100, 5.5) > 1
    assert stop.share(1, 1000, 0) == 1
    assert str(Stop(rollouts=1000, seconds=5)) == "1,000 rollouts or 5 seconds of training"


@pytest.mark.parametrize("limits", [{}, {"steps": 0}, {"seconds": -1.0}])
def test_an_arm_that_would_never_stop_is_refused(limits: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least one limit"):
        Stop(**limits)


def test_a_pool_with_nothing_left_to_draw_ends_the_training_nevertheless() -> None:
    assert Configuration(stop=Stop(rollouts=800)).most_steps == 101
    assert Configuration(stop=Stop(rollouts=800, steps=7)).most_steps == 7


def test_the_arms_differ_in_policy_and_refill_only() -> None:
    given = {"target_zero_variance": 0.5}
    assert ARMS["dynamic"].spec(48, given) == {"policy": "uniform", "min_rollout_batch_size": 48}
    assert ARMS["greso"].spec(48, given) == ARMS["greso-1"].spec(48, given) == {"policy": "greso", **given}
    assert ARMS["grpo"].spec(48, given) == ARMS["adaptive"].spec(48, given) == {"policy": "uniform"}
    assert {name for name, arm in ARMS.items() if not arm.refill} == {"grpo", "greso-1", "irt-1"}
    assert ARMS["irt"].spec(48, given) == ARMS["irt-1"].spec(48, given) == {"policy": "irt"}


def test_the_gpu_configuration_is_as_hard_and_as_large_as_it_says() -> None:
    per_layer = GPU.hidden**2 * (2 + 2 * (GPU.heads // 3) / GPU.heads + 3 * 3)
    assert 50e6 < GPU.layers * per_layer < 300e6
    assert sum(GPU.pool_digits[3:]) > 0.7
    assert sum(GPU.warm_digits[3:]) <= 0.2
    assert len(GPU.pool_digits) == 8 > len(CPU.pool_digits)


def test_a_missing_gpu_is_one_line_before_anything_is_started(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch  # noqa: PLC0415

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert main(["--config", "gpu", "--out", str(tmp_path / "out")]) == 1
    complaint = capsys.readouterr().err
    assert complaint.startswith("greso bench-rl: torch can't use the device cuda (")
    assert len(complaint.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_an_unwritable_folder_is_one_line_and_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main(["--out", str(tmp_path / "file")]) == 1
    complaint = capsys.readouterr().err
    assert complaint.startswith("greso bench-rl: ")
    assert len(complaint.splitlines()) == 1
