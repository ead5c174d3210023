"""One job in a process of its own: a seed's warm start, or one trial. Tells how far it is in JSON, a line at a time."""

import json
import sys
import time
from pathlib import Path

from greso_client import GresoError
from greso_client.trainer.compare.results import Results, ResultsError
from greso_client.trainer.compare.trial import TrialError, load_experiment, new_trial, run_trial

TELL_EVERY = 0.5  # seconds between lines that tell of no evaluation


def main() -> int:
    """Do what the command line says: ``FOLDER URL ARM SEED``, or ``FOLDER - start SEED``. Return the exit code."""
    folder, url, arm, seed = sys.argv[1:]
    results = Results(Path(folder))
    try:
        if arm == "start":
            _start(results, int(seed))
        else:
            _train(results, url, arm, int(seed))
    except (GresoError, ResultsError, TrialError, OSError) as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _start(results: Results, seed: int) -> None:
    configuration = results.configuration()
    experiment = load_experiment(configuration, seed)
    for accuracy in experiment.warm_start():
        _tell(accuracy / configuration.start_accuracy, f"warm start, accuracy {accuracy:.2f}")
    experiment.save_start(results.start(seed))
    _tell(1.0, f"warm start done, accuracy {experiment.before:.3f}", True)


def _train(results: Results, url: str, arm: str, seed: int) -> None:
    configuration = results.configuration()
    experiment = load_experiment(configuration, seed)
    experiment.load_start(results.start(seed))
    trial = new_trial(experiment, arm, "bench")
    accuracy, seconds, told = trial.before, 0.0, 0.0
    for row in run_trial(experiment, trial, url):
        seconds += row.seconds
        accuracy = accuracy if row.accuracy is None else row.accuracy
        if row.accuracy is not None or time.monotonic() - told > TELL_EVERY:
            told = time.monotonic()
            share = configuration.stop.share(row.step, row.rollouts, seconds)
            doing = f"step {row.step}, {row.rollouts:,} rollouts, accuracy {accuracy:.2f}"
            _tell(share, doing, row.accuracy is not None)
    results.save(trial)


def _tell(share: float, doing: str, evaluated: bool = False) -> None:
    print(json.dumps({"share": share, "doing": doing, "evaluated": evaluated}), flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
