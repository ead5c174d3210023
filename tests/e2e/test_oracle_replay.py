"""Idempotency keys: one effect and one answer, however often and however concurrently a request is sent."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from .oracle.compare import check

if TYPE_CHECKING:
    from collections.abc import Callable

    from .oracle.service import Service

REPORT = {"step": 1, "results": [{"prompt": "p/1", "rewards": [0, 1]}, {"prompt": "p/2", "rewards": [0, 0]}]}
SELECT = {"step": 1, "prompts": ["p/1", "p/2", "p/3"]}
DRAW = {"step": 1, "count": 2}
POSTS: list[tuple[str, dict[str, Any]]] = [
    ("report", REPORT),
    ("select", SELECT),
    ("draw", DRAW),
    # What asks or reports nothing has an answer to repeat all the same.
    ("report", {"step": 1, "results": []}),
    ("select", {"step": 1, "prompts": []}),
]


def prepared(service: Service, name: str) -> str:
    run = service.create(name)
    service.json("PUT", f"{run}/pool", {"prompts": [f"p/{at}" for at in range(50)]})
    return run


@pytest.mark.parametrize(("verb", "body"), POSTS)
def test_a_replay_repeats_the_first_answer_and_has_no_effect(
    served: Service, name: str, verb: str, body: dict[str, Any]
) -> None:
    run = prepared(served, name)
    first = served.call("POST", f"{run}/{verb}", body, "the-key")
    assert first.status_code == 200
    assert first.headers.get("Idempotent-Replayed") != "true"
    # The run moves on, so that a fresh answer would be another one.
    for step in (2, 3, 4):
        later = {"step": step, "results": [{"prompt": "p/2", "rewards": [0, 0]}], "final": True}
        served.json("POST", f"{run}/report", later)
    before = served.json("GET", run)
    again = served.call("POST", f"{run}/{verb}", body, "the-key")
    assert again.content == first.content
    assert again.status_code == first.status_code
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.headers["content-type"] == first.headers["content-type"]
    assert served.json("GET", run) == before


@pytest.mark.parametrize(("verb", "body"), POSTS)
def test_a_key_with_another_body_is_refused(served: Service, name: str, verb: str, body: dict[str, Any]) -> None:
    run = prepared(served, name)
    first = served.call("POST", f"{run}/{verb}", body, "k")
    before = served.json("GET", run)
    refused = served.call("POST", f"{run}/{verb}", body | {"step": 2}, "k")
    assert refused.status_code == 422
    assert refused.headers["content-type"].startswith("application/problem+json")
    assert served.json("GET", run) == before
    assert served.call("POST", f"{run}/{verb}", body, "k").content == first.content


def test_without_a_key_a_repetition_is_a_second_request(served: Service, name: str) -> None:
    run = prepared(served, name)
    for _ in range(2):
        served.json("POST", f"{run}/report", REPORT)
    assert served.json("GET", run)["totals"]["rollouts"] == 8


@pytest.mark.parametrize(("verb", "body"), POSTS)
def test_a_key_sent_by_many_at_once_has_one_effect(served: Service, name: str, verb: str, body: dict[str, Any]) -> None:
    run = prepared(served, name)
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: served.call("POST", f"{run}/{verb}", body, "same"), range(24)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert sum(answer.headers.get("Idempotent-Replayed") == "true" for answer in answers) == 23
    totals = served.json("GET", run)["totals"]
    rollouts = 2 * len(body.get("results", []))
    examined = len(body.get("prompts", [])) or body.get("count", 0)
    assert (totals["rollouts"], totals["examined"]) == (rollouts, examined)


def test_concurrent_reports_are_all_counted_once(served: Service, name: str) -> None:
    run = prepared(served, name)

    def send(at: int) -> int:
        body = {"step": at % 5, "results": [{"prompt": f"p/{at % 7}", "rewards": [0, at % 2]}]}
        # Each is sent twice, as after a lost answer.
        statuses = [served.call("POST", f"{run}/report", body, f"report-{at}").status_code for _ in range(2)]
        return max(statuses)

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(send, range(80))) == {200}
    totals = served.json("GET", run)["totals"]
    assert (totals["rollouts"], totals["effective"], totals["zero_variance"]["hard"]) == (160, 40, 40)


def test_concurrent_reports_complete_a_step_once(served: Service, name: str) -> None:
    run = served.create(name, train_batch_size=10, rollout_batch_size=20)
    pair = [{"prompt": "p/1", "rewards": [0, 1]}, {"prompt": "p/2", "rewards": [0, 0]}]
    served.json("POST", f"{run}/report", {"step": 0, "results": pair, "final": True})
    with ThreadPoolExecutor(8) as threads:
        bodies = [{"step": 1, "results": pair, "final": at % 7 == 6} for at in range(40)]
        answers = list(threads.map(lambda body: served.json("POST", f"{run}/report", body), bodies))
    state = served.json("GET", run)
    # Half of the groups are hard, none is easy: one step, one adjustment of each.
    check({"exploration": {"easy": 0.51, "hard": 0.49}, "totals": {"rollouts": 164}}, state, "after all")
    # Each group is counted in the order of arrival until the step is over.
    counted = [answer["step"]["groups"] for answer in answers if not answer["step"]["complete"]]
    assert sorted(counted) == list(range(2, 2 * len(counted) + 1, 2))
    final = {answer["step"]["groups"] for answer in answers if answer["step"]["complete"]}
    assert final == {2 * len(counted) + 2}


@pytest.mark.parametrize("key", ["k", "~" * 128, "!\"#$%&'()*+,-./:;<=>?@[]^_`{|}"])
def test_keys_of_1_to_128_visible_characters(served: Service, name: str, key: str) -> None:
    run = prepared(served, name)
    first = served.call("POST", f"{run}/report", REPORT, key)
    assert first.status_code == 200
    assert served.call("POST", f"{run}/report", REPORT, key).content == first.content


@pytest.mark.parametrize("key", ["", "x" * 129, "two words", "tab\tbed"])
def test_other_keys_are_refused(served: Service, name: str, key: str) -> None:
    run = prepared(served, name)
    before = served.json("GET", run)
    answer = served.call("POST", f"{run}/report", REPORT, key)
    assert answer.status_code in {400, 422}
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert served.json("GET", run) == before


def test_replays_across_kill_and_restart(private: Callable[..., Service]) -> None:
    service = private()
    run = prepared(service, "replays")
    first = [service.call("POST", f"{run}/{verb}", body, f"key-{at}") for at, (verb, body) in enumerate(POSTS)]
    before = service.json("GET", run)
    for end in (service.kill, service.stop):
        end()
        service.start()
        for at, (verb, body) in enumerate(POSTS):
            again = service.call("POST", f"{run}/{verb}", body, f"key-{at}")
            assert again.content == first[at].content
            assert again.headers["Idempotent-Replayed"] == "true"
        assert service.json("GET", run) == before


def test_what_was_acknowledged_before_a_kill_is_there_once(private: Callable[..., Service]) -> None:
    service = private()
    run = prepared(service, "acknowledged")
    for at in range(20):
        service.json("POST", f"{run}/report", REPORT, f"key-{at}")
    service.kill()
    service.start()
    assert service.json("GET", run)["totals"]["rollouts"] == 80
    # A client that is unsure sends everything again.
    for at in range(20):
        service.json("POST", f"{run}/report", REPORT, f"key-{at}")
    assert service.json("GET", run)["totals"]["rollouts"] == 80
