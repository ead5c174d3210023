"""The shapes of answers on the wire, for the description of the API. Those of requests: `wire_requests`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from greso_service.api.wire_audit import Audit
from greso_service.api.wire_requests import RunSpec

Kind = Literal["new", "effective", "easy", "hard"]


class ByKind(BaseModel):
    """Counts by kind of zero-variance group."""

    easy: int
    hard: int


class Exploration(BaseModel):
    """p_easy and p_hard."""

    easy: float
    hard: float


class Target(BaseModel):
    """The shares of easy and hard groups that the run is steered to."""

    easy: float
    hard: float
    auto: bool = Field(description="whether the run tunes them by itself")
    reason: str = Field(description="why they are what they are, for people")


class Seconds(BaseModel):
    """What the trainer has reported to have spent; 0 where it doesn't say."""

    rollout: float
    update: float


class Decision(BaseModel):
    """Why a candidate is kept or skipped."""

    keep: bool
    reason: Literal["new", "effective", "explore", "fill", "skip_easy", "skip_hard"]
    keep_probability: float = Field(description="of a ranking: its score")
    streak: int


class Selection(BaseModel):
    """Answer to a select. `selected`: indices into the request's `prompts`, ascending."""

    selected: list[int]
    examined: int
    skipped: ByKind
    exploration: Exploration
    rollout_batch_size: int
    generation: int
    stale: bool = Field(description="answered from the last state known, because Redis is away")
    decisions: list[Decision] | None = Field(None, description="of the examined candidates, when `explain` was asked")


class Draw(BaseModel):
    """Answer to a draw."""

    prompts: list[str]
    epoch: int
    examined: int
    skipped: ByKind
    exploration: Exploration
    generation: int


class Pool(BaseModel):
    """Answer to an upload."""

    added: int
    pool: int
    priors: int | None = Field(None, description="prompts that got a prior, when the request had any to give")


class StepProgress(BaseModel):
    """How far a step is; judged groups only."""

    number: int
    groups: int
    effective: int
    missing: int
    complete: bool


class Report(BaseModel):
    """Answer to a report. `effective`: indices into the request's `results`, ascending."""

    effective: list[int]
    zero_variance: ByKind
    undetermined: int
    step: StepProgress
    next_rollout_batch_size: int
    exploration: Exploration
    generation: int


class Totals(BaseModel):
    """Sums over the run."""

    examined: int
    selected: int
    skipped: ByKind
    groups: int = Field(description="all reported groups: effective, zero-variance and undetermined")
    effective: int
    zero_variance: ByKind
    undetermined: int
    rollouts: int = Field(description="responses really generated")
    rollouts_avoided: int = Field(description="skips x group_size: an upper estimate")
    seconds: Seconds
    effective_per_rollout_second: float | None = Field(
        description="effective groups of the reports that say how long their rollouts took; null without any"
    )


class DomainTotals(BaseModel):
    """Sums over one domain."""

    examined: int
    selected: int
    skipped: ByKind
    groups: int
    effective: int
    zero_variance: ByKind
    undetermined: int
    rollouts: int


class Domain(BaseModel):
    """One domain of a run: its own controller, and its share of the draws."""

    domain: str | None = Field(description="null: the prompts without one")
    pool: int
    share: float | None = Field(description="of the prompts that draws take; null without quotas")
    exploration: Exploration
    target: Exploration = Field(description="shares of easy and hard groups that it is steered to")
    totals: DomainTotals


class Run(BaseModel):
    """Spec and state of a run."""

    run: str
    generation: int
    step: int = Field(description="newest reported step")
    exploration: Exploration
    target: Target
    prompts: int = Field(description="prompts seen or registered")
    pool: int
    epoch: int
    spec: RunSpec  # type: ignore[valid-type]
    totals: Totals
    audit: Audit
    domains: list[Domain] = Field(description="together they are the whole; empty while no prompt has one")


class ListedRun(BaseModel):
    """A run in a list."""

    run: str
    active_at: str = Field(description="last write, RFC 3339")


class RunList(BaseModel):
    """A page of runs, newest activity first."""

    runs: list[ListedRun]
    cursor: str | None


class StepRow(BaseModel):
    """What happened in one step. `p_easy`, `p_hard`: what it left behind."""

    step: int
    examined: int
    selected: int
    skipped: ByKind
    groups: int
    effective: int
    zero_variance: ByKind
    rollouts: int
    seconds: Seconds
    p_easy: float
    p_hard: float
    rounds: int
    complete: bool


class StepList(BaseModel):
    """Steps in order."""

    steps: list[StepRow]


class Prompt(BaseModel):
    """One prompt of a run."""

    prompt: str
    domain: str | None
    streak: int
    kind: Kind
    keep_probability: float = Field(description="of a ranking: its score")
    pass_rate: float = Field(description="what the item-response model expects, whatever the policy is")
    visits: int = Field(description="groups reported")
    mean: float | None = Field(description="mean of all its rewards; null before the first")
    last_step: int | None


class PromptList(BaseModel):
    """A page of prompts."""

    prompts: list[Prompt]
    cursor: str | None


class Group(BaseModel):
    """One group of a prompt; statistics are null for a group without rewards."""

    step: int
    count: int
    mean: float | None
    min: float | None
    max: float | None
    outcome: Literal["undetermined", "effective", "easy", "hard"]


class PromptDetail(Prompt):
    """One prompt with its recent groups, newest first."""

    groups: list[Group]


class Component(BaseModel):
    """One thing that readiness depends on."""

    ok: bool
    detail: str


class Readiness(BaseModel):
    """Whether requests should be sent here."""

    ready: bool
    components: dict[str, Component]


class Alive(BaseModel):
    """The process runs."""

    alive: Literal[True]


class Version(BaseModel):
    """What runs here."""

    version: str
    api: Literal["v1"]


class FaultModel(BaseModel):
    """One thing wrong with a request."""

    pointer: str = Field(description="JSON pointer into the body, or /query/..., /path/..., /header/...")
    detail: str


class Problem(BaseModel):
    """RFC 9457 problem details."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    errors: list[FaultModel] | None = None
