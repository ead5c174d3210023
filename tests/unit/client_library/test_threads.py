"""Threads that are kept for the next call, and left behind by callers whose time is up."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

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


def test_no_call_is_lost_to_a_thread_that_is_about_to_end(threads: Threads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_threads, "IDLE_SECONDS", 0.0001)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda number: threads.call(lambda: number, 10), range(2000))) == list(range(2000))


def test_an_idle_thread_keeps_nothing_of_the_last_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_threads, "IDLE_SECONDS", 60)
    threads, gone = Threads(), threading.Event()

    class Large:
        def __del__(self) -> None:
            gone.set()

    threads.call(Large, 10)
    assert gone.wait(10)
