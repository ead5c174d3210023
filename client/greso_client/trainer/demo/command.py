"""The `greso demo` command, top to bottom."""

import contextlib
import csv
import dataclasses
import importlib.util
import json
import os
import platform
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from greso_client import Client, GresoError
from greso_client.trainer.demo.measure import ArmResult, StepRow, common_accuracy, reached
from greso_client.trainer.demo.options import ARMS, Options, parse
from greso_client.trainer.demo.service import OwnService, ServiceError, require_service
from greso_client.trainer.demo.table import saving, service_share, summary_table, verdict

if TYPE_CHECKING:
    from greso_client.trainer.demo.experiment import Experiment

CALL_SECONDS = 10.0  # budget of a call: the training beside it keeps every core busy
INTERRUPTED = 130  # 128 + SIGINT, as shells have it

LOOP = """\
    client = greso_client.Client("http://127.0.0.1:8080", run="my-run")
    client.create_run(group_size=8, train_batch_size=256, rollout_batch_size=384)
    client.add_prompts(ids)
    for step in range(1, 1001):
        collected = client.collect(step, roll_out)  # roll_out(ids) -> [greso_client.Rollout(rewards, data), ...]
        update(collected.effective)"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo with these command-line arguments (default: the program's own); return the exit code."""
    return demo(parse(sys.argv[1:] if arguments is None else arguments))


def demo(options: Options) -> int:
    """Train every arm, show and save what was measured. Return 0, 1 when something is wrong, 130 when interrupted."""
    console = Console()
    problems = Console(stderr=True)
    try:
        with _terminated_as_interrupted():
            _run(options, console)
    except KeyboardInterrupt:
        problems.print("stopped; nothing is left running")
        return INTERRUPTED
    except (DemoError, ServiceError, GresoError, OSError) as error:
        problems.print(f"greso demo: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        return 1
    return 0


class DemoError(Exception):
    """The demo can't go on; the message says what to do."""


def _run(options: Options, console: Console) -> None:
    _require_packages()
    options.out.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    console.print(
        f"Training one small model {len(options.arms)} times from the same start ({', then '.join(options.arms)}), "
        f"{options.budget:,} rollouts each, with seed {options.seed}; results go to {options.out}",
        highlight=False,
        soft_wrap=True,
    )
    with contextlib.ExitStack() as stack:
        url = options.url
        with console.status("starting the service and loading torch ..."):
            if url is None:
                service = OwnService(options.out / "service", options.out / "service.log")
                url = stack.enter_context(service).url
            else:
                require_service(url)
            experiment = _load(options)
        console.print(f"service at {url}, {'a running one' if options.url else 'started for this demo'}")
        results = _train(experiment, url, options, console)
    level = common_accuracy([result.curve for result in results])
    console.print(summary_table(results, level))
    for sentence in verdict(results, level):
        console.print(sentence, style="bold", highlight=False, soft_wrap=True)
    _say_what_it_is_worth(results, level, options, console)
    _save(results, level, options)
    console.print(f"{time.perf_counter() - began:.0f} s in all")
    _say_next(results, options, console)


def _require_packages() -> None:
    for name in ("torch", "transformers", "numpy", "matplotlib"):
        if importlib.util.find_spec(name) is None:
            raise DemoError(f"the demo needs {name}, which is not installed; run: pip install 'greso[trainer]'")


def _load(options: Options) -> "Experiment":
    # The weights are random ones made here: nothing is to be looked up or counted anywhere.
    os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1")
    # OpenMP's threads spin while they wait for each other, which on a busy machine made training 3-10 times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from greso_client.trainer.demo.experiment import Experiment  # noqa: PLC0415 - loads torch, which takes seconds

    return Experiment(options)


def _train(experiment: "Experiment", url: str, options: Options, console: Console) -> list[ArmResult]:
    stamp = time.strftime("%Y%m%d-%H%M%S")
    sizes = options.sizes
    progress = Progress(
        TextColumn("{task.description:<10}"),
        BarColumn(bar_width=12),
        TextColumn("{task.fields[doing]:<46}"),
        TimeRemainingColumn(compact=True),
        console=console,
    )
    with progress:
        warming = progress.add_task(
            "warm start", total=sizes.start_accuracy, doing="supervised, until it can do a little"
        )
        tasks = [progress.add_task(arm, total=options.budget, start=False, doing="") for arm in options.arms]
        for accuracy in experiment.warm_start():
            progress.update(warming, completed=accuracy, doing=f"held-out accuracy {accuracy:.3f}")
        progress.update(warming, completed=sizes.start_accuracy)
        return [
            _train_arm(experiment, ArmResult(arm, f"demo-{stamp}-{arm}", experiment.before), url, progress, task)
            for arm, task in zip(options.arms, tasks, strict=True)
        ]


def _train_arm(experiment: "Experiment", result: ArmResult, url: str, progress: Progress, task: TaskID) -> ArmResult:
    run, accuracy = result.run, result.before
    progress.start_task(task)
    # strict: a step that the service had no part in would make the comparison worthless.
    with Client(url, run=run, strict=True, budget=CALL_SECONDS) as client:
        for row in experiment.train(ARMS[result.arm], client):
            result.steps.append(row)
            accuracy = accuracy if row.accuracy is None else row.accuracy
            doing = f"step {row.step}, {row.rollouts:,} rollouts, accuracy {accuracy:.2f}"
            progress.update(task, completed=row.rollouts, doing=doing)
            if row.accuracy is not None and not progress.console.is_terminal:
                progress.console.print(f"{result.arm}: {doing}", highlight=False)  # a log shows no bar that moves
        _add_exploration(result, client)
        recorded = client.state().totals.rollouts
    if recorded != result.rollouts:
        raise DemoError(
            f"the service counted {recorded:,} rollouts of {run}, the trainer {result.rollouts:,}; please report it"
        )
    return result


def _add_exploration(result: ArmResult, client: Client) -> None:
    """Fill in the exploration probabilities that the service recorded."""
    recorded = {}
    after = None
    while page := client.steps(after=after):
        recorded.update({row.step: row for row in page})
        after = page[-1].step
    result.steps = [
        dataclasses.replace(row, p_easy=recorded[row.step].p_easy, p_hard=recorded[row.step].p_hard)
        for row in result.steps
    ]


def _say_what_it_is_worth(
    results: Sequence[ArmResult], level: float | None, options: Options, console: Console
) -> None:
    sizes = options.sizes
    lines = [
        f"Accuracy: {sizes.held_out:,} problems that no arm trains on, {sizes.samples} answers each, sampled at T = 1; "
        f"standard error at most {0.5 / sizes.held_out**0.5:.3f}, the same problems for every arm.",
        "One seed is one throw: look at others (--seed 2) before you believe a ratio.",
    ]
    if level is not None:
        lines.insert(0, f"{level:.2f} is the highest accuracy that every arm reached (mean of three evaluations).")
    for result in results:
        short = sum(row.reason != "complete" for row in result.steps)
        if short and ARMS[result.arm].max_rounds > 1:
            lines.append(f"{short} of {len(result.steps)} steps of {result.arm} ended without a full batch.")
    if "adaptive" not in options.arms and {"dynamic", "greso"} <= set(options.arms):
        lines.append(
            "Rounds sized by what is missing are part of the saving; --arms adaptive greso shows skipping alone."
        )
    if options.quick:
        lines.append("--quick is too short to show a saving; it shows that everything works.")
    for line in lines:
        console.print(line, style="dim", highlight=False, soft_wrap=True)


def _save(results: Sequence[ArmResult], level: float | None, options: Options) -> None:
    from greso_client.trainer.demo.plot import save_plot  # noqa: PLC0415 - matplotlib, wanted only now

    save_plot(options.out / "demo.png", results, level)
    with (options.out / "steps.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["arm", *(column.name for column in dataclasses.fields(StepRow))])
        for result in results:
            writer.writerows([result.arm, *dataclasses.astuple(row)] for row in result.steps)
    (options.out / "summary.json").write_text(json.dumps(_summary(results, level, options), indent=2) + "\n")


def _summary(results: Sequence[ArmResult], level: float | None, options: Options) -> dict[str, object]:
    by_arm = {result.arm: result for result in results}
    greso = by_arm.get("greso")
    arms = {}
    for arm, result in by_arm.items():
        goal = None if level is None else reached(result.curve, level)
        arms[arm] = {
            "run": result.run,
            "steps": len(result.steps),
            "rollouts": result.rollouts,
            "effective_share": result.effective_share,
            "learnt_share": result.learnt_share,
            "accuracy_before": result.before,
            "accuracy_after": result.after,
            "rollouts_to_common_accuracy": goal and goal.rollouts,
            "steps_to_common_accuracy": goal and goal.step,
            "greso_saves": None if level is None or greso is None else saving(result, greso, level),
            "seconds": result.total("seconds"),
            "seconds_in_rollout": result.total("rollout_seconds"),
            "share_in_service_calls": service_share(result),
            "curve": [dataclasses.astuple(point) for point in result.curve],
        }
    return {
        "seed": options.seed,
        "rollouts": options.budget,
        "quick": options.quick,
        "python": platform.python_version(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "common_accuracy": level,
        "arms": arms,
    }


def _say_next(results: Sequence[ArmResult], options: Options, console: Console) -> None:
    out = options.out
    run = results[-1].run
    greso = "greso" if shutil.which("greso") else Path(sys.executable).with_name("greso")
    if options.url is None:
        look = f"{greso} serve --data-dir {out / 'service'}    and, beside it:    {greso} show {run}"
    else:
        look = f"{greso} show {run} --url {options.url}"
    console.print(
        f"\nNext:\n"
        f"  look at the picture     {out / 'demo.png'} (the figures: {out / 'steps.csv'}, {out / 'summary.json'})\n"
        f"  look into the run       {look}\n"
        f"  add it to your own loop (with the service from: {greso} serve)\n\n{LOOP}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM and a closed terminal unwind like Ctrl-C, so that the service is stopped then too."""

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    numbers = (signal.SIGTERM, signal.SIGHUP)
    previous = [signal.signal(number, interrupt) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, previous, strict=True):
            signal.signal(number, handler)
