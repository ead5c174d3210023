"""The `greso demo` command, top to bottom."""

import contextlib
import csv
import dataclasses
import json
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from greso_client import GresoError
from greso_client.trainer.compare.arms import ARMS
from greso_client.trainer.compare.measure import StepRow, Trial, common_accuracy, reached
from greso_client.trainer.compare.running import MachineError, require_packages, terminated_as_interrupted
from greso_client.trainer.compare.saving import machine
from greso_client.trainer.compare.service import OwnService, ServiceError, require_service
from greso_client.trainer.compare.trial import TrialError, load_experiment, new_trial, run_trial
from greso_client.trainer.demo.options import Options, parse
from greso_client.trainer.demo.table import saving, summary_table, verdict

if TYPE_CHECKING:
    from greso_client.trainer.compare.experiment import Experiment

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
        with terminated_as_interrupted():
            _run(options, console)
    except KeyboardInterrupt:
        problems.print("stopped; nothing is left running")
        return INTERRUPTED
    except (MachineError, ServiceError, TrialError, GresoError, OSError) as error:
        problems.print(f"greso demo: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        return 1
    return 0


def _run(options: Options, console: Console) -> None:
    require_packages("the demo")
    options.out.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    console.print(
        f"Training one small model {len(options.arms)} times from the same start ({', then '.join(options.arms)}), "
        f"{options.configuration.stop} each, with seed {options.seed}; results go to {options.out}",
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
            experiment = load_experiment(options.configuration, options.seed)
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


def _train(experiment: "Experiment", url: str, options: Options, console: Console) -> list[Trial]:
    wanted = experiment.configuration
    progress = Progress(
        TextColumn("{task.description:<10}"),
        BarColumn(bar_width=12),
        TextColumn("{task.fields[doing]:<46}"),
        TimeRemainingColumn(compact=True),
        console=console,
    )
    with progress:
        warming = progress.add_task(
            "warm start", total=wanted.start_accuracy, doing="supervised, until it can do a little"
        )
        tasks = [progress.add_task(arm, total=wanted.stop.rollouts, start=False, doing="") for arm in options.arms]
        for accuracy in experiment.warm_start():
            progress.update(warming, completed=accuracy, doing=f"held-out accuracy {accuracy:.3f}")
        progress.update(warming, completed=wanted.start_accuracy)
        return [
            _train_arm(experiment, new_trial(experiment, arm, "demo"), url, progress, task)
            for arm, task in zip(options.arms, tasks, strict=True)
        ]


def _train_arm(experiment: "Experiment", trial: Trial, url: str, progress: Progress, task: TaskID) -> Trial:
    accuracy = trial.before
    progress.start_task(task)
    for row in run_trial(experiment, trial, url):
        accuracy = accuracy if row.accuracy is None else row.accuracy
        doing = f"step {row.step}, {row.rollouts:,} rollouts, accuracy {accuracy:.2f}"
        progress.update(task, completed=row.rollouts, doing=doing)
        if row.accuracy is not None and not progress.console.is_terminal:
            progress.console.print(f"{trial.arm}: {doing}", highlight=False)  # a log shows no bar that moves
    return trial


def _say_what_it_is_worth(results: Sequence[Trial], level: float | None, options: Options, console: Console) -> None:
    sizes = options.configuration
    lines = [
        f"Accuracy: {sizes.held_out:,} problems that no arm trains on, {sizes.samples} answers each, sampled at T = 1; "
        f"standard error at most {0.5 / sizes.held_out**0.5:.3f}, the same problems for every arm.",
        "One seed is one throw: before you believe a ratio, run several (greso bench-rl).",
    ]
    if level is not None:
        lines.insert(0, f"{level:.2f} is the highest accuracy that every arm reached (mean of three evaluations).")
    for result in results:
        short = sum(row.reason != "complete" for row in result.steps)
        if short and ARMS[result.arm].refill:
            lines.append(f"{short} of {len(result.steps)} steps of {result.arm} ended without a full batch.")
    if "adaptive" not in options.arms and {"dynamic", "greso"} <= set(options.arms):
        lines.append(
            "Rounds sized by what is missing are part of the saving; --arms adaptive greso shows skipping alone."
        )
    if options.quick:
        lines.append("--quick is too short to show a saving; it shows that everything works.")
    for line in lines:
        console.print(line, style="dim", highlight=False, soft_wrap=True)


def _save(results: Sequence[Trial], level: float | None, options: Options) -> None:
    from greso_client.trainer.demo.plot import save_plot  # noqa: PLC0415 - matplotlib, wanted only now

    save_plot(options.out / "demo.png", results, level)
    with (options.out / "steps.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["arm", *(column.name for column in dataclasses.fields(StepRow))])
        for result in results:
            writer.writerows([result.arm, *dataclasses.astuple(row)] for row in result.steps)
    (options.out / "summary.json").write_text(json.dumps(_summary(results, level, options), indent=2) + "\n")


def _summary(results: Sequence[Trial], level: float | None, options: Options) -> dict[str, object]:
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
            "share_in_service_calls": result.service_share,
            "curve": [dataclasses.astuple(point) for point in result.curve],
        }
    return {
        "seed": options.seed,
        "rollouts": options.configuration.stop.rollouts,
        "quick": options.quick,
        "machine": machine(1),
        "common_accuracy": level,
        "arms": arms,
    }


def _say_next(results: Sequence[Trial], options: Options, console: Console) -> None:
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
