"""Calls that may take too long, made in threads that are kept for the next one."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

R = TypeVar("R")

# How long a thread waits for more to do: the calls of a round come closer together, a rollout takes longer.
IDLE_SECONDS = 10.0

_Inbox = queue.SimpleQueue[tuple[Callable[[], Any], queue.SimpleQueue[Any]]]


class Threads:
    """Runs functions, each in a thread of its own, which is left behind by a caller whose time is up.

    To start a thread takes some 0.1 ms, to wake one up less than half of that: so they wait for more to do. They are
    daemons, since none may hold up the end of the program. Safe between threads; of no use in a forked child.
    """

    def __init__(self) -> None:
        self._idle: deque[_Inbox] = deque()

    def call(self, function: Callable[[], R], timeout: float) -> R:
        """What a function returns, which must not raise. Raises `TimeoutError` when it takes more than `timeout`
        seconds, and `RuntimeError` when there are no more threads.
        """
        outcome = queue.SimpleQueue[R]()
        try:
            inbox = self._idle.pop()
        except IndexError:
            inbox = _Inbox()
            threading.Thread(target=self._work, args=(inbox,), name="greso-request", daemon=True).start()
        inbox.put((function, outcome))
        try:
            return outcome.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError from None

    def _work(self, inbox: _Inbox) -> None:
        taken = False
        while True:
            try:
                function, outcome = inbox.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                with suppress(ValueError):
                    self._idle.remove(inbox)
                    return
                if taken:  # by somebody who was interrupted before he could put anything in
                    return
                taken = True  # and something may be about to be put in
                continue
            taken = False
            result = function()
            self._idle.append(inbox)  # before the caller goes on and makes the next call
            outcome.put(result)
            del function, outcome, result  # an idle thread keeps nothing of the last call
