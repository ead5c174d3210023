"""What an experiment is: task, model, sizes, device, and where an arm stops. It fixes every result but the seconds."""

import dataclasses
import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MODELS = ("gpt2", "qwen3")


@dataclass(frozen=True, slots=True)
class Stop:
    """Where an arm stops: at the first of these that it reaches. None: without that limit.

    `seconds`: of training, evaluations not counted; results then depend on the machine's speed.
    """

    steps: int | None = None
    rollouts: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        """Raises ValueError when nothing would ever stop an arm."""
        limits = [limit for limit in (self.steps, self.rollouts, self.seconds) if limit is not None]
        if not limits or min(limits) <= 0:
            raise ValueError("give at least one limit above 0: steps, rollouts or seconds")

    def share(self, steps: int, rollouts: int, seconds: float) -> float:
        """Return how much of the way is done; 1 or more: stop."""
        limits = ((steps, self.steps), (rollouts, self.rollouts), (seconds, self.seconds))
        return max(done / limit for done, limit in limits if limit is not None)

    def __str__(self) -> str:
        limits = ((self.steps, "steps"), (self.rollouts, "rollouts"), (self.seconds, "seconds of training"))
        return " or ".join(f"{limit:,} {unit}" for limit, unit in limits if limit is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """One experiment; the defaults are those of `greso demo`.

    Task: addition. `pool_digits` and `warm_digits`: the shares of problems with up to 1, 2, ... digits, in the pool
    (and held out) and in the warm start; `broken`: the share of the pool's prompts whose reference answer is wrong, so
    that no training solves them. `pool` prompts to train on; `held_out` others, of which `samples` answers each are
    judged at an evaluation, one every `evaluate_every` rollouts.

    Model: `model` is "gpt2" or "qwen3", with random weights, `hidden` wide, of so many `layers` and `heads`. The warm
    start (AdamW, batches of `warm_batch`, `warm_learning_rate`) ends at a held-out accuracy of `start_accuracy`, or
    after `warm_limit` steps. `device`: as torch names it; on a GPU it computes in bfloat16, on float32 weights.
    `sequences`: that go through the model at once. `threads`: of torch; one, so that the results don't depend on how
    many jobs share the machine.

    Training: a step takes `train_batch_size` effective groups of `group_size` responses, its first round
    `rollout_batch_size` prompts; an arm that refills gives a step up after `rounds` rounds. `greso`: fields of the
    run's spec for the arms that filter, such as {"target_zero_variance": 0.5}.
    """

    pool_digits: tuple[float, ...] = (0.0, 0.2, 0.4, 0.4)
    warm_digits: tuple[float, ...] = (0.5, 0.35, 0.12, 0.03)
    broken: float = 0.3
    pool: int = 3_000
    held_out: int = 1_000
    samples: int = 4
    evaluate_every: int = 5_000

    model: str = "gpt2"
    hidden: int = 128
    layers: int = 2
    heads: int = 4
    warm_batch: int = 256
    warm_learning_rate: float = 1e-3
    warm_limit: int = 400
    start_accuracy: float = 0.35
    device: str = "cpu"
    sequences: int = 512  # few enough to stay in a processor's cache
    threads: int = 1

    # A tenth of what the paper uses for language models (256 / 384, group 8), as the pool is smaller.
    group_size: int = 8
    train_batch_size: int = 32
    rollout_batch_size: int = 48
    rounds: int = 20  # 10, as in DAPO's code, can be too few here
    greso: Mapping[str, Any] = field(default_factory=dict)
    learning_rate: float = 3e-4
    stop: Stop = Stop(rollouts=130_000)

    def __post_init__(self) -> None:
        """Raises ValueError when a part can't be."""
        for name in ("pool_digits", "warm_digits"):
            shares: tuple[float, ...] = getattr(self, name)
            if len(shares) != len(self.pool_digits) or min(shares) < 0 or not math.isclose(sum(shares), 1):
                raise ValueError(f"{name} must be {len(self.pool_digits)} shares that sum to 1, and is not: {shares}")
        if self.model not in MODELS:
            raise ValueError(f"model must be one of {', '.join(MODELS)}, and is not: {self.model}")
        for part in dataclasses.fields(self):
            if part.type is int and getattr(self, part.name) < 1:
                raise ValueError(f"{part.name} must be 1 or more, and is not: {getattr(self, part.name)}")

    @property
    def most_steps(self) -> int:
        """Steps after which an arm ends in any case: with nothing left to draw in the pool it would go on for ever."""
        if self.stop.steps is not None:
            return self.stop.steps
        return sys.maxsize if self.stop.rollouts is None else self.stop.rollouts // self.group_size + 1

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON has it: the same after a round trip through a file."""
        return json.loads(json.dumps(dataclasses.asdict(self)))  # type: ignore[no-any-return]

    @classmethod
    def of_json(cls, given: Mapping[str, Any]) -> "Configuration":
        """Return the configuration that `as_json` told of."""
        values: dict[str, Any] = {n: tuple(value) if isinstance(value, list) else value for n, value in given.items()}
        values["stop"] = Stop(**given["stop"])
        return cls(**values)

    def changed(self, texts: Mapping[str, str]) -> "Configuration":
        """Return it with fields (not `stop`) set from texts, each JSON or a plain word. Raises ValueError."""
        return dataclasses.replace(self, **{name: self._value(name, text) for name, text in texts.items()})

    def _value(self, name: str, text: str) -> Any:
        known = {part.name for part in dataclasses.fields(self)} - {"stop"}
        if name not in known:
            raise ValueError(f"{name!r} is none of: {', '.join(sorted(known))}")
        now = getattr(self, name)
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            value = text
        if isinstance(now, tuple) and isinstance(value, list) and all(type(each) in (int, float) for each in value):
            value = tuple(map(float, value))
        if isinstance(now, float) and type(value) is int:
            value = float(value)
        if type(value) is not type(now):
            raise ValueError(f"{name} must be like {json.dumps(now)}, and is not: {text}")
        return value


# Of its first groups about 71 % are all wrong, 27 % effective and 2 % all right: a pool of which dynamic sampling
# wastes most. Most of it can never be learnt, as in a data set that is far too hard for its model.
CPU = Configuration(
    pool_digits=(0.0, 0.3, 0.35, 0.35), broken=0.6, learning_rate=2e-4, stop=Stop(rollouts=150_000)
)  # fmt: skip
QUICK = Configuration(
    pool=1_000, held_out=500, samples=2, evaluate_every=4_000, start_accuracy=0.4, stop=Stop(rollouts=20_000)
)
# 83 M parameters and sums of up to 8 digits, of which the warm start hardly shows more than 3: most groups are all
# wrong at first. Chosen on paper: it was never run on a GPU, so expect to tune it (--set).
GPU = Configuration(
    pool_digits=(0.0, 0.1, 0.15, 0.15, 0.15, 0.15, 0.15, 0.15),
    warm_digits=(0.2, 0.3, 0.3, 0.1, 0.04, 0.03, 0.02, 0.01),
    pool=20_000,
    held_out=2_000,
    evaluate_every=40_000,
    model="qwen3",
    hidden=768,
    layers=12,
    heads=12,
    warm_batch=512,
    warm_learning_rate=3e-4,
    warm_limit=4_000,
    start_accuracy=0.2,
    device="cuda",
    sequences=1_024,
    train_batch_size=128,
    rollout_batch_size=192,
    learning_rate=3e-5,
    stop=Stop(rollouts=1_500_000),
)
CONFIGURATIONS = {"cpu": CPU, "quick": QUICK, "gpu": GPU}
DEFAULT_SEEDS = {"cpu": (1, 2, 3), "quick": (1, 2), "gpu": (1, 2, 3)}
