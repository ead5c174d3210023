"""Rewinding while another replica serves, and while the service is killed: every acknowledged answer holds."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from random import Random
from threading import Event
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from .oracle.journey import Journey
from .oracle.service import Service, beside
from .oracle.twin import picture
from .oracle.views import check_state
from .test_oracle_rewind import POOL, begun, draw, report, rewind

if TYPE_CHECKING:
    from collections.abc import Callable

STALE = "urn:greso:problem:stale-generation"


def alternate(replicas: list[Service], seed: int, actions: int) -> Journey:
    """A random journey whose every request goes to either service."""
    rng = Random(seed)
    journey = Journey(replicas[0], seed, f"journey-{seed}")
    for _ in range(actions):
        journey.service = rng.choice(replicas)
        journey.play(1)
        for service in replicas:
            check_state(service, journey.path, journey.model)
    for journey.service in replicas:
        journey.look()
        journey.twin()
    return journey


def test_journeys_over_two_replicas(replicas: list[Service]) -> None:
    journeys = [alternate(replicas, seed, 35) for seed in (700, 701, 702)]
    assert sum(journey.rewinds for journey in journeys) >= 3


@pytest.mark.slow
def test_many_journeys_over_two_replicas(replicas: list[Service]) -> None:
    for seed in range(800, 806):
        alternate(replicas, seed, 120)


def body_of(at: int) -> dict[str, Any]:
    """A report of one group of two."""
    return {"step": 2, "results": [{"prompt": POOL[at % len(POOL)], "rewards": [0, at % 2]}]}


@pytest.mark.parametrize("fenced", [False, True])
def test_one_rewinds_while_the_other_serves(
    replicas: list[Service], name: str, tmp_path_factory: pytest.TempPathFactory, fenced: bool
) -> None:
    one, other = replicas
    run = begun(one, name)
    draw(one, run, 1)
    report(one, run, 1, 4, 4)
    start = one.json("GET", run)
    went_back = Event()

    def send(writer: int) -> list[tuple[str, httpx.Response]]:
        """What a trainer sends that hears nothing of the rewinds, mostly to the replica that does not rewind."""
        answers: list[tuple[str, httpx.Response]] = []
        left, at = 5, 0
        while left:
            left -= went_back.is_set()
            at += 1
            generation, service, name = 0 if fenced else None, replicas[(at + writer) % 4 != 0], f"{writer}-{at}"
            asked = {"step": 2, "count": 2}
            answers.append(("draw", service.call("POST", f"{run}/draw", asked, f"draw-{name}", generation)))
            answers.append(("report", service.call("POST", f"{run}/report", body_of(at), f"report-{name}", generation)))
        return answers

    def go_back() -> list[httpx.Response]:
        """Three rewinds, each when some reports have come in; fenced off, none comes in after the first."""
        answers: list[httpx.Response] = []
        try:
            for at in range(3):
                while at == 0 or not fenced:
                    if one.json("GET", run)["totals"]["rollouts"] >= start["totals"]["rollouts"] + 6:
                        break
                answers.append(one.call("POST", f"{run}/rewind", {"step": 1}, f"rewind-{at}"))
        finally:
            went_back.set()
        return answers

    with ThreadPoolExecutor(5) as threads:
        back = threads.submit(go_back)
        writers = [threads.submit(send, writer) for writer in range(4)]
        answers = [answer for writer in writers for answer in writer.result()]
        rewinds = back.result()
    assert [answer.status_code for answer in rewinds] == [200] * 3
    assert [answer.json()["generation"] for answer in rewinds] == [1, 2, 3]
    if fenced:
        check_fenced([answer for _, answer in answers])
    else:
        assert {answer.status_code for _, answer in answers} == {200}
    # Of the acknowledged ones those of the last generation are in the state, each once, and nothing else is.
    told = [(verb, answer.json()) for verb, answer in answers if answer.status_code == 200]
    lasting = [(verb, answer) for verb, answer in told if answer["generation"] == 3]
    assert fenced != bool(lasting)
    drawn = Counter(prompt for verb, answer in lasting if verb == "draw" for prompt in answer["prompts"])
    rollouts = start["totals"]["rollouts"] + 2 * sum(verb == "report" for verb, _ in lasting)
    examined = start["totals"]["examined"] + sum(answer["examined"] for verb, answer in lasting if verb == "draw")
    third = beside(one, tmp_path_factory.mktemp("third"))
    try:
        pictures = [picture(service, run) for service in (one, other, third)]
        assert pictures[0] == pictures[1] == pictures[2]
        states = [service.json("GET", run) for service in (one, other, third)]
    finally:
        third.close()
    assert states[0] == states[1] == states[2]
    totals = states[0]["totals"]
    assert (states[0]["generation"], totals["rollouts"], totals["examined"]) == (3, rollouts, examined)
    epochs = -(-(totals["examined"] - start["totals"]["examined"]) // len(POOL)) + 1
    assert max(drawn.values(), default=0) <= epochs, "a position was drawn twice"


def check_fenced(answers: list[httpx.Response]) -> None:
    """Each was accepted at generation 0 or refused as stale, and some of both came."""
    for answer in answers:
        assert answer.status_code in {200, 409}, answer.text
        if answer.status_code == 200:
            assert answer.json()["generation"] == 0
        else:
            assert answer.json()["type"] == STALE
    assert {answer.status_code for answer in answers} == {200, 409}


def test_rewinds_through_two_replicas_at_once(replicas: list[Service], name: str) -> None:
    run = begun(replicas[0], name)
    report(replicas[1], run, 1, 4, 4)
    shown = picture(replicas[0], run)

    def send(at: int) -> set[bytes]:
        answers = [service.call("POST", f"{run}/rewind", {"step": 1}, f"rewind-{at}") for service in replicas]
        assert {answer.status_code for answer in answers} == {200}
        return {answer.content for answer in answers}

    with ThreadPoolExecutor(6) as threads:
        told = list(threads.map(send, range(12)))
    assert all(len(contents) == 1 for contents in told), "one key, one answer, through either"
    assert len(set.union(*told)) == 12
    for service in replicas:
        assert service.json("GET", run)["generation"] == 12
        assert picture(service, run) == shown


def test_forks_into_one_name_through_two_replicas_at_once(replicas: list[Service], name: str) -> None:
    run = begun(replicas[0], name)
    body = {"run": f"{name}-new"}
    with ThreadPoolExecutor(6) as threads:
        sent = [threads.submit(replicas[at % 2].call, "POST", f"{run}/fork", body, f"fork-{at}") for at in range(12)]
    assert sorted(each.result().status_code for each in sent) == [201] + [409] * 11
    assert picture(replicas[0], f"{run}-new") == picture(replicas[1], run)


def test_a_replica_that_has_not_looked_meets_the_rewind(replicas: list[Service], name: str) -> None:
    one, other = replicas
    run = begun(one, name)
    for step in (1, 2, 3, 4):
        drawn = draw(other, run, step)
        report(other, run, step, 4, step)
    told = rewind(one, run, 3)
    # The other's first request after it is each time of another kind.
    assert draw(other, run, 4) == drawn
    assert other.json("GET", run)["generation"] == 1
    rewind(one, run, 2)
    assert other.call("POST", f"{run}/rewind", {"step": 3}).status_code == 409
    rewind(one, run, 1)
    assert report(other, run, 2, 1, 1)["generation"] == 3
    rewind(one, run, 1)
    assert other.call("POST", f"{run}/select", {"step": 2, "prompts": POOL}, generation=3).status_code == 409
    rewind(one, run, 1)
    assert other.json("POST", f"{run}/select", {"step": 2, "prompts": POOL})["generation"] == 5
    rewind(other, run, 1)
    assert other.json("POST", f"{run}/fork", {"run": f"{name}-fork"}) == other.json("GET", f"{run}-fork")
    assert picture(one, f"{run}-fork") == picture(other, run)
    assert told["step"] == 3


def kill_around_rewinds(service: Service, name: str, seed: int, kills: int) -> None:
    """Rewinds and reports are sent without pause; SIGKILL comes at any moment; the unsure sender asks again."""
    rng = Random(seed)
    run = begun(service, name)
    report(service, run, 1, 4, 4)
    base = picture(service, run)
    rollouts = service.json("GET", run)["totals"]["rollouts"]
    acknowledged, number = 0, 0
    for _ in range(kills):
        with ThreadPoolExecutor(1) as threads:
            after = rng.uniform(0.0, 0.06)
            killed = threads.submit(kill_after, service, after)
            while True:
                number += 1
                report_key, key = f"report-{number}", f"rewind-{number}"
                try:
                    reported = service.call("POST", f"{run}/report", body_of(number), report_key)
                    answer = service.call("POST", f"{run}/rewind", {"step": 1}, key)
                except httpx.TransportError:
                    break
                assert (reported.status_code, answer.status_code) == (200, 200), (reported.text, answer.text)
                acknowledged += 1
                assert answer.json()["generation"] == acknowledged
            killed.result()
        service.start()
        found = service.json("GET", run)
        assert found["generation"] in {acknowledged, acknowledged + 1}
        assert found["totals"]["rollouts"] in {rollouts, rollouts + 2}
        # The unsure sender repeats both under their keys: whether they were applied or not, each is now, once.
        service.json("POST", f"{run}/report", body_of(number), report_key)
        told = service.json("POST", f"{run}/rewind", {"step": 1}, key)
        acknowledged += 1
        assert told["generation"] == service.json("GET", run)["generation"] == acknowledged
        assert picture(service, run) == base
    assert acknowledged > kills


def kill_after(service: Service, seconds: float) -> None:
    """SIGKILL in a while."""
    Event().wait(seconds)
    service.kill()


@pytest.mark.slow
@pytest.mark.parametrize("every", ["1", "5", "256"])
def test_many_kills_around_rewinds(private: Callable[..., Service], every: str) -> None:
    kill_around_rewinds(private("--snapshot-every", every), "killed", seed=int(every), kills=10)
