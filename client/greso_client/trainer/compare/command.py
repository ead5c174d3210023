"""The `greso bench-rl` command, top to bottom."""

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence

from rich.console import Console

from greso_client import GresoError
from greso_client.trainer.compare import report as telling
from greso_client.trainer.compare.comparison import Trials
from greso_client.trainer.compare.display import Display
from greso_client.trainer.compare.jobs import Job, Jobs, to_do
from greso_client.trainer.compare.options import Options, parse
from greso_client.trainer.compare.results import Results, ResultsError
from greso_client.trainer.compare.running import (
    MachineError,
    require_device,
    require_packages,
    terminated_as_interrupted,
)
from greso_client.trainer.compare.saving import machine, save_report
from greso_client.trainer.compare.service import OwnService, ServiceError, require_service

INTERRUPTED = 130  # 128 + SIGINT, as shells have it
LOG_WIDTH = 160  # of the tables, where there is no terminal that says how wide it is


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line (default: the program's own); return the exit code."""
    return bench(parse(sys.argv[1:] if arguments is None else arguments))


def bench(options: Options) -> int:
    """Run what is not finished yet, then tell and save what was measured.

    Return 0, 1 when something is wrong or a trial failed, 130 when interrupted.
    """
    console = Console() if sys.stdout.isatty() else Console(width=LOG_WIDTH)
    problems = Console(stderr=True)
    results = Results(options.out)
    try:
        with terminated_as_interrupted():
            require_packages("the comparison")
            require_device(options.configuration.device)
            results.open(options.configuration)
            failures = _run(options, results, console)
            _tell(options, results, console)
    except KeyboardInterrupt:
        problems.print("stopped; nothing is left running; the same command goes on", soft_wrap=True)
        return INTERRUPTED
    except (MachineError, ResultsError, ServiceError, GresoError, OSError) as error:
        problems.print(f"greso bench-rl: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        return 1
    for job, failure in failures.items():
        line = f"greso bench-rl: {job} failed: {failure}; the same command tries it again"
        problems.print(line, style="red", markup=False, highlight=False, soft_wrap=True)
    return 1 if failures else 0


def _run(options: Options, results: Results, console: Console) -> dict[Job, str]:
    starts, trials = to_do(results, options.arms, options.seeds)
    count = len(options.arms) * len(options.seeds)
    console.print(
        f"{count} trials ({', '.join(options.arms)}; seeds {', '.join(map(str, options.seeds))}), "
        f"{options.configuration.stop} each, {count - len(trials)} finished before; results go to {options.out}",
        highlight=False,
        soft_wrap=True,
    )
    if not trials:
        return {}
    began = time.perf_counter()
    with _service(options, results) as url, Display(console, len(starts) + len(trials)) as display:
        jobs = Jobs(results, url, display.tell)
        failures = jobs.run(starts, options.jobs)
        without_start = {job.seed for job in failures}
        ready = [job for job in trials if job.seed not in without_start]
        failures.update(jobs.run(ready, options.jobs))
    console.print(f"{time.perf_counter() - began:,.0f} s for {len(trials)} trials, {options.jobs} at once")
    return failures


@contextlib.contextmanager
def _service(options: Options, results: Results) -> Iterator[str]:
    if options.url is not None:
        require_service(options.url)
        yield options.url
        return
    with OwnService(results.service_data, results.service_log) as service:
        yield service.url


def _tell(options: Options, results: Results, console: Console) -> None:
    from greso_client.trainer.compare.plot import save_plot  # noqa: PLC0415 - matplotlib, wanted only now

    finished = results.finished(options.arms, options.seeds)
    if not finished:
        console.print("no trial is finished: nothing to tell")
        return
    report = telling.make_report(Trials(finished), options.accuracy)
    for grid in (telling.arms_grid(report), telling.ratios_grid(report)):
        if grid.rows:
            console.print(grid.for_terminal())
    for pair, sentences in telling.verdicts(report).items():
        console.print(f"{pair}:", style="bold", highlight=False)
        for sentence in sentences:
            console.print(f"  {sentence}", highlight=False, soft_wrap=True)
    for sentence in telling.cautions(report, options.configuration):
        console.print(sentence, style="dim", highlight=False, soft_wrap=True)
    save_report(results, report, machine(options.jobs))
    save_plot(options.out / "bench.png", report)
    console.print(
        f"the picture: {options.out / 'bench.png'}; beside it report.md, summary.json, steps.csv and curves.csv",
        highlight=False,
        soft_wrap=True,
    )
