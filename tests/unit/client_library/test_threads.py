"""Threads that are kept for the next call, and left behind by callers whose time is up."""

from __future__ import annotations

import itertools
import queue
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from greso_client import _threads
from greso_client._threads import Threads

from ...servers import eventually  # noqa: TID252


def started() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "greso-request"}


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Threads:
    monkeypatch.setattr(_threads, "IDLE_SECONDS", 0.2)
    return Threads()


def test_a_thread_is_kept_for_the_next_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_threads, "IDLE_SECONDS", 60)
    threads = Threads()
    assert len({threads.call(threading.get_ident, 10) for _ in range(50)}) == 1
    assert threads.call(threading.get_ident, 10) != threading.get_ident()


def test_a_call_that_takes_too_long_leaves_its_thread_behind_and_the_next_has_another(threads: Threads) -> None:
    before, late = started(), threading.Event()
    with pytest.raises(TimeoutError):
        threads.call(lambda: late.wait(30), 0.01)
    assert threads.call(lambda: "next", 10) == "next"
    assert len(started() - before) == 2
    late.set()
    eventually(lambda: not started() - before, 10)


def test_calls_at_once_have_a_thread_each(threads: Threads) -> None:
    together = threading.Barrier(8)
    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(lambda number: threads.call(lambda: (together.wait(10), number)[1], 20), range(8)))
    assert numbers == list(range(8))


def test_idle_threads_end(threads: Threads) -> None:
    before = started()
    threads.call(int, 10)
    assert len(started() - before) == 1
    eventually(lambda: not started() - before, 10)
    assert threads.call(int, 10) == 0


def test_what_comes_when_a_thread_is_about_to_end_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    threads, waits, taken = Threads(), itertools.count(), list[Any]()

    class Late(queue.SimpleQueue[Any]):
        """Its first wait for more ends at the very moment when a caller takes it, who has put nothing in yet."""

        def get(self, block: bool = True, timeout: float | None = None) -> Any:
            if next(waits) == 1:
                taken.append(threads._idle.pop())
                raise queue.Empty
            return super().get(block, timeout)

    monkeypatch.setattr(_threads, "_Inbox", Late)
    assert threads.call(lambda: "first", 10) == "first"
    eventually(lambda: bool(taken), 10)
    outcome = queue.SimpleQueue[str]()
    taken[0].put((lambda: "second", outcome))
    assert outcome.get(timeout=10) == "second"


def test_an_idle_thread_keeps_nothing_of_the_last_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_threads, "IDLE_SECONDS", 60)
    threads, gone = Threads(), threading.Event()

    class Large:
        def __del__(self) -> None:
            gone.set()

    threads.call(Large, 10)
    assert gone.wait(10)


def test_a_caller_who_is_interrupted_before_he_asked_leaves_no_thread_for_ever(threads: Threads) -> None:
    before = started()
    threads.call(int, 10)
    threads._idle.pop()  # as far as he came
    assert len(started() - before) == 1
    eventually(lambda: not started() - before, 10)
