"""The options of `greso demo`."""

import argparse
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from greso_client.trainer.compare.arms import ARMS, arms_help
from greso_client.trainer.compare.configuration import QUICK, Configuration, Stop
from greso_client.trainer.compare.options import natural, positive

FULL = Configuration()
THREADS = 2  # more hardly help a model this small, and the sums come out the same on every machine that has two cores

MORE = f"""\
arms:
{arms_help()}

examples:
  greso demo                    dynamic, then greso: about 4 minutes on 2 cores
  greso demo --quick            about a minute: shows that everything works, not what it saves
  greso demo --arms dynamic adaptive greso grpo --seed 2
  greso demo --url http://127.0.0.1:8080      use a service that runs already

Several seeds, with intervals: greso bench-rl --help
"""


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
    def configuration(self) -> Configuration:
        """The experiment of which the demo runs one seed."""
        sizes = QUICK if self.quick else FULL
        stop = sizes.stop if self.rollouts is None else Stop(rollouts=self.rollouts)
        return dataclasses.replace(sizes, threads=THREADS, stop=stop)


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
    parser.add_argument("--seed", type=natural, default=defaults.seed, help="default: %(default)s")
    parser.add_argument(
        "--rollouts", type=positive, metavar="N",
        help=f"responses that an arm may generate (default: {FULL.stop.rollouts:,}; --quick: {QUICK.stop.rollouts:,})",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, default=defaults.out, metavar="DIR", help="folder for the results (default: ./%(default)s)"
    )
    parser.add_argument("--quick", action="store_true", help="small sizes: about a minute")
    given = parser.parse_args(arguments)
    return Options(given.url, tuple(dict.fromkeys(given.arms)), given.seed, given.rollouts, given.out, given.quick)
