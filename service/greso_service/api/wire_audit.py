"""The shape of what audits found, in the answers that tell a run's state."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

Interval = Annotated[tuple[float, float] | None, Field(description="Wilson's, at 95 %; null before any group")]


class _Found(BaseModel):
    groups: int = Field(description="judged groups of prompts of which something was known")
    effective: int
    rollouts: int = Field(description="their responses")


class Audited(_Found):
    """Groups of prompts that the policy would have skipped as easy, or as hard."""

    false_skip_rate: float | None = Field(description="effective / groups; null before any")
    interval: Interval


class Kept(_Found):
    """Groups of prompts that the policy kept itself, since the run is audited."""

    effective_rate: float | None = Field(description="effective / groups; null before any")
    interval: Interval


class Shadow(_Found):
    """What the policy of a shadow run would have saved and lost, of its groups that count here."""

    effective_rate: float | None = Field(description="without the policy: effective / groups")
    lost: int | None = Field(
        description="effective groups of prompts that it would have skipped; null for a ranking, which takes others"
    )
    lost_share: float | None = Field(description="of `effective`")
    rollouts_skipped: int = Field(description="responses of groups of prompts that it would have skipped")
    rollouts_saved: int | None = Field(
        description="by how many responses the effective groups would have come cheaper, had others been rolled out in"
        " place of those skipped, at the cost of those kept; null before it kept an effective group"
    )


class Audit(BaseModel):
    """What audits found since the policy, or what else decides who is skipped, last changed."""

    easy: Audited
    hard: Audited
    kept: Kept
    shadow: Shadow | None = Field(description="null outside of a shadow run")
