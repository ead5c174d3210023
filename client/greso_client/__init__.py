"""greso_client: ask a greso service, before each rollout, which prompts are worth it.

Needs nothing but httpx. `Client` blocks, `AsyncClient` awaits, both do the same. Begin with `collect`: one training
step.
"""

from greso_client._async_client import AsyncClient
from greso_client._client import Client
from greso_client._errors import (
    BudgetExceededError,
    ClosedError,
    ConflictError,
    FencedError,
    ForbiddenError,
    GresoError,
    InvalidRequestError,
    NotFoundError,
    Problem,
    ProblemDetail,
    ProtocolError,
    RefusedError,
    SettingsError,
    UnavailableError,
)
from greso_client._types import (
    Collected,
    CollectedGroup,
    Counters,
    Decision,
    Drawn,
    Exploration,
    Group,
    PoolPrompt,
    PoolSize,
    Reason,
    Reported,
    Rollout,
    Seconds,
    Selection,
    Skipped,
    StepProgress,
    ZeroVariance,
)
from greso_client._version import __version__
from greso_client._views import DomainState, DomainTotals, GroupRow, PromptState, RunState, StepRow, Totals

__all__ = [
    "AsyncClient",
    "BudgetExceededError",
    "Client",
    "ClosedError",
    "Collected",
    "CollectedGroup",
    "ConflictError",
    "Counters",
    "Decision",
    "DomainState",
    "DomainTotals",
    "Drawn",
    "Exploration",
    "FencedError",
    "ForbiddenError",
    "GresoError",
    "Group",
    "GroupRow",
    "InvalidRequestError",
    "NotFoundError",
    "PoolPrompt",
    "PoolSize",
    "Problem",
    "ProblemDetail",
    "PromptState",
    "ProtocolError",
    "Reason",
    "RefusedError",
    "Reported",
    "Rollout",
    "RunState",
    "Seconds",
    "Selection",
    "SettingsError",
    "Skipped",
    "StepProgress",
    "StepRow",
    "Totals",
    "UnavailableError",
    "ZeroVariance",
    "__version__",
]
