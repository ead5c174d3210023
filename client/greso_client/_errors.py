"""What can go wrong, as one small tree.

::

    GresoError
    ├── UnavailableError (ConnectionError)     the service could not be reached, or can't answer now
    │   ├── BudgetExceededError (TimeoutError) no answer within the call's time budget
    │   └── ProtocolError                      something answered, but not as the contract says
    ├── RefusedError                           the service refused the request (4xx); `.problem` says why
    │   ├── InvalidRequestError (ValueError)   400, 405, 413, 415, 422, or found wrong before it was sent
    │   ├── ForbiddenError (PermissionError)   401, 403
    │   ├── NotFoundError (LookupError)        404
    │   └── ConflictError                      409
    │       └── FencedError                    409: the run was rewound by another trainer, this one must stop
    ├── SettingsError (ValueError)             a client can't be made with these options or this environment
    └── ClosedError (RuntimeError)             the client was closed

Each is also the standard error it resembles (in brackets), and each can be pickled: trainers send errors between
processes. Without `strict=True` the calls of the training loop (`create_run`, `add_prompts`, `select`, `draw`,
`report`, `collect`) never raise an `UnavailableError` for which they have another answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# Problem type of a request that was found wrong here.
NOT_SENT = "urn:greso:client:not-sent"


@dataclass(frozen=True, slots=True)
class ProblemDetail:
    """One thing wrong with a request: where (`pointer`, a JSON pointer into its body) and what (`detail`)."""

    pointer: str
    detail: str


@dataclass(frozen=True, slots=True)
class Problem:
    """An error answer (RFC 9457, `application/problem+json`). `instance`: the request id, for the service's log.

    Of a request that was found wrong before it was sent: what the answer would have been, with the type `NOT_SENT`.
    """

    status: int
    title: str
    detail: str = ""
    type: str = "about:blank"
    instance: str = ""
    errors: tuple[ProblemDetail, ...] = ()

    def __str__(self) -> str:
        """Everything that is said, on one line. A status only if somebody answered with it."""
        text = self.title if self.type == NOT_SENT else f"{self.status} {self.title}"
        if self.detail and self.detail != self.title:
            text += f": {self.detail}"
        # The service's own detail may already be the list of errors.
        if any(error.detail not in self.detail for error in self.errors):
            text += " [" + "; ".join(f"{error.pointer or '(body)'}: {error.detail}" for error in self.errors) + "]"
        if self.instance:
            text += f" (request {self.instance})"
        return text


class GresoError(Exception):
    """Base of everything that this package raises on purpose."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by message and attributes: OSError's own way would lose the keyword arguments."""
        return _restore, (type(self), self.args, self.__dict__)


def _restore(kind: type[GresoError], args: tuple[Any, ...], attributes: dict[str, Any]) -> GresoError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(attributes)
    return error


class UnavailableError(GresoError, ConnectionError):
    """The service could not be reached, or answered that it can't serve now.

    `status`: of the HTTP answer, None when there was none. `retry_after`: seconds the service asked to wait, None when
    it didn't say. `transient`: whether asking again at once may help. `problem`: what the service itself said, None
    when it said nothing or somebody else did. `sent`: False when the request never left, so that it had no effect.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        retry_after: float | None = None,
        transient: bool = True,
        problem: Problem | None = None,
        sent: bool = True,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after
        self.transient = transient
        self.problem = problem
        self.sent = sent

    def __str__(self) -> str:
        """The message alone, as OSError shows it."""
        return str(self.args[0])


class BudgetExceededError(UnavailableError, TimeoutError):
    """No answer within the time budget of the call."""


class ProtocolError(UnavailableError):
    """Something answered, but not as the contract says: another program on that port, or a proxy's page."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message, status=status, transient=False)


class RefusedError(GresoError):
    """The service refused the request; nothing was applied. `problem` holds what it said.

    `repeated`: whether an earlier attempt of the same call was sent and not answered, which may have been applied.
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem
        self.repeated = False

    @property
    def status(self) -> int:
        """HTTP status of the answer."""
        return self.problem.status

    def __str__(self) -> str:
        """The problem in words."""
        return str(self.problem)


class InvalidRequestError(RefusedError, ValueError):
    """The request itself is wrong: `problem.errors` points at the places."""


class ForbiddenError(RefusedError, PermissionError):
    """No key, an unknown key, or a key without the scope: pass `api_key=` or set GRESO_API_KEY."""


class NotFoundError(RefusedError, LookupError):
    """No such run or prompt (of this tenant): `create_run()` comes first."""


class ConflictError(RefusedError):
    """The state of the run forbids it: another spec, an empty pool, a step that has not completed."""


class FencedError(ConflictError):
    """Another trainer rewound the run: this one was taken for dead. Nothing it does may reach the run any more.

    Raised whatever `strict` is. The only right answer is to end; a trainer that starts anew begins with `create_run()`
    and `rewind()`.
    """

    def __str__(self) -> str:
        """What happened, and what the service said."""
        return f"another trainer rewound this run; this one was taken for dead and must stop: {self.problem}"


class SettingsError(GresoError, ValueError):
    """No client can be made with this option, or with what the environment says in its place."""


class ClosedError(GresoError, RuntimeError):
    """The client was closed."""


# Problem type of a write with another generation than the run's (docs/api.md, Greso-Generation).
STALE_GENERATION = "urn:greso:problem:stale-generation"
# Problem type of a run whose history is damaged or newer than the service: no fault of any report.
UNREADABLE_HISTORY = "urn:greso:problem:unreadable-history"

_BY_STATUS: dict[int, type[RefusedError]] = {
    400: InvalidRequestError,
    401: ForbiddenError,
    403: ForbiddenError,
    404: NotFoundError,
    405: InvalidRequestError,
    409: ConflictError,
    413: InvalidRequestError,
    415: InvalidRequestError,
    422: InvalidRequestError,
}


def refusal(problem: Problem) -> RefusedError:
    """The error class that fits a 4xx problem."""
    if problem.type == STALE_GENERATION:
        return FencedError(problem)
    return _BY_STATUS.get(problem.status, RefusedError)(problem)


def run_gone(problem: Problem) -> UnavailableError:
    """The error for a run that was there and is no more.

    To the training that is an outage like another: it goes on, and nothing goes to any other run instead.
    """
    return UnavailableError(
        f"the run is gone ({problem}): the store was emptied, or somebody deleted it. Once the store is brought back, "
        "all goes on and nothing is lost; create_run() and add_prompts() would begin a new run",
        transient=False,
    )


def invalid(pointer: str, detail: str) -> InvalidRequestError:
    """The error for a request found wrong before it was sent, shaped as the service would have refused it."""
    where = (ProblemDetail(pointer, detail),)
    return InvalidRequestError(Problem(422, "The request is wrong and was not sent", type=NOT_SENT, errors=where))
