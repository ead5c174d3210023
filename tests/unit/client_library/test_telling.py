"""What a client tells the service of itself in the header Greso-Client: all of it, once, and nothing if all is well."""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from greso_client import Client, Group, RefusedError, UnavailableError
from greso_client._breaker import LONGEST_PAUSE
from greso_client._core import Core
from greso_client._io import run

from .doubles import ClockIO, FakeService, make_core, problem, stale_generation
from .telling import happened, news, told

GROUPS = [Group("a", [0.0, 1.0])]


def come_back(service: FakeService, io: ClockIO) -> None:
    service.down = False
    io.time += LONGEST_PAUSE


def test_while_all_is_well_nothing_is_told(client: Client, service: FakeService) -> None:
    client.create_run()
    client.select(0, ["a"])
    client.report(0, GROUPS)
    client.close()
    assert len(service.requests) == 3
    assert not any("greso-client" in request.headers for request in service.requests)


def test_an_outage_is_told_with_the_first_requests_after_it_and_only_once(
    core: Core, service: FakeService, io: ClockIO
) -> None:
    service.down = True
    for step in range(3):
        run(core.report(step, GROUPS))
    come_back(service, io)
    service.requests.clear()
    run(core.select(3, ["a"]))
    run(core.select(3, ["a"]))
    assert [request.headers.get("greso-client") for request in service.requests] == ["degraded=3, spooled=3", None]
    run(core.flush())
    run(core.state())
    assert [request.headers.get("greso-client") for request in service.requests[2:]] == [
        None, "delivered=1", "delivered=1", "delivered=1",
    ]  # fmt: skip


def test_lost_are_reports_refused_on_delivery_and_those_dropped(io: ClockIO, service: FakeService) -> None:
    core = make_core(io, None)
    service.down = True
    run(core.report(0, GROUPS))
    core.counts.add(refused=4)
    come_back(service, io)
    run(core.state())
    assert news(service.requests[-1]) == {"degraded": 1, "lost": 5}


@pytest.mark.parametrize("answer", [problem(404), problem(500), problem(503), stale_generation(0, 1)], ids=str)
def test_a_refusal_is_an_answer_too(core: Core, service: FakeService, answer: httpx.Response) -> None:
    core.counts.add(degraded=2)
    service.script.append(answer)
    with contextlib.suppress(RefusedError):
        run(core.select(0, ["a"]))
    run(core.flush())
    run(core.state())
    assert told(service.requests) == happened(core.counts.snapshot())


@pytest.mark.parametrize("status", [404, 502, 503, 504])
def test_what_a_gateway_says_is_no_answer(core: Core, service: FakeService, io: ClockIO, status: int) -> None:
    core.counts.add(degraded=2)
    service.script.append(httpx.Response(status, text="<h1>no upstream</h1>", headers={"content-type": "text/html"}))
    try:
        run(core.state())
    except UnavailableError:
        run(core.state())
    assert [news(request) for request in service.requests] == [{"degraded": 2}] * 2


def test_a_spooled_request_keeps_nothing_of_what_its_first_attempt_told(
    core: Core, service: FakeService, io: ClockIO, spool_path: Path
) -> None:
    core.counts.add(degraded=2)
    service.down = True
    run(core.report(0, GROUPS))
    assert news(service.requests[-1]) == {"degraded": 2}
    assert "degraded" not in spool_path.read_text()


# Closing


def test_closing_tells_what_its_own_deliveries_left_untold(core: Core, service: FakeService, io: ClockIO) -> None:
    service.down = True
    run(core.report(0, GROUPS))
    come_back(service, io)
    service.requests.clear()
    run(core.finish())
    assert [(request.method, news(request)) for request in service.requests] == [
        ("POST", {"degraded": 1, "spooled": 1}),
        ("GET", {"delivered": 1}),
    ]


def test_closing_in_an_outage_asks_no_more_than_before(io: ClockIO, service: FakeService) -> None:
    core = make_core(io, None)
    service.down = True
    run(core.report(0, GROUPS))
    asked = len(service.requests)
    run(core.finish())
    assert len(service.requests) == asked


@pytest.mark.parametrize("answer", [problem(404), httpx.ReadTimeout("hangs")], ids=["no run", "no answer"])
def test_a_farewell_that_fails_is_not_worth_a_word(
    core: Core, service: FakeService, answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    core.counts.add(degraded=1)
    service.script.append(answer)
    run(core.finish())
    assert len(service.requests) == 1
    assert not caplog.records


# Whatever happens


CALLS: dict[str, Callable[[Core], Coroutine[Any, Any, Any]]] = {
    "select": lambda core: core.select(0, ["a"]),
    "report": lambda core: core.report(0, GROUPS),
    "flush": lambda core: core.flush(),
    "create": lambda core: core.create_run({}),
    "look": lambda core: core.state(gated=True),
}
GATEWAY = httpx.Response(503, text="busy")
SURROUNDINGS: dict[str, list[httpx.Response | Exception]] = {
    "well": [],
    "refused": [problem(409)],
    "gateway": [GATEWAY] * 9,
    "hiccup": [httpx.ReadError("reset")],
}


@given(
    st.lists(
        st.tuples(st.sampled_from(list(CALLS)), st.sampled_from([*SURROUNDINGS, "down"]), st.sampled_from([0.0, 70.0])),
        max_size=15,
    ),
    st.booleans(),
)
def test_over_any_failures_and_answers_what_was_told_adds_up_to_the_counters(
    tmp_path_factory: pytest.TempPathFactory, story: list[tuple[str, str, float]], spools: bool
) -> None:
    service = FakeService()
    answered: list[httpx.Request] = []

    def attend(request: httpx.Request) -> httpx.Response:
        answer = service(request)
        if answer is not GATEWAY:
            answered.append(request)
        return answer

    io = ClockIO(attend)  # type: ignore[arg-type]
    core = make_core(io, tmp_path_factory.mktemp("spool") / "spool.jsonl" if spools else None)
    for call, surroundings, pause in story:
        service.down = surroundings == "down"
        service.script = collections.deque(SURROUNDINGS.get(surroundings, []))
        io.time += pause
        try:
            run(CALLS[call](core))
        except (RefusedError, ConnectionError):
            continue
    service.script.clear()
    come_back(service, io)
    run(core.flush())
    run(core.state())
    assert told(answered) == happened(core.counts.snapshot())
