"""The folder of an experiment: what was asked, what is finished, and so what is still to do after an interruption."""

import dataclasses
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from greso_client.trainer.compare.configuration import Configuration
from greso_client.trainer.compare.measure import StepRow, Trial


class ResultsError(Exception):
    """The folder can't be used; the message says what to do."""


class Results:
    """An experiment's folder. A trial's file appears when the trial is finished, whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._configuration = folder / "configuration.json"
        self.trials = folder / "trials"
        self.service_data = folder / "service"
        self.service_log = folder / "service.log"

    def open(self, configuration: Configuration) -> None:
        """Create the folder, or go on in it. Raises `ResultsError` when another configuration was used in it."""
        self.trials.mkdir(parents=True, exist_ok=True)
        if not self._configuration.exists():
            write_whole(self._configuration, json.dumps(configuration.as_json(), indent=2) + "\n")
            return
        before, now = self.configuration().as_json(), configuration.as_json()
        if different := [f"{name} {before[name]} (now {now[name]})" for name in now if before[name] != now[name]]:
            raise ResultsError(
                f"{self.folder} holds results of another configuration: {', '.join(different)}; "
                "give --out another folder, or the options of before"
            )

    def configuration(self) -> Configuration:
        """Return what the folder's results are made with. Raises `ResultsError`."""
        try:
            return Configuration.of_json(json.loads(self._configuration.read_text()))
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise ResultsError(
                f"{self._configuration} is not the configuration of an experiment ({error}); give --out another folder"
            ) from None

    def start(self, seed: int) -> Path:
        """Return where the warm-started weights of a seed are kept."""
        return self.trials / f"start-seed-{seed}.pt"

    def log(self, arm: str, seed: int) -> Path:
        """Return where a trial's worker complains."""
        return self.trials / f"{arm}-seed-{seed}.log"

    def has(self, arm: str, seed: int) -> bool:
        """Whether the trial is finished."""
        return self._trial(arm, seed).exists()

    def load(self, arm: str, seed: int) -> Trial:
        """Return a finished trial. Raises `ResultsError` when its file can't be read."""
        path = self._trial(arm, seed)
        try:
            told: dict[str, Any] = json.loads(path.read_text())
            return Trial(**{**told, "steps": [StepRow(**row) for row in told["steps"]]})
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise ResultsError(f"{path} is not a finished trial ({error}); remove it, and it is run again") from None

    def save(self, trial: Trial) -> None:
        """Keep a finished trial."""
        write_whole(self._trial(trial.arm, trial.seed), json.dumps(dataclasses.asdict(trial)) + "\n")

    def finished(self, arms: Iterable[str], seeds: Iterable[int]) -> list[Trial]:
        """Return the finished ones of these trials, seed after seed."""
        arms = list(arms)
        return [self.load(arm, seed) for seed in seeds for arm in arms if self.has(arm, seed)]

    def _trial(self, arm: str, seed: int) -> Path:
        return self.trials / f"{arm}-seed-{seed}.json"


def write_whole(path: Path, text: str) -> None:
    """Write a file so that, whenever the machine stops, it is there whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
