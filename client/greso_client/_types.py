"""The values that go in and come out: frozen, slotted, no behaviour. Words as in docs/algorithm.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

T = TypeVar("T")

Reason = Literal["complete", "max_rounds", "no_candidates", "late"]
"""Why `collect` stopped. complete: the step has its effective groups. max_rounds: the set number of rounds is used up.
no_candidates: nothing is left to roll out (candidates used up, or all of them skipped in this step). late: the step was
over before it began here (a trainer that resumes without rewinding its run), or was completed with groups from
elsewhere."""


@dataclass(frozen=True, slots=True)
class Group:
    """The rewards of one prompt's rollouts at one step: `rewards` has one finite number per response, G of them."""

    prompt: str
    rewards: Sequence[float]


@dataclass(frozen=True, slots=True)
class Rollout(Generic[T]):
    """What a rollout function returns per prompt: the G rewards, and whatever the trainer needs again (`data`).

    `data` may be None, but is always given: a forgotten one would be found only when training on it.
    """

    rewards: Sequence[float]
    data: T


@dataclass(frozen=True, slots=True)
class PoolPrompt:
    """A prompt for the pool with what is known of it beforehand.

    `domain`: the part of the pool that it is of, for good; a letter or digit, then up to 63 of these and ``._-``.
    `pass_rate`: share of the responses of the model as it is now that earn their reward, in [0, 1]. `samples`: how many
    it was measured on, from 1 to 65,535; None: as many as the run's group size.
    """

    prompt: str
    pass_rate: float | None = None
    samples: int | None = None
    domain: str | None = None


@dataclass(frozen=True, slots=True)
class Exploration:
    """Base of the keep probability for prompts whose latest group was easy or hard, each in [0, 1]."""

    easy: float
    hard: float


@dataclass(frozen=True, slots=True)
class Skipped:
    """Candidates skipped because they were predicted easy or hard (counts)."""

    easy: int = 0
    hard: int = 0


@dataclass(frozen=True, slots=True)
class ZeroVariance:
    """Groups whose rewards do not differ: all solved (easy) or not (hard) (counts)."""

    easy: int = 0
    hard: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """Why one candidate was kept or skipped. `reason`: new, effective, explore, fill, skip_easy, skip_hard; `degraded`
    when the service was away."""

    keep: bool
    reason: str
    keep_probability: float
    streak: int


@dataclass(frozen=True, slots=True)
class Selection:
    """Answer of `select`.

    `selected`: ascending indices into the candidates. `examined`: how many of them were judged, from the first on;
    the rest may be offered again. `decisions`: one per examined candidate, None without `explain`. `stale`: the
    service answered from its last known state. `degraded`: the service was away and everything (up to `limit`) is
    selected; then `exploration`, `rollout_batch_size` and `generation` are the last ones known.
    """

    selected: list[int]
    examined: int
    skipped: Skipped
    exploration: Exploration
    rollout_batch_size: int
    generation: int = 0
    stale: bool = False
    degraded: bool = False
    decisions: list[Decision] | None = None


@dataclass(frozen=True, slots=True)
class Drawn:
    """Answer of `draw`: the prompts to roll out, possibly fewer than asked for, possibly one of them twice.

    `degraded`: the service was away and they come from a shuffled local walk over the prompts this client added.
    """

    prompts: list[str]
    epoch: int
    examined: int
    skipped: Skipped
    exploration: Exploration
    generation: int = 0
    degraded: bool = False


@dataclass(frozen=True, slots=True)
class Seconds:
    """What a trainer spent: on the rollouts of a report, and on updates since the report before."""

    rollout: float = 0.0
    update: float = 0.0


@dataclass(frozen=True, slots=True)
class StepProgress:
    """How far a step is: judged `groups`, `effective` ones, effective ones `missing` to the train batch size."""

    number: int
    groups: int
    effective: int
    missing: int
    complete: bool


@dataclass(frozen=True, slots=True)
class Reported:
    """Answer of `report`. `effective`: ascending indices into the reported groups.

    `degraded`: the service has not seen this report yet; it was spooled (or dropped, see `Client.counters`) and
    judged here.
    """

    effective: list[int]
    zero_variance: ZeroVariance
    undetermined: int
    step: StepProgress
    next_rollout_batch_size: int
    exploration: Exploration
    generation: int = 0
    degraded: bool = False


@dataclass(frozen=True, slots=True)
class PoolSize:
    """Answer of `add_prompts`: how many were new, and how many prompts the pool has now.

    `priors`: to how many the service took over what was said of them beforehand; those with rewards go by these.
    """

    added: int
    pool: int
    degraded: bool = False
    priors: int = 0


@dataclass(frozen=True, slots=True)
class CollectedGroup(Generic[T]):
    """A rolled-out group as `collect` hands it back: the prompt, its rewards, and the rollout function's `data`."""

    prompt: str
    rewards: Sequence[float]
    data: T


@dataclass(frozen=True, slots=True)
class Collected(Generic[T]):
    """One step's harvest.

    `effective`: the groups to train on, in the order they were rolled out; may be more than the train batch size, or
    fewer (look at `reason`). `groups`: all that were rolled out, effective or not. `rollouts`: responses generated.
    `examined` and `skipped`: candidates judged, and skipped, in this step. `failed`: rollouts that came back as None.
    `degraded`: at least one answer was made up here because the service was away. `service_seconds`: time spent in
    its calls.
    """

    step: int
    effective: list[CollectedGroup[T]]
    groups: list[CollectedGroup[T]]
    rounds: int
    rollouts: int
    examined: int
    skipped: Skipped
    failed: int
    complete: bool
    reason: Reason
    degraded: bool
    service_seconds: float


@dataclass(frozen=True, slots=True)
class Counters:
    """What happened since the client was made. `degraded`: calls answered here because the service was away.

    Reports: `spooled` to disk, `delivered` from there, `refused` by the service on delivery (moved aside), `dropped`
    for good (spool full, off, or disk error). `retries`: attempts beyond the first.
    """

    calls: int = 0
    retries: int = 0
    degraded: int = 0
    spooled: int = 0
    delivered: int = 0
    refused: int = 0
    dropped: int = 0
