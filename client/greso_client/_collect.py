"""One training step done right: choose, roll out, report, and go on until the step has its effective groups.

Nothing here can hang. Rounds are bounded by `max_rounds`. Looking for candidates is bounded because a candidate that
was skipped in this step would be skipped again (decisions are keyed by step and prompt): it isn't offered twice, and
an iterator that yields nothing else counts as used up. One that only others were better than is offered again when
nobody else is left, of which each select keeps some. A draw looks at the whole pool, so an empty one ends the step.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Generic, TypeVar

from greso_client._checked import checked_seconds, checked_step, checked_whole
from greso_client._core import Core
from greso_client._errors import invalid
from greso_client._harvest import Harvest
from greso_client._types import Collected, CollectedGroup, Group, Reason, Reported, Rollout, Seconds

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
        self._passed_over: set[str] = set()
        self._runners_up: dict[str, None] = {}

    def take(self, count: int) -> list[str]:
        """Up to `count` candidates; none when there are no more. Runners-up come when there is nobody else."""
        taken: list[str] = []
        repeats = 0
        while len(taken) < count and repeats < max(FEWEST_REPEATS, 2 * len(self._passed_over)):
            prompt = self._ahead.popleft() if self._ahead else next(self._source, None)
            if prompt is None:
                break
            if prompt in self._passed_over:
                repeats += 1
            else:
                repeats = 0
                taken.append(prompt)
        again = [prompt for prompt, _ in zip(self._runners_up, range(count - len(taken)), strict=False)]
        for prompt in again:
            del self._runners_up[prompt]
        return taken + again

    def give_back(self, prompts: Sequence[str]) -> None:
        """Put candidates that were not examined in front again."""
        self._ahead.extendleft(reversed(prompts))

    def pass_over(self, prompts: Iterable[str]) -> None:
        """Don't offer these again in this step: it skipped them, or rolled them out before it was broken off."""
        self._passed_over.update(prompts)

    def run_up(self, prompts: Iterable[str]) -> None:
        """Passed over not for what they are, but because others were better: offer them again before giving up."""
        self._runners_up.update(dict.fromkeys(prompts))


class Session(Generic[T]):
    """One step being collected. `roll_out` gets prompts and returns one item per prompt, None where it failed."""

    def __init__(
        self,
        core: Core,
        step: int,
        roll_out: Callable[[list[str]], Awaitable[Sequence[Rollout[T] | None]]],
        prompts: Iterable[str] | None,
        max_rounds: int,
        *,
        offer: int = 1,
        update_seconds: float = 0.0,
    ) -> None:
        step = checked_step(step)
        max_rounds, offer = checked_whole(max_rounds, "/max_rounds", 1), checked_whole(offer, "/offer", 1)
        if isinstance(prompts, str):
            raise invalid("/prompts", "one string was given where candidate ids are wanted")
        if not isinstance(prompts, Iterable | None):
            raise invalid("/prompts", f"must be candidate ids, not {type(prompts).__name__}")
        self._core = core
        self._roll_out = roll_out
        self._candidates = None if prompts is None else Candidates(prompts, core.leftover)
        self._max_rounds = max_rounds
        self._offer = offer
        checked_seconds(Seconds(update=update_seconds))  # now, not when the rollouts are paid for
        self._updating = update_seconds  # until it is reported
        broken_off, core.broken_off = core.broken_off, None
        self._got = Harvest[T](step) if broken_off is None or broken_off.step != step else broken_off
        if self._candidates is not None:
            self._candidates.pass_over(group.prompt for group in self._got.groups)

    async def run(self) -> Collected[T]:
        """The whole step."""
        try:
            reason = await self._collect()
        except BaseException:
            # The groups so far count at the service, so the caller must be able to get at them.
            self._core.broken_off = self._got
            raise
        self._core.past.end(self._got.step)
        return self._got.collected(reason)

    async def _collect(self) -> Reason:
        got = self._got
        await self._timed(self._core.learn_run())
        if not got.rounds and await self._timed(self._core.was_over(got.step)):
            got.was_over = True
            self._warn("was complete at the service before it began here, so its groups will count a second time")
        if got.size is None and self._candidates is not None:
            got.size = self._core.fallback.rollout_batch_size
        while True:
            prompts = await self._choose(got.size)
            if not prompts:
                await self._report([], final=True)
                return "no_candidates"
            reported = await self._round(prompts)
            reason = self._reason(reported)
            if reason == "max_rounds" and reported is None:
                await self._report([], final=True)
            if reason is not None:
                return reason

    async def _choose(self, size: int | None) -> list[str]:
        if self._candidates is None or size is None:  # the service knows how many a first round takes
            drawn = await self._timed(self._core.draw(self._got.step, size))
            self._got.count(drawn)
            return drawn.prompts
        chosen: list[str] = []
        offer = min(size * self._offer, max(size, MOST_OFFERED))
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
            selection = await self._timed(self._core.select(self._got.step, offered, limit=limit))
        except BaseException:
            candidates.give_back(offered)
            raise
        self._got.count(selection)
        candidates.give_back(offered[selection.examined :])
        kept = set(selection.selected)
        left = [offered[index] for index in range(selection.examined) if index not in kept]
        candidates.pass_over(left)
        # A filter stops where it has enough; who looks at all of more than enough has chosen the best.
        if self._offer > 1 and len(kept) == limit < selection.examined == len(offered):
            candidates.run_up(left)
        return [offered[index] for index in selection.selected], selection.examined

    async def _round(self, prompts: list[str]) -> Reported | None:
        """Roll out and report; None when every rollout failed, so that there is nothing to report."""
        began = self._core.now()
        results = list(await self._roll_out(prompts))
        took = self._core.now() - began
        if len(results) != len(prompts):
            raise ValueError(
                f"the rollout function returned {len(results)} items for {len(prompts)} prompts; "
                "it must return one per prompt, in order, None where a rollout failed"
            )
        got = self._got
        got.rounds += 1
        groups = [_group(prompt, result) for prompt, result in zip(prompts, results, strict=True) if result is not None]
        got.failed += len(prompts) - len(groups)
        if not groups:
            return None
        reported = await self._report(groups, final=self._is_last(), rollout=took)
        got.groups += groups
        got.effective += [groups[index] for index in reported.effective]
        got.size = reported.next_rollout_batch_size
        return reported

    async def _report(self, groups: Sequence[CollectedGroup[T]], final: bool, rollout: float = 0.0) -> Reported:
        spent = Seconds(rollout, self._updating) if rollout or self._updating else None
        plain = [Group(group.prompt, group.rewards) for group in groups]
        reported = await self._timed(self._core.report(self._got.step, plain, final, spent))
        self._updating = 0.0
        self._got.degraded |= reported.degraded
        return reported

    def _is_last(self) -> bool:
        # A step that was broken off may have had more rounds than are allowed now.
        return self._got.rounds >= self._max_rounds

    def _reason(self, reported: Reported | None) -> Reason | None:
        """Why the step ends after this round, None when it goes on."""
        if reported is None or not reported.step.complete:
            return "max_rounds" if self._is_last() else None
        if self._got.was_over:
            return "late"
        if self._is_last() and reported.step.missing > 0:
            return "max_rounds"
        # Compared with the service's own count, not with a remembered batch size: an operator may change that.
        mine = len(self._got.effective)
        away = self._got.degraded and reported.step.effective < mine
        if not reported.step.missing and (away or reported.step.effective == mine):
            return "complete"
        self._warn("was completed at the service without these groups or with groups from elsewhere")
        return "late"

    def _warn(self, what: str) -> None:
        """Say once of a run what a step's groups were late for."""
        if not self._core.past.told:
            self._core.past.told = True
            log.warning(
                "greso: step %d %s; a trainer that resumes from a checkpoint calls client.rewind(step) first, with the "
                "checkpoint's step", self._got.step, what,
            )  # fmt: skip

    async def _timed(self, call: Awaitable[R]) -> R:
        start = self._core.now()
        try:
            return await call
        finally:
            self._got.service_seconds += self._core.now() - start


def _group(prompt: str, result: Rollout[T]) -> CollectedGroup[T]:
    try:
        return CollectedGroup(prompt, result.rewards, result.data)
    except AttributeError:
        raise ValueError(
            f"the rollout function returned a {type(result).__name__} for {prompt!r}; it must return a "
            "Rollout(rewards, data) per prompt, None where a rollout failed"
        ) from None
