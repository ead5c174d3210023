"""The shapes of the answers that the page and `greso top` are made of, for the description of the API."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from greso_service.api.wire import Domain, Exploration, Kind, Target, Totals
from greso_service.api.wire_audit import Audit
from greso_service.api.wire_requests import RunSpec

Status = Literal["saving", "filtering", "learning", "off", "stuck", "idle"]


class ShareByKind(BaseModel):
    """Easy and hard groups as shares of the judged groups."""

    easy: float
    hard: float


class RecentSteps(BaseModel):
    """The last complete steps with groups, 50 at most; null where there is nothing to divide by."""

    steps: int
    skip_rate: float | None = Field(description="skipped / examined")
    effective: float | None = Field(description="effective / judged groups: the yield of the rollouts")
    zero_variance: ShareByKind | None
    rounds: float | None = Field(description="per step")


class FirstSteps(BaseModel):
    """The steps before anything was skipped, 50 at most: what an unfiltered step earned at the start."""

    steps: int
    effective: float | None


class _Overview(BaseModel):
    run: str
    active_at: str = Field(description="last write, RFC 3339")
    policy: str
    step: int = Field(description="newest reported step")
    generation: int
    epoch: int
    prompts: int
    pool: int
    exploration: Exploration
    totals: Totals
    audit: Audit
    domains: list[Domain]
    saved_estimate: int | None = Field(
        description="responses saved, had the model stayed as it was in the first steps; null if these tell nothing."
        " Of a filter at most totals.rollouts_avoided. Only a run with policy uniform beside this one measures the"
        " saving"
    )
    recent: RecentSteps
    first: FirstSteps
    target: Target
    status: Status
    headline: str = Field(description="one sentence for people")


class OverviewRow(_Overview):
    """A run at a glance."""

    advice: list[str] = Field(description="codes, the gravest first")


class Overview(BaseModel):
    """A page of runs, newest activity first."""

    runs: list[OverviewRow]
    cold: list[str] = Field(description="runs not in memory: being read, or more than there is room for")
    unreadable: list[str] = Field(description="runs whose history this service can't read: damaged, or of a newer one")
    cursor: str | None
    version: str = Field(description="of the service")


class Advice(BaseModel):
    """Something to know about a run, and what to change."""

    code: str
    level: Literal["problem", "warning", "hint", "good"]
    title: str
    detail: str
    change: str = Field(description="what to do, with the field and a value; empty if there is nothing to do")


class RunOverview(_Overview):
    """A run at a glance with its spec and the advice in full, the gravest first."""

    spec: RunSpec  # type: ignore[valid-type]
    advice: list[Advice]


class Curves(BaseModel):
    """Steps as columns. A point is the sum over `steps_per_point` steps; `step`, `p_easy`, `p_hard` are the last's."""

    step: list[int]
    steps_per_point: int
    steps_in_last_point: int = Field(description="which may be fewer; 0 without points")
    examined: list[int]
    selected: list[int]
    skipped_easy: list[int]
    skipped_hard: list[int]
    groups: list[int]
    effective: list[int]
    easy: list[int]
    hard: list[int]
    rollouts: list[int]
    rounds: list[int]
    p_easy: list[float]
    p_hard: list[float]


class MappedPrompt(BaseModel):
    """A sampled prompt with its last visits, oldest first."""

    prompt: str
    domain: str | None
    streak: int
    kind: Kind
    keep_probability: float = Field(description="of a ranking: its score")
    pass_rate: float = Field(description="what the item-response model expects, whatever the policy is")
    visits: int = Field(description="groups reported")
    mean: float | None
    last_step: int | None
    steps: list[int] = Field(description="of the last visits, 64 at most")
    what: str = Field(
        description="one letter a visit: v effective, e easy, h hard, u undetermined; x skipped as easy, y as hard"
    )


class SelectionMap(BaseModel):
    """What became of a sample of the run's prompts."""

    sampled: int
    prompts: list[MappedPrompt]


class Why(BaseModel):
    """Whether a prompt is kept in the step at work, and why."""

    prompt: str
    kind: Kind
    streak: int
    keep_probability: float = Field(description="of a ranking: its score")
    pass_rate: float = Field(description="what the item-response model expects in the step at work")
    effective_chance: float = Field(description="of its group, by the same model")
    step: int = Field(description="the step at work")
    draw: float = Field(description="a filter keeps the prompt when it is below the keep probability")
    keep: bool | None = Field(
        description="whether it is rolled out when it comes, or when the pool is drawn from; null where a ranking"
        " can't tell before it knows the other candidates"
    )
    next_kept_step: int | None = Field(
        description="the first step from this one that would keep it, if nothing changes; null if none of 1,000 would,"
        " and with a ranking"
    )
    rank: int | None = Field(description="in the pool, from 1, by a ranking; null if it is not ranked now")
    ranked: int | None = Field(description="how many prompts are")
    free_from: int | None = Field(description="the first step whose draws don't leave it alone; null if it is free")
    sentence: str = Field(description="the same for people")
