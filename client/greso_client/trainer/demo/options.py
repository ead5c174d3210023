"""The options of `greso demo`, its arms, and the sizes it runs at."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Sizes of one step: a tenth of what the paper uses for language models (256 / 384, group 8), as the pool is smaller.
GROUP_SIZE = 8
TRAIN_BATCH_SIZE = 32
ROLLOUT_BATCH_SIZE = 48
REFILL_ROUNDS = 20  # an arm that refills gives a step up after so many; 10 (as in DAPO's code) can be too few here

MORE = """\
arms:
  dynamic  dynamic sampling (DAPO): full rounds of prompts until enough groups are effective; the others are thrown away
  greso    the service first skips prompts that it predicts to be wasted, and sizes the later rounds by what is missing
  adaptive the second half alone: dynamic sampling with rounds sized by what is missing, nothing skipped
  grpo     plain GRPO: one round a step, trains on what is effective in it, however little

examples:
  greso demo                    dynamic, then greso: about 4 minutes on 2 cores
  greso demo --quick            about a minute: shows that everything works, not what it saves
  greso demo --arms dynamic adaptive greso grpo --seed 2
  greso demo --url http://127.0.0.1:8080      use a service that runs already
"""


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to train: the fields of its run's spec that set it apart, and the rounds a step may take."""

    spec: dict[str, Any]
    max_rounds: int


ARMS = {
    "dynamic": Arm({"policy": "uniform", "min_rollout_batch_size": ROLLOUT_BATCH_SIZE}, REFILL_ROUNDS),
    "greso": Arm({"policy": "greso"}, REFILL_ROUNDS),
    "adaptive": Arm({"policy": "uniform"}, REFILL_ROUNDS),
    "grpo": Arm({"policy": "uniform"}, 1),
}


@dataclass(frozen=True, slots=True)
class Options:
    """What the demo is asked to do.

    `url`: a running service; None starts one and stops it at the end. `arms`: names out of `ARMS`, in the order they
    are run. `seed`: of the data, the model and the sampling. `rollouts`: responses that each arm may generate; None is
    the default of the size. `out`: the folder for the plot, the figures and the service's data. `quick`: small sizes.
    """

    url: str | None = None
    arms: tuple[str, ...] = ("dynamic", "greso")
    seed: int = 1
    rollouts: int | None = None
    out: Path = Path("demo")
    quick: bool = False

    @property
    def sizes(self) -> "Sizes":
        """The sizes to run at."""
        return QUICK if self.quick else FULL

    @property
    def budget(self) -> int:
        """Responses that each arm may generate."""
        return self.sizes.rollouts if self.rollouts is None else self.rollouts


@dataclass(frozen=True, slots=True)
class Sizes:
    """Prompts in the pool, held-out problems, samples of each at an evaluation, rollouts of an arm and between
    evaluations, and the held-out accuracy at which the warm start ends.
    """

    pool: int
    held_out: int
    samples: int
    rollouts: int
    evaluate_every: int
    start_accuracy: float


FULL = Sizes(pool=3_000, held_out=1_000, samples=4, rollouts=130_000, evaluate_every=5_000, start_accuracy=0.35)
QUICK = Sizes(pool=1_000, held_out=500, samples=2, rollouts=20_000, evaluate_every=4_000, start_accuracy=0.4)


def parse(arguments: Sequence[str]) -> Options:
    """Read the command line. Prints help or what is wrong, and raises SystemExit, where argparse does."""
    defaults = Options()
    parser = argparse.ArgumentParser(
        prog="greso demo",
        description="Train one small model several times from the same start on this computer's CPU, and see how many "
        "rollouts it took with and without GRESO.",
        epilog=MORE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--url", help="a service that runs already (default: start one, and stop it at the end)")
    parser.add_argument(
        "--arms", nargs="+", choices=ARMS, metavar="ARM", default=defaults.arms,
        help=f"which to train: {', '.join(ARMS)} (default: {' '.join(defaults.arms)})",
    )  # fmt: skip
    parser.add_argument("--seed", type=_natural, default=defaults.seed, help="default: %(default)s")
    parser.add_argument(
        "--rollouts", type=_natural, metavar="N",
        help=f"responses that each arm may generate (default: {FULL.rollouts:,}; --quick: {QUICK.rollouts:,})",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, default=defaults.out, metavar="DIR", help="folder for the results (default: ./%(default)s)"
    )
    parser.add_argument("--quick", action="store_true", help="small sizes: about a minute")
    given = parser.parse_args(arguments)
    return Options(given.url, tuple(dict.fromkeys(given.arms)), given.seed, given.rollouts, given.out, given.quick)


def _natural(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 on")
    return int(text)
