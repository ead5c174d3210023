"""Answers of the v1 contract, read without any I/O: a status, headers and a body become a value or an error."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from greso_client._errors import GresoError, Problem, ProblemDetail, ProtocolError, UnavailableError, refusal
from greso_client._types import (
    Decision,
    Drawn,
    Exploration,
    GroupRow,
    PoolSize,
    PromptState,
    Reported,
    RunState,
    Selection,
    Skipped,
    StepProgress,
    StepRow,
    Totals,
    ZeroVariance,
)

R = TypeVar("R")
Json = dict[str, Any]

# What a service that is there but busy or restarting answers; asking again soon may help (RFC 9110, 15.6).
_BUSY = frozenset({502, 503, 504})
# Neither the caller's fault nor the service's own answers: what gateways on the way say when they are busy.
_GATEWAY_BUSY = frozenset({408, 425, 429})


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `headers` by lower-case name."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def is_of_service(self) -> bool:
        """Whether the service gave it: its errors are problem details, those of a gateway before it hardly ever."""
        return 200 <= self.status < 300 or self.headers.get("content-type", "").startswith("application/problem+json")


def read(answer: Answer, reader: Callable[[Json], R]) -> R:
    """The value in an answer. Raises what it means otherwise: `RefusedError`, `UnavailableError`, `ProtocolError`."""
    if not 200 <= answer.status < 300:
        raise _error(answer)
    try:
        return reader(json.loads(answer.body) if answer.body else {})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        start = answer.body[:80].decode("utf-8", "replace")
        raise ProtocolError(
            f"the answer is not what the contract says ({type(error).__name__}: {error}); it begins {start!r}. "
            "Does the URL lead to a greso service of this version?"
        ) from error


def _error(answer: Answer) -> GresoError:
    problem = _problem(answer)
    if answer.status in _BUSY:
        return UnavailableError(str(problem), status=answer.status, retry_after=_retry_after(answer))
    if answer.status in _GATEWAY_BUSY or answer.status >= 500:
        return UnavailableError(str(problem), status=answer.status, transient=False)
    if answer.status >= 400:
        return refusal(problem)
    return ProtocolError(f"HTTP {answer.status} where an answer of the service was expected: is the URL right?")


def _problem(answer: Answer) -> Problem:
    try:
        body = json.loads(answer.body)
        errors = tuple(
            ProblemDetail(str(error.get("pointer", "")), str(error.get("detail", "")))
            for error in body.get("errors", ())
        )
        return Problem(
            status=answer.status,
            title=str(body.get("title") or "error"),
            detail=str(body.get("detail") or ""),
            type=str(body.get("type") or "about:blank"),
            instance=str(body.get("instance") or ""),
            errors=errors,
        )
    except (ValueError, TypeError, AttributeError):
        return Problem(answer.status, "error", answer.body[:200].decode("utf-8", "replace"))


def _retry_after(answer: Answer) -> float | None:
    """Seconds to wait, from either form of the header (RFC 9110, 10.2.3)."""
    text = answer.headers.get("retry-after")
    if text is None:
        return None
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def nothing(_: Json) -> None:
    """For answers without content."""


def run_state(body: Json) -> RunState:
    """Spec and state of a run."""
    totals = body["totals"]
    return RunState(
        run=body["run"],
        step=body["step"],
        exploration=_exploration(body),
        prompts=body["prompts"],
        pool=body["pool"],
        epoch=body["epoch"],
        spec=dict(body["spec"]),
        totals=Totals(
            examined=totals["examined"],
            selected=totals["selected"],
            skipped=_skipped(totals),
            groups=totals["groups"],
            effective=totals["effective"],
            zero_variance=_zero_variance(totals),
            undetermined=totals["undetermined"],
            rollouts=totals["rollouts"],
            rollouts_avoided=totals["rollouts_avoided"],
        ),
        generation=body["generation"],
    )


def pool_size(body: Json) -> PoolSize:
    """Answer of a pool upload."""
    return PoolSize(added=body["added"], pool=body["pool"], priors=body.get("priors") or 0)


def selection(body: Json) -> Selection:
    """Answer of select."""
    decisions = body.get("decisions")
    return Selection(
        selected=[int(index) for index in body["selected"]],
        examined=body["examined"],
        skipped=_skipped(body),
        exploration=_exploration(body),
        rollout_batch_size=body["rollout_batch_size"],
        generation=body["generation"],
        stale=body.get("stale", False),
        decisions=None if decisions is None else [_decision(decision) for decision in decisions],
    )


def drawn(body: Json) -> Drawn:
    """Answer of draw."""
    return Drawn(
        prompts=list(body["prompts"]),
        epoch=body["epoch"],
        examined=body["examined"],
        skipped=_skipped(body),
        exploration=_exploration(body),
        generation=body["generation"],
    )


def reported(body: Json) -> Reported:
    """Answer of report."""
    step = body["step"]
    return Reported(
        effective=[int(index) for index in body["effective"]],
        zero_variance=_zero_variance(body),
        undetermined=body["undetermined"],
        step=StepProgress(step["number"], step["groups"], step["effective"], step["missing"], step["complete"]),
        next_rollout_batch_size=body["next_rollout_batch_size"],
        exploration=_exploration(body),
        generation=body["generation"],
    )


def step_rows(body: Json) -> list[StepRow]:
    """The recorded steps."""
    return [
        StepRow(
            step=row["step"],
            examined=row["examined"],
            selected=row["selected"],
            skipped=_skipped(row),
            groups=row["groups"],
            effective=row["effective"],
            zero_variance=_zero_variance(row),
            rollouts=row["rollouts"],
            p_easy=row["p_easy"],
            p_hard=row["p_hard"],
            rounds=row["rounds"],
            complete=row["complete"],
        )
        for row in body["steps"]
    ]


def prompt_state(body: Json) -> PromptState:
    """One prompt and its recent groups."""
    return PromptState(
        prompt=body["prompt"],
        streak=body["streak"],
        kind=body["kind"],
        keep_probability=body["keep_probability"],
        visits=body["visits"],
        mean=body["mean"],
        last_step=body["last_step"],
        groups=[
            GroupRow(row["step"], row["count"], row["mean"], row["min"], row["max"], row["outcome"])
            for row in body["groups"]
        ],
    )


def _skipped(body: Json) -> Skipped:
    return Skipped(body["skipped"]["easy"], body["skipped"]["hard"])


def _zero_variance(body: Json) -> ZeroVariance:
    return ZeroVariance(body["zero_variance"]["easy"], body["zero_variance"]["hard"])


def _exploration(body: Json) -> Exploration:
    return Exploration(body["exploration"]["easy"], body["exploration"]["hard"])


def _decision(body: Json) -> Decision:
    return Decision(body["keep"], body["reason"], body["keep_probability"], body["streak"])
