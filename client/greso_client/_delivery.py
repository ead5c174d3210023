"""Bringing spooled reports to the service: in order, each exactly once, never for long."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from greso_client import _answers as answers
from greso_client._breaker import LINE_EVERY
from greso_client._counts import Counts
from greso_client._errors import (
    UNREADABLE_HISTORY,
    ForbiddenError,
    NotFoundError,
    RefusedError,
    UnavailableError,
)
from greso_client._exchange import Exchange, UnsureError
from greso_client._io import IO
from greso_client._requests import Request
from greso_client._spool import Entry, Spool

log = logging.getLogger("greso_client")

R = TypeVar("R")

# The service knows an idempotency key for at least 24 h (docs/api.md). An older report might count twice, so it is
# put aside.
OLDEST = 23.5 * 3600
# Tries (one per pause of the breaker) after which a report that the service fails over is put aside.
MOST_FAILURES = 5
# A call waits for the spool's lock as long as its time lasts, and this long when that is used up already.
LEAST_WAIT = 0.05
# Whoever waited for that lock in vain only looks whether it is free, for so many seconds.
LOCKED_PAUSE = 5.0


class _DiskError(Exception):
    """An OSError of the disk, told apart from those of the network, which `UnavailableError` also is."""


class Delivery:
    """The spool of a client, or none. Disk errors never get out of here: they are counted and said."""

    def __init__(self, io: IO, exchange: Exchange, spool: Spool | None, counts: Counts, run_path: str) -> None:
        self._io = io
        self._exchange = exchange
        self._spool = spool
        self._counts = counts
        self._run_path = run_path
        self._next_line = -math.inf
        # How often the service failed over the oldest report: its key, and the times.
        self._failures = ("", 0)
        # When to wait again for a spool that another process kept locked.
        self._next_wait = -math.inf

    async def keep(self, request: Request, deadline: float, *, ahead: bool) -> None:
        """Spool a report that could not be delivered; `ahead` of its run, if that could not be created yet."""
        if self._spool is None:
            self._counts.add(dropped=1)
            return
        spool = self._spool
        request = self._exchange.adapted(request)  # what was tried last, under the key that it was tried with
        try:
            dropped = await self._locked(partial(spool.append, request, self._io.wall(), ahead=ahead), deadline)
        except _DiskError as error:
            self._counts.add(dropped=1)
            self._say(f"{error}; a report is lost, training goes on")
            return
        self._counts.add(spooled=1, dropped=dropped)
        if dropped:
            self._say(f"the report spool {spool.path} is full: the oldest {dropped} reports were dropped")

    async def deliver(self, deadline: float, stop: float, *, once: bool = False) -> bool:
        """Deliver until `stop`, the last one by `deadline`; True when no older report stands in the way of a new one.

        Raises `UnavailableError` when the service is (still) away, `ForbiddenError` when the key never was good.
        """
        spool = self._spool
        if spool is None or self.is_empty():
            return True
        before = self._counts.snapshot().delivered
        locks: list[int | None] = []  # filled also when this is cancelled before the thread at the disk is done
        try:
            await self._disk(lambda: locks.append(spool.delivering()))
            if locks == [None]:
                return False
            return await self._deliver(spool, deadline, stop, once)
        except _DiskError as error:
            # Nothing can be done about the old reports, so the new ones must not wait for them.
            self._say(str(error))
            return True
        finally:
            for lock in locks:
                if lock is not None:
                    spool.release(lock)
                    if delivered := self._counts.snapshot().delivered - before:
                        log.info("delivered %d spooled reports from %s", delivered, spool.path)

    def is_empty(self) -> bool:
        """Whether nothing waits. A spool that can't be looked at may hold something."""
        try:
            return self._spool is None or self._spool.is_empty()
        except OSError:
            return False

    async def _deliver(self, spool: Spool, deadline: float, stop: float, once: bool) -> bool:
        while self._io.now() < stop:
            entry = await self._locked(spool.head, stop)
            if entry is None:
                self._tell_damage(spool)
                return True
            refused = await self._send(entry, deadline, once)
            await self._locked(partial(spool.settle, entry, refused), deadline)
            if refused is None:
                self._counts.add(delivered=1)
            else:
                self._counts.add(refused=1)
                self._say(f"a spooled report was put aside in {spool.refused_path}: {refused}")
        return self.is_empty()

    def _tell_damage(self, spool: Spool) -> None:
        if spool.damaged:
            self._say(f"{spool.damaged} lines of the spool were damaged on the disk; put aside in {spool.refused_path}")
            self._counts.add(refused=spool.damaged)
            spool.damaged = 0

    async def _send(self, entry: Entry, deadline: float, once: bool) -> str | None:
        """Bring one report to the service; why it was refused, or None."""
        if entry.at < self._io.wall() - OLDEST:
            return "older than the 24 h for which the service recognises its idempotency key"
        try:
            reader = answers.answer_to(entry.request.body or b"")
        except (ValueError, KeyError, TypeError):
            return "damaged on the disk"
        try:
            await self._exchange(entry.request, reader, deadline, once=once)
        except ForbiddenError:
            raise
        except NotFoundError as error:
            if entry.request.path.startswith(f"{self._run_path}/"):
                raise  # create_run() decides what becomes of it
            return str(error)
        except RefusedError as error:
            return str(error)
        except UnavailableError as error:
            if not _is_over_report(error) or not self._is_poison(entry):
                raise
            return f"the service failed over it {MOST_FAILURES} times: {error}"
        return None

    def _is_poison(self, entry: Entry) -> bool:
        """Whether the service fails so often over this very report that it has to make way for the others."""
        key = str(entry.request.key)
        self._failures = (key, self._failures[1] + 1 if self._failures[0] == key else 1)
        return self._failures[1] >= MOST_FAILURES

    async def newest_step(self, generation: int, deadline: float) -> int | None:
        """The newest step of the reports that wait for the client's run, in this generation; None without any."""
        spool = self._spool
        if spool is None or self.is_empty():
            return None
        path, since = f"{self._run_path}/report", self._io.wall() - OLDEST
        try:
            return await self._locked(partial(spool.newest_step, path, generation, since), deadline)
        except _DiskError as error:
            self._say(str(error))
            return None

    async def retire(self, run_path: str, before: float, deadline: float) -> None:
        """Put aside what was spooled for a run of the same name that is no more."""
        spool = self._spool
        if spool is None or self.is_empty():
            return
        reason = "kept for an earlier run of this name"
        try:
            retired = await self._locked(partial(spool.retire, run_path, before, reason), deadline)
        except _DiskError as error:
            self._say(str(error))
            return
        self._counts.add(refused=retired)
        if retired:
            self._say(f"{retired} spooled reports of an earlier run of this name were put aside: {spool.refused_path}")

    async def _locked(self, function: Callable[..., R], until: float) -> R:
        """Disk work that takes the spool's lock: waits `until` then, or not at all soon after it waited in vain."""
        now = self._io.now()
        patience = 0.0 if now < self._next_wait else max(LEAST_WAIT, until - now)
        try:
            result = await self._disk(partial(function, patience=patience))
        except _DiskError as error:
            if patience and isinstance(error.__cause__, TimeoutError):
                self._next_wait = self._io.now() + LOCKED_PAUSE
            raise
        self._next_wait = -math.inf
        return result

    async def _disk(self, function: Callable[[], R]) -> R:
        try:
            return await self._io.work(function)
        except OSError as error:
            raise _DiskError(f"the report spool can't be read or written ({error})") from error

    def _say(self, text: str) -> None:
        now = self._io.now()
        if now >= self._next_line:
            self._next_line = now + LINE_EVERY
            log.warning("greso: %s", text)


def _is_over_report(error: UnavailableError) -> bool:
    """Whether an answer may be about the very report, so that it would be the same for ever.

    That is a mistake of the service, a 413 of anybody on the way, and a report that can't be told twice. What is busy,
    a page of somebody else and a run that can't be read are about all reports, and pass.
    """
    if error.status == 413 or isinstance(error, UnsureError):
        return True
    return error.status == 500 and error.problem is not None and error.problem.type != UNREADABLE_HISTORY
