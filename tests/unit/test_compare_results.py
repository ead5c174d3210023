"""The experiment's folder: what is finished is kept, and nothing is mixed up."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from greso_client.trainer.compare.configuration import CPU, QUICK, Configuration, Stop
from greso_client.trainer.compare.jobs import Job, to_do
from greso_client.trainer.compare.results import Results, ResultsError

from .synthetic_trials import learning

if TYPE_CHECKING:
    from pathlib import Path

ARMS = ("grpo", "greso")


@pytest.fixture
def results(tmp_path: Path) -> Results:
    made = Results(tmp_path / "bench")
    made.open(CPU)
    return made


def test_what_is_finished_comes_back_as_it_was(results: Results) -> None:
    kept = [learning(arm, seed, 1.0) for seed in (1, 2) for arm in ARMS]
    for each in kept:
        results.save(each)
    assert results.finished(ARMS, (1, 2)) == kept
    assert results.finished(("greso",), (2,)) == [kept[3]]


def test_only_what_is_not_finished_is_to_do(results: Results) -> None:
    results.save(learning("grpo", 1, 1.0))
    results.save(learning("greso", 1, 1.0))
    results.save(learning("grpo", 2, 1.0))
    assert to_do(results, ARMS, (1, 2, 3)) == (
        [Job("start", 2), Job("start", 3)],
        [Job("greso", 2), Job("grpo", 3), Job("greso", 3)],
    )
    results.start(2).touch()
    assert to_do(results, ARMS, (1, 2))[0] == []
    assert to_do(results, ("grpo",), (1, 2)) == ([], [])


def test_a_half_written_trial_is_not_finished(results: Results) -> None:
    results.save(learning("grpo", 1, 1.0))
    (path,) = results.trials.glob("grpo-*")
    path.rename(results.trials / f".{path.name}.partial")  # as a killed worker leaves it
    assert not results.has("grpo", 1)
    assert results.finished(ARMS, (1,)) == []


def test_a_damaged_trial_is_named_with_what_to_do(results: Results) -> None:
    results.save(learning("grpo", 1, 1.0))
    (path,) = results.trials.glob("grpo-*")
    path.write_text(path.read_text()[:100])
    with pytest.raises(ResultsError, match=r"grpo-seed-1.json is not a finished trial .*remove it"):
        results.load("grpo", 1)


def test_the_same_configuration_goes_on_and_another_one_is_refused_with_the_difference(results: Results) -> None:
    results.open(CPU)
    with pytest.raises(ResultsError, match=r"broken 0.6 \(now 0.5\).*--out"):
        results.open(dataclasses.replace(CPU, broken=0.5))
    assert results.configuration() == CPU


def test_a_folder_with_another_file_of_that_name_is_refused(results: Results) -> None:
    (results.folder / "configuration.json").write_text("[]")
    with pytest.raises(ResultsError, match="is not the configuration of an experiment"):
        results.open(CPU)


@pytest.mark.parametrize("configuration", [CPU, QUICK, dataclasses.replace(CPU, stop=Stop(steps=5, seconds=2.5))])
def test_a_configuration_survives_its_file(configuration: Configuration, tmp_path: Path) -> None:
    results = Results(tmp_path)
    results.open(configuration)
    assert results.configuration() == configuration
