"""The blocking client."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import httpx

from greso_client._collect import Session
from greso_client._core import Core
from greso_client._io import BlockingIO
from greso_client._io import run as _run
from greso_client._options import Options
from greso_client._types import (
    Collected,
    Counters,
    Drawn,
    Group,
    PoolPrompt,
    PoolSize,
    Reported,
    Rollout,
    Seconds,
    Selection,
)
from greso_client._version import __version__
from greso_client._views import PromptState, RunState, StepRow

T = TypeVar("T")

BUDGET = 2.0
SPOOL_BYTES = 64 * 1024 * 1024


class Client:
    """One run at one greso service.

    ::

        with Client("http://127.0.0.1:8080", run="my-run") as client:
            client.create_run(train_batch_size=32, rollout_batch_size=48)
            client.add_prompts(questions)
            for step in range(1, 1001):
                train(client.collect(step, roll_out).effective)

    `url`: default GRESO_URL, else http://127.0.0.1:8080. `run`: 1-128 letters, digits, '.', '_', '-'. `api_key`:
    default GRESO_API_KEY. `budget`: seconds a call may take in all, retries included (a day at most). `spool`: file for
    reports that can't be delivered now; None is one per service and run in the user's state directory, False is none.
    `spool_bytes`: its bound. `transport`: httpx transport, the seam for tests.

    While the service is away, the calls of the training loop go on without it and say so (`degraded=True`); calls
    that only look or administer raise `UnavailableError`. With `strict=True` every call raises, and the client has no
    spool: it keeps no report, and delivers none that another client left. A request that the service refuses
    (`RefusedError`, 4xx) always raises: it is a mistake in the caller. Only a key that was good and is refused later
    (`ForbiddenError`) is to the training loop as if the service were away, unless `strict=True`.

    May be used by several threads (`collect` by one at a time). A process forked while no call is under way may use
    it too: it opens connections of its own.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        run: str,
        api_key: str | None = None,
        strict: bool = False,
        budget: float = BUDGET,
        spool: Path | str | Literal[False] | None = None,
        spool_bytes: int = SPOOL_BYTES,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        options = Options.make(url, run, api_key, strict, budget, spool, spool_bytes)
        arguments = options.http(__version__)
        self._io = BlockingIO(lambda: httpx.Client(**arguments, transport=transport))
        self._core = Core(self._io, run, options)

    def create_run(self, **spec: Any) -> RunState:
        """Create the run, or find it with an equal spec; fields and defaults as in docs/algorithm.md.

        Raises `ConflictError` when it exists with another spec. Service away: the run is created with the next call
        that reaches it, and what is known of it comes back (`degraded`).
        """
        return _run(self._core.create_run(spec))

    def update_run(self, **changes: Any) -> RunState:
        """Change tunables of the live run; raises `UnavailableError` while the service is away."""
        return _run(self._core.update_run(changes))

    def add_prompts(self, prompts: Iterable[str | PoolPrompt] | None = None, from_run: str | None = None) -> PoolSize:
        """Add prompts (1-256 UTF-8 bytes each) to the run's pool; known ones are ignored.

        A `PoolPrompt` says how often the model passes it, so that the run need not find out. `from_run`: another run at
        this service, whose knowledge of the prompts is carried over; without `prompts`, all of its prompts join. A pass
        rate that is given goes before what is carried over; neither counts for prompts that this run has rolled out.

        Many are sent in parts of 50,000, each with a budget of its own (with `from_run` the answer may take up to
        120 s). The ids are also remembered here, to draw from while the service is away; parts that could not be sent
        are sent with the next call that reaches it.
        """
        return _run(self._core.add_prompts(prompts, from_run))

    def select(
        self, step: int, prompts: Sequence[str], limit: int | None = None, at_least: int = 0, explain: bool = False
    ) -> Selection:
        """Which of these candidates to roll out in this step.

        `limit`: judge in order until so many are kept. `at_least`: fill up to so many with skipped ones. `explain`: say
        why for each. Service away: all of them, up to `limit`.
        """
        return _run(self._core.select(step, prompts, limit, at_least, explain))

    def draw(self, step: int, count: int | None = None) -> Drawn:
        """Prompts from the run's pool to roll out in this step; default count: the current rollout batch size.

        Raises `ConflictError` when the pool is empty. Service away: the prompts come from a shuffled walk over those
        that this client added; raises `UnavailableError` when it added none (`ForbiddenError` for a refused key).
        """
        return _run(self._core.draw(step, count))

    def report(
        self, step: int, groups: Iterable[Group], final: bool = False, seconds: Seconds | None = None
    ) -> Reported:
        """What rollouts earned; `final` ends the step. Rewards: finite numbers; the outcome, not a shaped reward.
        `seconds`: what was spent on it, where that is known; it is shown beside what it brought.

        Reports spooled earlier go first, for at most half of the budget. Service away, or earlier reports still under
        way: the report is spooled and judged here.
        """
        return _run(self._core.report(step, groups, final, seconds))

    def collect(
        self,
        step: int,
        rollout: Callable[[list[str]], Sequence[Rollout[T] | None]],
        prompts: Iterable[str] | None = None,
        max_rounds: int = 10,
        offer: int = 1,
        *,
        update_seconds: float = 0.0,
    ) -> Collected[T]:
        """One training step: choose, roll out, report, until the step has its effective groups.

        `rollout` gets this round's prompts (one may stand twice) and returns one item per prompt in order, None where
        the rollout failed. `prompts`: None walks the run's pool; else candidate ids. From an iterator, which may be
        endless, candidates that were not examined are kept for the next call; a list is offered from its start each
        time. `offer`: candidates offered for each prompt wanted, for runs whose policy is a ranking, which otherwise
        have nothing to choose from (4 is a good start); what a ranking leaves comes back when the iterator brings it
        again, or in this step when there is nothing else.

        A select that keeps nothing just goes on with more candidates. The step ends when it is complete, after
        `max_rounds` rounds, or when nothing is left to roll out; see `Collected.reason`. What `rollout` raises is
        passed on and its round is lost, but the step stays open: if the next `collect` is of the same step, it goes
        on, and its result holds the groups and counts of both.

        How long `rollout` takes is reported; `update_seconds`: what updates took since the last `collect`, if known.
        """

        async def roll_out(chosen: list[str]) -> Sequence[Rollout[T] | None]:
            return rollout(chosen)

        return _run(
            Session(self._core, step, roll_out, prompts, max_rounds, offer=offer, update_seconds=update_seconds).run()
        )

    def state(self) -> RunState:
        """Spec and state of the run."""
        return _run(self._core.state())

    def steps(self, after: int | None = None, limit: int | None = None, domain: str | None = None) -> list[StepRow]:
        """The recorded steps after step `after`, at most `limit` (default 100); with `domain` as that domain saw them,
        with an empty one as the prompts without one did."""
        return _run(self._core.steps(after, limit, domain))

    def prompt(self, prompt: str) -> PromptState:
        """What the service knows of one prompt."""
        return _run(self._core.prompt(prompt))

    def delete_run(self) -> None:
        """Delete the run and all that is known of it.

        Raises `UnavailableError` while the service is away (never degraded); then it may be deleted nevertheless:
        call it again. `NotFoundError`: there was no such run.
        """
        _run(self._core.delete_run())

    def rewind(self, step: int) -> RunState:
        """Go back to the run as it was when `step` completed, and forget all that came later: call it when a trainer
        resumes from its checkpoint of that step.

        The run gets the next generation, which this client takes: from now on writes of any other trainer of the run
        are refused with `FencedError`. Spooled reports are delivered first, however many there are. Raises
        `ConflictError` when the step has not completed, `UnavailableError` while the service is away (never degraded);
        then it may have taken effect nevertheless: call it again. The answer may take longer than the budget: the
        service folds the history anew (120 s at most).
        """
        return _run(self._core.rewind(step))

    def fork(self, run: str, step: int | None = None) -> RunState:
        """Make a new run, which begins where this one stood when `step` completed; default: where it stands now.

        Returns the new run's state; this client goes on with its own run. Spooled reports are delivered first. Raises
        `ConflictError` when there is a run of that name or the step has not completed, `UnavailableError` while the
        service is away.
        """
        return _run(self._core.fork(run, step))

    def flush(self, within: float | None = None) -> bool:
        """Deliver spooled reports for at most `within` seconds (default: the budget); True when none are left."""
        return _run(self._core.flush(within))

    @property
    def generation(self) -> int | None:
        """The run's generation as this client knows it (how often the run was rewound); None until an answer said it.

        It goes with every write, so that a trainer taken for dead can't spoil the run of the one that took its place:
        see `FencedError`. Taken from the first answer that carries one, then only from `create_run` (which itself is
        never refused for it) and `rewind`.
        """
        return self._core.generation

    @property
    def counters(self) -> Counters:
        """What happened since this client was made."""
        return self._core.counts.snapshot()

    def close(self) -> None:
        """Deliver spooled reports for at most one budget and close the connections. What remains stays on disk."""
        try:
            _run(self._core.finish())
        finally:
            self._io.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
