"""Forking: a run of its own that begins where another was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from .oracle.twin import go_on, picture
from .test_oracle_rewind import POOL, SPEC, begun, draw, go_far, report, rewind

if TYPE_CHECKING:
    from collections.abc import Callable

    from .oracle.service import Service


def fork(service: Service, run: str, name: str, step: int | None = None) -> str:
    """Fork; returns the new run's path."""
    body: dict[str, Any] = {"run": name} if step is None else {"run": name, "step": step}
    answer = service.call("POST", f"{run}/fork", body)
    assert answer.status_code == 201, answer.text
    path = f"/v1/runs/{name}"
    told = answer.json()
    assert (told["run"], told["generation"]) == (name, 0)
    assert told == service.json("GET", path)
    return path


def test_at_a_step_it_is_the_run_as_it_was(served: Service, name: str) -> None:
    run = begun(served, name)
    pictures = [picture(served, run)]
    for step in (1, 2, 3):
        draw(served, run, step)
        report(served, run, step, step, 2, final=True)
        pictures.append(picture(served, run))
    go_far(served, run, 3)
    now = picture(served, run)
    forks = [fork(served, run, f"{name}-at-{step}", step) for step in range(4)]
    assert [picture(served, each) for each in forks] == pictures
    assert picture(served, run) == now
    assert served.json("GET", run)["generation"] == 0


def test_without_a_step_it_is_the_run_as_it_is(served: Service, name: str) -> None:
    run = begun(served, name)
    report(served, run, 1, 1, 2)
    draw(served, run, 1)
    # Asked for a later step while this one is open: a fork of now keeps it.
    served.json("POST", f"{run}/select", {"step": 2, "prompts": POOL})
    other = fork(served, run, f"{name}-now")
    assert picture(served, other) == picture(served, run)
    assert f"{name}-now" in [row["run"] for row in served.json("GET", "/v1/runs?limit=2")["runs"]]
    assert go_on(served, other, 1, POOL) == go_on(served, run, 1, POOL)


def test_of_a_run_that_nothing_was_done_to(served: Service, name: str) -> None:
    run = served.create(name, seed=5)
    other = fork(served, run, f"{name}-now")
    assert picture(served, other) == picture(served, run)
    assert served.call("POST", f"{run}/fork", {"run": f"{name}-0", "step": 0}).status_code == 409


def test_both_live_on_independently(served: Service, name: str) -> None:
    run = begun(served, name)
    report(served, run, 1, 4, 2)
    other = fork(served, run, f"{name}-other", 1)
    shown = picture(served, other)
    go_far(served, run, 1)
    assert picture(served, other) == shown
    mine = picture(served, run)
    served.json("PUT", f"{other}/pool", {"prompts": ["only/there"]})
    served.json("PATCH", other, {"min_keep_probability": 0.2})
    for step in (2, 3):
        draw(served, other, step)
        report(served, other, step, 4, step)
    rewind(served, other, 2)
    assert served.json("GET", other)["generation"] == 1
    assert picture(served, run) == mine
    assert served.json("GET", run)["generation"] == 0
    served.json("DELETE", run)
    assert served.json("GET", other)["step"] == 2
    served.json("DELETE", other)
    assert served.call("GET", other).status_code == 404


def test_a_fork_can_be_rewound_to_steps_before_it_began(served: Service, name: str) -> None:
    run = begun(served, name)
    pictures = [picture(served, run)]
    for step in (1, 2, 3, 4):
        report(served, run, step, 4, step)
        pictures.append(picture(served, run))
    at_step, now = fork(served, run, f"{name}-3", 3), fork(served, run, f"{name}-now")
    for other, newest in ((at_step, 3), (now, 4)):
        assert served.call("POST", f"{other}/rewind", {"step": newest + 1}).status_code == 409
        for step in (newest, 2, 0):
            rewind(served, other, step)
            assert picture(served, other) == pictures[step]
    assert picture(served, run) == pictures[4]


def test_from_a_rewound_run_and_from_a_fork(served: Service, name: str) -> None:
    run = begun(served, name)
    for step in (1, 2, 3):
        report(served, run, step, 4, step)
    rewind(served, run, 1)
    shown = picture(served, run)
    child = fork(served, run, f"{name}-child")
    again = fork(served, child, f"{name}-grandchild", 1)
    assert picture(served, child) == picture(served, again) == shown
    # What the run has forgotten its fork never knew.
    assert served.call("POST", f"{run}/fork", {"run": f"{name}-2", "step": 2}).status_code == 409
    assert served.call("POST", f"{child}/rewind", {"step": 2}).status_code == 409
    assert go_on(served, again, 1, POOL) == go_on(served, run, 1, POOL)


def test_at_a_step_that_a_later_one_completed(served: Service, name: str) -> None:
    run = begun(served, name)
    report(served, run, 3, 1, 4)
    report(served, run, 9, 1, 1)
    other = fork(served, run, f"{name}-5", 5)
    state = served.json("GET", other)
    assert state["step"] == 5
    assert state["exploration"] == {"easy": pytest.approx(0.51), "hard": pytest.approx(0.49)}
    rewind(served, run, 5)
    assert picture(served, other) == picture(served, run)
    assert report(served, other, 4, 4, 0)["step"]["groups"] == 0


def test_a_trainer_takes_a_fork_up_with_the_spec_that_it_was_made_with(served: Service, name: str) -> None:
    run = begun(served, name)
    served.json("PATCH", run, {"min_keep_probability": 0.2})
    again = served.call("PUT", run, SPEC).status_code
    other = fork(served, run, f"{name}-fork")
    # What creating the run once more is answered with, its fork answers too.
    assert served.call("PUT", other, SPEC).status_code == again
    assert served.call("PUT", other, SPEC | {"seed": 8}).status_code == 409
    assert picture(served, other) == picture(served, run)


def test_a_fork_knows_no_keys_of_the_run(served: Service, name: str) -> None:
    run = begun(served, name)
    body = {"step": 1, "results": [{"prompt": "p", "rewards": [0, 0]}]}
    served.json("POST", f"{run}/report", body, "k")
    other = fork(served, run, f"{name}-fork")
    # A request to another run is another request.
    told = served.call("POST", f"{other}/report", body, "k")
    assert told.headers.get("Idempotent-Replayed") != "true"
    assert told.json()["step"]["groups"] == 2


def test_into_a_name_that_is_taken_is_a_conflict(served: Service, name: str) -> None:
    run, taken = begun(served, name), served.create(f"{name}-taken", seed=9)
    before = [picture(served, each) for each in (run, taken)]
    for body in ({"run": f"{name}-taken"}, {"run": name}, {"run": name, "step": 0}, {"run": f"{name}-new", "step": 1}):
        answer = served.call("POST", f"{run}/fork", body)
        assert answer.status_code == 409, f"{body}: {answer.text}"
    assert [picture(served, each) for each in (run, taken)] == before
    assert served.call("GET", f"/v1/runs/{name}-new").status_code == 404
    # A name that has become free is free.
    served.json("DELETE", taken)
    fork(served, run, f"{name}-taken")


def test_of_an_unknown_run_is_not_found(served: Service, name: str) -> None:
    assert served.call("POST", f"/v1/runs/{name}/fork", {"run": f"{name}-new"}).status_code == 404
    assert served.call("GET", f"/v1/runs/{name}-new").status_code == 404


BAD_NAMES = ["", "-a", ".", "..", "a/b", "a b", "ü", "x" * 129, "a\n", None, 3]


@pytest.mark.parametrize("bad", BAD_NAMES)
def test_bad_names_are_refused(served: Service, name: str, bad: Any) -> None:
    run = begun(served, name)
    answer = served.call("POST", f"{run}/fork", {"run": bad})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/run"


@pytest.mark.parametrize(
    ("rest", "pointer"), [({"step": -1}, "/step"), ({"step": "1"}, "/step"), ({"step": 0.5}, "/step"), ({"x": 1}, "/x")]
)
def test_other_bodies_are_refused(served: Service, name: str, rest: dict[str, Any], pointer: str) -> None:
    run = begun(served, name)
    answer = served.call("POST", f"{run}/fork", {"run": f"{name}-new"} | rest)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == pointer
    assert served.call("GET", f"/v1/runs/{name}-new").status_code == 404


def test_a_name_of_the_greatest_length(served: Service, name: str) -> None:
    fork(served, begun(served, name), (name + "-" + "x" * 128)[:128], 0)


@pytest.mark.slow
def test_forks_survive_kills_and_restarts(private: Callable[..., Service]) -> None:
    service = private("--snapshot-every", "4")
    run = begun(service, "origin")
    for step in (1, 2, 3):
        report(service, run, step, 4, step)
    forks = [fork(service, run, "now"), fork(service, run, "then", 1)]
    report(service, forks[0], 4, 1, 1)
    shown = [picture(service, each) for each in (run, *forks)]
    for end in (service.kill, service.stop):
        end()
        service.start()
        assert [picture(service, each) for each in (run, *forks)] == shown
    rewind(service, forks[0], 2)
    assert service.call("POST", f"{forks[1]}/rewind", {"step": 2}).status_code == 409
