"""The options of `greso bench-rl`."""

import argparse
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from greso_client.trainer.compare.arms import ARMS, arms_help
from greso_client.trainer.compare.configuration import CONFIGURATIONS, CPU, DEFAULT_SEEDS, Configuration, Stop

MORE = f"""\
arms:
{arms_help()}
  grpo is always trained too: it is the first thing to compare with.

configurations:
  cpu    0.4 M parameters; of the first groups 7 in 10 are all wrong: 3 seeds in about 15 minutes on 2 cores, --jobs 2
  quick  an easier and smaller pool: shows in a few minutes that everything works, not what is saved
  gpu    83 M parameters, sums of up to 8 digits, bf16; needs a CUDA GPU; was never run on one: expect to tune it
  --set changes a part of one, for example: --set broken=0.5 --set device=cuda:1 --set pool_digits='[0, 0.2, 0.4, 0.4]'
        --set greso='{{"target_zero_variance": 0.5}}' (of the greso arms' runs); configuration.json in --out names all

An interrupted experiment goes on with the same command: finished arm x seed pairs are kept in --out. More seeds and
arms can be added later in the same way. A seed's results are the same whatever --jobs is; only its seconds are not
(jobs side by side share caches and the service), so take --jobs 1 where seconds matter.

examples:
  greso bench-rl --jobs 2                                    the cpu configuration, seeds 1 2 3
  greso bench-rl --seeds 1 2 3 4 5 --jobs 2 --out bench-5
  greso bench-rl --steps 150 --out bench-steps               every arm makes as many steps
  greso bench-rl --seconds 60 --jobs 1 --out bench-seconds   every arm trains as long
  greso bench-rl --accuracy 0.75                             tables at that accuracy (nothing finished is run again)
  greso bench-rl --config gpu --out bench-gpu
"""


@dataclass(frozen=True, slots=True)
class Options:
    """What the experiment is asked to do.

    `arms`: names out of `ARMS`. `jobs`: how many to run at once. `accuracy`: held-out, at which the tables compare;
    None: the highest that every arm reached in every seed. `url`: a running service; None starts one and stops it at
    the end. `out`: the folder for results, plots and the service's data.
    """

    configuration: Configuration = CPU
    arms: tuple[str, ...] = ("grpo", "dynamic", "greso", "greso-1")
    seeds: tuple[int, ...] = DEFAULT_SEEDS["cpu"]
    jobs: int = 1
    accuracy: float | None = None
    url: str | None = None
    out: Path = Path("bench")


def parse(arguments: Sequence[str]) -> Options:
    """Read the command line. Prints help or what is wrong, and raises SystemExit, where argparse does."""
    parser = _parser()
    given = parser.parse_args(arguments)
    configuration = CONFIGURATIONS[given.config]
    try:
        configuration = configuration.changed(dict(given.set))
        if (given.steps, given.rollouts, given.seconds) != (None, None, None):
            stop = Stop(given.steps, given.rollouts, given.seconds)
            configuration = dataclasses.replace(configuration, stop=stop)
    except ValueError as error:
        parser.error(str(error))
    return Options(
        configuration,
        tuple(dict.fromkeys(("grpo", *given.arms))),
        tuple(dict.fromkeys(given.seeds or DEFAULT_SEEDS[given.config])),
        given.jobs,
        given.accuracy,
        given.url,
        given.out,
    )


def _parser() -> argparse.ArgumentParser:
    defaults = Options()
    parser = argparse.ArgumentParser(
        prog="greso bench-rl",
        description="Train a model with several arms and seeds, from the same starts, and measure what each arm needed "
        "to the same held-out accuracy: rollouts, steps, seconds, with 95 % intervals.",
        epilog=MORE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--config", choices=CONFIGURATIONS, default="cpu", help="default: %(default)s")
    add("--set", type=_change, metavar="NAME=VALUE", action="append", default=[],
        help="change a part of the configuration; may be given several times")  # fmt: skip
    add("--arms", nargs="+", choices=ARMS, metavar="ARM", default=defaults.arms,
        help=f"out of: {', '.join(ARMS)} (default: {' '.join(defaults.arms)})")  # fmt: skip
    add("--seeds", nargs="+", type=natural, metavar="SEED", help="default: 1 2 3; quick: 1 2")
    add("--steps", type=positive, metavar="N", help="stop an arm after this many steps")
    add("--rollouts", type=positive, metavar="N",
        help=f"stop an arm after this many responses (default, if no other limit: {CPU.stop.rollouts:,})")  # fmt: skip
    add("--seconds", type=positive, metavar="S", help="stop an arm after this many seconds of training")
    add("--jobs", type=positive, default=defaults.jobs, metavar="N",
        help="arm x seed pairs to train at once, one torch thread each (default: %(default)s)")  # fmt: skip
    add("--accuracy", type=_share, metavar="A",
        help="accuracy at which the tables compare (default: the highest that every arm reached)")  # fmt: skip
    add("--url", help="a service that runs already (default: start one, and stop it at the end)")
    add("--out", type=Path, default=defaults.out, metavar="DIR", help="folder for the results (default: ./%(default)s)")
    return parser


def _change(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def natural(text: str) -> int:
    """Return a whole number from 0 on, for argparse."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 on")
    return int(text)


def positive(text: str) -> int:
    """Return a whole number from 1 on, for argparse."""
    if natural(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} must be 1 or more")
    return int(text)


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number between 0 and 1")
    return value
