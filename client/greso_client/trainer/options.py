"""The options of `greso train`."""

import argparse
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MORE = """\
examples:
  greso train --steps 100
      the built-in task and a small model, on this computer's CPU: to see it work
  greso train --model Qwen/Qwen2.5-Math-1.5B --data gsm8k.jsonl --run gsm8k-1
      any causal language model by name or folder; layouts of GSM8K, MATH, DAPO-Math or {"prompt", "answer", "id"}
  greso train --model ./my-model --data train.jsonl --eval-data test.jsonl --evaluate-every 20 --kl 0.001
  torchrun --nproc-per-node 8 -m greso_client.trainer --model ... --data ... --run-name ...
      on eight GPUs of one machine

The service must run (greso serve). The same command goes on after a crash or Ctrl-C from its newest checkpoint: it
takes the run at the service back to that step, so that the training ends as if it had never been interrupted.
docs/trainer.md has more.
"""


@dataclass(frozen=True, slots=True)
class Options:
    """What to train, on what, and how. The option of the same name says more about each field."""

    model: str | None = None
    data: Path | None = None
    eval_data: Path | None = None
    held_out: int = 0
    question_field: str | None = None
    answer_field: str | None = None
    id_field: str | None = None
    drop_repeats: bool = False
    template: str = "{question}"
    chat: bool | None = None
    reward: str = "math"
    url: str | None = None
    run: str = "train"
    strict: bool = False
    spec: dict[str, Any] = field(default_factory=dict)
    group_size: int = 8
    train_batch_size: int = 256
    rollout_batch_size: int = 384
    max_rounds: int = 10
    steps: int = 1000
    learning_rate: float = 1e-6
    warm_up_steps: int = 10
    weight_decay: float = 0.01
    clip_low: float = 0.2
    clip_high: float = 0.28
    kl: float = 0.0
    scale_advantages: bool = True
    mini_batches: int = 1
    micro_batch: int = 16
    max_tokens: int = 1024
    temperature: float = 1.0
    seed: int = 0
    engine: str = "torch"
    engine_url: str = "http://127.0.0.1:8000"
    max_sequences: int = 512
    device: str | None = None
    out: Path | None = None
    checkpoint_dir: Path | None = None
    checkpoint_every: int = 50
    keep: int = 2
    resume: bool = False
    restart: bool = False
    evaluate_every: int = 50
    evaluate_samples: int = 1
    evaluate_temperature: float = 0.0
    tensorboard: bool = True
    wandb: bool = False
    log_groups: bool = False

    @property
    def folder(self) -> Path:
        """Where the logs go, and the checkpoints unless they are told otherwise."""
        return self.out or Path("train") / self.run

    @property
    def checkpoints(self) -> Path:
        """Where the checkpoints go."""
        return self.checkpoint_dir or self.folder / "checkpoints"

    @property
    def run_spec(self) -> dict[str, Any]:
        """The spec of the run at the service."""
        return {
            "group_size": self.group_size,
            "train_batch_size": self.train_batch_size,
            "rollout_batch_size": self.rollout_batch_size,
            "seed": self.seed,
            **self.spec,
        }


# Without --model the built-in task is trained; these sizes suit it (docs/results.md), and an option given wins.
BUILT_IN = {
    "train_batch_size": 32,
    "rollout_batch_size": 48,
    "max_rounds": 20,
    "steps": 200,
    "learning_rate": 3e-4,
    "micro_batch": 512,
    "max_tokens": 6,
    "evaluate_every": 10,
    "evaluate_temperature": 1.0,
}


def parse(arguments: Sequence[str]) -> Options:
    """Read the command line. Prints help or what is wrong, and raises SystemExit, where argparse does."""
    parser = argparse.ArgumentParser(
        prog="greso train",
        description="Train a causal language model with GRPO on problems with checkable answers, asking a greso "
        "service which prompts to roll out.",
        epilog=MORE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    _add_task(parser.add_argument_group("what is trained, and on what"))
    _add_service(parser.add_argument_group("the run at the service"))
    _add_learning(parser.add_argument_group("learning"))
    _add_rollouts(parser.add_argument_group("rollouts"))
    _add_records(parser.add_argument_group("checkpoints, evaluation and logs"))
    given = vars(parser.parse_args(arguments))
    if ("model" in given) != ("data" in given):
        parser.error("--model and --data go together: without both, the built-in task and its model are trained")
    if given.get("resume") and given.get("restart"):
        parser.error("--resume and --restart contradict each other")
    if "data" not in given:
        given = BUILT_IN | given
    return Options(**given | {"spec": dict(given.get("spec", []))})


class _Group:
    """Adds options that show their default."""

    def __init__(self, group: Any) -> None:
        self._group = group

    def __call__(self, flag: str, kind: Callable[[str], Any], metavar: str, help: str, **more: Any) -> None:
        default = getattr(Options(), more.get("dest", flag.lstrip("-").replace("-", "_")))
        shown = help if default is None or "(default" in help else f"{help} (default: {default})"
        self._group.add_argument(flag, type=kind, metavar=metavar, help=shown, **more)


def _add_task(group: Any) -> None:
    add = _Group(group)
    add(
        "--model",
        str,
        "NAME",
        "folder or name on the hub of any causal language model (default: a small one made here)",
    )
    add("--data", Path, "FILE", "problems to train on, one JSON object a line (default: the built-in addition)")
    add("--eval-data", Path, "FILE", "held-out problems in the same layout")
    add("--held-out", _natural, "N", "hold out N problems of --data, always the same ones")
    add("--question-field", str, "FIELD", "field of the question (default: prompt, problem or question)")
    add("--answer-field", str, "FIELD", "field of the answer (default: answer, solution or reward_model.ground_truth)")
    add("--id-field", str, "FIELD", "field of the id (default: id, extra_info.index, else a hash of the question)")
    group.add_argument("--drop-repeats", action="store_true", help="keep the first problem of each id only")
    add("--template", str, "TEXT", "what is asked; {question} stands for the question")
    group.add_argument(
        "--chat", action=argparse.BooleanOptionalAction,
        help="send prompts in the tokenizer's chat template (default: when it has one)",
    )  # fmt: skip
    group.add_argument(
        "--reward", choices=("math", "exact"),
        help="math: the boxed or last expression equals the answer; exact: the text does (default: math)",
    )  # fmt: skip


def _add_service(group: Any) -> None:
    add = _Group(group)
    add("--url", str, "URL", "where the service answers (default: GRESO_URL, else http://127.0.0.1:8080)")
    group.add_argument(
        "--run", "--run-name", metavar="RUN", dest="run",
        help="name of the run; behind torchrun, which has options of that beginning, say --run-name (default: train)",
    )  # fmt: skip
    add("--group-size", _positive, "G", "completions of a prompt")
    add("--train-batch-size", _positive, "N", "effective groups that a step learns from")
    add("--rollout-batch-size", _positive, "N", "prompts of a full round")
    add("--max-rounds", _positive, "N", "rounds that a step may take; 1: never refill")
    group.add_argument(
        "--spec", action="append", type=_assignment, metavar="NAME=VALUE",
        help="any other parameter of the run, may be repeated: --spec policy=uniform (docs/algorithm.md lists them)",
    )  # fmt: skip
    group.add_argument(
        "--strict", action="store_true", help="stop when the service is away (default: go on without it)"
    )


def _add_learning(group: Any) -> None:
    add = _Group(group)
    add("--steps", _positive, "N", "train up to this step")
    add("--learning-rate", _real, "X", "of AdamW")
    add("--warm-up-steps", _natural, "N", "optimiser steps over which the learning rate rises")
    add("--weight-decay", _real, "X", "of AdamW")
    add("--clip-low", _real, "X", "the probability ratio counts down to 1 - X")
    add("--clip-high", _real, "X", "and up to 1 + X")
    add("--kl", _real, "X", "weight of the divergence from the model at the start; 0: none, and no copy is kept")
    group.add_argument(
        "--no-scale-advantages", dest="scale_advantages", action="store_false",
        help="do not divide advantages by the group's standard deviation",
    )  # fmt: skip
    add("--mini-batches", _positive, "N", "optimiser steps that each step's groups are split into")
    add("--micro-batch", _positive, "N", "sequences that go through the model at once; lower it when memory runs out")


def _add_rollouts(group: Any) -> None:
    add = _Group(group)
    add("--max-tokens", _positive, "N", "of a completion, its end included")
    add("--temperature", _above_zero, "T", "of sampling")
    add("--seed", _natural, "N", "of everything that is drawn")
    group.add_argument(
        "--engine", choices=("torch", "vllm", "vllm-http"), help="what samples; docs/vllm.md (default: torch)"
    )
    add("--engine-url", str, "URL", "where the vLLM server answers, with --engine vllm-http")
    add("--max-sequences", _positive, "N", "completions sampled at once, with --engine torch")
    add("--device", str, "NAME", "cpu, cuda, cuda:1, ... (default: a GPU when there is one)")


def _add_records(group: Any) -> None:
    add = _Group(group)
    add("--out", Path, "DIR", "folder of the logs (default: train/RUN)")
    add("--checkpoint-dir", Path, "DIR", "folder of the checkpoints (default: OUT/checkpoints)")
    add("--checkpoint-every", _positive, "N", "steps between checkpoints")
    add("--keep", _positive, "N", "checkpoints kept")
    group.add_argument("--resume", action="store_true", help="stop when there is no checkpoint to go on from")
    group.add_argument("--restart", action="store_true", help="ignore the checkpoints and begin the run anew")
    add("--evaluate-every", _natural, "N", "steps between evaluations on the held-out problems; 0: never")
    add("--evaluate-samples", _positive, "N", "completions a held-out problem")
    add("--evaluate-temperature", _real, "T", "0: the likeliest answer")
    group.add_argument(
        "--no-tensorboard", dest="tensorboard", action="store_false", help="do not write OUT/tensorboard"
    )
    group.add_argument("--log-groups", action="store_true", help="write each group's rewards to OUT/groups.jsonl")
    group.add_argument("--wandb", action="store_true", help="log to Weights & Biases too (pip install wandb)")


def _natural(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 on")
    return int(text)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def _real(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 on")
    return value


def _above_zero(text: str) -> float:
    value = _real(text)
    if value == 0:  # all completions of a group would be equal, and no group ever effective
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def _assignment(text: str) -> tuple[str, Any]:
    name, found, value = text.partition("=")
    if not found or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value  # plain text needs no quotes
