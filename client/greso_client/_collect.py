"""One training step done right: choose, roll out, report, and go on until the step has its effective groups.

Nothing here can hang. Rounds are bounded by `max_rounds`. Looking for candidates is bounded because a candidate that
was skipped in this step would be skipped again (decisions are keyed by step and prompt): it isn't offered twice, and
an iterator that yields nothing else counts as used up. A draw looks at the whole pool, so an empty one ends the step.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Generic, TypeVar

from greso_client._core import Core
from greso_client._types import Collected, CollectedGroup, Drawn, Group, Reason, Reported, Rollout, Selection, Skipped

log = logging.getLogger("greso_client")

T = TypeVar("T")
R = TypeVar("R")

# Candidates offered at once: enough that a keep rate of a few percent needs few calls, far below the contract's 65,536.
MOST_OFFERED = 8192
# An iterator that repeats itself counts as used up after this many candidates in a row that were skipped before, or
# twice as many as are known to be skipped: a pass over a shuffled pool shows each of its prompts within two lengths.
FEWEST_REPEATS = 64


class Candidates:
    """The candidate ids of one step: what earlier steps left over, then the caller's; never one that this step skipped.

    `leftover` is the client's, and used for an iterator only: a list is the step's own and can be offered again.
    """

    def __init__(self, prompts: Iterable[str], leftover: deque[str]) -> None:
        self._ahead = leftover if isinstance(prompts, Iterator) else deque[str]()
        self._source = iter(prompts)
        self._skipped: set[str] = set()

    def take(self, count: int) -> list[str]:
        """Up to `count` candidates; none when there are no more."""
        taken: list[str] = []
        repeats = 0
        while len(taken) < count and repeats < max(FEWEST_REPEATS, 2 * len(self._skipped)):
            prompt = self._ahead.popleft() if self._ahead else next(self._source, None)
            if prompt is None:
                break
            if prompt in self._skipped:
                repeats += 1
            else:
                repeats = 0
                taken.append(prompt)
        return taken

    def give_back(self, prompts: Sequence[str]) -> None:
        """Put candidates that were not examined in front again."""
        self._ahead.extendleft(reversed(prompts))

    def skipped(self, prompts: Iterable[str]) -> None:
        """Remember what this step skipped."""
        self._skipped.update(prompts)


class Session(Generic[T]):
    """One step being collected. `roll_out` gets prompts and returns one item per prompt, None where it failed."""

    def __init__(
        self,
        core: Core,
        step: int,
        roll_out: Callable[[list[str]], Awaitable[Sequence[Rollout[T] | None]]],
        prompts: Iterable[str] | None,
        max_rounds: int,
    ) -> None:
        if max_rounds < 1:
            raise ValueError(f"max_rounds {max_rounds} must be 1 or more")
        self._core = core
        self._step = step
        self._roll_out = roll_out
        self._candidates = None if prompts is None else Candidates(prompts, core.leftover)
        self._max_rounds = max_rounds
        self._groups: list[CollectedGroup[T]] = []
        self._effective: list[CollectedGroup[T]] = []
        self._rounds = self._examined = self._easy = self._hard = self._failed = 0
        self._degraded = False
        self._seconds = 0.0

    async def run(self) -> Collected[T]:
        """The whole step."""
        await self._timed(self._core.learn_run())
        # None: the service knows how many a first round takes.
        size = None if self._candidates is None else self._core.fallback.rollout_batch_size
        reason: Reason | None = None
        while reason is None:
            prompts = await self._choose(size)
            if not prompts:
                reason = "no_candidates"
                break
            reported = await self._round(prompts)
            if reported is not None:
                size = reported.next_rollout_batch_size
            reason = self._reason(reported)
        if reason == "no_candidates" or (reason == "max_rounds" and reported is None):
            await self._report([], final=True)
        return self._collected(reason)

    async def _choose(self, size: int | None) -> list[str]:
        if self._candidates is None or size is None:
            drawn = await self._timed(self._core.draw(self._step, size))
            self._count(drawn)
            return drawn.prompts
        chosen: list[str] = []
        offer = size
        while len(chosen) < size:
            offered = self._candidates.take(offer)
            if not offered:
                break
            kept, examined = await self._select(self._candidates, offered, size - len(chosen))
            if examined == 0:
                break
            chosen += kept
            # As many as this step's share of kept candidates says are needed for the rest.
            kept_share = (len(kept) + 1) / (examined + 1)
            offer = min(math.ceil((size - len(chosen)) / kept_share), MOST_OFFERED)
        return chosen

    async def _select(self, candidates: Candidates, offered: list[str], limit: int) -> tuple[list[str], int]:
        """The kept ones of the offered candidates, and how many were examined."""
        try:
            selection = await self._timed(self._core.select(self._step, offered, limit=limit))
        except BaseException:
            candidates.give_back(offered)
            raise
        self._count(selection)
        candidates.give_back(offered[selection.examined :])
        kept = set(selection.selected)
        candidates.skipped(offered[index] for index in range(selection.examined) if index not in kept)
        return [offered[index] for index in selection.selected], selection.examined

    async def _round(self, prompts: list[str]) -> Reported | None:
        """Roll out and report; None when every rollout failed, so that there is nothing to report."""
        results = list(await self._roll_out(prompts))
        if len(results) != len(prompts):
            raise ValueError(
                f"the rollout function returned {len(results)} items for {len(prompts)} prompts; "
                "it must return one per prompt, in order, None where a rollout failed"
            )
        self._rounds += 1
        groups = [
            CollectedGroup(prompt, result.rewards, result.data)
            for prompt, result in zip(prompts, results, strict=True)
            if result is not None
        ]
        self._failed += len(prompts) - len(groups)
        if not groups:
            return None
        reported = await self._report(groups, final=self._rounds == self._max_rounds)
        self._groups += groups
        self._effective += [groups[index] for index in reported.effective]
        return reported

    async def _report(self, groups: Sequence[CollectedGroup[T]], final: bool) -> Reported:
        plain = [Group(group.prompt, group.rewards) for group in groups]
        reported = await self._timed(self._core.report(self._step, plain, final))
        self._degraded |= reported.degraded
        return reported

    def _reason(self, reported: Reported | None) -> Reason | None:
        """Why the step ends after this round, None when it goes on."""
        last = self._rounds == self._max_rounds
        if reported is not None and reported.step.complete and not (last and reported.step.missing > 0):
            # Compared with the service's own count, not with a remembered batch size: an operator may change that.
            away = self._degraded and reported.step.effective < len(self._effective)
            if not reported.step.missing and (away or reported.step.effective == len(self._effective)):
                return "complete"
            log.warning(
                "greso: step %d was completed at the service without these groups or with groups from elsewhere; "
                "a trainer that goes back to an older step needs a run of a new name", self._step,
            )  # fmt: skip
            return "late"
        return "max_rounds" if last else None

    def _count(self, answer: Selection | Drawn) -> None:
        self._examined += answer.examined
        self._easy += answer.skipped.easy
        self._hard += answer.skipped.hard
        self._degraded |= answer.degraded

    async def _timed(self, call: Awaitable[R]) -> R:
        start = self._core.now()
        try:
            return await call
        finally:
            self._seconds += self._core.now() - start

    def _collected(self, reason: Reason) -> Collected[T]:
        return Collected(
            step=self._step,
            effective=self._effective,
            groups=self._groups,
            rounds=self._rounds,
            rollouts=sum(len(group.rewards) for group in self._groups),
            examined=self._examined,
            skipped=Skipped(self._easy, self._hard),
            failed=self._failed,
            complete=reason == "complete",
            reason=reason,
            degraded=self._degraded,
            service_seconds=self._seconds,
        )
