"""Deleting a run: what a 404 means to whoever may have deleted it."""

from __future__ import annotations

import httpx
import pytest

from greso_client import ForbiddenError, NotFoundError, RefusedError, UnavailableError
from greso_client._core import Core
from greso_client._io import run

from .doubles import FakeService, problem

GONE = problem(404, "there is no run test")
LOST = [httpx.ReadError("reset"), problem(503), problem(504)]


@pytest.mark.parametrize("lost", LOST)
def test_a_404_to_a_retry_is_a_run_that_is_deleted(core: Core, service: FakeService, lost: httpx.Response) -> None:
    service.script.extend([lost, GONE])
    run(core.delete_run())
    assert len(service.requests) == 2


def test_so_it_is_when_the_call_is_repeated(core: Core, service: FakeService) -> None:
    service.script.extend([httpx.ReadError("reset"), problem(503, headers={"retry-after": "60"}), GONE])
    with pytest.raises(UnavailableError):
        run(core.delete_run())
    run(core.delete_run())
    service.script.append(GONE)
    with pytest.raises(NotFoundError):
        run(core.delete_run())


def test_so_it_is_when_the_last_attempt_of_the_call_before_never_left(core: Core, service: FakeService) -> None:
    service.script.append(httpx.ReadError("reset"))
    service.script.extend([httpx.ConnectError("refused")] * 1000)
    with pytest.raises(UnavailableError) as caught:
        run(core.delete_run())
    assert caught.value.sent
    service.script.clear()
    service.script.append(GONE)
    run(core.delete_run())


@pytest.mark.parametrize("before", [[], [httpx.ConnectError("refused")]])
def test_else_there_was_no_such_run(core: Core, service: FakeService, before: list[Exception]) -> None:
    service.script.extend([*before, GONE])
    with pytest.raises(NotFoundError):
        run(core.delete_run())


@pytest.mark.parametrize("refused", [problem(409, "no"), problem(422, "no")])
def test_a_refusal_shows_that_an_unanswered_one_had_no_effect(
    core: Core, service: FakeService, refused: httpx.Response
) -> None:
    lose_a_delete(core, service)
    service.script.append(refused)
    with pytest.raises(RefusedError):
        run(core.delete_run())
    service.script.append(GONE)
    with pytest.raises(NotFoundError):
        run(core.delete_run())


def test_a_refused_key_shows_nothing(core: Core, service: FakeService) -> None:
    lose_a_delete(core, service)
    service.script.append(problem(401, "no such key"))
    with pytest.raises(ForbiddenError):
        run(core.delete_run())
    service.script.append(GONE)
    run(core.delete_run())


def test_who_creates_the_run_anew_has_nothing_left_to_delete(core: Core, service: FakeService) -> None:
    lose_a_delete(core, service)
    run(core.create_run({}))
    service.script.append(GONE)
    with pytest.raises(NotFoundError):
        run(core.delete_run())


def lose_a_delete(core: Core, service: FakeService) -> None:
    service.script.extend([httpx.ReadError("reset"), problem(503, headers={"retry-after": "60"})])
    with pytest.raises(UnavailableError):
        run(core.delete_run())
