"""One trial: an arm trained from a seed's start, against a service, and measured."""

import dataclasses
import os
import time
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING

from greso_client import Client
from greso_client.trainer.compare.arms import ARMS
from greso_client.trainer.compare.configuration import Configuration
from greso_client.trainer.compare.measure import StepRow, Trial

if TYPE_CHECKING:
    from greso_client.trainer.compare.experiment import Experiment

CALL_SECONDS = 30.0  # budget of a call: the training beside it keeps every core busy


class TrialError(Exception):
    """The trial is worth nothing; the message says why."""


def load_experiment(configuration: Configuration, seed: int) -> "Experiment":
    """Return the experiment; loads torch, which takes seconds."""
    # The weights are random ones made here: nothing is to be looked up or counted anywhere.
    os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1")
    # OpenMP's threads spin while they wait for each other, which on a busy machine made training 3-10 times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from greso_client.trainer.compare.experiment import Experiment  # noqa: PLC0415

    return Experiment(configuration, seed)


def new_trial(experiment: "Experiment", arm: str, prefix: str) -> Trial:
    """Return an empty trial; its run gets a name that no run has had."""
    stamp = f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:4]}"
    return Trial(arm, experiment.seed, f"{prefix}-{stamp}-{arm}-{experiment.seed}", experiment.before)


def run_trial(experiment: "Experiment", trial: Trial, url: str) -> Iterator[StepRow]:
    """Train until the configuration's stop, and add each step to the trial. Raises `TrialError`, `GresoError`."""
    # strict: a step that the service had no part in would make the comparison worthless.
    with Client(url, run=trial.run, strict=True, budget=CALL_SECONDS) as client:
        for row in experiment.train(ARMS[trial.arm], client):
            trial.steps.append(row)
            yield row
        _add_exploration(trial, client)
        recorded = client.state().totals.rollouts
    if recorded != trial.rollouts:
        raise TrialError(
            f"the service counted {recorded:,} rollouts of {trial.run}, the trainer {trial.rollouts:,}; report it"
        )


def _add_exploration(trial: Trial, client: Client) -> None:
    """Fill in the exploration probabilities that the service recorded."""
    recorded = {}
    after = None
    while page := client.steps(after=after):
        recorded.update({row.step: row for row in page})
        after = page[-1].step
    trial.steps = [
        dataclasses.replace(row, p_easy=recorded[row.step].p_easy, p_hard=recorded[row.step].p_hard)
        for row in trial.steps
    ]
