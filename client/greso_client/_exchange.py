"""One request until it is answered or its time is over: attempts, and pauses with full jitter."""

from __future__ import annotations

import dataclasses
import logging
import random
from collections.abc import Callable
from typing import TypeVar

from greso_client import _reply as reply
from greso_client._access import Access
from greso_client._breaker import Breaker
from greso_client._counts import Counts, header
from greso_client._errors import (
    BudgetExceededError,
    ForbiddenError,
    InvalidRequestError,
    NotFoundError,
    RefusedError,
    UnavailableError,
    run_gone,
)
from greso_client._fields import Json
from greso_client._io import IO
from greso_client._reply import Answer
from greso_client._requests import Request, without_seconds

log = logging.getLogger("greso_client")

R = TypeVar("R")


class UnsureError(UnavailableError):
    """A report with seconds may have been counted by a newer service, and the one that answers now takes no seconds.

    Without them it would have to come under another key, and could count twice. Under its own key a newer service
    says what became of it.
    """


# Full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter"): uniform in [0, min(cap, base * 2^attempt)].
BACKOFF_BASE = 0.1
BACKOFF_CAP = 2.0


class Exchange:
    """Sends requests through an `IO`, and tells the breaker of each answer.

    `share`: the longest a single attempt may take, so that a lost packet or a frozen replica leaves time for another.
    `expected`: whether the run that a request is about is known to have been there.
    """

    def __init__(
        self,
        io: IO,
        breaker: Breaker,
        chance: random.Random,
        share: float,
        counts: Counts,
        *,
        expected: Callable[[Request], bool] = lambda _: False,
    ) -> None:
        self._io = io
        self._breaker = breaker
        self._chance = chance
        self._share = share
        self._counts = counts
        self._expected = expected
        self.access = Access()
        # An older service refuses `seconds`. They are for show, so they must not cost a training its reports.
        self._without_seconds = False
        # Keys of reports with seconds that were sent and not answered: they may have been counted.
        self._unsure: set[str | None] = set()

    async def __call__(
        self,
        request: Request,
        reader: Callable[[Json], R],
        deadline: float,
        *,
        once: bool = False,
        patience: float = 0.0,
    ) -> tuple[R, int]:
        """The value and the status of the answer. Raises `RefusedError` on 4xx, else `UnavailableError` by `deadline`.

        `once`: no second attempt, and all the time for the first. `patience`: seconds that an attempt may take beyond
        the deadline, if it began before.
        """
        request = self.adapted(request)
        try:
            return await self._answered(request, reader, deadline, once, patience)
        except InvalidRequestError as error:
            plain = without_seconds(request)
            if plain is request or not _refuses_seconds(error):
                raise
            if not self._without_seconds:
                log.warning("greso: the service takes no seconds in a report, it is older; they are left out")
            self._without_seconds = True
            if self._is_unsure(request):
                raise UnsureError(
                    "the report may have been counted with its seconds, which the service, now an older one, refuses; "
                    f"under another key it could count twice ({error})",
                    status=error.status, transient=False,
                ) from error  # fmt: skip
        return await self._answered(plain, reader, deadline, once, patience)

    def adapted(self, request: Request) -> Request:
        """The request as the service takes it, as far as its refusals have shown, but never one that may have been
        counted under another key than that.
        """
        if self._is_unsure(request):
            return dataclasses.replace(request, unsure=True)
        return without_seconds(request) if self._without_seconds else request

    def _is_unsure(self, request: Request) -> bool:
        return request.unsure or request.key in self._unsure

    async def _answered(
        self, request: Request, reader: Callable[[Json], R], deadline: float, once: bool, patience: float
    ) -> tuple[R, int]:
        attempt, sent = 0, False
        while True:
            try:
                answer = await self._attempt(request, deadline, once, patience)
                value = reply.read(answer, reader)
            except RefusedError as error:
                error.repeated = sent
                # A refused key says nothing of what an earlier attempt may have done.
                if not _refuses_seconds(error) and not isinstance(error, ForbiddenError):
                    self._unsure.discard(request.key)
                if isinstance(error, NotFoundError) and self._expected(request):
                    raise run_gone(error.problem) from error
                if isinstance(error, ForbiddenError) and (lost := self.access.lost(error)):
                    raise lost from error
                self._breaker.answered(self._io.now(), wrote=False)
                raise
            except UnavailableError as error:
                error.sent = sent = sent or error.sent
                if error.sent and without_seconds(request) is not request:
                    self._unsure.add(request.key)
                wait = self._wait(error, attempt)
                if once or not error.transient or self._io.now() + wait >= deadline:
                    raise
            else:
                self._unsure.discard(request.key)
                self.access.granted(request)
                self._breaker.answered(self._io.now(), wrote=request.method != "GET")
                return value, answer.status
            await self._io.pause(wait)
            self._counts.add(retries=1)
            attempt += 1

    async def _attempt(self, request: Request, deadline: float, once: bool, patience: float) -> Answer:
        left = deadline - self._io.now()
        if left <= 0:
            raise BudgetExceededError("the time budget of the call is used up", sent=False)
        return await self._told(request, max(left if once else min(left, self._share), patience))

    async def _told(self, request: Request, timeout: float) -> Answer:  # noqa: ASYNC109 - a bound on one attempt
        """Send the request, and with it what the service has not been told yet of this client."""
        news = self._counts.take_news()
        if not news:
            return await self._io.send(request, timeout)
        told = False
        try:
            answer = await self._io.send(dataclasses.replace(request, news=header(news)), timeout)
            told = answer.is_of_service and answer.status != 401  # nobody's word is taken who shows no key
        finally:  # cancelled half-way, too
            if not told:
                self._counts.put_back(news)
        return answer

    def _wait(self, error: UnavailableError, attempt: int) -> float:
        jitter = self._chance.uniform(0, min(BACKOFF_CAP, BACKOFF_BASE * 2**attempt))
        return jitter if error.retry_after is None else error.retry_after + jitter


def _refuses_seconds(error: RefusedError) -> bool:
    pointers = [fault.pointer for fault in error.problem.errors]
    return error.status == 422 and bool(pointers) and all(f"{at}/".startswith("/seconds/") for at in pointers)
