"""One seed of an experiment at a tiny size, against a real service: what a start and an arm are made of."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest
import torch

from greso_client import Client
from greso_client.trainer.addition import Addition
from greso_client.trainer.compare.arms import ARMS
from greso_client.trainer.compare.configuration import GPU, Configuration, Stop
from greso_client.trainer.compare.experiment import Experiment, model_config
from greso_client.trainer.compare.measure import Trial
from greso_client.trainer.compare.trial import TrialError, new_trial, run_trial

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers import Service

TINY = Configuration(
    pool_digits=(1.0,), warm_digits=(1.0,), broken=0.2, pool=40, held_out=20, samples=2, evaluate_every=100,
    hidden=32, heads=2, warm_batch=32, warm_learning_rate=5e-3, warm_limit=60, start_accuracy=0.15,
    group_size=4, train_batch_size=4, rollout_batch_size=6, rounds=4, stop=Stop(rollouts=300),
)  # fmt: skip


@pytest.fixture(scope="module")
def started() -> Experiment:
    experiment = Experiment(TINY, 3)
    for _ in experiment.warm_start():
        pass
    return experiment


def trained(experiment: Experiment, service: Service, arm: str) -> Trial:
    trial = new_trial(experiment, arm, "test")
    assert [row.step for row in run_trial(experiment, trial, service.url)] == [row.step for row in trial.steps]
    return trial


def without_seconds(trial: Trial) -> list[object]:
    return [
        dataclasses.replace(row, seconds=0, rollout_seconds=0, update_seconds=0, service_seconds=0)
        for row in trial.steps
    ]


def test_the_warm_start_stops_where_it_should(started: Experiment) -> None:
    assert 0 < started.before < 0.8


@pytest.mark.parametrize("arm", ["grpo", "dynamic", "greso"])
def test_an_arm_is_trained_and_measured(started: Experiment, service: Service, arm: str) -> None:
    trial = trained(started, service, arm)
    assert trial.before == started.before
    assert trial.steps[-2].rollouts < 300 <= trial.rollouts
    assert trial.updates > 0
    assert trial.steps[-1].accuracy is not None
    assert len(trial.curve) >= 3
    for row in trial.steps:
        assert row.rounds <= (TINY.rounds if ARMS[arm].refill else 1)
        assert row.learnt_from == min(row.effective, TINY.train_batch_size)
        assert 0 < row.rollout_seconds + row.update_seconds + row.service_seconds <= row.seconds
        assert 0 < row.p_hard < 1
    if arm != "greso":
        assert trial.total("skipped_easy") + trial.total("skipped_hard") == 0


def test_a_seed_gives_the_same_start_and_the_same_training_again(
    started: Experiment, service: Service, tmp_path: Path
) -> None:
    started.save_start(tmp_path / "start.pt")
    again = Experiment(TINY, 3)
    again.load_start(tmp_path / "start.pt")
    assert again.before == started.before
    assert [each.name for each in tmp_path.iterdir()] == ["start.pt"]
    one, other = trained(started, service, "greso"), trained(again, service, "greso")
    assert one.run != other.run
    assert without_seconds(one) == without_seconds(other)


def test_an_arm_stops_after_its_seconds(started: Experiment, service: Service) -> None:
    started.configuration = dataclasses.replace(TINY, stop=Stop(seconds=0.2))
    try:
        trial = trained(started, service, "grpo")
    finally:
        started.configuration = TINY
    assert trial.total("seconds") >= 0.2
    assert trial.total("seconds") - trial.steps[-1].seconds < 0.2


def test_rollouts_that_the_service_did_not_count_spoil_a_trial(started: Experiment, service: Service) -> None:
    trial = new_trial(started, "grpo", "test-spoilt")
    rows = run_trial(started, trial, service.url)
    next(rows)
    with Client(service.url, run=trial.run, strict=True) as other:
        other.report(1, [], final=True)
        from greso_client import Group  # noqa: PLC0415

        other.report(1, [Group("add/0", [0.0, 1.0])])
    with pytest.raises(TrialError, match="the service counted"):
        list(rows)


def test_the_gpu_configuration_runs_at_a_tiny_size_on_the_cpu(service: Service) -> None:
    tiny = dataclasses.replace(
        GPU, device="cpu", hidden=24, heads=3, layers=2, pool=50, held_out=20, samples=1, warm_batch=16, warm_limit=10,
        start_accuracy=0.9, group_size=4, train_batch_size=4, rollout_batch_size=6, rounds=2, stop=Stop(steps=2),
    )  # fmt: skip
    experiment = Experiment(tiny, 1)
    looked = list(experiment.warm_start())
    assert len(looked) == 2  # every 5th of `warm_limit` steps
    trial = trained(experiment, service, "greso")
    assert [row.step for row in trial.steps] == [1, 2]
    assert trial.steps[-1].accuracy is not None


def test_the_gpu_configuration_has_the_parameters_it_says() -> None:
    with torch.device("meta"):
        from transformers import AutoModelForCausalLM  # noqa: PLC0415

        addition = Addition(GPU.pool_digits, GPU.warm_digits, GPU.broken)
        model = AutoModelForCausalLM.from_config(model_config(GPU, addition))  # type: ignore[no-untyped-call]
    assert sum(parameter.numel() for parameter in model.parameters()) == pytest.approx(83e6, rel=0.02)
