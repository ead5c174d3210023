"""The `greso train` command, top to bottom."""

import contextlib
import dataclasses
import json
import logging
import signal
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
import transformers
from rich.console import Console

from greso_client import Client, GresoError, NotFoundError, RunState, UnavailableError
from greso_client._tls import NoTlsError
from greso_client.trainer.checkpoint import Checkpoint, CheckpointError, Checkpoints
from greso_client.trainer.engine import EngineError, Sampling
from greso_client.trainer.evaluate import accuracy
from greso_client.trainer.grpo import Learner
from greso_client.trainer.logs import LogError, Logs, Screen, require_packages
from greso_client.trainer.loop import train
from greso_client.trainer.model import ModelError
from greso_client.trainer.options import Options
from greso_client.trainer.prepare import Policy, fitting, make_engine, make_learner, make_policy, make_task
from greso_client.trainer.ranks import RankError, Ranks
from greso_client.trainer.task import Task, TaskError

CALL_SECONDS = 10.0  # budget of a call to the service: the training beside it may keep every core busy
POOL_PROBES = 16  # ids that a run's pool is asked for; it can't be listed
INTERRUPTED = 130  # 128 + SIGINT, as shells have it

logger = logging.getLogger(__name__)


class TrainError(Exception):
    """The training can't begin; the message says what to do."""


def run(options: Options) -> int:
    """Train; return the exit code: 0, 1 when something is wrong, 130 when interrupted."""
    ranks = Ranks.join()
    console = Console(quiet=not ranks.first)
    name = "greso train" if ranks.first else f"greso train, rank {ranks.rank}"
    handler = ConsoleHandler(console)
    logging.getLogger("greso_client").addHandler(handler)
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        return _train(options, ranks, console)
    except KeyboardInterrupt:
        _say(console, "stopped at once; the same command goes on from the newest checkpoint")
        return INTERRUPTED
    except UnavailableError as error:
        what = f"is away ({error}); start it with: greso serve, then give the same command again"
        if isinstance(error, NoTlsError):
            what = f"can't be talked to: {error}"
        _complain(f"{name}: the service{f' at {options.url}' if options.url else ''} {what}")
        return 1
    except torch.OutOfMemoryError as error:
        _complain(
            f"{name}: memory ran out; lower --micro-batch, or --max-sequences with --engine torch "
            f"({str(error).partition(chr(10))[0]})"
        )
        return 1
    except RankError as error:
        if ranks.first:
            _complain(f"{name}: {error}")
        return 1
    except (
        TrainError, TaskError, ModelError, EngineError, CheckpointError, LogError, GresoError, OSError,
    ) as error:  # fmt: skip
        _complain(f"{name}: {error}")
        return 1
    finally:
        logging.getLogger("greso_client").removeHandler(handler)
        ranks.leave()


def _train(options: Options, ranks: Ranks, console: Console) -> int:
    checkpoints = Checkpoints(options.checkpoints, options.run, keep=options.keep)
    checkpoint = ranks.broadcast(_find_checkpoint(checkpoints, options) if ranks.first else None)
    first = 1 if checkpoint is None else checkpoint.step + 1
    if first > options.steps:
        _say(console, f"{options.run} is at step {first - 1} already; give more --steps to go on")
        return 0

    if ranks.first:
        require_packages(tensorboard=options.tensorboard, wandb=options.wandb)
    task = make_task(options)
    policy = make_policy(options, checkpoint, task, ranks)
    task, left_out = fitting(task, policy, options)
    ranks.share_weights(policy.model)
    learner = make_learner(options, policy, checkpoint, task, ranks)
    sampling = Sampling(options.max_tokens, options.temperature, options.seed)
    evaluated = Sampling(options.max_tokens, options.evaluate_temperature)

    saved: Path | None = None
    with contextlib.ExitStack() as stack:
        engine = stack.enter_context(contextlib.closing(make_engine(options, policy, task)))
        client = stack.enter_context(
            Client(options.url, run=options.run, strict=options.strict, budget=CALL_SECONDS)
        )  # fmt: skip
        stop = stack.enter_context(StopSignals(console))
        if ranks.first:
            _announce(options, task, left_out, first, console)
            _begin(client, task, checkpoint, options)
            logs = stack.enter_context(
                Logs(
                    options.folder,
                    options.run,
                    after=first - 1,
                    tensorboard=options.tensorboard,
                    wandb=options.wandb,
                    groups=options.log_groups,
                )
            )
            if checkpoint is None:
                # With step 0 complete there is a state to go back to when it is killed before its first checkpoint.
                client.report(0, [], final=True)
                checkpoints.clear()
                checkpoints.start(_about(options, client))
            screen = stack.enter_context(Screen(console, first, options.steps))

        for step in train(
            client, engine, learner, task, policy.encode,
            group_size=options.group_size, train_batch_size=options.train_batch_size, sampling=sampling,
            steps=range(first, options.steps + 1), max_rounds=options.max_rounds, ranks=ranks,
        ):  # fmt: skip
            stopping = ranks.broadcast(stop.requested)
            last = stopping or step.number == options.steps
            if ranks.first:
                measured = None
                if task.held_out and _due(step.number, options.evaluate_every, last=last and not stopping):
                    measured = accuracy(
                        engine, task.held_out, policy.encode, task.reward, evaluated, samples=options.evaluate_samples
                    )
                logs.write(step, measured)
                screen.show(step, measured)
                if _due(step.number, options.checkpoint_every, last=last):
                    _require_not_fenced(client, step.number, last=last)
                    saved = _save(checkpoints, step.number, policy, learner, _about(options, client))
            if stopping:
                _say(console, f"stopped after step {step.number}; the same command goes on from the newest checkpoint")
                return INTERRUPTED
    if ranks.first and saved is None:
        return 1
    _say(console, f"done; the model is in {saved}, the figures are in {options.folder / 'metrics.jsonl'}")
    return 0


def _find_checkpoint(checkpoints: Checkpoints, options: Options) -> Checkpoint | None:
    checkpoint = checkpoints.newest()
    if options.restart:
        return None  # they are removed once all else is known to be right
    if checkpoint is None and options.resume:
        raise TrainError(f"there is no checkpoint in {checkpoints.folder}; leave --resume out to begin")
    return checkpoint


def _announce(options: Options, task: Task, left_out: int, first: int, console: Console) -> None:
    what = options.model or "the built-in model"
    on = f"{len(task.pool):,} problems of {task.name}"
    _say(console, f"training {what} on {on}, from step {first} to {options.steps}")
    if left_out:
        logger.warning("%d problems are left out: their prompts are too long for the context", left_out)


def _begin(client: Client, task: Task, checkpoint: Checkpoint | None, options: Options) -> None:
    """Bring the run at the service to where the training begins: its start, or the end of the checkpoint's step."""
    state = client.create_run(**options.run_spec)
    _require_own_pool(client, state, task, options)
    if checkpoint is not None:
        _say_changes(checkpoint, options)
        client.flush()  # the reports that the last process could not deliver
        if client.state().step < checkpoint.step:
            logger.warning("the service has lost what %s reported lately; its filter forgets that", options.run)
        # The end of the step may have been lost with the trainer, or with the service; then it counts as complete now.
        client.report(checkpoint.step, [], final=True)
        client.rewind(checkpoint.step)
    elif state.step > 0 and not options.restart:
        raise TrainError(
            f"the run {options.run!r} is at step {state.step} already and {options.checkpoints} holds no checkpoint of "
            "it; give another --run, the right --checkpoint-dir, or --restart to begin it anew"
        )
    elif state.step > 0 or state.totals.examined > 0:
        # Also when prompts were drawn and no step reported: else the first ones would be others than the seed's.
        client.report(0, [], final=True)
        client.rewind(0)
    size = client.add_prompts(problem.id for problem in task.pool)
    unknown = size.pool - len(task.pool)
    if unknown > 0 and not size.degraded:
        raise TrainError(
            f"the run's pool at the service holds {unknown} prompts that are not among these problems; give another "
            "--run, or the problems that it was begun with"
        )


def _require_own_pool(client: Client, state: RunState, task: Task, options: Options) -> None:
    """Refuse another task's pool before anything is added to it: what is once in a pool can't be taken out."""
    if state.pool == 0 or state.degraded:
        return
    asked = [problem.id for problem in task.pool[:: max(1, len(task.pool) // POOL_PROBES)]]
    unknown = [prompt for prompt in asked if not _is_known(client, prompt)]
    grown = state.pool < len(task.pool) and len(unknown) < len(asked)  # a file that got more problems is welcome
    if unknown and not grown:
        raise TrainError(
            f"the pool of the run {options.run!r} at the service holds {state.pool} prompts, and {unknown[0]!r} is not "
            "among them: these problems are others, or their ids have changed; give another --run, or the problems "
            "that it was begun with"
        )


def _is_known(client: Client, prompt: str) -> bool:
    try:
        client.prompt(prompt)
    except NotFoundError:
        return False
    return True


def _require_not_fenced(client: Client, step: int, *, last: bool) -> None:
    """Raise `FencedError` when another trainer has taken the run over: one taken for dead must not save over it."""
    if last:
        # A trainer that was frozen takes the service to be away for a moment, in which it may come to its end.
        client.flush()
    with contextlib.suppress(UnavailableError):  # then nobody can have taken it over, and the step is worth saving
        client.report(step, [], final=True)


def _save(
    checkpoints: Checkpoints, step: int, policy: Policy, learner: Learner, about: Mapping[str, Any]
) -> Path | None:
    """Write a checkpoint; when it can't be written, say so and go on: the ones before it are still there."""
    try:
        return checkpoints.save(step, policy.model, policy.tokenizer, learner, about) / "model"
    except CheckpointError as error:
        _complain(f"greso train: {error}")
        return None


def _about(options: Options, client: Client) -> dict[str, Any]:
    return {
        "generation": client.generation,
        "options": json.loads(json.dumps(dataclasses.asdict(options), default=str)),
    }


def _say_changes(checkpoint: Checkpoint, options: Options) -> None:
    now = json.loads(json.dumps(dataclasses.asdict(options), default=str))
    before = checkpoint.about["options"]
    changed = [f"{name} {before.get(name)} -> {now[name]}" for name in now if before.get(name) != now[name]]
    if changed:
        logger.warning("options changed since step %d: %s", checkpoint.step, ", ".join(changed))


def _due(step: int, every: int, *, last: bool) -> bool:
    return every > 0 and (last or step % every == 0)


def _say(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def _complain(line: str) -> None:
    Console(stderr=True).print(line, style="red", markup=False, highlight=False, soft_wrap=True)


class ConsoleHandler(logging.Handler):
    """Prints log records above the progress bar, each as one line."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Print it."""
        _say(self._console, self.format(record))


class StopSignals:
    """Ctrl-C and SIGTERM: the first ends the training after its step, with a checkpoint; the second at once."""

    def __init__(self, console: Console) -> None:
        self.requested = False
        self._console = console
        self._before: list[Any] = []

    def __enter__(self) -> Self:
        self._before = [signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in zip((signal.SIGINT, signal.SIGTERM), self._before, strict=True):
            signal.signal(number, handler)

    def _ask(self, *_: object) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        _say(self._console, "stopping after this step; once more to stop at once")
